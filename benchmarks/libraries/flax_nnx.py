"""Flax NNX: `nnx.RNN` of `SimpleCell`, `GRUCell` and `OptimizedLSTMCell`, time-major.

The module is split outside and merged inside of `jax.jit`, which costs less a call than `nnx.jit`.
Its GRU has no bias inside the reset gate. Lengths are `seq_lengths`; there are no resets: a
`lax.scan` over the cell clears its carry. Generation and streaming are as with Flax Linen.
"""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from benchmarks.libraries.compiled import (
    generation_by_calls,
    generation_by_scan,
    lengths_array,
    prepared_run,
    run_by_steps,
    streaming_by_calls,
    zero_carry,
)
from benchmarks.libraries.flax_linen import VERSION
from benchmarks.libraries.tasks import (
    Generation,
    Prepare,
    Prepared,
    Sequences,
    Streaming,
    inputs_of,
    outer_weights_of,
    weights_of,
)

__all__ = ["PREPARE", "VERSION"]
CELLS = {"elman": nnx.SimpleCell, "gru": nnx.GRUCell, "lstm": nnx.OptimizedLSTMCell}


def cell_of(recurrence: str, input_size: int, hidden_size: int, layer: int = 0) -> Any:
    """The cell with the common weights."""
    cell = CELLS[recurrence](input_size, hidden_size, keep_rngs=False, rngs=nnx.Rngs(0))
    w_x, w_h, b = weights_of(recurrence, input_size, hidden_size, layer).values()
    cell.dense_i.kernel = nnx.Param(jnp.asarray(w_x))
    cell.dense_h.kernel = nnx.Param(jnp.asarray(w_h))
    biased = cell.dense_h if recurrence == "lstm" else cell.dense_i
    biased.bias = nnx.Param(jnp.asarray(b))
    return cell


def sequences(task: Sequences) -> Prepared:
    """A forward pass or a training step."""
    zero = zero_carry(task.recurrence, task.batch_size, task.hidden_size)
    sizes, xs = (task.recurrence, task.input_size, task.hidden_size), jnp.asarray(inputs_of(task))
    if task.kind == "resets":
        graph, params, rest = nnx.split(cell_of(*sizes), nnx.Param, ...)
        by_steps = run_by_steps(task, lambda p, carry, x: nnx.merge(graph, p, rest)(carry, x), zero)
        return prepared_run(task, by_steps, params, xs)
    rnn = nnx.RNN(cell_of(*sizes), time_major=True, return_carry=True, rngs=False)
    graph, params, rest = nnx.split(rnn, nnx.Param, ...)
    lengths = lengths_array(task) if task.kind == "lengths" else None

    def run(params: Any, xs: Array) -> Any:
        return nnx.merge(graph, params, rest)(xs, initial_carry=zero, seq_lengths=lengths)

    return prepared_run(task, run, params, xs)


def generation(task: Generation) -> Prepared:
    """`nnx.Embed`, cells and `nnx.Linear`; "scan" is one program, "calls" one for each token."""
    size, outer, rngs = task.hidden_size, outer_weights_of(task), nnx.Rngs(0)
    embed = nnx.Embed(task.vocabulary_size, size, rngs=rngs)
    embed.embedding = nnx.Param(jnp.asarray(outer["table"]))
    dense = nnx.Linear(size, task.vocabulary_size, rngs=rngs)
    dense.kernel = nnx.Param(jnp.asarray(outer["w"]))
    dense.bias = nnx.Param(jnp.asarray(outer["b"]))
    cells = [cell_of(task.recurrence, size, size, layer) for layer in range(task.layers)]
    graph, params, rest = nnx.split((embed, dense, *cells), nnx.Param, ...)

    def step(params: Any, carry: Any, token: Array) -> tuple[Any, Array]:
        embed, dense, *cells = nnx.merge(graph, params, rest)
        x, carries = embed(token), []
        for cell, of_cell in zip(cells, carry, strict=True):
            after, x = cell(of_cell, x)
            carries.append(after)
        return tuple(carries), dense(x)

    carry = tuple(zero_carry(task.recurrence, task.batch_size, size) for _ in cells)
    by = {"scan": generation_by_scan, "calls": generation_by_calls}[task.plan]
    return by(task, step, params, carry)


def streaming(task: Streaming) -> Prepared:
    """The cell under `jax.jit`."""
    size = task.hidden_size
    graph, params, rest = nnx.split(cell_of(task.recurrence, size, size), nnx.Param, ...)
    return streaming_by_calls(
        task,
        lambda params, carry, x: nnx.merge(graph, params, rest)(carry, x),
        params,
        zero_carry(task.recurrence, 1, size),
    )


PREPARE: Prepare = {Sequences: sequences, Generation: generation, Streaming: streaming}
