"""Clips of your own, such as the frames of UCF-101: a folder of pictures a clip.

    FOLDER/train/ACTION/CLIP/001.png
    FOLDER/validation/ACTION/CLIP/…
    FOLDER/test/ACTION/CLIP/…

Pictures are shown in the order of their names.
"""

import re
from pathlib import Path

import datasets

from experiments.data.clip_rows import Clip, data_set

SPLITS = ("train", "validation", "test")


def load(folder: Path) -> datasets.DatasetDict:
    """Splits train, validation and test of rows as `clip_rows` has them; actors are clips.

    Raises:
        ValueError: a split has no clip, a clip no frame, or a held-out clip an action that there is
            none of to learn from.
        OSError: a file cannot be read.
    """
    actions = sorted(_folders(folder / "train"))
    splits: dict[str, list[Clip]] = {}
    for split in SPLITS:
        for action in _folders(folder / split):
            if action not in actions:
                raise ValueError(
                    f"path: got {action!r} in {split}, expected one of train, {', '.join(actions)}"
                )
        splits[split] = [
            Clip(read_frames(clip), action, clip.name, f"{split}/{action}/{clip.name}")
            for action in actions
            if (folder / split / action).is_dir()
            for clip in sorted((folder / split / action).iterdir())
            if clip.is_dir()
        ]
    return data_set(splits, actions)


def read_frames(folder: Path) -> list[bytes]:
    """The files of a folder, in the order of their names; numbers in names count as numbers.

    Raises:
        ValueError: there is none.
        OSError: the folder or a file cannot be read.
    """
    files = [file for file in folder.iterdir() if file.is_file() and file.name[0] != "."]
    if not files:
        raise ValueError(f"clip {folder.name}: got no frame, expected at least one")
    return [file.read_bytes() for file in sorted(files, key=lambda file: _in_order(file.name))]


def _in_order(name: str) -> list[tuple[bool, int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"path: got {str(folder)!r}, expected a folder with one for each action"
        )
    return [one.name for one in folder.iterdir() if one.is_dir()]
