"""Dates as people write them in many languages, and the same dates in ISO 8601.

Source: the PyPI package `babel` (BSD licence), an extra of the experiments, which writes a date as
the Common Locale Data Repository of Unicode says (Unicode licence): "Sunday, July 5, 2026",
"5. heinäkuuta 2026", "2026年7月5日". All are of the Gregorian calendar and have digits 0 to 9, also
where others are usual. Or a table of the user's own.

The split is by a hash of the day, 80/10/10. So a day of the test part was never seen, in no
language and no style; its year, its month and its number in the month were, beside others.
"""

import csv
import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple

import babel
import datasets
from babel.dates import format_date

from experiments.data.converted import converted_once

LOCALES = (
    "ar", "bg", "bn", "cs", "da", "de", "el", "en", "en_GB", "es", "et", "fa", "fi", "fr", "he",
    "hi", "hu", "id", "it", "ja", "ko", "nb", "nl", "pl", "pt", "ro", "ru", "sv", "th", "tr", "uk",
    "vi", "zh",
)  # fmt: skip
"""Those that are written by default, of 13 scripts."""

STYLES = ("medium", "long", "full")
OWN_STYLE = "own"
"""Of the rows of a table, which does not say."""

FIRST, LAST = date(1950, 1, 1), date(2049, 12, 31)
"""A hundred years, so that two digits tell a year where a locale writes no more."""

SPLITS = ("train", "validation", "test")
DAYS = (700, 10, 100)
"""How many are written in each locale and style, by split."""

LONGEST = 100
"""Characters of a date of the user's own; what is longer is no date."""

FEATURES = datasets.Features(
    {name: datasets.Value("string") for name in ("text", "locale", "style", "iso")}
)

_LOADER_VERSION = 1
_HEADER = ["locale", "text", "iso"]


class WrittenDate(NamedTuple):
    """A day as it is written in some locale and style."""

    text: str
    locale: str
    style: str
    iso: str  # YYYY-MM-DD


def load(
    source: Literal["package", "path"] = "package",
    path: str | Path | None = None,
    locales: Sequence[str] = LOCALES,
    days: Sequence[int] = DAYS,
) -> datasets.DatasetDict:
    """Splits train, validation and test of rows {"text", "locale", "style", "iso"}, all strings.

    Args:
        source: "package" for what babel writes, "path" for a table of the user's own.
        path: the table of source="path", a UTF-8 .tsv file with a locale, a text and a date
            YYYY-MM-DD on each line; the other takes none.
        locales: of source="package"; names as "de" or "en_GB".
        days: of source="package"; how many are drawn in each locale and style, by split.

    Raises:
        ValueError: the source, a locale or a date is unknown, the path is missing, superfluous or
            no such table, there are too few days, or a split has no row.
    """
    if source not in ("package", "path"):
        raise ValueError(f"source: got {source!r}, expected 'package' or 'path'")
    if (source == "path") != (path is not None):
        raise ValueError(f"path: got {path!r} with source={source!r}; source='path' needs it alone")
    if path is not None:
        return data_set(read_table(Path(path)))
    check_locales(locales)
    counts: dict[str, int] = dict(zip(SPLITS, days, strict=True))
    for split, among in days_of_splits().items():
        if not 1 <= counts[split] <= len(among):
            raise ValueError(f"days: got {counts[split]} of {split}, expected 1 … {len(among)}")
    made_of = f"babel {version('babel')} {_LOADER_VERSION} {list(locales)} {list(days)}"
    return converted_once("dates", made_of, lambda: data_set(written(locales, counts)))


def check_locales(locales: Sequence[str]) -> None:
    """Refuse what babel does not know.

    Raises:
        ValueError: there is no locale, one is unknown, or one stands there twice.
    """
    if not locales:
        raise ValueError("locales: got none, expected at least one")
    for locale in locales:
        try:
            babel.Locale.parse(locale)
        except (babel.UnknownLocaleError, ValueError, TypeError):
            raise ValueError(
                f"locales: got {locale!r}, expected one that babel knows, as 'de' or 'en_GB'"
            ) from None
    repeated = [locale for locale, count in Counter(locales).items() if count > 1]
    if repeated:
        raise ValueError(f"locales: got {repeated[0]!r} twice, expected different ones")


def split_of(iso: str) -> str:
    """The split of a day, the same in all locales and styles."""
    percent = int.from_bytes(hashlib.sha256(iso.encode()).digest()[:8]) % 100
    return "test" if percent < 10 else "validation" if percent < 20 else "train"


def days_of_splits() -> dict[str, list[date]]:
    """All days from `FIRST` to `LAST`, by split."""
    days: dict[str, list[date]] = {split: [] for split in SPLITS}
    for ordinal in range(FIRST.toordinal(), LAST.toordinal() + 1):
        day = date.fromordinal(ordinal)
        days[split_of(day.isoformat())].append(day)
    return days


def written(locales: Sequence[str], counts: dict[str, int]) -> list[WrittenDate]:
    """Days drawn for each locale and style, without repetition, and written in it.

    What is drawn for one depends neither on the others nor on other splits.
    """
    rows = []
    for split, days in days_of_splits().items():
        for locale in locales:
            for style in STYLES:
                rng = random.Random(f"{split} {locale} {style}")
                for day in rng.sample(days, counts[split]):
                    text = format_date(day, style, locale)
                    rows.append(WrittenDate(text, locale, style, day.isoformat()))
    return rows


def data_set(rows: Sequence[WrittenDate]) -> datasets.DatasetDict:
    """Rows by the split of their day.

    Raises:
        ValueError: a split has none.
    """
    of_split: dict[str, list[WrittenDate]] = {split: [] for split in SPLITS}
    for row in rows:
        of_split[split_of(row.iso)].append(row)
    made: dict[str | datasets.NamedSplit, datasets.Dataset] = {}
    for split, chosen in of_split.items():
        if not chosen:
            raise ValueError(
                f"dates: got {len(rows)} and none in split {split}, expected some in each "
                "(about 50 different days in all)"
            )
        columns = {name: [getattr(row, name) for row in chosen] for name in FEATURES}
        made[split] = datasets.Dataset.from_dict(columns, features=FEATURES)
    return datasets.DatasetDict(made)


def read_table(file: Path) -> list[WrittenDate]:
    """The rows of a `.tsv`: a locale, a text and a date YYYY-MM-DD, parted by tabs.

    A first row "locale", "text", "iso" is passed over, and so are empty lines. The locale is any
    name; babel need not know it.

    Raises:
        ValueError: it is no such file, not UTF-8 or empty, or a row is not as said.
    """
    if not file.is_file() or file.suffix != ".tsv":
        raise ValueError(
            f"path: got {str(file)!r}, expected a .tsv file with a locale, a text and a date "
            "YYYY-MM-DD on each line"
        )
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
            rows = [(row, f"{file.name} line {reader.line_num}") for row in reader if row]
    except UnicodeDecodeError as error:
        raise ValueError(f"path: {str(file)!r} is not UTF-8 text ({error})") from None
    if rows and [name.strip().lower() for name in rows[0][0]] == _HEADER:
        del rows[0]
    if not rows:
        raise ValueError(f"path: got {str(file)!r} without a row, expected dates")
    return [_row(fields, where) for fields, where in rows]


def _row(fields: list[str], where: str) -> WrittenDate:
    if len(fields) != 3:
        raise ValueError(
            f"path: got {len(fields)} fields in {where}, expected a locale, a text and a date"
        )
    locale, text, iso = (field.strip() for field in fields)
    if not locale or not text:
        raise ValueError(f"path: got an empty locale or text in {where}, expected both")
    if len(text) > LONGEST:
        raise ValueError(
            f"path: got a text of {len(text)} characters in {where}, expected at most {LONGEST}"
        )
    try:
        is_iso = date.fromisoformat(iso).isoformat() == iso
    except ValueError:
        is_iso = False
    if not is_iso:
        raise ValueError(f"path: got {iso!r} in {where}, expected a day YYYY-MM-DD")
    return WrittenDate(text, locale, OWN_STYLE, iso)
