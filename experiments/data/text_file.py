"""A corpus of the user's own: one text file, or a folder of them."""

import re
from pathlib import Path

import datasets

from experiments.data.text_rows import Document, data_set

_SPLIT_NAMES = {
    "train": "train",
    "valid": "validation",
    "validation": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


def load(path: str | Path) -> datasets.DatasetDict:
    """Rows {"title": string, "text": string} of a UTF-8 text file, or of a folder's .txt files.

    One file, or the only one of a folder, is cut by position: the first 90 % of its characters are
    train, the next 5 % validation, the last 5 % test. Of several files each is one document. If a
    file's name ends in train, valid, val, validation, dev or test (`ptb.valid.txt`), all names
    must, and they say the split; a folder without the test part then gives no split "test".
    Otherwise the files are split in the order of their names: the last twentieth, one at least, is
    test, the twentieth before it validation.

    Raises:
        ValueError: nothing is there, it is not UTF-8, or it is too little for three splits.
    """
    place = Path(path)
    if place.is_file():
        return data_set(contiguous_splits(Document(place.stem, _read(place))))
    files = sorted(place.glob("*.txt"))
    if not files:
        raise ValueError(f"path: got {str(path)!r}, expected a text file or a folder of .txt files")
    named = [_SPLIT_NAMES.get(re.split(r"[\W_]", file.stem.lower())[-1]) for file in files]
    if any(named):
        return data_set(_splits_by_name(files, named))
    if len(files) == 1:  # as char-rnn has its input.txt
        return load(files[0])
    if len(files) < 3:
        raise ValueError(
            f"path: got {len(files)} .txt files in {str(path)!r}, "
            "expected at least 3 to split by file"
        )
    held_out = max(1, len(files) // 20)
    documents = [Document(file.stem, _read(file)) for file in files]
    return data_set(
        {
            "train": documents[: -2 * held_out],
            "validation": documents[-2 * held_out : -held_out],
            "test": documents[-held_out:],
        }
    )


def contiguous_splits(document: Document) -> dict[str, list[Document]]:
    """One document cut by position: 90 % train, 5 % validation, 5 % test.

    Raises:
        ValueError: it has fewer than 20 characters, so that a split would be empty.
    """
    title, text = document
    if len(text) < 20:
        raise ValueError(f"text: got {len(text)} characters in {title!r}, expected at least 20")
    first, second = len(text) * 90 // 100, len(text) * 95 // 100
    pieces = {"train": text[:first], "validation": text[first:second], "test": text[second:]}
    return {split: [Document(f"{title} ({split})", piece)] for split, piece in pieces.items()}


def _splits_by_name(files: list[Path], named: list[str | None]) -> dict[str, list[Document]]:
    splits: dict[str, list[Document]] = {"train": [], "validation": [], "test": []}
    for file, split in zip(files, named, strict=True):
        if split is None:
            raise ValueError(
                f"path: {file.name!r} names no split though other files do, "
                f"expected a name that ends in one of {', '.join(_SPLIT_NAMES)}"
            )
        splits[split].append(Document(file.stem, _read(file)))
    for split in ("train", "validation"):
        if not splits[split]:
            names = ", ".join(file.name for file in files)
            raise ValueError(f"path: no file is named as the {split} part among {names}")
    return {split: documents for split, documents in splits.items() if documents}


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"path: {str(file)!r} is not UTF-8 text ({error})") from None
