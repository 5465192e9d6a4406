import csv
import json
from collections import deque
from contextlib import contextmanager
from dataclasses import asdict

import pytest

from benchmarks import gradient_memory
from benchmarks.gradient_memory import Config, examine, parse, plans_of, run
from benchmarks.gradient_memory_report import Row, plot, report_text


@contextmanager
def in_this_process(work, *arguments):
    """A child that is none: the settings of a whole process are left alone."""
    assert work is gradient_memory.examine_in_child
    reports = deque()
    examine(reports.append, *arguments)
    yield lambda seconds: reports.popleft()


@pytest.fixture
def config(tmp_path):
    return Config(
        recurrences=("elman",),
        time_steps=(64,),
        plans=("reference",),
        levels=(2,),
        budgets=(),
        batch_size=2,
        input_size=3,
        hidden_size=8,
        out=tmp_path / "out",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recurrences": ("elmann",)}, "recurrences: got 'elmann', expected some of elman, "),
        ({"plans": ("fast",)}, "plans: got 'fast', expected some of reference, "),
        ({"plans": ()}, "plans: got none, expected at least one"),
        ({"time_steps": (16, 0)}, "time_steps: got 0, expected at least 1"),
        ({"levels": (2, 2)}, "levels: got .2, 2., expected each once"),
        ({"budgets": (0,)}, "budgets: got 0, expected at least 1"),
    ],
)
def test_bad_config_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Config(**change)


def test_flags_stand_on_the_preset():
    full, quick = parse([]), parse(["--preset", "quick", "--hidden-size", "8"])
    assert full == Config()
    assert (quick.hidden_size, quick.recurrences) == (8, ("lstm",))
    assert quick.out != full.out


def test_plans_are_the_named_ones_and_those_with_options():
    names = list(plans_of(Config(plans=("fused",), levels=(2,), budgets=(4,))))
    assert names == ["fused", "checkpointed_nested(2)", "checkpointed_within(4 MiB)"]


MACHINE = {
    "cpu": "Abacus", "cores": 2, "memory_bytes": 2**30, "system": "S", "architecture": "a",
}  # fmt: skip
SETTINGS = {"batch_size": 1, "input_size": 2, "hidden_size": 3, "dtype": "float32"}
ROWS = (
    Row("elman", 4, "fused", 2**18, None, 2**20, 3 * 2**20),
    Row("elman", 4, "within", 2**18, "too little"),
    Row("elman", 16, "fused", 2**20, None, 2**22),
    Row("elman", 16, "within", 2**20, None, 2**21, 0),
)


def test_tables_are_exact():
    conditions = SETTINGS | {"machine": MACHINE, "versions": {"jax": "1"}}
    _, _, sections = report_text("c", "d", conditions, ROWS).partition("## ")
    assert sections == (
        "By XLA's account\n\n"
        "| recurrence | T | fused | within |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| elman | 4 | 1.00 (4.00) | – |\n"
        "| elman | 16 | 4.00 (4.00) | 2.00 (2.00) |\n"
        "\n## By the kernel's account: peak rise of resident memory\n\n"
        "| recurrence | T | fused | within |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| elman | 4 | 3.00 (12.0) | – |\n"
        "| elman | 16 | – | 0.00 (0.00) |\n"
        "\n## Refused\n\n"
        "- elman, T = 4, within: too little\n"
    )


def test_each_line_is_named_at_its_end():
    (panel,) = plot(ROWS).axes
    assert [text.get_text() for text in panel.texts] == ["within", "fused"]
    heights = [text.get_position()[1] for text in panel.texts]
    assert heights == sorted(heights)


def test_whole_run_measures_each_plan_and_writes_the_report(config):
    rows = run(config, "command", in_this_process)
    assert [row.plan for row in rows] == ["reference", "checkpointed_nested(2)"]
    kept = [row.temporary_bytes or 0 for row in rows]
    assert rows[0].unit_bytes == 64 * 2 * 8 * 4
    assert kept[0] > rows[0].unit_bytes  # a plain scan keeps each state at least
    assert kept[0] > kept[1] > 0

    with (config.out / "results.csv").open() as file:
        assert [int(r["temporary_bytes"]) for r in csv.DictReader(file)] == kept
    results = json.loads((config.out / "results.json").read_text())
    assert results["rows"] == [asdict(row) for row in rows]
    assert {"machine", "versions", "command", "date"} <= set(results)
    assert (config.out / "plot.png").read_bytes().startswith(b"\x89PNG")
    names = sorted(path.name for path in config.out.iterdir())
    assert names == ["plot.png", "results.csv", "results.json", "table.md"]
