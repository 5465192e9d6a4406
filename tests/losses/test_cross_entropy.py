import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnnjax.losses.cross_entropy import (
    bits_per_character,
    cross_entropy_of_sequences,
    cross_entropy_per_step,
    mean_cross_entropy,
    perplexity,
    weights_of_lengths,
)

T, B, V = 4, 3, 5
LENGTHS = np.array([4, 0, 2])


@pytest.fixture(scope="module")
def logits():
    return 3 * jax.random.normal(jax.random.key(0), (T, B, V), jnp.float64)


@pytest.fixture(scope="module")
def targets():
    return jax.random.randint(jax.random.key(1), (T, B), 0, V, jnp.int32)


per_step = jax.jit(cross_entropy_per_step)


def test_it_is_minus_the_log_of_the_probability_given_to_the_target(logits, targets):
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = [[-np.log(probabilities[t, b, targets[t, b]]) for b in range(B)] for t in range(T)]
    np.testing.assert_allclose(per_step(logits, targets), expected, rtol=1e-12)
    np.testing.assert_allclose(
        per_step(logits, targets),
        optax.losses.softmax_cross_entropy(logits, np.eye(V)[targets]),
        rtol=1e-12,
    )


def test_the_loss_of_a_sequence_is_minus_the_log_of_its_probability(logits, targets):
    log_probabilities = np.asarray(jax.nn.log_softmax(logits))
    weights = weights_of_lengths(LENGTHS, T)
    losses = np.asarray(cross_entropy_of_sequences(logits, targets, weights))
    for b, length in enumerate(LENGTHS):
        factors = [np.exp(log_probabilities[t, b, targets[t, b]]) for t in range(length)]
        np.testing.assert_allclose(np.exp(-losses[b]), np.prod(factors), rtol=1e-12)
    np.testing.assert_allclose(
        mean_cross_entropy(logits, targets, weights), losses.sum() / LENGTHS.sum(), rtol=1e-12
    )
    np.testing.assert_allclose(
        mean_cross_entropy(logits, targets), per_step(logits, targets).mean(), rtol=1e-12
    )


def test_huge_logits_overflow_neither_the_loss_nor_its_gradient():
    huge = jnp.array([1e4, -1e4, 0.0], jnp.float32)
    loss = jax.jit(jax.value_and_grad(lambda x: per_step(x, jnp.int32(1))))(huge)
    np.testing.assert_allclose(loss[0], 2e4)
    np.testing.assert_allclose(loss[1], [1, -1, 0])


def test_low_precision_logits_are_summed_in_float32(logits, targets):
    low = logits.astype(jnp.bfloat16)
    losses = per_step(low, targets)
    assert losses.dtype == jnp.float32
    np.testing.assert_array_equal(losses, per_step(low.astype(jnp.float32), targets))


def test_nothing_leaks_out_of_what_does_not_count(logits, targets):
    weights = weights_of_lengths(LENGTHS, T)
    masked = np.asarray(weights) == 0
    poisoned = jnp.where(masked[..., None], jnp.nan, logits)
    nonsense = jnp.where(masked, jnp.int32(-7), targets)
    gradient = jax.jit(jax.value_and_grad(mean_cross_entropy))
    clean, clean_gradient = gradient(logits, targets, weights)
    loss, loss_gradient = gradient(poisoned, nonsense, weights)
    assert loss == clean
    np.testing.assert_array_equal(loss_gradient, clean_gradient)
    np.testing.assert_array_equal(np.asarray(loss_gradient)[masked], 0)
    np.testing.assert_array_equal(
        np.asarray(per_step(poisoned, nonsense, weights)),
        np.where(masked, 0, per_step(logits, targets)),
    )
    nothing, no_gradient = gradient(poisoned, nonsense, jnp.zeros_like(weights))
    assert nothing == 0
    np.testing.assert_array_equal(no_gradient, 0)


def test_weights_scale_and_true_counts_as_one(logits, targets):
    losses = np.asarray(per_step(logits, targets))
    half = jnp.full((T, B), 0.5, jnp.float32)
    np.testing.assert_allclose(per_step(logits, targets, half), 0.5 * losses, rtol=1e-15)
    counts = weights_of_lengths(LENGTHS, T, bool)
    np.testing.assert_array_equal(per_step(logits, targets, counts), np.where(counts, losses, 0))


def test_units():
    uniform = jnp.log(jnp.float64(8))
    np.testing.assert_allclose(bits_per_character(uniform), 3, rtol=1e-15)
    np.testing.assert_allclose(perplexity(uniform), 8, rtol=1e-15)
    assert bits_per_character(jnp.float32(1)).dtype == jnp.float32


def test_a_target_outside_is_refused_when_known_and_loud_under_jit(logits, targets):
    for outside in (-1, V):
        bad = targets.at[0, 0].set(outside)
        with pytest.raises(ValueError, match=r"targets: got values from .* expected 0 … 4"):
            cross_entropy_per_step(logits, bad)
        losses = per_step(logits, bad)
        assert np.isnan(losses[0, 0])
        assert np.isfinite(losses).sum() == T * B - 1


def test_bad_arguments_are_refused(logits, targets):
    with pytest.raises(TypeError, match="targets: got dtype float32, expected an integer dtype"):
        cross_entropy_per_step(logits, targets.astype(jnp.float32))
    with pytest.raises(TypeError, match="logits: got dtype int32, expected a floating dtype"):
        cross_entropy_per_step(targets, targets)
    with pytest.raises(ValueError, match=r"targets: got shape \(4, 1\), expected \(4, 3\)"):
        cross_entropy_per_step(logits, targets[:, :1])
    with pytest.raises(ValueError, match=r"weights: got shape \(3,\), expected \(4, 3\)"):
        cross_entropy_per_step(logits, targets, jnp.ones(B))
    with pytest.raises(TypeError, match="weights: got dtype int64, expected floating or bool"):
        cross_entropy_per_step(logits, targets, LENGTHS)
    with pytest.raises(TypeError, match="lengths: got dtype float32, expected an integer dtype"):
        weights_of_lengths(jnp.ones(B, jnp.float32), T)
    with pytest.raises(ValueError, match=r"targets: got shape \(\), expected \(T, \*B\)"):
        cross_entropy_of_sequences(logits[0, 0], targets[0, 0])
