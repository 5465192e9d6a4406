import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.models.frame_model import (
    FrameBatch,
    FrameModelConfig,
    apply_frame_model,
    frame_model_loss,
    init_frame_model,
    initial_frame_state,
    sample_frame_model,
)

T, B, KEYS = 6, 2, 5
CONFIG = FrameModelConfig(KEYS, "elman", (4,), components=3, dtype="float64")

apply = jax.jit(apply_frame_model, static_argnums=0)


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def params():
    return jax.jit(init_frame_model, static_argnums=1)(jax.random.key(0), CONFIG)


@pytest.fixture(scope="module")
def batch():
    frames = jax.random.bernoulli(jax.random.key(1), 0.4, (T + 1, B, KEYS)).astype(jnp.uint8)
    resets = jnp.zeros((T, B), bool).at[3, 1].set(True)
    weights = jnp.ones((T, B), jnp.float32).at[4:, 0].set(0)
    return FrameBatch(frames[:-1], frames[1:], resets, weights)


def zero_state(params):
    return initial_frame_state(CONFIG, params, (B,))


def test_windows_that_carry_the_state_give_the_logits_of_the_whole(params, batch):
    _, whole = apply(CONFIG, params, zero_state(params), batch.inputs, batch.resets)
    half = T // 2
    parts = (batch.inputs[:half], batch.resets[:half]), (batch.inputs[half:], batch.resets[half:])
    state, first = apply(CONFIG, params, zero_state(params), *parts[0])
    _, second = apply(CONFIG, params, state, *parts[1])
    for a, b, c in zip(first, second, whole, strict=True):
        np.testing.assert_allclose(jnp.concatenate([a, b]), c, rtol=1e-12, atol=1e-14)


def test_the_loss_is_the_sum_over_time_in_the_mean_of_rows(params, batch):
    """And frames of weight 0 do not count, nor does dropout of rate 0."""
    loss_of = jax.jit(frame_model_loss, static_argnums=0, static_argnames="dropout")
    loss, (_, metrics) = loss_of(CONFIG, params, zero_state(params), batch, jax.random.key(0))
    _, (keys, kinds) = apply(CONFIG, params, zero_state(params), batch.inputs, batch.resets)
    shares = 1 / (1 + np.exp(-np.asarray(keys)))
    of_kinds = np.where(batch.targets[..., None, :] == 1, shares, 1 - shares).prod(-1)
    nats = -np.log((np.asarray(jax.nn.softmax(kinds)) * of_kinds).sum(-1))
    weights = np.asarray(batch.weights)
    nats *= weights
    np.testing.assert_allclose(loss, nats.sum() / B, rtol=1e-7)
    np.testing.assert_allclose(metrics["nats_per_frame"], nats.sum() / weights.sum())
    dropped, _ = loss_of(CONFIG, params, zero_state(params), batch, jax.random.key(0), dropout=0.5)
    assert dropped != loss


def test_a_piece_is_drawn_from_its_own_predictions(params):
    """At temperature 0 a key sounds if it is likelier than not in the likeliest kind of frame."""
    prime = jnp.zeros((1, B, KEYS), jnp.float64).at[0, 0, 2].set(1)
    piece = sample_frame_model(CONFIG, params, jax.random.key(2), prime, T, temperature=0.0)
    inputs = jnp.concatenate([prime, piece[:-1].astype(prime.dtype)])
    _, (keys, kinds) = apply(CONFIG, params, zero_state(params), inputs)
    likeliest = np.asarray(kinds).argmax(-1)[..., None, None]
    np.testing.assert_array_equal(piece, np.take_along_axis(keys > 0, likeliest, -2)[..., 0, :])
    drawn = sample_frame_model(CONFIG, params, jax.random.key(2), prime, T)
    again = sample_frame_model(CONFIG, params, jax.random.key(2), prime, T)
    np.testing.assert_array_equal(drawn, again)
    assert (drawn != piece).any()


@pytest.mark.slow
def test_keys_sound_as_often_as_they_are_said_to():
    frequencies = np.array([0.1, 0.5, 0.9, 0.3, 0.02])
    params = init_frame_model(jax.random.key(0), CONFIG, frequencies)
    quiet = params._replace(head=params.head._replace(w=jnp.zeros_like(params.head.w)))
    prime = jnp.zeros((1, 4000, KEYS), jnp.float64)
    piece = sample_frame_model(CONFIG, quiet, jax.random.key(3), prime, 2)
    np.testing.assert_allclose(np.mean(piece, (0, 1)), frequencies, atol=0.03)


def test_bad_input_is_refused(params, batch):
    state, key, frames = zero_state(params), jax.random.key(0), batch.inputs

    def read(inputs, **options):
        apply_frame_model(CONFIG, params, state, inputs, **options)

    def write(prime, length=1, **options):
        sample_frame_model(CONFIG, params, key, prime, length, **options)

    def lose(**options):
        frame_model_loss(CONFIG, params, state, batch, key, **options)

    for message, call in (
        ("keys: got 0", lambda: FrameModelConfig(0)),
        ("components: got 0", lambda: FrameModelConfig(KEYS, components=0)),
        ("hidden_sizes: got ()", lambda: FrameModelConfig(KEYS, hidden_sizes=())),
        ("dtype: got 'int8'", lambda: FrameModelConfig(KEYS, dtype="int8")),
        ("recurrence: got 'lstn'", lambda: FrameModelConfig(KEYS, "lstn")),
        ("frequencies: got shape (3,)", lambda: init_frame_model(key, CONFIG, np.ones(3))),
        ("inputs: got shape (6, 2, 4)", lambda: read(frames[..., 1:])),
        ("dropout_masks: got 1, expected 2", lambda: read(frames, dropout_masks=[jnp.ones(5)])),
        ("input_dropout: got 1", lambda: lose(input_dropout=1)),
        ("prime: got shape (0, 2, 5)", lambda: write(frames[:0])),
        ("length: got 0", lambda: write(frames, 0)),
        ("temperature: got -1", lambda: write(frames, temperature=-1)),
    ):
        with pytest.raises(ValueError) as refused:  # noqa: PT011
            call()
        assert str(refused.value).startswith(message)
