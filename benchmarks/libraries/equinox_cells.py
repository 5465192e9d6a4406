"""Equinox: `lax.scan` over `jax.vmap` of `GRUCell` and `LSTMCell`, time-major, jitted.

It has no Elman cell. The scan is the user's own, as its documentation shows, so lengths and resets
are a `where` in it.
"""

from typing import Any

import equinox as eqx  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp
from jax import Array

from benchmarks.libraries.compiled import prepared_run, run_by_steps, zero_carry
from benchmarks.libraries.tasks import (
    Prepare,
    Prepared,
    RefusedError,
    Sequences,
    inputs_of,
    weights_of,
)

VERSION = eqx.__version__
CELLS = {"gru": eqx.nn.GRUCell, "lstm": eqx.nn.LSTMCell}


def sequences(task: Sequences) -> Prepared:
    """A forward pass or a training step."""
    if task.recurrence not in CELLS:
        raise RefusedError("no such cell")
    cell = CELLS[task.recurrence](task.input_size, task.hidden_size, key=jax.random.key(0))
    w_x, w_h, b = weights_of(task.recurrence, task.input_size, task.hidden_size).values()
    weights = {"weight_ih": w_x.T, "weight_hh": w_h.T, "bias": b}
    if task.recurrence == "gru":
        weights["bias_n"] = 0 * b[: task.hidden_size]
    cell = eqx.tree_at(
        lambda cell: [getattr(cell, name) for name in weights],
        cell,
        [jnp.asarray(array) for array in weights.values()],
    )

    def step(cell: Any, carry: Any, x: Array) -> tuple[Any, Array]:
        carry = jax.vmap(cell)(x, carry)
        return carry, carry[0] if task.recurrence == "lstm" else carry

    zero = zero_carry(task.recurrence, task.batch_size, task.hidden_size)
    return prepared_run(task, run_by_steps(task, step, zero), cell, jnp.asarray(inputs_of(task)))


PREPARE: Prepare = {Sequences: sequences}
