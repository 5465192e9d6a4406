import csv
import json
import os
from contextlib import contextmanager

import pytest

from benchmarks import allocation
from benchmarks.allocation import KEEP, Config, environment, examine, parse, run


@contextmanager
def in_this_process(work, *arguments):
    """A child that is none: what was asked of its environment is looked at here."""
    assert work is allocation.examine_in_child
    assert os.environ.items() >= KEEP.items() or not KEEP.keys() & os.environ.keys()
    yield lambda seconds: examine(*arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"places": (("lstmm", 1, 1, 1),)}, "places: got 'lstmm', expected some of elman, "),
        ({"places": (("lstm", 1, 0, 1),)}, "places: got .*, expected at least 1 of each size"),
        ({"places": ()}, "places: got none, expected at least one"),
        ({"plans": ("fast",)}, "plans: got 'fast', expected some of reference, "),
        ({"turns": 0}, "turns: got 0, expected at least 1"),
    ],
)
def test_bad_config_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Config(**change)


def test_flags_stand_on_the_preset():
    assert parse([]) == Config()
    quick = parse(["--preset", "quick", "--calls", "3"])
    assert (quick.calls, quick.turns) == (3, 2)
    assert quick.out != Config().out


def test_the_environment_is_put_back(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "3")
    before = dict(os.environ)
    with environment({}):
        assert not KEEP.keys() & os.environ.keys()
    with environment(KEEP):
        assert os.environ.items() >= KEEP.items()
    assert dict(os.environ) == before


def test_both_allocators_are_measured_at_every_place(tmp_path):
    config = Config(
        places=(("elman", 2, 8, 4),), plans=("reference", "fused"), turns=2, calls=2, out=tmp_path
    )
    rows = run(config, "the command", in_this_process)
    assert [(row.plan, row.allocator) for row in rows] == [
        (plan, allocator) for plan in config.plans for allocator in ("as it is", "keeps")
    ]
    assert all(0 < row.least_seconds <= row.seconds <= row.most_seconds for row in rows)
    assert all((row.temporary_bytes or 0) > 0 and row.system_seconds >= 0 for row in rows)
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["command"], len(results["rows"])) == ("the command", 4)
    with (tmp_path / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 4
    table = (tmp_path / "table.md").read_text()
    assert "MALLOC_MMAP_MAX_=0" in table
    assert table.count("| elman | 2 | 8 | 4 |") == 2
