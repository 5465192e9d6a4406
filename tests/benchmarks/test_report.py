import pytest

from benchmarks.machine import source_digest
from benchmarks.report import (
    append_record,
    csv_text,
    markdown_table,
    read_records,
    three_digits,
)


def test_csv_is_exact():
    rows = [{"plan": "unrolled_by(2)", "s": 0.5}, {"plan": "a, b", "s": None}]
    assert csv_text(rows) == 'plan,s\nunrolled_by(2),0.5\n"a, b",\n'
    with pytest.raises(ValueError, match=r"rows: got columns \['s'\] in row 1"):
        csv_text([{"plan": 1}, {"s": 1}])


def test_markdown_is_exact():
    table = markdown_table(["plan", "ms"], [["fused", "1.50"]], labels=1)
    assert table == "| plan | ms |\n| --- | ---: |\n| fused | 1.50 |\n"
    with pytest.raises(ValueError, match="rows: got 1 cells in row 0, expected 2"):
        markdown_table(["plan", "ms"], [["fused"]], labels=1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.01234, "0.0123"),
        (1.0, "1.00"),
        (12.34, "12.3"),
        (99.99, "100"),
        (123.4, "123"),
        (98765.4, "98765"),
    ],
)
def test_three_digits(value, text):
    assert three_digits(value) == text


def test_record_cut_short_is_dropped_and_the_next_stands_alone(tmp_path):
    path = tmp_path / "points.jsonl"
    assert read_records(path) == []
    append_record(path, {"n": 1})
    with path.open("a") as file:
        file.write('{"n": 2, "ro')
    assert read_records(path) == [{"n": 1}]
    append_record(path, {"n": 3})
    assert read_records(path) == [{"n": 1}, {"n": 3}]


def test_damage_elsewhere_is_an_error(tmp_path):
    path = tmp_path / "points.jsonl"
    path.write_text('{"n": 1}\nnonsense\n{"n": 3}\n')
    with pytest.raises(ValueError, match="line 2 is no record"):
        read_records(path)


def test_digest_follows_the_code_that_is_measured(tmp_path):
    for folder in ("plans", "recurrences"):
        (tmp_path / folder).mkdir()
    (tmp_path / "scanning.py").write_text("a")
    first = source_digest(tmp_path)
    (tmp_path / "nnx.py").write_text("not measured")
    assert source_digest(tmp_path) == first
    (tmp_path / "plans" / "new.py").write_text("b")
    assert source_digest(tmp_path) != first
