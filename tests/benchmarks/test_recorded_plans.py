"""The rule of `auto` against the recorded run of every plan."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import rnnjax
from benchmarks.plans_report import TOLERANCE, auto_check, read_rows
from rnnjax.plans.native_library import Library, library

PLANS = Path(__file__).resolve().parents[2] / "docs" / "results" / "plans"


@cache
def auto_at(name: str, batch: int, hidden_size: int, time_steps: int) -> str:
    """What `auto` takes today."""
    recurrence = rnnjax.recurrences.REGISTRY[name]
    params = jax.eval_shape(
        lambda: recurrence.init(jax.random.key(0), hidden_size, hidden_size, dtype="float32")
    )
    shape = (time_steps, batch, *recurrence.input_shape(params))
    xs = jax.ShapeDtypeStruct(shape, jnp.float32)
    return rnnjax.explain_plan(recurrence, params, xs).plan


def checks_of_today(record: Path, computation: str, batch: int):
    rows = [row for row in read_rows(record / "results.json") if row.computation == computation]
    return auto_check(
        [replace(r, auto=auto_at(r.recurrence, batch, r.hidden_size, r.time_steps)) for r in rows]
    )


def assert_within_tolerance(checks):
    """Beyond the spread: two names of one program differ by more than the tolerance in the record.

    Forward, `checkpointed` runs the very program of `fused`.
    """
    slow = [c for c in checks if c.beyond_spread is None or c.beyond_spread > TOLERANCE]
    assert not slow, "\n".join(map(str, slow))


@pytest.fixture
def no_compiled_kernels(monkeypatch):
    """Those records were made without them."""
    missing = Library(None, "not in the record")
    monkeypatch.setattr("rnnjax.plans.native.library", lambda: missing)
    auto_at.cache_clear()
    yield
    auto_at.cache_clear()


@pytest.mark.usefixtures("no_compiled_kernels")
@pytest.mark.parametrize("computation", ["training", "forward"])
def test_auto_is_within_tolerance_of_the_best_plan_wherever_the_record_can_tell(computation):
    checks = checks_of_today(PLANS, computation, 16)
    assert len(checks) > 80
    assert_within_tolerance(checks)


@pytest.mark.parametrize("computation", ["training", "forward"])
@pytest.mark.parametrize(
    ("folder", "batch"), [("few_rows", 2), ("with_native", 16), ("many_rows", 128)]
)
def test_so_it_is_with_the_compiled_kernels(folder, batch, computation):
    if library().missing:
        pytest.skip("the kernels are not installed here")
    checks = checks_of_today(PLANS / folder, computation, batch)
    assert len(checks) >= 16
    assert auto_at("lstm", batch, 128, 8) == "native"
    assert_within_tolerance(checks)
