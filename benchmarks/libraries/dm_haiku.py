"""Haiku: `hk.dynamic_unroll` of `VanillaRNN`, `GRU` and `LSTM`, time-major, jitted.

Its `VanillaRNN` has a relu for the tanh, and its `GRU` resets before the product: two products one
after the other. Resets are `hk.ResetCore`; there are no lengths.
"""

from typing import Any

import haiku as hk  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.libraries.compiled import prepared_run
from benchmarks.libraries.tasks import (
    Prepare,
    Prepared,
    RefusedError,
    Sequences,
    by_gate,
    in_order,
    inputs_of,
    resets_of,
    weights_of,
)

VERSION = hk.__version__
CORES = {"elman": hk.VanillaRNN, "gru": hk.GRU, "lstm": hk.LSTM}
COMPUTES = {"elman": "elman_relu", "gru": "gru_reset_before"}


def weights_in_layout(task: Sequences) -> dict[str, dict[str, np.ndarray]]:
    """The common weights: the update gate of the GRU is turned round, and the LSTM adds 1 to f."""
    w_x, w_h, b = weights_of(task.recurrence, task.input_size, task.hidden_size).values()
    if task.recurrence == "elman":
        return {
            "vanilla_rnn/linear": {"w": w_x, "b": b},
            "vanilla_rnn/linear_1": {"w": w_h, "b": np.zeros_like(b)},
        }
    if task.recurrence == "gru":
        turned = np.concatenate(
            [np.full(task.hidden_size, sign, np.float32) for sign in (1, -1, 1)]
        )
        w_x, w_h, b = (in_order(array * turned, "rzn", "zrn") for array in (w_x, w_h, b))
        return {"gru": {"w_i": w_x, "w_h": w_h, "b": b}}
    by_gate(b, "ifgo")["f"][...] -= 1  # parts are views of the whole
    w = np.concatenate([w_x, w_h])
    return {"lstm/linear": {n: in_order(a, "ifgo", "igfo") for n, a in {"w": w, "b": b}.items()}}


def sequences(task: Sequences) -> Prepared:
    """A forward pass or a training step."""
    if task.kind == "lengths":
        raise RefusedError("no lengths")
    resets = jnp.asarray(resets_of(task))

    def unroll(xs: Array) -> tuple[Any, Array]:
        core = CORES[task.recurrence](task.hidden_size)
        inputs = xs
        if task.kind == "resets":
            core, inputs = hk.ResetCore(core), (xs, resets)
        ys, state = hk.dynamic_unroll(core, inputs, core.initial_state(task.batch_size))
        return state, ys

    network = hk.without_apply_rng(hk.transform(unroll))
    params = jax.tree.map(jnp.asarray, weights_in_layout(task))
    return prepared_run(
        task,
        network.apply,
        params,
        jnp.asarray(inputs_of(task)),
        computes=COMPUTES.get(task.recurrence),
    )


PREPARE: Prepare = {Sequences: sequences}
