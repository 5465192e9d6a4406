"""What the benchmark of rivals times computes what ours does, in every library."""

from contextlib import contextmanager
from importlib import import_module

import jax
import pytest

from benchmarks.libraries.tasks import GATES, Generation, Sequences, Streaming
from benchmarks.rivals import (
    LIBRARIES,
    OURS,
    WAYS,
    Config,
    differences_of,
    measure_point,
    points_of,
    start_library,
)
from benchmarks.turns import Contestant, Processes, answer, make_ready

pytestmark = pytest.mark.peers

REFUSED = {
    "dm_haiku": {("lengths", name) for name in GATES},
    "equinox_cells": {(kind, "elman") for kind in ("plain", "lengths", "resets")},
    "keras_layers": {("resets", name) for name in GATES},
}


@pytest.fixture(autouse=True)
def jax_as_it_comes():
    """Without the strictness of the tests, which not every library stands."""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield


@contextmanager
def in_this_process(name):
    """A library whose process is this one."""
    library = import_module(f"benchmarks.libraries.{name}")
    prepared = {}
    yield library.VERSION, lambda request, _: answer(library.PREPARE, prepared, request)


@pytest.mark.parametrize("library", [n for n in LIBRARIES if n not in (OURS, "numpy_product")])
@pytest.mark.parametrize("kind", ["plain", "lengths", "resets"])
def test_values_are_ours(library, kind):
    tasks = [
        Sequences(recurrence, computation, 3, 8, 5, 6, kind)
        for recurrence in GATES
        for computation in (("forward", "training") if kind == "plain" else ("training",))
    ]
    left_out = {}
    with Processes(in_this_process) as processes:
        ready = make_ready(processes, library, tasks, 60.0, left_out)
        differences = differences_of(processes, ready, 60.0)
    refused = {(c.task.kind, c.task.recurrence) for c in left_out}
    assert refused == {pair for pair in REFUSED.get(library, ()) if pair[0] == kind}
    assert list(differences) == list(ready)
    assert all(difference < 1e-5 for difference in differences.values()), differences


@pytest.mark.parametrize("library", sorted({name for _, name in WAYS}))
def test_generation_and_streaming_are_ours(library):
    tasks = [
        *(
            Generation(name, 3, 2, 16, 12, way)
            for name in ("gru", "lstm")
            for way in WAYS[Generation, library]
        ),
        *(
            Streaming(name, 16, 10, way)
            for name in ("gru", "lstm")
            for way in WAYS[Streaming, library]
        ),
    ]
    with Processes(in_this_process) as processes:
        ready = make_ready(processes, library, tasks, 60.0, {})
        differences = differences_of(processes, ready, 60.0)
    assert list(ready) == [Contestant(library, task) for task in tasks]
    assert library == OURS or len(differences) == len(tasks)
    assert all(difference < 1e-5 for difference in differences.values()), differences
    for contestant, found in ready.items():
        if isinstance(contestant.task, Generation):
            tokens = found.results["tokens"]
            assert tokens.shape == (12, 3)
            assert tokens.min() >= 0
            assert tokens.max() < 96
            assert len(set(tokens.ravel().tolist())) > 10


def test_a_point_is_measured_in_processes(tmp_path):
    config = Config(
        libraries=(OURS, "pytorch"),
        recurrences=("lstm",),
        plans=("reference", "auto"),
        shapes=((2, 4, 3, 5),),
        option_shapes=(),
        generation_shapes=(),
        streaming_sizes=(),
        least_rounds=2,
        budget_seconds=0.01,
        turn_seconds=0.001,
        out=tmp_path,
    )
    with Processes(start_library) as processes:
        rows = measure_point(config, points_of(config)[0], processes)
    assert {row.status for row in rows} == {"measured"}
    assert {row.library for row in rows} == {OURS, "pytorch"}
    assert all(row.run_seconds is not None and row.run_seconds > 0 for row in rows)
    compiled = {row.library for row in rows if row.compile_seconds is not None}
    assert compiled == {OURS}
