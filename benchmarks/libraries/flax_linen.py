"""Flax Linen: `nn.RNN` of `SimpleCell`, `GRUCell` and `OptimizedLSTMCell`, time-major, jitted.

Lengths are `seq_lengths`; there are no resets: a `lax.scan` over the cell clears its carry.
Generation is one compiled `lax.scan` ("scan"), or a call of a compiled step for each token
("calls"), as streaming is.
"""

from importlib.metadata import version
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
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
from benchmarks.libraries.flax_weights import linen_weights
from benchmarks.libraries.tasks import (
    Generation,
    Prepare,
    Prepared,
    Sequences,
    Streaming,
    inputs_of,
    outer_weights_of,
)

VERSION = version("flax")
CELLS = {"elman": nn.SimpleCell, "gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}


def cell_of(recurrence: str, hidden_size: int) -> Any:
    """The cell, not yet bound."""
    return CELLS[recurrence](hidden_size)


def sequences(task: Sequences) -> Prepared:
    """A forward pass or a training step."""
    cell = cell_of(task.recurrence, task.hidden_size)
    weights = jax.tree.map(
        jnp.asarray, linen_weights(task.recurrence, task.input_size, task.hidden_size)
    )
    xs = jnp.asarray(inputs_of(task))
    if task.kind == "resets":
        zero = zero_carry(task.recurrence, task.batch_size, task.hidden_size)
        run = run_by_steps(task, lambda params, c, x: cell.apply({"params": params}, c, x), zero)
        return prepared_run(task, run, weights, xs)
    rnn: Any = nn.RNN(cell, time_major=True, return_carry=True)
    lengths = lengths_array(task) if task.kind == "lengths" else None
    return prepared_run(
        task,
        lambda params, xs: rnn.apply({"params": {"cell": params}}, xs, seq_lengths=lengths),
        weights,
        xs,
    )


def generation(task: Generation) -> Prepared:
    """`nn.Embed`, cells and `nn.Dense`; "scan" is one program, "calls" one for each token."""
    size = task.hidden_size
    embed: Any = nn.Embed(task.vocabulary_size, size)
    dense: Any = nn.Dense(task.vocabulary_size)
    cells = [cell_of(task.recurrence, size) for _ in range(task.layers)]
    outer = outer_weights_of(task)
    params = jax.tree.map(
        jnp.asarray,
        {
            "embed": {"embedding": outer["table"]},
            "dense": {"kernel": outer["w"], "bias": outer["b"]},
            "cells": [linen_weights(task.recurrence, size, size, n) for n in range(task.layers)],
        },
    )

    def step(params: Any, carry: Any, token: Array) -> tuple[Any, Array]:
        x, carries = embed.apply({"params": params["embed"]}, token), []
        for cell, own, of_cell in zip(cells, params["cells"], carry, strict=True):
            after, x = cell.apply({"params": own}, of_cell, x)
            carries.append(after)
        return tuple(carries), dense.apply({"params": params["dense"]}, x)

    carry = tuple(zero_carry(task.recurrence, task.batch_size, size) for _ in cells)
    by = {"scan": generation_by_scan, "calls": generation_by_calls}[task.plan]
    return by(task, step, params, carry)


def streaming(task: Streaming) -> Prepared:
    """The cell's `apply` under `jax.jit`."""
    size = task.hidden_size
    cell = cell_of(task.recurrence, size)
    weights = jax.tree.map(jnp.asarray, linen_weights(task.recurrence, size, size))
    return streaming_by_calls(
        task,
        lambda params, carry, x: cell.apply({"params": params}, carry, x),
        weights,
        zero_carry(task.recurrence, 1, size),
    )


PREPARE: Prepare = {Sequences: sequences, Generation: generation, Streaming: streaming}
