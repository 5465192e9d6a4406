import csv
import json
from collections import deque
from contextlib import contextmanager
from dataclasses import asdict, replace

import pytest

from benchmarks import scan_vs_unrolled
from benchmarks.child_process import ChildEndedError, ChildTookTooLongError
from benchmarks.measure import CompileCost, Spread
from benchmarks.points import POINTS, Program
from benchmarks.points_report import Row
from benchmarks.report import append_record, read_records
from benchmarks.scan_vs_unrolled import (
    Config,
    conditions,
    examine,
    expected_compile_seconds,
    measure_point,
    parse,
    plans_of,
    reason_to_skip,
    run,
)
from benchmarks.scan_vs_unrolled_report import explosion_table, report_text

COST = CompileCost(1.0, 3.0, 100, 10)


@contextmanager
def in_this_process(work, *arguments):
    """A child that is none: the settings of a whole process are left alone."""
    assert work is scan_vs_unrolled.examine_in_child
    reports = deque()
    examine(reports.append, *arguments)
    yield lambda seconds: reports.popleft()


class PretendedChildren:
    """Children whose compilations of `hopeless` programs never end."""

    def __init__(self, hopeless=(), error: type[Exception] = ChildTookTooLongError):
        self.hopeless, self.error, self.started = hopeless, error, []

    @contextmanager
    def __call__(self, work, config, recurrence, time_steps, programs):
        self.started.append((recurrence, time_steps, list(programs)))

        def reports():
            yield "pretended"
            for program in programs:
                if program in self.hopeless:
                    raise self.error("ended")
                yield COST
                yield 7
            seconds = {"reference": 2.0, "fused": 1.0}
            yield {p: Spread(0.0, seconds.get(p.plan, 3.0), 9.0, 5) for p in programs}

        report = reports()
        yield lambda seconds: next(report)


@pytest.fixture
def config(tmp_path):
    return Config(
        recurrences=("elman",),
        time_steps=(4,),
        plans=("reference", "fused"),
        unroll_by=(),
        batch_size=2,
        input_size=3,
        hidden_size=3,
        budget_seconds=1e-6,
        out=tmp_path / "out",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recurrences": ("elmann",)}, "recurrences: got 'elmann', expected some of elman, "),
        ({"plans": ("reference", "fast")}, "plans: got 'fast', expected some of reference, "),
        ({"plans": ("fused",)}, "plans: got fused, expected the reference among them"),
        ({"time_steps": (16, 0)}, "time_steps: got 0, expected at least 1"),
        ({"time_steps": (16, 16)}, "time_steps: got .16, 16., expected each once"),
        ({"budget_seconds": 0.0}, "budget_seconds: got 0.0, expected more than 0"),
    ],
)
def test_bad_config_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Config(**change)


def test_flags_stand_on_the_preset():
    full, quick = parse([]), parse(["--preset", "quick", "--hidden-size", "8"])
    assert full == Config()
    assert (quick.hidden_size, quick.recurrences) == (8, ("elman", "lstm"))
    assert quick.out != full.out


def test_unknown_flags_are_refused(capsys):
    with pytest.raises(SystemExit):
        parse(["--hiden-size", "8"])
    assert "--hiden-size" in capsys.readouterr().err


def test_plans_begin_with_the_reference():
    names = list(plans_of(Config(plans=("fused", "reference"), unroll_by=(2,))))
    assert names == ["reference", "unrolled_by(2)", "fused"]


def test_compile_time_is_extrapolated_as_a_power_law():
    assert expected_compile_seconds([], 64) == 0.0
    assert expected_compile_seconds([(16, 2.0)], 64) == pytest.approx(8.0)
    assert expected_compile_seconds([(4, 9.0), (16, 1.0), (32, 4.0)], 64) == pytest.approx(16.0)
    assert expected_compile_seconds([(16, 4.0), (32, 4.0)], 64) == pytest.approx(8.0)


def row(time_steps, plan="unrolled", status="measured", **values):
    return Row("lstm", time_steps, "training", plan, status, **values)


def test_only_the_full_unroll_is_skipped_and_only_upwards():
    program = Program("training", "unrolled")
    slow = [row(16, lower_seconds=1.0, compile_seconds=19.0)]
    assert reason_to_skip(slow, program, 32, 50.0) is None
    reason = reason_to_skip(slow, program, 64, 50.0)
    assert reason == "not tried, compilation expected to take 80 s or more"
    assert reason_to_skip(slow, Program("training", "fused"), 64, 50.0) is None
    assert reason_to_skip(slow, Program("forward", "unrolled"), 64, 50.0) is None
    failed = [row(64, status="compilation given up after 50 s")]
    assert reason_to_skip(failed, program, 256, 50.0) == "not tried, see T = 64"
    assert reason_to_skip(failed, program, 16, 50.0) is None


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ChildTookTooLongError, "compilation given up after 180 s"),
        (ChildEndedError, "ended"),
    ],
)
def test_what_cannot_be_compiled_is_left_out_and_the_rest_measured(config, error, status):
    hopeless = Program("training", "unrolled")
    children = PretendedChildren([hopeless], error)
    config = replace(config, plans=("reference", "unrolled"))
    _, rows = measure_point(config, "elman", 4, [], children)
    (first, second) = (programs for _, _, programs in children.started)
    assert first[0] == hopeless
    assert second == first[1:]
    found = {(r.computation, r.plan): r for r in rows}
    assert len(found) == 4
    assert found[hopeless].status == status
    assert found[hopeless].run_seconds is None
    assert found["forward", "unrolled"].ratio_to_reference == 1.5


def test_killed_run_goes_on_where_it_ended(config):
    config = replace(config, time_steps=(4, 8))
    run(replace(config, time_steps=(4,)), "command", PretendedChildren())
    results = json.loads((config.out / "results.json").read_text())
    assert not (config.out / POINTS).exists()
    (point,) = results["points"]
    append_record(config.out / POINTS, point | {"conditions": conditions(config)})

    children = PretendedChildren()
    records = run(config, "command", children)
    assert [started[:2] for started in children.started] == [("elman", 8)]
    assert [record["time_steps"] for record in records] == [4, 8]


def test_points_of_other_conditions_are_not_mixed_in(config):
    other = conditions(replace(config, hidden_size=5))
    config.out.mkdir()
    append_record(config.out / POINTS, {"conditions": other})
    with pytest.raises(ValueError, match="with points of hidden_size 5, expected 3"):
        run(config, "command", PretendedChildren())
    assert len(read_records(config.out / POINTS)) == 1


def test_tables_are_exact():
    rows = [
        Row("elman", 4, "forward", "reference", "measured", 2e-3, 1e-3, 3e-3, 5, 1.0, 0.25, 0.5)
        ,
        Row("elman", 4, "forward", "unrolled", "measured", 1e-3, 1e-3, 1e-3, 5, 0.5, 1.0, 9.0,
            2**20, 2**19, 3 * 2**20),
        Row("elman", 16, "forward", "reference", "measured", 8e-3, 8e-3, 8e-3, 5, 1.0, 0.25, 0.5),
        Row("elman", 16, "forward", "unrolled", "compilation given up after 60 s"),
    ]  # fmt: skip
    machine = {
        "cpu": "Abacus", "cores": 2, "memory_bytes": 2**30, "system": "S", "architecture": "a",
    }  # fmt: skip
    settings = {"batch_size": 1, "input_size": 2, "hidden_size": 3, "dtype": "float32"}
    text = report_text("c", "d", settings | {"machine": machine, "versions": {"jax": "1"}}, rows)
    _, _, sections = text.partition("## ")
    assert sections == (
        "Forward: geometric mean of × over the T that were measured\n\n"
        "| recurrence | reference | unrolled |\n"
        "| --- | ---: | ---: |\n"
        "| elman | 1.00 | 0.500 |\n"
        "\n## Forward: run time\n\n"
        "| recurrence | T | reference | unrolled |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| elman | 4 | 2.00 ms | 1.00 ms (×0.500) |\n"
        "| elman | 16 | 8.00 ms | – |\n"
        "\n## Forward: compile time in seconds, tracing + XLA\n\n"
        "| recurrence | T | reference | unrolled |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| elman | 4 | 0.250 + 0.500 | 1.00 + 9.00 |\n"
        "| elman | 16 | 0.250 + 0.500 | – |\n"
        "\n## Forward: memory of a call in MiB, XLA's temporaries + outputs "
        "(in brackets the measured peak rise of resident memory)\n\n"
        "| recurrence | T | reference | unrolled |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| elman | 4 | – | 1.0 + 0.5 (3.0) |\n"
        "| elman | 16 | – | – |\n"
        "\n## Where the full unroll ends\n\n"
        "| recurrence | computation | plan | compile time at T | ends at T |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| elman | forward | unrolled | 4: 10.0 s | 16: compilation given up after 60 s |\n"
    )
    assert explosion_table(rows[:3]) == ""


def test_whole_run_measures_both_plans_and_writes_the_report(config):
    records = run(config, "command", in_this_process)
    rows = [Row(**r) for record in records for r in record["rows"]]
    assert {(r.computation, r.plan) for r in rows} == {
        (computation, plan)
        for computation in ("forward", "training")
        for plan in ("reference", "fused")
    }
    for r in rows:
        assert r.status == "measured"
        assert r.run_seconds is not None
        assert r.compile_seconds is not None
        assert min(r.run_seconds, r.compile_seconds) > 0
        assert (r.ratio_to_reference == 1.0) == (r.plan == "reference")
    # carry (2, 3) and ys (4, 2, 3) of float32, and a table of pointers to them.
    forward = next(r for r in rows if r.computation == "forward")
    assert forward.output_bytes is not None
    assert 0 <= forward.output_bytes - 4 * (6 + 24) <= 32

    with (config.out / "results.csv").open() as file:
        stored = list(csv.DictReader(file))
    assert [r["plan"] for r in stored] == [r.plan for r in rows]
    assert [float(r["run_seconds"]) for r in stored] == [r.run_seconds for r in rows]
    results = json.loads((config.out / "results.json").read_text())
    assert results["points"][0]["rows"] == [asdict(r) for r in rows]
    assert {"machine", "versions", "command", "date"} <= set(results)
    for name in ("plot.png", "plot_forward.png"):
        assert (config.out / name).read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in config.out.iterdir()) == sorted(
        ["results.json", "results.csv", "table.md", "plot.png", "plot_forward.png"]
    )
