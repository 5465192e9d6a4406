import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import assert_close

from rnnjax.models.signal_classifier import (
    SignalBatch,
    SignalClassifierConfig,
    init_signal_classifier,
    output_sizes,
    signal_classifier_loss,
    signal_log_probabilities,
    signal_logits,
)

T, B, AXES, K = 5, 3, 2, 4
LENGTHS = np.array([5, 2, 0], np.int32)
SIGNALS = np.random.default_rng(0).normal(size=(T, B, AXES)).astype(np.float32)
LABELS = np.array([3, 0, 1], np.int32)


def config(**fields):
    return SignalClassifierConfig(
        AXES, K, **{"recurrence": "elman", "hidden_sizes": (3,)} | fields
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """What is computed does not depend on how hard XLA tries; how long compilation takes does."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.parametrize(
    "fields",
    [
        {"pooling": "mean", "hidden_sizes": (3, 2)},
        {"pooling": "last"},
        {"pooling": "max", "bidirectional": False},
    ],
)
def test_a_recording_in_a_batch_is_what_it_is_alone_whatever_the_padding(fields):
    tried = config(**fields)
    params = init_signal_classifier(jax.random.key(0), tried)

    @jax.jit
    def both(params, signals, lengths):
        alone = signal_log_probabilities(tried, params, signals[:2, 1])
        return signal_log_probabilities(tried, params, signals, lengths), alone

    spoiled = np.where(np.arange(T)[:, None, None] < LENGTHS[:, None], SIGNALS, np.nan)
    log_p, _ = both(params, spoiled.astype(np.float32), LENGTHS)
    clean, alone = both(params, SIGNALS, LENGTHS)
    assert_close(log_p, np.asarray(clean), "float32")
    assert_close(log_p[1], np.asarray(alone), "float32")
    assert_close(log_p[2], np.asarray(jax.nn.log_softmax(params.head.b)), "float32")


def test_the_loss_is_the_mean_and_dropout_needs_a_mask_for_each_gap():
    tried = config(hidden_sizes=(3, 2))
    assert output_sizes(tried) == (6, 4)
    params = init_signal_classifier(jax.random.key(0), tried)
    batch = SignalBatch(SIGNALS, LENGTHS, LABELS, np.ones(B, np.float32))

    @jax.jit
    def losses(params, batch):
        plain, (_, metrics) = signal_classifier_loss(tried, params, (), batch, jax.random.key(0))
        dropped, _ = signal_classifier_loss(
            tried, params, (), batch, jax.random.key(0), dropout=0.5
        )
        log_p = signal_log_probabilities(tried, params, batch.signals, batch.lengths)
        return plain, metrics, dropped, log_p

    plain, metrics, dropped, log_p = losses(params, batch)
    np.testing.assert_allclose(plain, -np.asarray(log_p)[np.arange(B), LABELS].mean(), rtol=1e-5)
    assert metrics["examples"] == B
    assert np.isfinite(dropped)
    assert dropped != plain


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"class_count": 1}, "class_count: got 1, expected at least 2"),
        ({"input_size": 0}, "input_size: got 0, expected an integer"),
        ({"recurrence": "conv_lstm_2d"}, "recurrence: got 'conv_lstm_2d', which reads images"),
        ({"pooling": "sum"}, "pooling: got 'sum', expected one of"),
        ({"hidden_sizes": ()}, r"hidden_sizes: got \(\), expected a tuple of at least one size"),
        ({"hidden_sizes": (3, 0)}, r"hidden_sizes\[1\]: got 0, expected an integer"),
    ],
)
def test_a_config_out_of_range_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SignalClassifierConfig(**{"input_size": AXES, "class_count": K} | fields)


def test_signals_of_another_shape_or_dtype_are_refused():
    tried = config()
    params = init_signal_classifier(jax.random.key(0), tried)
    with pytest.raises(ValueError, match=r"signals: got shape \(5, 3, 1\), expected \(T, \*B, 2\)"):
        signal_logits(tried, params, jnp.asarray(SIGNALS[..., :1]))
    with pytest.raises(TypeError, match="signals: got int32, expected a floating dtype"):
        signal_logits(tried, params, jnp.asarray(SIGNALS).astype(jnp.int32))
    batch = SignalBatch(SIGNALS, LENGTHS, LABELS, np.ones(B, np.float32))
    with pytest.raises(ValueError, match=r"dropout: got 1\.0, expected 0 ≤ dropout < 1"):
        signal_classifier_loss(tried, params, (), batch, jax.random.key(0), dropout=1.0)
