import csv
import json
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib import import_module

import numpy as np
import pytest

from benchmarks.libraries.tasks import (
    GATES,
    Generation,
    Product,
    Sequences,
    Streaming,
    lengths_of,
    within_lengths,
)
from benchmarks.points import POINTS
from benchmarks.report import append_record, read_records
from benchmarks.rivals import (
    PRESETS,
    Config,
    conditions,
    contestants_of,
    difference_of,
    far_behind,
    measure_point,
    parse,
    plans_of,
    points_of,
    run,
)
from benchmarks.rivals_report import RivalRow
from benchmarks.turns import (
    Contestant,
    Forget,
    MakeReady,
    MeasurePeak,
    Processes,
    Ready,
    Refused,
    TakeTurn,
    answer,
)

TINY = (2, 4, 3, 3)


@pytest.fixture
def config(tmp_path):
    return Config(
        libraries=("ours", "pytorch", "dm_haiku"),
        recurrences=("gru",),
        plans=("reference", "auto", "native"),
        shapes=(TINY,),
        option_shapes=(),
        generation_shapes=(),
        streaming_sizes=(),
        least_rounds=2,
        budget_seconds=1e-6,
        turn_seconds=1e-6,
        out=tmp_path / "out",
    )


SECONDS = {"ours": 1.0, "pytorch": 3.0, "dm_haiku": 2.0, "flax_linen": 1.0}


class Pretended:
    """Libraries that compute ones, in as many seconds as they are said to take.

    Haiku's GRU is another one, which computes twos; Flax computes wrong values.
    """

    def __init__(self):
        self.asked = []

    @contextmanager
    def __call__(self, name):
        def ask(request, _):
            self.asked.append((name, request))
            match request:
                case MakeReady(Product()):
                    return Ready(None, None, {}, 1.0)
                case MakeReady(Sequences() as task):
                    if task.plan == "native":
                        return Refused("auto takes it")
                    other = name == "dm_haiku" or task.recurrence == "gru_reset_before"
                    value = 3.0 if name == "flax_linen" else 1.0 + other
                    key = "ys" if task.computation == "forward" else "dxs"
                    computes = "gru_reset_before" if name == "dm_haiku" else None
                    compiled = None if name == "pytorch" else {"compile_seconds": 5.0}
                    return Ready(compiled, computes, {key: np.full((4, 2, 3), value)}, 1.0)
                case TakeTurn():
                    return SECONDS[name]
                case MeasurePeak():
                    return 7
                case Forget():
                    return None

        yield "1.0", ask


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"libraries": ("ours", "torch")}, "libraries: got 'torch', expected some of ours, py"),
        ({"libraries": ("pytorch",)}, "libraries: got pytorch, expected ours too"),
        ({"plans": ("reference",)}, "plans: got reference, expected auto too"),
        ({"plans": ("reference", "fast")}, "plans: got 'fast', expected some of reference, auto"),
        ({"recurrences": ("sru",)}, "recurrences: got 'sru', expected some of elman, gru, lstm"),
        ({"shapes": ((1, 2, 0, 4),)}, r"shapes: got \(1, 2, 0, 4\), expected at least 1 of each"),
        ({"shapes": (TINY, TINY)}, "shapes: got .*, expected each once"),
        ({"least_rounds": 0}, "least_rounds: got 0, expected at least 1"),
        ({"turn_seconds": 0.0}, "turn_seconds: got 0.0, expected more than 0"),
        ({"recurrences": ()}, "recurrences and shapes: got no point"),
    ],
)
def test_bad_config_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Config(**change)


def test_flags_stand_on_the_preset():
    full = parse([])
    quick = parse(["--preset", "quick", "--shapes", "1", "2", "3", "4", "5", "6", "7", "8"])
    assert full == Config()
    assert quick.shapes == ((1, 2, 3, 4), (5, 6, 7, 8))
    assert quick.libraries == PRESETS["quick"].libraries
    assert quick.out != full.out


def test_the_full_preset_visits_the_promised_shapes():
    points = points_of(Config())
    plain = {
        (point["recurrence"], point["batch_size"], point["hidden_size"])
        for point in points
        if point["kind"] == "plain"
    }
    corners = [(1, 64), (1, 256), (1, 1024), (16, 128), (32, 256), (64, 512)]
    corners += [(128, 128), (128, 256), (32, 1024), (128, 1024)]
    assert {(name, *corner) for name in GATES for corner in corners} <= plain
    for kind in ("lengths", "resets", "generation", "streaming"):
        assert {"gru", "lstm"} <= {p["recurrence"] for p in points if p["kind"] == kind}
    assert [list(point) for point in points] == [list(points[0])] * len(points)


def test_contestants_of_each_kind_of_point(config):
    config = replace(
        config, option_shapes=(TINY,), generation_shapes=((2, 9, 1, 3),), streaming_sizes=(3,)
    )
    plain, lengths, resets, generation, streaming = points_of(config)
    found = contestants_of(config, plain)
    assert found[0] == Contestant("ours", Sequences("gru", "forward", *TINY, "plain", "reference"))
    of_library = [c.library for c in found if isinstance(c.task, Sequences)]
    assert of_library == ["ours"] * 6 + ["pytorch"] * 2 + ["dm_haiku"] * 2
    assert [c.library for c in found if isinstance(c.task, Product)] == list(config.libraries)
    for point in (lengths, resets):
        tasks = [task for _, task in contestants_of(config, point)]
        assert {(type(task), getattr(task, "kind", "")) for task in tasks} == {
            (Sequences, point["kind"])
        }
    assert contestants_of(config, generation) == [
        Contestant("ours", Generation("gru", 2, 1, 3, 9, "sample_language_model")),
        Contestant("pytorch", Generation("gru", 2, 1, 3, 9, "module")),
        Contestant("pytorch", Generation("gru", 2, 1, 3, 9, "cells")),
    ]
    assert contestants_of(config, streaming) == [
        Contestant("ours", Streaming("gru", 3, 200, "one_step")),
        Contestant("pytorch", Streaming("gru", 3, 200, "module")),
        Contestant("pytorch", Streaming("gru", 3, 200, "cells")),
    ]


def test_plans_that_would_take_too_long_are_not_tried():
    config = Config(most_newton=1000, longest_unrolled=4)
    point = {"recurrence": "gru", "batch_size": 1, "time_steps": 4, "hidden_size": 1}
    everything = ["reference", *(plan for plan in config.plans if plan != "reference")]
    assert plans_of(config, point) == everything
    longer = plans_of(config, point | {"time_steps": 5})
    assert everything[-2:] == ["quasi_newton", "newton"]
    assert longer == [plan for plan in everything if plan != "unrolled"]
    two = plans_of(config, point | {"hidden_size": 2, "recurrence": "lstm"})
    assert two == [plan for plan in everything if plan != "quasi_newton"]  # 4·4·128 > 1000 ≥ 4·4²
    assert "newton" not in plans_of(config, point | {"hidden_size": 16})


def test_difference_is_relative_and_counts_what_is_not_finite_and_not_what_is_masked():
    expected = np.array([[[4.0], [2.0]], [[1.0], [0.0]]])
    found = expected + np.array([[[0.0], [0.2]], [[0.0], [1.0]]])
    mask = np.array([[True, True], [True, False]])[..., None]
    assert difference_of(found, expected, None) == 0.25
    assert difference_of(found, expected, mask) == pytest.approx(0.05)
    assert difference_of(found * np.nan, expected, mask) == np.inf
    assert difference_of(np.array(1.5), np.array(1.0), mask) == 0.5
    with pytest.raises(ValueError, match="found: got shape \\(2,\\), expected \\(2, 2, 1\\)"):
        difference_of(np.zeros(2), expected, None)


def test_lengths_descend_so_that_they_can_be_packed():
    task = Sequences("gru", "forward", 3, 8, 1, 1, "lengths")
    assert lengths_of(task).tolist() == [8, 6, 4]
    assert within_lengths(task).sum(0).tolist() == [8, 6, 4]


def test_far_behind_is_far_from_its_own_kind():
    def contestants(*seconds):
        return {
            Contestant(library, Sequences("gru", "forward", *TINY, plan=str(number))): Ready(
                None, None, {}, value
            )
            for number, (library, value) in enumerate(seconds)
        }

    ready = contestants(("ours", 0.1), ("ours", 0.6), ("pytorch", 0.7), ("dm_haiku", 3.4))
    assert [c.task.plan for c in far_behind(ready)] == ["1"]
    quick = contestants(("ours", 0.001), ("ours", 0.09))
    assert far_behind(quick) == []
    auto = {
        Contestant("ours", replace(c.task, plan="auto")): Ready(None, None, {}, 9) for c in ready
    }
    assert far_behind(ready | auto) == [c for c in ready if c.task.plan == "1"]


def test_values_are_checked_against_what_a_library_says_it_computes(config):
    pretended = Pretended()
    config = replace(config, libraries=("ours", "pytorch", "dm_haiku", "flax_linen"))
    with Processes(pretended) as processes:
        rows = measure_point(config, points_of(config)[0], processes)
    found = {(row.library, row.plan): row for row in rows if row.computation == "training"}
    assert found["flax_linen", ""].status == "values differ by 2"
    assert found["flax_linen", ""].run_seconds is None
    assert found["dm_haiku", ""].difference == found["pytorch", ""].difference == 0
    assert found["ours", "native"].status == "auto takes it"
    measured = found["pytorch", ""]
    assert (measured.run_seconds, measured.rounds, measured.compile_seconds) == (3.0, 2, None)
    assert (measured.ratio_to_reference, measured.peak_resident_increase_bytes) == (3.0, 7)
    assert found["dm_haiku", ""].compile_seconds == 5.0
    assert [name for name, request in pretended.asked if request == Forget()] == list(
        config.libraries
    )


def test_killed_run_goes_on_where_it_ended(config):
    both = replace(config, shapes=(TINY, (2, 8, 3, 3)))
    run(config, "command", Pretended())
    results = json.loads((config.out / "results.json").read_text())
    (point,) = results["points"]
    assert not (config.out / POINTS).exists()
    versions = dict.fromkeys(config.libraries, "1.0")
    append_record(config.out / POINTS, point | {"conditions": conditions(config, versions)})

    pretended = Pretended()
    records = run(both, "command", pretended)
    tasks = [request.task for _, request in pretended.asked if isinstance(request, MakeReady)]
    assert {task.time_steps for task in tasks if isinstance(task, Sequences)} == {8}
    assert [record["time_steps"] for record in records] == [4, 8]

    other = conditions(config, versions | {"pytorch": "2.0"})
    append_record(config.out / POINTS, {"conditions": other})
    with pytest.raises(ValueError, match=r"out: got .* with points of versions"):
        run(config, "command", Pretended())
    assert len(read_records(config.out / POINTS)) == 1


@contextmanager
def in_this_process(name):
    """A library whose process is this one."""
    library = import_module(f"benchmarks.libraries.{name}")
    prepared = {}
    yield library.VERSION, lambda request, _: answer(library.PREPARE, prepared, request)


def test_whole_run_compares_what_is_installed_and_writes_the_report(config):
    config = replace(
        config,
        libraries=("ours", "flax_linen", "numpy_product"),
        plans=("reference", "auto"),
        generation_shapes=((2, 3, 1, 3),),
        streaming_sizes=(3,),
        streaming_steps=2,
        least_rounds=1,
    )
    records = run(config, "command", in_this_process)
    rows = [RivalRow(**row) for record in records for row in record["rows"]]
    for row in rows:
        if (row.library == "numpy_product" and row.computation != "product") or (
            row.library == "flax_linen" and row.computation == "product"
        ):
            assert row.status == "has no such thing"
        else:
            assert row.status == "measured"
            assert row.run_seconds is not None
            assert row.run_seconds > 0
    differences = [row.difference for row in rows if row.library == "flax_linen"]
    assert max(d for d in differences if d is not None) < 1e-5
    assert sum(d is not None for d in differences) == 2 + 2 + 1

    with (config.out / "results.csv").open() as file:
        stored = list(csv.DictReader(file))
    assert len(stored) == len(rows)
    kinds = list(dict.fromkeys(row["kind"] for row in stored))
    assert kinds == ["plain", "generation", "streaming"]
    results = json.loads((config.out / "results.json").read_text())
    assert [row for point in results["points"] for row in point["rows"]] == [
        asdict(row) for row in rows
    ]
    assert {"machine", "versions", "command", "date"} <= set(results)
    assert results["versions"]["numpy_product"] == np.__version__
    plots = ("plot.png", "plot_libraries.png", "plot_generation.png")
    for name in plots:
        assert (config.out / name).read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in config.out.iterdir()) == sorted(
        ["results.json", "results.csv", "table.md", *plots]
    )
