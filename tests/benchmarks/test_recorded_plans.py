"""The rule of `auto` against the recorded run of every plan."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import rnnjax
from benchmarks.plans_report import TOLERANCE, PlanRow, auto_check, read_rows
from rnnjax.plans.native_library import Library

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results" / "plans" / "results.json"
BATCH = 16


@cache
def auto_at(name: str, hidden_size: int, time_steps: int) -> str:
    """What `auto` takes today."""
    recurrence = rnnjax.recurrences.REGISTRY[name]
    params = jax.eval_shape(
        lambda: recurrence.init(jax.random.key(0), hidden_size, hidden_size, dtype="float32")
    )
    shape = (time_steps, BATCH, *recurrence.input_shape(params))
    xs = jax.ShapeDtypeStruct(shape, jnp.float32)
    return rnnjax.explain_plan(recurrence, params, xs).plan


def today(row: PlanRow) -> PlanRow:
    return replace(row, auto=auto_at(row.recurrence, row.hidden_size, row.time_steps))


@pytest.fixture(autouse=True)
def no_compiled_kernels(monkeypatch):
    """The record was made without them."""
    missing = Library(None, "not in the record")
    monkeypatch.setattr("rnnjax.plans.native.library", lambda: missing)


@pytest.mark.parametrize("computation", ["training", "forward"])
def test_auto_is_within_tolerance_of_the_best_plan_wherever_the_record_can_tell(computation):
    """Beyond the spread: two names of one program differ by more than the tolerance in the record.

    Forward, `checkpointed` runs the very program of `fused`.
    """
    rows = [today(row) for row in read_rows(RESULTS) if row.computation == computation]
    checks = auto_check(rows)
    assert len(checks) > 80
    slow = [c for c in checks if c.beyond_spread is None or c.beyond_spread > TOLERANCE]
    assert not slow, "\n".join(map(str, slow))
