"""Tied weights and dropout of the language model."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.layers.dense import DenseParams
from rnnjax.models.language_model import (
    LanguageModelConfig,
    apply_language_model,
    init_language_model,
    init_tied_language_model,
    initial_state,
    language_model_loss,
    step_language_model,
)
from rnnjax.text.streams import TextBatch

T, B, V = 4, 2, 5
CONFIG = LanguageModelConfig(V, "gru", (4, 3), embedding_size=3, dtype="float64")

apply = jax.jit(apply_language_model, static_argnums=0, static_argnames="plan")


@pytest.fixture(scope="module")
def params():
    drawn = init_tied_language_model(jax.random.key(0), CONFIG)
    return drawn._replace(head=drawn.head._replace(b=jnp.linspace(-1, 1, V)))


@pytest.fixture(scope="module")
def batch():
    inputs, targets = jax.random.randint(jax.random.key(1), (2, T, B), 0, V, jnp.int32)
    return TextBatch(inputs, targets, jnp.zeros((T, B), bool), jnp.ones((T, B), jnp.float32))


def test_a_tied_gradient_is_the_sum_of_that_of_the_vectors_and_that_of_the_weights(params, batch):
    untied = params._replace(head=DenseParams(params.embedding.table.T, params.head.b))
    state = initial_state(CONFIG, params, (B,))
    loss = jax.jit(
        jax.value_and_grad(partial(language_model_loss, CONFIG, plan="reference"), has_aux=True)
    )
    (tied_loss, _), tied = loss(params, state, batch, jax.random.key(0))
    (untied_loss, _), apart = loss(untied, state, batch, jax.random.key(0))
    np.testing.assert_allclose(tied_loss, untied_loss, rtol=1e-12)
    np.testing.assert_allclose(
        tied.embedding.table, apart.embedding.table + apart.head.w.T, rtol=1e-12, atol=1e-14
    )
    assert np.abs(apart.embedding.table).max() > 0
    np.testing.assert_allclose(tied.head.b, apart.head.b, rtol=1e-12)
    for a, b in zip(jax.tree.leaves(tied.layers), jax.tree.leaves(apart.layers), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    table, others = params.embedding.table, jax.tree.leaves((params.layers, params.head))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == table.size + sum(
        leaf.size for leaf in others
    )


def test_steps_give_the_logits_of_the_whole(params, batch):
    state = initial_state(CONFIG, params, (B,))
    _, whole = apply(CONFIG, params, state, batch.inputs)
    step = jax.jit(step_language_model, static_argnums=0)
    for t in range(T):
        state, logits = step(CONFIG, params, state, batch.inputs[t])
        np.testing.assert_allclose(logits, whole[t], rtol=1e-12, atol=1e-14)


def test_dropout_masks_multiply_what_goes_into_each_layer_and_into_the_head(params, batch):
    state = initial_state(CONFIG, params, (B,))
    _, plain = apply(CONFIG, params, state, batch.inputs)
    ones = [jnp.ones((T, B, size)) for size in (3, 4, 3)]

    def logits(inputs, masks):
        return apply(CONFIG, params, state, inputs, dropout_masks=masks)[1]

    np.testing.assert_allclose(logits(batch.inputs, ones), plain, rtol=1e-12)
    others = (batch.inputs + 1) % V
    for place in range(3):
        masks = [*ones[:place], jnp.zeros_like(ones[place]), *ones[place + 1 :]]
        np.testing.assert_array_equal(logits(batch.inputs, masks), logits(others, masks))
    nothing_to_the_head = logits(batch.inputs, [*ones[:2], jnp.zeros_like(ones[2])])
    np.testing.assert_allclose(nothing_to_the_head, np.broadcast_to(params.head.b, (T, B, V)))
    kept = ones[2].at[1:].multiply(2)  # what the head reads is doubled, its bias is not
    np.testing.assert_allclose(
        logits(batch.inputs, [*ones[:2], kept])[1:] - params.head.b,
        2 * (plain[1:] - params.head.b),
        rtol=1e-10,
    )


def test_the_loss_is_a_draw_by_its_key_and_without_dropout_reads_none(params, batch):
    state = initial_state(CONFIG, params, (B,))

    @partial(jax.jit, static_argnames="rate")
    def loss(seed, rate):
        key = jax.random.key(seed)
        return language_model_loss(CONFIG, params, state, batch, key, dropout=rate)[0]

    assert loss(0, 0.5) == loss(0, 0.5) != loss(1, 0.5)
    assert loss(0, 0.0) == loss(1, 0.0) != loss(0, 0.5)


def test_bad_arguments_are_refused(params, batch):
    key, state = jax.random.key(0), initial_state(CONFIG, params, (B,))
    for size in (2, None):
        config = LanguageModelConfig(V, "gru", (4, 3), size, dtype="float64")
        with pytest.raises(ValueError, match=f"embedding_size: got {size}, expected 3, the size"):
            init_tied_language_model(key, config)
    with pytest.raises(ValueError, match=r"dropout: got 1\.0, expected 0 ≤ dropout < 1"):
        language_model_loss(CONFIG, params, state, batch, key, dropout=1.0)
    with pytest.raises(ValueError, match="dropout_masks: got 1, expected 3"):
        apply_language_model(CONFIG, params, state, batch.inputs, dropout_masks=[None])
    with pytest.raises(ValueError, match=r"dropout_masks\[2\]: got shape \(7,\), expected one"):
        apply_language_model(
            CONFIG, params, state, batch.inputs, dropout_masks=[None, None, jnp.ones(7)]
        )
    one_hot = LanguageModelConfig(V, "gru", (4, 3), dtype="float64")
    untied = jax.eval_shape(partial(init_language_model, config=one_hot), key)
    with pytest.raises(ValueError, match="params: got a tied head without an embedding"):
        jax.eval_shape(
            partial(apply_language_model, one_hot),
            untied._replace(head=params.head),
            state,
            batch.inputs,
        )
