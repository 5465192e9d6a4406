"""Spoken digits, by the files of the Free Spoken Digit Dataset (FSDD).

Source: https://github.com/Jakobovski/free-spoken-digit-dataset, 3,000 recordings by 6 speakers at
8 kHz, CC-BY-SA-4.0. A file is named DIGIT_SPEAKER_INDEX.wav. The official test part is what has an
index of 0 to 4; here 5 to 9 are the validation part and the others the training part.
"""

import re
from collections.abc import Mapping

import datasets

from experiments.data.audio_files import as_int16, decode_wav
from experiments.data.speech_rows import Utterance, data_set

NAME = re.compile(r"(?:.*/)?(\d)_([^_/]+)_(\d+)\.wav")


def has_such_names(names: list[str]) -> bool:
    """Whether the WAV files among these are named as here."""
    sounds = [name for name in names if name.endswith(".wav")]
    return bool(sounds) and all(map(NAME.fullmatch, sounds))


def load(files: Mapping[str, bytes]) -> datasets.DatasetDict:
    """Rows as `speech_rows.FEATURES` has them; the text is the digit.

    Args:
        files: name -> content; the part for the test may be missing.

    Raises:
        ValueError: a file is no sound, or a part has no recording.
    """
    splits: dict[str, list[Utterance]] = {"train": [], "validation": [], "test": []}
    for name, content in files.items():
        named = NAME.fullmatch(name)
        if named is None:
            continue
        index = int(named[3])
        split = "test" if index < 5 else "validation" if index < 10 else "train"
        samples = as_int16(decode_wav(content, name).samples)
        splits[split].append(Utterance(name, named[2], named[1], samples))
    return data_set(splits)
