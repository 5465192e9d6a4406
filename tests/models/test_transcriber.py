from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from rnnjax.losses.ctc import ctc_loss
from rnnjax.models.transcriber import (
    TranscribedBatch,
    TranscriberConfig,
    apply_transcriber,
    init_transcriber,
    initial_transcriber_carry,
    transcriber_loss,
)
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.step import initial_train_state, make_train_step

T, B, INPUT, V, TY = 6, 3, 4, 3, 2
CONFIG = TranscriberConfig(INPUT, V, "elman", (5, 3), dropout=0.5, dtype="float64")
ONE_WAY = replace(CONFIG, bidirectional=False)
LENGTHS = np.array([6, 4, 0])
FRAMES = np.random.default_rng(0).normal(size=(T, B, INPUT))
BATCH = TranscribedBatch(FRAMES, LENGTHS, np.array([[1, 2, 0], [2, 0, 0]]), np.array([2, 1, 0]))

apply = jax.jit(partial(apply_transcriber, plan="reference"), static_argnums=0)
init = jax.jit(init_transcriber, static_argnums=1)


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """What is computed does not depend on how hard XLA tries; how long the tests take does."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def test_in_one_direction_stretches_of_a_sound_give_what_the_whole_gives():
    params = init(jax.random.key(0), ONE_WAY)
    _, whole = apply(ONE_WAY, params, FRAMES)
    carry = initial_transcriber_carry(ONE_WAY, params, (B,))
    carry, first = apply(ONE_WAY, params, FRAMES[:3], carry)
    _, second = apply(ONE_WAY, params, FRAMES[3:], carry)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, atol=1e-12)


def test_in_both_directions_the_end_decides_the_beginning_too():
    params = init(jax.random.key(0), CONFIG)
    carry, whole = apply(CONFIG, params, FRAMES)
    changed = FRAMES.copy()
    changed[-1] += 1
    assert np.abs(np.asarray(apply(CONFIG, params, changed)[1])[0] - whole[0]).max() > 1e-6
    with pytest.raises(ValueError, match="carry: got one, expected None: in both directions"):
        apply(CONFIG, params, FRAMES, carry)


def test_the_loss_is_that_of_ctc_in_the_mean_and_missing_rows_do_not_count():
    params = init(jax.random.key(1), CONFIG)
    plain = replace(CONFIG, dropout=0.0)
    loss, (_, metrics) = jax.jit(partial(transcriber_loss, plain, plan="reference"))(
        params, (), BATCH, jax.random.key(2)
    )
    _, logits = apply(CONFIG, params, FRAMES, lengths=LENGTHS)  # no key: nothing is dropped
    losses = ctc_loss(logits, BATCH.labels, lengths=LENGTHS, label_lengths=BATCH.label_lengths)
    np.testing.assert_allclose(loss, np.sum(losses) / 2, rtol=1e-9)
    np.testing.assert_allclose(metrics["nats_per_label"], np.sum(losses) / 3, rtol=1e-9)


@pytest.mark.slow
def test_it_learns_what_is_said_without_being_told_when():
    config = replace(ONE_WAY, recurrence="gru", hidden_sizes=(8,), dropout=0.0)
    optimizer = build_optimizer(OptimizerConfig(learning_rate=0.05, total_steps=60))
    step = jax.jit(make_train_step(partial(transcriber_loss, config, plan="reference"), optimizer))
    state = initial_train_state(init(jax.random.key(0), config), optimizer, (), jax.random.key(1))
    state, metrics = step(state, BATCH)
    for _ in range(59):
        state, metrics = step(state, BATCH)
    assert metrics["nats_per_label"] < 0.3


def test_what_it_refuses():
    params = init(jax.random.key(0), ONE_WAY)
    for changes, message in (
        ({"label_count": 1}, "label_count: got 1, expected at least 2"),
        ({"hidden_sizes": ()}, r"hidden_sizes: got \(\), expected a tuple"),
        ({"hidden_sizes": (0,)}, r"hidden_sizes\[0\]: got 0"),
        ({"input_size": 0}, "input_size: got 0"),
        ({"dropout": 1.0}, "dropout: got 1.0"),
        ({"recurrence": "lstn"}, "recurrence: got 'lstn'"),
        ({"dtype": "int8"}, "dtype: got 'int8'"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(CONFIG, **changes)
    with pytest.raises(ValueError, match=r"frames: got shape \(6, 3, 3\), expected \(T, \*B, 4\)"):
        apply_transcriber(ONE_WAY, params, FRAMES[..., :3])
    with pytest.raises(TypeError, match="frames: got int"):
        apply_transcriber(ONE_WAY, params, FRAMES.astype(int))
