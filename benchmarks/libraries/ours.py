"""rnnjax: every plan that applies."""

from typing import Any

import jax.numpy as jnp
import numpy as np

import rnnjax
from benchmarks.libraries.compiled import prepared_run, product
from benchmarks.libraries.tasks import (
    Prepare,
    Prepared,
    Product,
    RefusedError,
    Sequences,
    inputs_of,
    lengths_of,
    resets_of,
    weights_of,
)
from rnnjax.recurrences.elman import ElmanParams
from rnnjax.recurrences.gru import GRUParams
from rnnjax.recurrences.lstm import LSTMParams

VERSION = rnnjax.__version__


def params_of(recurrence: str, weights: dict[str, np.ndarray]) -> Any:
    """The record of a recurrence."""
    w_x, w_h, b_x, b_h = (jnp.asarray(array) for array in weights.values())
    if recurrence == "gru":
        return GRUParams(w_x, w_h, b_x, b_h)
    record = {"elman": ElmanParams, "lstm": LSTMParams}[recurrence]
    return record(w_x, w_h, b_x + b_h)


def sequences(task: Sequences) -> Prepared:
    """`rnnjax.scan`."""
    recurrence = rnnjax.recurrences.REGISTRY[task.recurrence]
    params = params_of(
        task.recurrence, weights_of(task.recurrence, task.input_size, task.hidden_size)
    )
    xs = jnp.asarray(inputs_of(task))
    options = {}
    if task.options == "lengths":
        options = {"lengths": jnp.asarray(lengths_of(task))}
    elif task.options == "resets":
        options = {"resets": jnp.asarray(resets_of(task))}
    try:
        return prepared_run(
            task,
            lambda params, xs: rnnjax.scan(recurrence, params, xs, plan=task.plan, **options),
            params,
            xs,
        )
    except ValueError as error:
        raise RefusedError(str(error)) from None


PREPARE: Prepare = {Sequences: sequences, Product: product}
