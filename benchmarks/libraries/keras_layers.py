"""Keras on JAX: `layers.SimpleRNN`, `GRU` and `LSTM` by `stateless_call`, jitted.

Batch-major, the only layout its layers have; they transpose inside. Lengths are a mask; there are
no resets.
"""

import os

os.environ["KERAS_BACKEND"] = "jax"  # before Keras is imported, which looks once

from typing import Any

import jax.numpy as jnp
import keras  # pyright: ignore[reportMissingImports]
import numpy as np
from jax import Array

from benchmarks.libraries.compiled import prepared_run
from benchmarks.libraries.tasks import (
    Prepare,
    Prepared,
    RefusedError,
    Sequences,
    in_order,
    inputs_of,
    weights_of,
    within_lengths,
)

VERSION = keras.__version__
LAYERS = {
    "elman": keras.layers.SimpleRNN,
    "gru": keras.layers.GRU,
    "lstm": keras.layers.LSTM,
}


def sequences(task: Sequences) -> Prepared:
    """A forward pass or a training step."""
    if task.kind == "resets":
        raise RefusedError("no resets")
    layer = LAYERS[task.recurrence](task.hidden_size, return_sequences=True, return_state=True)
    layer.build((task.batch_size, task.time_steps, task.input_size))
    weights = list(weights_of(task.recurrence, task.input_size, task.hidden_size).values())
    if task.recurrence == "gru":
        w_x, w_h, b = (in_order(array, "rzn", "zrn") for array in weights)
        weights = [w_x, w_h, np.stack([b, np.zeros_like(b)])]
    layer.set_weights(weights)
    params = [variable.value for variable in layer.trainable_variables]
    others = [variable.value for variable in layer.non_trainable_variables]
    mask = jnp.asarray(within_lengths(task).T) if task.kind == "lengths" else None

    def run(params: Any, xs: Array) -> tuple[Any, Array]:
        (ys, *carry), _ = layer.stateless_call(params, others, xs, mask=mask)
        return carry, ys

    xs = jnp.asarray(inputs_of(task).swapaxes(0, 1))
    return prepared_run(task, run, params, xs, batch_major=True)


PREPARE: Prepare = {Sequences: sequences}
