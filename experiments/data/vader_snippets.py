"""Sentences with the mean verdict of 20 readers: film reviews, tweets, goods, editorials.

Source: the PyPI source distribution `vaderSentiment` 2.5 (MIT licence; later versions do not ship
it), whose `hutto_ICWSM_2014.tar.gz` is the data of Hutto and Gilbert (2014), "VADER: a parsimonious
rule-based model for sentiment analysis of social media text". The texts are their writers':
snippets of rotten.tomatoes.com (those of Pang and Lee, 2005, the corpus called MR), tweets, reviews
of goods at Amazon (Hu and Liu, 2004), and editorials of the New York Times.

A rating is a mean of at least 20 readers' on a scale from −4 to 4. The label of a snippet of MR is
thus not the one that MR has, which is the verdict of the critic on the whole film.

There is no official split: it is by a hash of the text, 80/10/10. Entities (`&amp;`) are resolved.
"""

import html
import io
import re
import tarfile
from typing import NamedTuple

import datasets

from experiments.data.converted import converted_once
from experiments.data.package_files import fetch_pypi_sdist, read_members
from experiments.data.sentiment_rows import Opinion, Target, data_set, split_by_text

PACKAGE = (
    "vaderSentiment",
    "2.5",
    "b960c954831f5ca58afee61780cc04ed48e551b91e783bfcbfb2c18bb8081a84",
)
FILES = {
    "movies": "movieReviewSnippets",
    "tweets": "tweets",
    "amazon": "amazonReviewSnippets",
    "nyt": "nytEditorialSnippets",
}

_LOADER_VERSION = 1
_STAR = 1.6  # the scale from −4 to 4 in five equal parts


class Snippet(NamedTuple):
    """One sentence, and the mean of its readers' ratings, −4 … 4."""

    text: str
    rating: float


def load(name: str, target: Target) -> datasets.DatasetDict:
    """Splits train, validation and test of rows {"text": string, "label": class}.

    Args:
        name: "movies", "tweets", "amazon" or "nyt".
        target: "binary": the sign of the rating, and no row where it is 0. "stars": the scale in
            five equal parts.

    Raises:
        ValueError: the name is another one.
        DataUnavailable: the package is not in the cache, and cannot be fetched.
        DataMismatch: the package index holds another archive than the pinned one.
    """
    if name not in FILES:
        raise ValueError(f"name: got {name!r}, expected one of {', '.join(FILES)}")

    def convert() -> datasets.DatasetDict:
        file = f"hutto_ICWSM_2014/{FILES[name]}_GroundTruth.txt"
        rows = snippets(_ratings()[file].decode("utf-8"))
        return data_set(split_by_text(opinions(rows, target)), target)

    return converted_once(f"snippets-{name}-{target}", f"{PACKAGE} {_LOADER_VERSION}", convert)


def lexicon() -> str:
    """The word list of the package's rules: a line is word, mean, deviation and ratings, by tabs.

    Raises:
        DataUnavailable: as `load`.
        DataMismatch: as `load`.
    """
    archive = fetch_pypi_sdist(*PACKAGE)
    (content,) = read_members(archive, "*/vaderSentiment/vader_lexicon.txt").values()
    return content.decode("utf-8", "replace").strip()


def snippets(table: str) -> list[Snippet]:
    """Rows of a file of the archive: number, rating and text, by tabs.

    Raises:
        ValueError: a line has other fields.
    """
    found = []
    for number, line in enumerate(re.split(r"\r\n|\r|\n", table), start=1):
        if not line:
            continue
        fields = line.split("\t")
        if len(fields) != 3:
            raise ValueError(f"table: got {len(fields)} fields in line {number}, expected 3")
        found.append(Snippet(html.unescape(fields[2]).strip(), float(fields[1])))
    return found


def opinions(rows: list[Snippet], target: Target) -> list[Opinion]:
    """Ratings as classes; see `load`."""
    if target == "binary":
        return [Opinion(row.text, int(row.rating > 0)) for row in rows if row.rating != 0]
    return [Opinion(row.text, min(4, int((row.rating + 4) / _STAR))) for row in rows]


def _ratings() -> dict[str, bytes]:
    """The files of the archive within the archive; nothing is unpacked."""
    archive = fetch_pypi_sdist(*PACKAGE)
    (content,) = read_members(archive, "*/hutto_ICWSM_2014.tar.gz").values()
    found = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as inner:
        for member in inner:
            stream = inner.extractfile(member) if member.isreg() else None
            if stream is not None and member.name.endswith("_GroundTruth.txt"):
                found[member.name] = stream.read()
    return found
