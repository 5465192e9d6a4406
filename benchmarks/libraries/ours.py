"""rnnjax: every plan that applies; sampling by `sample_language_model`; streaming by `one_step`.

`auto` is what a user gets. The plan that it takes is not timed a second time under its own name.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import rnnjax
from benchmarks.libraries.compiled import prepared, prepared_run, product, streaming_by_calls
from benchmarks.libraries.tasks import (
    FIRST_TOKEN,
    Generation,
    Prepare,
    Prepared,
    Product,
    Reading,
    RefusedError,
    Sequences,
    Streaming,
    inputs_of,
    lengths_of,
    outer_weights_of,
    resets_of,
    weights_of,
)
from rnnjax.layers.dense import DenseParams
from rnnjax.layers.embedding import EmbeddingParams
from rnnjax.models.language_model import (
    LanguageModelConfig,
    LanguageModelParams,
    apply_language_model,
    initial_state,
    sample_language_model,
)

VERSION = rnnjax.__version__
AUTO_TAKES_IT = "auto takes it"
SAME_WEIGHTS = {"elman_relu": "elman", "gru_reset_before": "gru"}


def params_of(recurrence: str, input_size: int, hidden_size: int, layer: int = 0) -> Any:
    """The record of a recurrence with the weights that all libraries have."""
    weights = weights_of(SAME_WEIGHTS.get(recurrence, recurrence), input_size, hidden_size, layer)
    like = jax.eval_shape(
        lambda: rnnjax.recurrences.REGISTRY[recurrence].init(
            jax.random.key(0), input_size, hidden_size
        )
    )
    arrays = weights | {"b_x": weights["b"], "b_h": np.zeros_like(weights["b"])}
    return type(like)(*(jnp.asarray(arrays[str(field)]) for field in like._asdict()))


def sequences(task: Sequences) -> Prepared:
    """`rnnjax.scan`."""
    recurrence = rnnjax.recurrences.REGISTRY[task.recurrence]
    params = params_of(task.recurrence, task.input_size, task.hidden_size)
    xs = jnp.asarray(inputs_of(task))
    options: dict[str, Any] = {}
    if task.kind == "lengths":
        options = {"lengths": jnp.asarray(lengths_of(task))}
    elif task.kind == "resets":
        options = {"resets": jnp.asarray(resets_of(task))}
    if task.plan not in ("auto", "reference"):
        taken = rnnjax.explain_plan(recurrence, params, xs, **options).plan
        if task.plan == taken:
            raise RefusedError(AUTO_TAKES_IT)
    try:
        return prepared_run(
            task,
            lambda params, xs: rnnjax.scan(recurrence, params, xs, plan=task.plan, **options),
            params,
            xs,
        )
    except ValueError as error:
        raise RefusedError(f"refused: {error}") from None


def language_model(task: Generation) -> tuple[LanguageModelConfig, LanguageModelParams]:
    """The character model with the weights that all libraries have."""
    size = task.hidden_size
    config = LanguageModelConfig(
        task.vocabulary_size, task.recurrence, (size,) * task.layers, embedding_size=size
    )
    outer = {name: jnp.asarray(array) for name, array in outer_weights_of(task).items()}
    return config, LanguageModelParams(
        EmbeddingParams(outer["table"]),
        tuple(params_of(task.recurrence, size, size, layer) for layer in range(task.layers)),
        DenseParams(outer["w"], outer["b"]),
    )


def generation(task: Generation) -> Prepared:
    """`sample_language_model`, primed with one token."""
    config, params = language_model(task)
    prime = jnp.full((1, task.batch_size), FIRST_TOKEN, jnp.int32)
    return prepared(
        lambda params, key: sample_language_model(config, params, key, prime, task.length),
        (params, jax.random.key(0)),
        lambda tokens: {"tokens": np.asarray(tokens)},
    )


def reading(task: Reading) -> Prepared:
    """The logits that a text's last token was drawn from, by the reference plan."""
    model = task.model
    config, params = language_model(model)
    tokens = np.frombuffer(task.tokens, np.int32).reshape(model.length, model.batch_size)
    inputs = np.concatenate([np.full_like(tokens[:1], FIRST_TOKEN), tokens[:-1]])

    def read(params: Any) -> Array:
        state = initial_state(config, params, (model.batch_size,))
        return apply_language_model(config, params, state, inputs, plan="reference")[1][-1]

    return prepared(read, (params,), lambda logits: {"logits": np.asarray(logits)})


def streaming(task: Streaming) -> Prepared:
    """`rnnjax.one_step` under `jax.jit`."""
    recurrence = rnnjax.recurrences.REGISTRY[task.recurrence]
    params = params_of(task.recurrence, task.hidden_size, task.hidden_size)
    carry = recurrence.initial_carry(params, (1,))
    return streaming_by_calls(task, partial(rnnjax.one_step, recurrence), params, carry)


PREPARE: Prepare = {
    Sequences: sequences,
    Product: product,
    Generation: generation,
    Reading: reading,
    Streaming: streaming,
}
