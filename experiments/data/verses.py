"""The Bible verse by verse in English and Spanish: two translations of one source, aligned.

Source: the Debian packages `sword-text-kjv` 14.3-1 (King James Version; public domain, but for
printing in the United Kingdom, where letters patent of the Crown apply) and `sword-text-sparv`
2.60-1 (Reina-Valera of 1909; public domain). Both have the same versification, so verses are
aligned by their place, but for some chapters in which one counts otherwise, which are left out.
Notes, titles and marks of paragraphs are left out too.

There is no official split: it is by book, so that no test verse stands beside one that was learned
from. Test: 1 Samuel, Ecclesiastes, John and James; validation: Judges, Hosea, Amos, Galatians and
Hebrews; the other 57 books are the training part. None of these retells another book at length, as
the first three gospels retell each other and Chronicles retells Kings; but they quote, and a few
verses are word by word the same.
"""

from itertools import pairwise

import datasets

from experiments.data.converted import converted_once
from experiments.data.package_files import fetch_debian, read_members
from experiments.data.pair_rows import Pair, data_set
from experiments.data.sword_text import Verse, read_testament

PACKAGES = {
    "en": (
        "sword-text-kjv",
        "14.3-1",
        "9f463f28ce665f6f528fc723179722bced880a4c5485f7a41bf742838315de57",
    ),
    "es": (
        "sword-text-sparv",
        "2.60-1",
        "5c87f9b2bc97457e8a872f5bae7ea7ce59cb3de1dcee73e4d4740451863694cf",
    ),
}
LANGUAGES = ("en", "es")
TEST = ("1Sam", "Eccl", "John", "Jas")
VALIDATION = ("Judg", "Hos", "Amos", "Gal", "Heb")

_LOADER_VERSION = 1


def load() -> datasets.DatasetDict:
    """Splits train, validation and test of rows {"document": book, "en": verse, "es": verse}.

    Raises:
        DataUnavailable: a package is not in the cache, and cannot be fetched.
        DataMismatch: the mirror holds another archive than the pinned one.
    """

    def convert() -> datasets.DatasetDict:
        english, spanish = (_read(language) for language in LANGUAGES)
        return data_set(split_by_book(aligned(english, spanish)), LANGUAGES)

    return converted_once("verses", f"{PACKAGES} {_LOADER_VERSION}", convert)


def aligned(first: list[Verse], second: list[Verse]) -> list[Pair]:
    """Verses that both have, each with the other.

    Where one of the two lacks a verse at the end of a chapter, it may have it at the beginning of
    the next one, whose verses then are one off. So both chapters are left out.

    Raises:
        ValueError: the two have not the same number of places, or differ in a chapter.
    """
    if len(first) != len(second):
        raise ValueError(
            f"verses: got {len(first)} and {len(second)} places, expected one versification"
        )
    chapters: dict[str, list[tuple[str, str]]] = {}
    for place, (one, other) in enumerate(zip(first, second, strict=True)):
        if one.chapter != other.chapter:
            raise ValueError(
                f"verses: place {place} is of {one.chapter} and of {other.chapter}, expected one"
            )
        if one.text or other.text:
            chapters.setdefault(one.chapter, []).append((one.text, other.text))
    complete = {name: all(map(all, verses)) for name, verses in chapters.items()}
    return [
        Pair(name.partition(".")[0], texts)
        for previous, name in pairwise(["", *chapters])
        if complete[name] and complete.get(previous, True)
        for texts in chapters[name]
    ]


def split_by_book(pairs: list[Pair]) -> dict[str, list[Pair]]:
    """Whole books, those of `VALIDATION` and `TEST` apart."""
    splits: dict[str, list[Pair]] = {"train": [], "validation": [], "test": []}
    for pair in pairs:
        book = pair.document
        split = "test" if book in TEST else "validation" if book in VALIDATION else "train"
        splits[split].append(pair)
    return splits


def _read(language: str) -> list[Verse]:
    """Both testaments, the old one first."""
    files = read_members(fetch_debian(*PACKAGES[language]), "*/modules/texts/ztext/*")
    by_name = {name.rpartition("/")[2]: content for name, content in files.items()}
    return [
        verse
        for testament in ("ot", "nt")
        for verse in read_testament(
            *(by_name[f"{testament}.{ending}"] for ending in ("bzs", "bzv", "bzz"))
        )
    ]
