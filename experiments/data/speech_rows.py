"""The rows every corpus of speech has: a sound, what is said in it, and who says it."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import datasets
import numpy as np

SPLITS = ("train", "validation", "test")
FEATURES = datasets.Features(
    {
        "name": datasets.Value("string"),
        "speaker": datasets.Value("string"),
        "text": datasets.Value("string"),
        "samples": datasets.List(datasets.Value("int16")),
    }
)

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SIGNS = {"*": "star", "#": "pound", "@": "at", "&": "and", "+": "plus"}
_NOT_SAID = re.compile(r"\[[^]]*\]|\([^)]*\)|<[^>]*>")


class Utterance(NamedTuple):
    """One recording."""

    name: str
    speaker: str
    text: str
    samples: np.ndarray  # (N,) int16, at `audio_files.RATE`


def data_set(splits: Mapping[str, Iterable[Utterance]]) -> datasets.DatasetDict:
    """Utterances by split, as rows of `FEATURES`.

    Raises:
        ValueError: the training or the validation part is empty.
    """
    made: dict[str | datasets.NamedSplit, datasets.Dataset] = {}
    for split, utterances in splits.items():
        rows = list(utterances)
        if not rows and split != "test":
            raise ValueError(f"split {split}: got no recording, expected at least one")
        columns = {name: [getattr(row, name) for row in rows] for name in Utterance._fields}
        made[split] = datasets.Dataset.from_dict(columns, features=FEATURES)
    return datasets.DatasetDict(made)


def split_of(text: str) -> str:
    """The split of a text, 80/10/10, by a hash of it: what is said twice falls on one side."""
    percent = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) % 100
    return "test" if percent < 10 else "validation" if percent < 20 else "train"


def spoken(transcript: str) -> str | None:
    """What is said, in letters a–z, apostrophes and single spaces; None where that is not known.

    Remarks in brackets are not said. A digit by itself is its name; how a longer number is read
    aloud a transcript does not tell, nor what a letter of another alphabet is.
    """
    text = _NOT_SAID.sub(" ", transcript)
    if re.search(r"\d\d", text):
        return None
    text = re.sub(r"\b([A-Za-z])\.(?=[A-Za-z]\b)", r"\1 ", text)  # A.M.
    text = re.sub(r"(?<=\w)\.(?=\w)", " dot ", text)
    text = re.sub(r"\d", lambda digit: f" {_DIGITS[int(digit[0])]} ", text)
    for sign, name in _SIGNS.items():
        text = text.replace(sign, f" {name} ")
    text = re.sub(r"[-_.,;:!?\"/=$~…]", " ", text.replace("’", "'").lower())
    text = " ".join(text.split())
    return text if re.fullmatch(r"[a-z' ]+", text) else None
