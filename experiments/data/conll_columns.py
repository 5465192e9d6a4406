"""Named entities of the user's own: CoNLL files, a token a line, an empty line behind a sentence.

The first column is the token and the last one its tag; columns are parted by tabs or spaces. This
is how the standard benchmarks come: CoNLL-2003 (Tjong Kim Sang and De Meulder 2003), WNUT-17
(Derczynski et al. 2017, CC-BY-4.0).
"""

import re
from pathlib import Path

import datasets

from experiments.data.tagged_rows import Sentence, data_set
from rnnjax.text.bio import split_tag

_SPLIT_NAMES = {
    "train": "train",
    "testa": "validation",
    "valid": "validation",
    "validation": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testb": "test",
}
_NAMED = re.compile(r"train|testa|testb|test|validation|valid|val|dev")
_ENDINGS = (".conll", ".txt", ".bio", ".iob", ".tsv", ".annotated")
_ENDINGS += (".train", ".testa", ".testb", ".dev", ".test")
_ORDER = ("train", "validation", "test")


def load(path: str | Path) -> datasets.DatasetDict:
    """Splits train, validation and, if there is one, test, of a folder of CoNLL files.

    A file's name says its split: train; dev, valid, val, validation or testa; test or testb
    (`wnut17train.conll`, `emerging.dev.conll`, `eng.testb`). Other files are left alone.

    Raises:
        ValueError: the folder has no training or no validation part, two files are of one split, or
            a file is empty, is not UTF-8, or has a line that is no token with its tag.
    """
    place = Path(path)
    files = sorted(file for file in place.glob("*") if file.suffix in _ENDINGS)
    if not files:
        raise ValueError(f"path: got {str(path)!r}, expected a folder of CoNLL files")
    splits: dict[str, list[Sentence]] = {}
    for file in files:
        named = _NAMED.findall(file.name.lower())
        if not named:
            continue
        split = _SPLIT_NAMES[named[-1]]
        if split in splits:
            raise ValueError(f"path: {file.name!r} is a second file of the split {split}")
        splits[split] = read(file)
    names = ", ".join(file.name for file in files)
    for split in ("train", "validation"):
        if split not in splits:
            raise ValueError(f"path: no file is named as the {split} part among {names}")
    return data_set({split: splits[split] for split in _ORDER if split in splits})


def read(file: Path) -> list[Sentence]:
    """The sentences of a file. A token may have spaces in it only where tabs part the columns.

    Raises:
        ValueError: it is empty, not UTF-8, or has a line that is no token with its tag.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"path: {str(file)!r} is not UTF-8 text ({error})") from None
    return parse(text, file.name)


def parse(text: str, name: str) -> list[Sentence]:
    """The sentences of the text of a file.

    Args:
        text: lines.
        name: what an error calls the file.

    Raises:
        ValueError: there is no sentence, or a line is no token with its tag.
    """
    sentences: list[Sentence] = []
    tokens: list[str] = []
    tags: list[str] = []
    # Not splitlines: a token may hold a character that Unicode counts as the end of a line.
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        if not line.strip() or line.startswith("-DOCSTART-"):
            if tokens:
                sentences.append(Sentence(tokens, tags))
                tokens, tags = [], []
            continue
        columns = line.rstrip().split("\t") if "\t" in line else line.split()
        if len(columns) < 2 or not columns[0].strip():
            raise ValueError(f"path: {name} line {number} has one column, expected token and tag")
        tag = columns[-1].strip()
        try:
            split_tag(tag)
        except ValueError as error:
            raise ValueError(f"path: {name} line {number}: {error}") from None
        tokens.append(columns[0].strip())
        tags.append(tag)
    if not sentences:
        raise ValueError(f"path: {name} has no sentence, expected at least one")
    return sentences
