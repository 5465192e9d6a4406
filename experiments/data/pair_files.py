"""Translations of the user's own: a text file a language and split, the same lines in each.

This is how the standard benchmarks come, Multi30k (Elliott et al. 2016) among them:
`train.en.gz` and `train.de.gz`, line n of one being what line n of the other says.
"""

import gzip
import re
import zlib
from pathlib import Path

import datasets

from experiments.data.pair_rows import SPLITS, Pair, data_set

_NAME = re.compile(r".+\.([A-Za-z][A-Za-z_-]*)")
_BEGINS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
_PREFERRED = ("test", "test_2016_flickr", "test2016", "test_2016")
"""Of several test parts the one that is published of most: Multi30k has those of four years."""


def load(path: str | Path, languages: tuple[str, str]) -> datasets.DatasetDict:
    """Splits train, validation and, if there is one, test, of a folder.

    A file's name says its split, its language and whether it is packed: `train.en`, `val.de.gz`,
    `test_2016_flickr.en.gz`. Other files are left alone.

    Args:
        path: the folder.
        languages: the two that are read, as the files' names have them.

    Raises:
        ValueError: the folder has no training or no validation part in a language, two files are
            of one split, they have not the same number of lines, a line is empty, or a file is
            not UTF-8 or cannot be unpacked.
    """
    place = Path(path)
    found: dict[str, dict[str, list[Path]]] = {}
    for file in sorted(place.glob("*")) if place.is_dir() else []:
        named = _NAME.fullmatch(file.name.removesuffix(".gz"))
        begin = re.match("|".join(_BEGINS), file.name)
        if named and begin and file.is_file():
            of_language = found.setdefault(named[1], {})
            of_language.setdefault(_BEGINS[begin[0]], []).append(file)
    if not found:
        raise ValueError(
            f"path: got {str(path)!r}, expected a folder of files such as train.en and train.de"
        )
    for language in languages:
        if language not in found:
            raise ValueError(
                f"language: got {language!r}, expected one of {', '.join(sorted(found))}, "
                f"those of {str(path)!r}"
            )
    splits: dict[str, list[Pair]] = {}
    for split in SPLITS:
        files = [
            _file_of(split, language, found[language].get(split, [])) for language in languages
        ]
        if None in files:
            if files != [None, None] or split != "test":
                raise ValueError(
                    f"path: {str(path)!r} has no {split} part in "
                    f"{' and '.join(n for n, f in zip(languages, files, strict=True) if f is None)}"
                )
            continue
        splits[split] = read(*(file for file in files if file is not None))
    return data_set(splits, languages)


def read(first: Path, second: Path) -> list[Pair]:
    """The pairs of two files.

    Raises:
        ValueError: as `load`.
    """
    sides = _lines(first), _lines(second)
    if len(sides[0]) != len(sides[1]):
        raise ValueError(
            f"path: {first.name} has {len(sides[0]):,} lines and {second.name} "
            f"{len(sides[1]):,}, expected the same number"
        )
    for number, texts in enumerate(zip(*sides, strict=True), start=1):
        for file, text in zip((first, second), texts, strict=True):
            if not text:
                raise ValueError(f"path: {file.name} line {number} is empty, expected a text")
    return [Pair(first.name, texts) for texts in zip(*sides, strict=True)]


def _file_of(split: str, language: str, files: list[Path]) -> Path | None:
    if len(files) < 2:
        return files[0] if files else None
    by_stem = {str(file.name).removesuffix(".gz").rpartition(".")[0]: file for file in files}
    for stem in _PREFERRED:
        if stem in by_stem:
            return by_stem[stem]
    raise ValueError(
        f"path: got {len(files)} files of the split {split} in {language}, "
        f"{', '.join(file.name for file in files)}, expected one"
    )


def _lines(file: Path) -> list[str]:
    content = file.read_bytes()
    try:
        if file.suffix == ".gz":
            content = gzip.decompress(content)
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"path: {str(file)!r} is not UTF-8 text ({error})") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"path: {str(file)!r} cannot be unpacked ({error})") from None
    if not text.strip():
        raise ValueError(f"path: {file.name} has no text, expected a line at least")
    # Not splitlines: a text may hold a character that Unicode counts as the end of a line.
    return [line.strip() for line in text.removesuffix("\n").split("\n")]
