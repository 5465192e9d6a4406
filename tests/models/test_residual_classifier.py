from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import assert_close

import rnnjax
from rnnjax.models.residual_classifier import (
    ResidualClassifierConfig,
    VectorBatch,
    init_residual_classifier,
    log_probabilities_so_far,
    residual_classifier_logits,
    residual_classifier_loss,
)

T, B, K = 5, 3, 4
SIZE = 2
DTYPE = "float64"
LENGTHS = np.array([5, 3, 0], np.int32)


def config(**fields):
    return ResidualClassifierConfig(
        **{
            "input_size": SIZE, "class_count": K, "recurrence": "min_gru", "hidden_size": 3,
            "width": 4,
        } | fields
    )  # fmt: skip


init = jax.jit(init_residual_classifier, static_argnums=1, static_argnames=("dtype",))


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """What is computed does not depend on how hard XLA tries; how long compilation takes does."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def inputs():
    return np.random.default_rng(0).normal(size=(T, B, SIZE))


def test_it_is_a_way_past_each_recurrence(inputs):
    """Step by step in NumPy, but for the recurrence."""
    model = config(pooling="last")
    params = init(jax.random.key(0), model, dtype=DTYPE)
    a = inputs @ params.encoder.w + params.encoder.b
    for block in params.blocks:
        _, u = rnnjax.scan(rnnjax.min_gru, block.recurrent, a, plan="reference")
        u = np.asarray(u)
        gelu = 0.5 * u * (1 + np.tanh(np.sqrt(2 / np.pi) * (u + 0.044715 * u**3)))
        a = a + gelu @ block.dense.w + block.dense.b
    expected = a[-1] @ params.head.w + params.head.b
    found = residual_classifier_logits(model, params, inputs)
    assert_close(found, np.asarray(expected), DTYPE)


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_what_is_said_so_far_is_what_is_said_of_the_sequence_cut_there(pooling, inputs):
    model = config(pooling=pooling)
    params = init(jax.random.key(0), model, dtype=DTYPE)
    so_far = log_probabilities_so_far(model, params, inputs)
    # Lengths do not change what is compiled: a row for each place to cut.
    every = jnp.repeat(jnp.asarray(inputs[:, :1]), T, axis=1)
    cut = residual_classifier_logits(model, params, every, jnp.arange(1, T + 1, dtype=jnp.int32))
    assert_close(so_far[:, 0], np.asarray(jax.nn.log_softmax(cut)), DTYPE)


def test_padding_and_a_nan_in_it_reaches_no_value_and_no_gradient(inputs):
    model = config()
    params = init(jax.random.key(0), model, dtype=DTYPE)
    labels, weights = np.array([1, 0, 3], np.int32), np.ones(B)

    @jax.jit
    def value_and_gradient(inputs):
        batch = VectorBatch(inputs, jnp.asarray(LENGTHS), labels, weights)
        loss = partial(residual_classifier_loss, model)
        return jax.value_and_grad(
            lambda params: loss(params, (), batch, jax.random.key(0))[0]
        )(params)  # fmt: skip

    padded = np.where(np.arange(T)[:, None, None] < LENGTHS[:, None], inputs, np.nan)
    expected = jax.tree.map(np.asarray, value_and_gradient(inputs))
    assert_close(value_and_gradient(padded), expected, DTYPE)
    # The loss of an empty sequence is that of the head's bias alone.
    of_empty = residual_classifier_logits(model, params, inputs, jnp.zeros(B, jnp.int32))
    assert_close(of_empty, np.tile(params.head.b, (B, 1)), DTYPE)


def test_a_recurrence_may_have_as_many_outputs_as_it_likes():
    """The LRU has as many as inputs, the projected LSTM fewer than H."""
    for name in ("lru", "lstm_projected"):
        model = config(recurrence=name, hidden_size=6, blocks=1)
        params = jax.eval_shape(partial(init_residual_classifier, config=model), jax.random.key(0))
        logits = jax.eval_shape(
            partial(residual_classifier_logits, model, plan="reference"),
            params,
            jax.ShapeDtypeStruct((T, B, SIZE), jnp.float32),
        )
        assert (logits.shape, logits.dtype) == ((B, K), jnp.float32)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"recurrence": "lstn"}, "recurrence: got 'lstn', expected one of elman"),
        ({"recurrence": "conv_lstm_1d"}, "recurrence: got 'conv_lstm_1d', which reads images"),
        ({"blocks": 0}, "blocks: got 0, expected"),
        ({"class_count": 1}, "class_count: got 1, expected at least 2"),
        ({"pooling": "max"}, r"pooling: got 'max', expected one of \('last', 'mean'\)"),
    ],
)
def test_a_config_is_checked(fields, message):
    with pytest.raises(ValueError, match=message):
        config(**fields)


def test_inputs_are_checked_before_anything_is_compiled(inputs):
    model = config()
    params = jax.eval_shape(partial(init_residual_classifier, config=model), jax.random.key(0))
    with pytest.raises(ValueError, match=r"inputs: got shape \(5, 3\), expected \(T, \*B, 2\)"):
        residual_classifier_logits(model, params, inputs[..., 0])
    with pytest.raises(TypeError, match="inputs: got int64, expected a floating"):
        residual_classifier_logits(model, params, inputs.astype(int))
