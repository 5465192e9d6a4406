"""Dates without a neural net: babel's own parser, and numbers and words told apart by counting."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from babel import UnknownLocaleError
from babel.dates import ParseError, parse_date

NUMBER = re.compile(r"\d+")
BETWEEN_WORDS = re.compile(r"[\s\d.,،/()-]+")
FIELDS = ("year", "month", "day")


class Example(NamedTuple):
    """A day as it is written in some locale."""

    locale: str
    text: str
    iso: str  # YYYY-MM-DD


def read_by_babel(locale: str, text: str, style: str = "medium") -> str | None:
    """What `babel.dates.parse_date` reads, as YYYY-MM-DD; None where it gives up.

    It knows in which order a locale has day, month and year, and reads numbers alone. Of a locale
    that it does not know it reads nothing.
    """
    try:
        return parse_date(text, locale, style).isoformat()
    except (UnknownLocaleError, ParseError, ValueError, IndexError):
        return None


@dataclass
class Counts:
    """What is counted of one locale."""

    places: defaultdict[tuple[int, str], Counter[int]] = field(
        default_factory=lambda: defaultdict(Counter)
    )  # (how many numbers, field) -> place of a number -> how often it was the field's
    texts: Counter[int] = field(default_factory=Counter)  # how many numbers -> texts
    months: defaultdict[str, Counter[int]] = field(
        default_factory=lambda: defaultdict(Counter)
    )  # word -> month -> texts


def fit_counts(examples: Iterable[Example]) -> dict[str, Counts]:
    """Count, for each locale, which number was the year, the month, the day, and which word when.

    Locale -> counts. It is told what a number and a word are, and nothing of any language.
    """
    of_locale: defaultdict[str, Counts] = defaultdict(Counts)
    for locale, text, iso in examples:
        counts, (numbers, words) = of_locale[locale], parts_of(text)
        counts.texts[len(numbers)] += 1
        values = dict(zip(FIELDS, map(int, iso.split("-")), strict=True))
        for name, value in values.items():
            places = [place for place, number in enumerate(numbers) if number == value]
            counts.places[len(numbers), name].update(places)
        for word in words:
            counts.months[word][values["month"]] += 1
    return dict(of_locale)


def read_by_counts(counts: dict[str, Counts], locale: str, text: str) -> str | None:
    """Year and day by the place of a number; the month by a number or a word, whichever is surer.

    YYYY-MM-DD; None where nothing such was counted.
    """
    if locale not in counts:
        return None
    of, (numbers, words) = counts[locale], parts_of(text)
    found: dict[str, int] = {}
    sureness: dict[str, float] = {}
    for name in FIELDS:
        ranked = of.places.get((len(numbers), name), Counter[int]()).most_common(1)
        if ranked:
            place, count = ranked[0]
            found[name] = numbers[place]
            sureness[name] = count / of.texts[len(numbers)]
    for word in words:
        if word in of.months:
            month, count = of.months[word].most_common(1)[0]
            # One more than there were, so that what came once is not sure.
            share = count / (1 + of.months[word].total())
            if share > sureness.get("month", 0.0):
                found["month"], sureness["month"] = month, share
    if len(found) < len(FIELDS):
        return None
    return "{year:04d}-{month:02d}-{day:02d}".format(**found)


def parts_of(text: str) -> tuple[list[int], list[str]]:
    """The numbers of a text, and the words between them, each word once."""
    words = (word for word in BETWEEN_WORDS.split(text.casefold()) if word)
    return [int(number) for number in NUMBER.findall(text)], list(dict.fromkeys(words))
