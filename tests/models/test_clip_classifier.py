from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import assert_close

from rnnjax.models.clip_classifier import (
    ClipBatch,
    ClipClassifierConfig,
    clip_classifier_loss,
    clip_log_probabilities,
    clip_logits,
    init_clip_classifier,
)
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.step import initial_train_state, make_train_step

T, B, K, SHAPE = 3, 2, 3, (6, 5, 2)
FRAMES = np.random.default_rng(0).integers(0, 256, (T, B, *SHAPE)).astype(np.uint8)
BATCH = ClipBatch(FRAMES, np.array([2, 0], np.int32), np.ones(B, np.float32))
RECURRENCES = (None, "elman", "conv_lstm_2d")


def config(recurrence, **fields):
    return ClipClassifierConfig(
        SHAPE, K, **{"channels": (2, 3), "feature_size": 4, "hidden_size": 3} | fields,
        recurrence=recurrence,
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """What is computed does not depend on how hard XLA tries; how long compilation takes does."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_a_verdict_is_on_the_frames_up_to_it_and_a_bag_has_no_order(recurrence):
    tried = config(recurrence)

    @jax.jit
    def every_way(params, frames):
        log_p = clip_log_probabilities(tried, params, frames)
        cut = clip_log_probabilities(tried, params, frames[:-1])
        turned = clip_log_probabilities(tried, params, frames[::-1])
        alone = clip_log_probabilities(tried, params, frames[:, 1])
        return log_p, cut, turned, alone

    params = init_clip_classifier(jax.random.key(0), tried)
    log_p, cut, turned, alone = every_way(params, jnp.asarray(FRAMES))
    assert log_p.shape == (T, B, K)
    np.testing.assert_allclose(np.exp(log_p).sum(-1), 1, rtol=1e-5)
    assert_close(cut, log_p[:-1], "float32")
    assert_close(alone, log_p[:, 1], "float32")
    difference = np.abs(np.asarray(turned[-1] - log_p[-1])).max()
    assert difference < 1e-6 if recurrence is None else difference > 1e-4


def test_the_loss_is_the_mean_of_last_verdicts_and_what_is_drawn_changes_it():
    tried = config("elman")
    params = init_clip_classifier(jax.random.key(0), tried)

    @jax.jit
    def losses(params, batch):
        def of(key, **options):
            return clip_classifier_loss(tried, params, (), batch, key, **options)

        plain, (memory, metrics) = of(jax.random.key(0), brightness=0.0)
        dropped, _ = of(jax.random.key(0), dropout=0.5, brightness=0.3, shift=2)
        return plain, memory, metrics, dropped, clip_log_probabilities(tried, params, batch.frames)

    # Pictures that are the same in a mirror, so that a flip changes nothing.
    symmetric = BATCH._replace(frames=np.maximum(FRAMES, FRAMES[..., ::-1, :]))
    plain, memory, metrics, dropped, log_p = losses(params, symmetric)
    assert memory == ()
    assert metrics["examples"] == B
    last = np.asarray(log_p)[-1, np.arange(B), np.asarray(symmetric.labels)]
    np.testing.assert_allclose(plain, -last.mean(), rtol=1e-5)
    assert np.isfinite(dropped)
    assert dropped != plain


@pytest.mark.slow
@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_which_way_a_dot_moves_is_learnt_by_what_knows_order_alone(recurrence):
    """Up or down, since left and right change places in training."""
    frames = np.zeros((T, 32, *SHAPE), np.uint8)
    labels = np.arange(32, dtype=np.int32) % 2
    for row, label in enumerate(labels):
        start = row // 2 % 4
        for t in range(T):
            frames[t, row, start + (t if label else T - 1 - t), row // 2 % 5] = 255
    batch = ClipBatch(frames, labels, np.ones(32, np.float32))
    tried = config(recurrence, channels=(4, 8), feature_size=16, hidden_size=16)
    optimizer = build_optimizer(OptimizerConfig(learning_rate=0.01, total_steps=150))
    step = make_train_step(partial(clip_classifier_loss, tried), optimizer)
    params = init_clip_classifier(jax.random.key(0), tried)
    state = initial_train_state(params, optimizer, (), jax.random.key(1))
    for _ in range(150):
        state, _ = step(state, batch)
    said = clip_log_probabilities(tried, state.params, frames)[-1]
    difference = np.asarray(said[:, 1] - said[:, 0])
    if recurrence is None:  # each two clips of the same frames get the same verdict
        np.testing.assert_allclose(difference[::2], difference[1::2], atol=1e-5)
    else:
        assert ((difference > 0) == labels).mean() > 0.9


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"class_count": 1}, "class_count: got 1, expected at least 2"),
        ({"frame_shape": (6, 5)}, r"frame_shape: got \(6, 5\), expected height, width and"),
        ({"frame_shape": (6, 5, 0)}, r"frame_shape\[2\]: got 0, expected an integer"),
        ({"channels": ()}, r"channels: got \(\), expected a tuple of at least one"),
        ({"channels": (2, 0)}, r"channels\[1\]: got 0, expected an integer"),
        ({"recurrence": "lstn"}, "recurrence: got 'lstn', expected one of elman"),
        ({"recurrence": "conv_lstm_1d"}, "recurrence: got 'conv_lstm_1d', expected one that reads"),
        ({"hidden_size": 0}, "hidden_size: got 0, expected an integer"),
        ({"pixel_deviation": 0.0}, "pixel_deviation: got 0.0, expected above 0"),
    ],
)
def test_a_config_out_of_range_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ClipClassifierConfig(**{"frame_shape": SHAPE, "class_count": K} | fields)


def test_frames_of_another_shape_or_dtype_are_refused():
    tried = config(None)
    params = init_clip_classifier(jax.random.key(0), tried)
    with pytest.raises(ValueError, match=r"frames: got shape \(3, 2, 5, 5, 2\), expected \(T,"):
        clip_log_probabilities(tried, params, FRAMES[:, :, :5])
    with pytest.raises(ValueError, match=r"frames: got shape \(0, 2, 6, 5, 2\), expected \(T,"):
        clip_log_probabilities(tried, params, FRAMES[:0])
    with pytest.raises(TypeError, match="frames: got dtype float32, expected uint8"):
        clip_log_probabilities(tried, params, FRAMES.astype(np.float32))
    with pytest.raises(TypeError, match="frames: got uint8, expected a floating dtype"):
        clip_logits(tried, params, jnp.asarray(FRAMES))
    with pytest.raises(ValueError, match="shift: got -1"):
        clip_classifier_loss(tried, params, (), BATCH, jax.random.key(0), shift=-1)
