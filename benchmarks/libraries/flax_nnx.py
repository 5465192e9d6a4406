"""Flax NNX: `nnx.RNN` of `SimpleCell`, `GRUCell` and `OptimizedLSTMCell`, time-major.

The module is split outside and merged inside of `jax.jit`, which costs less a call than `nnx.jit`.
Its GRU has no bias inside the reset gate. Lengths are `seq_lengths`; there are no resets: a
`lax.scan` over the cell clears its carry.
"""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from benchmarks.libraries.compiled import lengths_array, prepared_run, run_by_steps, zero_carry
from benchmarks.libraries.flax_linen import VERSION
from benchmarks.libraries.tasks import Prepare, Prepared, Sequences, inputs_of, weights_of

__all__ = ["PREPARE", "VERSION"]
CELLS = {"elman": nnx.SimpleCell, "gru": nnx.GRUCell, "lstm": nnx.OptimizedLSTMCell}


def cell_of(task: Sequences) -> Any:
    """The cell with the common weights."""
    cell = CELLS[task.recurrence](
        task.input_size, task.hidden_size, keep_rngs=False, rngs=nnx.Rngs(0)
    )
    weights = {
        name: jnp.asarray(array)
        for name, array in weights_of(task.recurrence, task.input_size, task.hidden_size).items()
    }
    cell.dense_i.kernel = nnx.Param(weights["w_x"])
    cell.dense_h.kernel = nnx.Param(weights["w_h"])
    biased = cell.dense_h if task.recurrence == "lstm" else cell.dense_i
    biased.bias = nnx.Param(weights["b"])
    return cell


def sequences(task: Sequences) -> Prepared:
    """A forward pass or a training step."""
    zero = zero_carry(task.recurrence, task.batch_size, task.hidden_size)
    xs = jnp.asarray(inputs_of(task))
    if task.kind == "resets":
        graph, params, rest = nnx.split(cell_of(task), nnx.Param, ...)
        by_steps = run_by_steps(task, lambda p, carry, x: nnx.merge(graph, p, rest)(carry, x), zero)
        return prepared_run(task, by_steps, params, xs)
    rnn = nnx.RNN(cell_of(task), time_major=True, return_carry=True, rngs=False)
    graph, params, rest = nnx.split(rnn, nnx.Param, ...)
    lengths = lengths_array(task) if task.kind == "lengths" else None

    def run(params: Any, xs: Array) -> Any:
        return nnx.merge(graph, params, rest)(xs, initial_carry=zero, seq_lengths=lengths)

    return prepared_run(task, run, params, xs)


PREPARE: Prepare = {Sequences: sequences}
