from pathlib import Path

import pytest

from experiments.data import dates

LOCALES, DAYS = ("en", "de", "ja"), (40, 5, 10)


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RNNJAX_CACHE", str(tmp_path))
    return dates.load(locales=LOCALES, days=DAYS)


def test_each_day_is_in_one_split_whatever_its_locale(rows):
    seen = {split: set(rows[split]["iso"]) for split in dates.SPLITS}
    for split, count in zip(dates.SPLITS, DAYS, strict=True):
        assert len(rows[split]) == count * len(LOCALES) * len(dates.STYLES)
        assert {dates.split_of(iso) for iso in seen[split]} == {split}
        columns = (list(rows[split][name]) for name in ("locale", "style", "iso"))
        assert len(set(zip(*columns, strict=True))) == len(rows[split])
    shares = [len(days) / 36525 for days in dates.days_of_splits().values()]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    assert sum(map(len, dates.days_of_splits().values())) == 36525


def test_what_is_drawn_for_a_locale_depends_on_it_alone(rows):
    alone = dates.written(["de"], dict(zip(dates.SPLITS, DAYS, strict=True)))
    again = [row for split in dates.SPLITS for row in rows[split] if row["locale"] == "de"]
    assert [row._asdict() for row in alone] == again
    for row in alone:
        if row.style == "medium":
            year, month, day = row.iso.split("-")
            assert row.text == f"{day}.{month}.{year}"


def check_distinct(locale: str, days: list) -> None:
    for style in dates.STYLES:
        texts = {dates.format_date(day, style, locale) for day in days}
        assert len(texts) == len(days), (locale, style)


def test_no_two_days_are_written_alike():
    """Else no score of 100 % would be possible."""
    days = dates.days_of_splits()["test"][::20]
    for locale in dates.LOCALES:
        check_distinct(locale, days)


@pytest.mark.slow
@pytest.mark.parametrize("locale", dates.LOCALES)
def test_no_two_of_all_days_are_written_alike(locale):
    check_distinct(locale, [day for days in dates.days_of_splits().values() for day in days])


def test_a_table_has_a_date_a_line(tmp_path: Path):
    lines = [f"x\tday {n} \t{day}" for n, day in enumerate(dates.days_of_splits()["train"][:60])]
    lines += [f"x\tday\t{dates.days_of_splits()[split][0]}" for split in dates.SPLITS[1:]]
    (tmp_path / "dates.tsv").write_text("Locale\ttext\tiso\n" + "\n\n".join(lines))
    found = dates.load("path", tmp_path / "dates.tsv")
    assert found["train"][1] == {
        "text": "day 1", "locale": "x", "style": "own",
        "iso": dates.days_of_splits()["train"][1].isoformat(),
    }  # fmt: skip
    assert [len(found[split]) for split in dates.SPLITS] == [60, 1, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "dates.tsv' without a row, expected dates"),
        (b"de\t1.1.2020\n", "got 2 fields in dates.tsv line 1, expected a locale, a text and a"),
        (b"de\t \t2020-01-01\n", "got an empty locale or text in dates.tsv line 1, expected both"),
        (b"de\t1.1.20\t2020-13-01\n", "got '2020-13-01' in dates.tsv line 1, expected a day YYYY"),
        (b"de\t1.1.20\t20200101\n", "got '20200101' in dates.tsv line 1, expected a day YYYY"),
        (b"de\t" + b"1" * 101 + b"\t2020-01-01\n", "got a text of 101 characters in dates.tsv l"),
        (b"de\t1. J\xe4nner 2020\t2020-01-01\n", "is not UTF-8 text"),
        (b"de\t1.1.2020\t2020-01-01\n", "dates: got 1 and none in split validation"),
    ],
)
def test_bad_tables_are_refused_in_one_line(content: bytes, message: str, tmp_path: Path):
    (tmp_path / "dates.tsv").write_bytes(content)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        dates.load("path", tmp_path / "dates.tsv")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"locales": ("en", "xx")}, "locales: got 'xx', expected one that babel knows"),
        ({"locales": ("en-GB",)}, "locales: got 'en-GB', expected one that babel knows"),
        ({"locales": ("en", "en")}, "locales: got 'en' twice, expected different ones"),
        ({"locales": ()}, "locales: got none, expected at least one"),
        ({"days": (40_000, 1, 1)}, "days: got 40000 of train, expected 1 … 29"),
        ({"days": (1, 0, 1)}, "days: got 0 of validation, expected 1 … "),
        ({"path": "dates.tsv"}, "path: got 'dates.tsv' with source='package'"),
        ({"source": "path"}, "path: got None with source='path'"),
        ({"source": "path", "path": "none.tsv"}, "path: got 'none.tsv', expected a .tsv file"),
        ({"source": "hub"}, "source: got 'hub', expected 'package' or 'path'"),
    ],
)
def test_bad_requests_are_refused(arguments, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        dates.load(**arguments)
    assert message in str(error.value)
