from collections import deque
from contextlib import contextmanager
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

import rnnjax
from benchmarks import plans
from benchmarks.measure import CompileCost, Spread
from benchmarks.plans import (
    Config,
    Ready,
    canonical_text,
    examine,
    far_behind,
    jacobians_too_large,
    measure_point,
    parse,
    points_of,
    reason_to_skip,
    run,
)
from benchmarks.plans_report import (
    AutoCheck,
    Place,
    PlanRow,
    auto_check,
    auto_table,
    missing_table,
    parallel_table,
    plot,
    read_rows,
    units_table,
)
from benchmarks.points import Program
from rnnjax.plans.newton import newton

AT = {"recurrence": "elman", "hidden_size": 8, "time_steps": 64}


@contextmanager
def in_this_process(work, *arguments):
    """A child that is none: the settings of a whole process are left alone."""
    assert work is plans.examine_in_child
    reports = deque()
    examine(reports.append, *arguments)
    yield lambda seconds: reports.popleft()


@pytest.fixture
def config(tmp_path):
    return Config(
        recurrences=("lru",),
        time_steps=(4,),
        hidden_sizes=(3,),
        other_recurrences=(),
        plans=("reference", "fused", "associative"),
        chunk_steps=(),
        batch_size=2,
        budget_seconds=1e-6,
        least_rounds=1,
        out=tmp_path / "out",
    )


def row(plan, seconds=None, *, computation="training", status="measured", at=AT, **values):
    return PlanRow(
        at["recurrence"], at["time_steps"], computation, plan, status, seconds,
        **({"hidden_size": at["hidden_size"], "ys_bytes": 100, "auto": "fused"} | values),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"other_recurrences": ("lrru",)}, "other_recurrences: got 'lrru', expected some of elman"),
        ({"other_recurrences": ("lru",)}, "other_recurrences: got lru, expected none that is in"),
        ({"plans": ("fused",)}, "plans: got fused, expected the reference among them"),
        ({"hidden_sizes": (3, 0)}, "hidden_sizes: got 0, expected at least 1"),
        ({"time_steps": ()}, "got no point"),
    ],
)
def test_bad_config_is_refused(config, change, message):
    with pytest.raises(ValueError, match=message):
        replace(config, **change)


def test_full_covers_every_recurrence_and_every_plan():
    full = parse([])
    assert full == Config()
    points = points_of(full)
    assert {point["recurrence"] for point in points} == set(rnnjax.recurrences.REGISTRY)
    assert set(full.plans) == set(rnnjax.plans.REGISTRY)
    assert len([p for p in points if p["recurrence"] == "lstm"]) == 9
    assert len([p for p in points if p["recurrence"] == "elman_relu"]) == 2


def test_iterative_plans_and_the_full_unroll_are_skipped_where_hopeless(config):
    config = replace(config, plans=("reference", "newton", "unrolled"), run_limit_seconds=10.0)
    program = Program("training", "newton")
    small = AT | {"hidden_size": 4, "time_steps": 16}  # so AT is expected to take 8 times longer

    def reason(*earlier, program=program):
        return reason_to_skip(config, earlier, AT, program)

    assert reason(row("newton", 1.2, at=small)) is None
    assert reason(row("newton", 1.3, at=small)) == "not tried, a run expected to take 10 s"
    assert reason(row("newton", 9.0, computation="forward", at=small)) is None
    given_up = row("newton", status="run given up after 10 s", at=small)
    assert reason(given_up) == "not tried, see T = 16, H = 4"
    assert (
        reason(row("newton", status="run given up after 10 s", at=AT | {"hidden_size": 9})) is None
    )
    assert reason(given_up, program=Program("training", "reference")) is None
    unrolled = Program("training", "unrolled")
    assert reason(program=unrolled) == "not tried above T = 32"
    slow = row("unrolled", status="compilation given up after 60 s", at=small)
    assert reason_to_skip(config, [slow], AT | {"time_steps": 32}, unrolled) is not None


def test_only_what_is_slow_and_much_slower_than_the_fastest_is_timed_once():
    a, b, c = (Program("forward", name) for name in "abc")
    assert far_behind({a: 0.01, b: 0.09, c: 0.11}) == [c]
    assert far_behind({a: 1.0, b: 4.9, c: 5.1}) == [c]
    assert far_behind({}) == []


def test_child_measures_what_can_be_measured_and_says_why_the_rest_cannot(config):
    """Complex carries, of which the loss must be real; `newton` is refused only when traced."""
    config = replace(config, plans=("reference", "associative", "newton"))
    at = points_of(config)[0]
    _, rows = measure_point(config, at, [], in_this_process)
    found = {(r.computation, r.plan): r for r in rows}
    assert len(rows) == len(found) == 6
    for (_, plan), r in found.items():
        assert r.same_program_as is None
        assert r.auto == "associative"
        assert r.ys_bytes == 4 * 2 * 3 * 4
        if plan == "newton":
            assert r.status.startswith("refused: ")
            assert r.run_seconds is None
        else:
            assert r.status == "measured"
            assert r.run_seconds is not None
            assert r.run_seconds > 0
            assert (r.ratio_to_reference == 1.0) == (plan == "reference")


def test_one_program_under_two_names_is_measured_once(config):
    """Forward, `checkpointed` is `fused`; a training step is another matter."""
    config = replace(config, recurrences=("elman",), plans=("reference", "fused", "checkpointed"))
    _, rows = measure_point(config, points_of(config)[0], [], in_this_process)
    found = {(r.computation, r.plan): r for r in rows}
    twin, original = found["forward", "checkpointed"], found["forward", "fused"]
    assert twin.same_program_as == "fused"
    assert (twin.run_seconds, twin.rounds) == (original.run_seconds, original.rounds)
    assert {r.plan for r in rows if r.same_program_as is None} == set(config.plans)
    assert found["training", "checkpointed"].same_program_as is None


def test_names_and_origins_do_not_make_another_program():
    one = 'HloModule a, x\n\nFileNames\n1 "f"\n\n%b.1 = f32[2] add(%c), metadata={op_name="d"}'
    same = 'HloModule e, x\n\nFileNames\n1 "g"\n2 "h"\n\n%i.7 = f32[2] add(%j)'
    assert canonical_text(one) == canonical_text(same)
    assert canonical_text(one) != canonical_text(same.replace("add", "multiply"))


def test_newton_is_left_out_where_its_jacobians_are_too_large(config):
    params = jax.eval_shape(lambda: rnnjax.lstm.init(jax.random.key(0), 5, 3, dtype="float32"))
    xs = jnp.zeros((4, 2, 5), jnp.float32)
    needed = 4 * 2 * (3 + 3) ** 2 * 4  # T B D² floats, where D counts h and c

    def reason(limit, plan):
        limited = replace(config, jacobian_limit_bytes=limit)
        return jacobians_too_large(limited, rnnjax.lstm, params, xs, plan)

    assert reason(needed, newton) is None
    assert reason(needed - 1, newton) == "not tried, Jacobians above 1.07e-06 GiB"
    assert reason(1, rnnjax.plans.REGISTRY["reference"]) is None


@contextmanager
def pretended(work, config, point, programs):
    def reports():
        yield Ready("pretended", "fused", 64)
        for _ in programs:
            yield CompileCost(1.0, 3.0, 128, 10)
            yield 0.1
        seconds = {"reference": 2.0, "fused": 1.0}
        yield {p: (7, Spread(0.0, seconds.get(p.plan, 3.0), 9.0, 5), None) for p in programs}

    report = reports()
    yield lambda seconds: next(report)


def test_whole_run_writes_what_is_read_back(config):
    config = replace(config, recurrences=("lru", "lstm"), hidden_sizes=(2, 3), time_steps=(4, 2))
    run(config, "command", pretended)
    assert sorted(path.name for path in config.out.iterdir()) == sorted(
        ["results.json", "results.csv", "table.md", "plot.png"]
    )
    rows = read_rows(config.out / "results.json")
    order = list(dict.fromkeys((r.recurrence, r.hidden_size, r.time_steps) for r in rows))
    assert order == [(n, h, t) for n in ("lstm", "lru") for h in (2, 3) for t in (2, 4)]
    assert {c.ratio_to_best for c in auto_check(rows)} == {1.0}
    assert "At 16 of 16 places" in (config.out / "table.md").read_text()
    assert (config.out / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_auto_is_compared_with_the_best_of_what_was_measured():
    rows = [
        row("reference", 2.0), row("fused", 1.5), row("newton", 1.0),
        row("fused", 3.0, computation="forward", auto="newton"),
        row("newton", status="given up", computation="forward", auto="newton"),
    ]  # fmt: skip
    here = Place("elman", 8, 64, "training")
    assert auto_check(rows) == [
        AutoCheck(here, "fused", "newton", 1.5, None),
        AutoCheck(here._replace(computation="forward"), "newton", "fused", None, None),
    ]
    assert auto_table(rows) == (
        "At 0 of 2 places the plan that auto takes is the fastest of all or within 10 % of it.\n\n"
        "| recurrence | computation | auto takes | the fastest | H | T | auto ÷ fastest |\n"
        "| --- | --- | --- | --- | ---: | ---: | ---: |\n"
        "| elman | training | fused | newton | 8 | 64 | 1.50 |\n"
        "| elman | forward | newton | fused | 8 | 64 | – |\n"
    )


def test_tables_are_exact():
    rows = [
        row("fused", 2.0, temporary_bytes=250), row("associative_by(1)", 1.0),
        row("newton", 8.0, temporary_bytes=1200),
        row("fused", 1.0, at=AT | {"time_steps": 8}, temporary_bytes=999),
        row("quasi_newton", status="run given up after 10 s"),
        row("associative", status="refused: nonlinear"),
        row("unrolled", status="not tried above T = 32"),
    ]  # fmt: skip
    assert parallel_table(rows) == (
        "| recurrence | computation | H | T | associative_by(1) | newton | quasi_newton "
        "| associative |\n"
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| elman | training | 8 | 64 | **0.500** | 4.00 | – | – |\n"
    )
    assert units_table(rows) == (
        "| recurrence | H | T | fused | associative_by(1) | newton | quasi_newton | associative "
        "| unrolled |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| elman | 8 | 64 | 2.50 | – | 12.0 | – | – | – |\n"
    )
    assert missing_table(rows) == (
        "| plan | computation | reason | where, H × T |\n"
        "| --- | --- | --- | --- |\n"
        "| quasi_newton | training | run given up after 10 s | elman 8 × 64 |\n"
    )


def test_each_cell_names_the_fastest():
    here = [AT | {"hidden_size": h, "time_steps": t} for h in (4, 8) for t in (16, 64)]
    rows = [
        replace(row(plan, seconds, at=at), ratio_to_reference=seconds)
        for at in here
        for plan, seconds in (("reference", 1.0), ("fused", 0.5 if at == AT else 1.5))
    ] + [row("newton", 1.0, at=AT | {"recurrence": "lstm"})]
    panels = [axes for part in plot(rows).subfigs for axes in _all_axes(part) if axes.texts]
    texts = [sorted(text.get_text() for text in axes.texts) for axes in panels]
    assert texts == [["fused\n×0.500"] + 3 * ["reference\n×1.00"], ["newton"]]


def _all_axes(part):
    return [*part.axes, *(axes for inner in part.subfigs for axes in _all_axes(inner))]
