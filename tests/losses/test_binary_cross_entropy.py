import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnnjax.losses.binary_cross_entropy import (
    binary_cross_entropy_per_step,
    binary_mixture_cross_entropy_per_step,
)

T, B, KEYS = 3, 2, 4
per_step = jax.jit(binary_cross_entropy_per_step)
per_step_of_mixture = jax.jit(binary_mixture_cross_entropy_per_step)


@pytest.fixture(scope="module")
def logits():
    return 3 * jax.random.normal(jax.random.key(0), (T, B, KEYS), jnp.float64)


@pytest.fixture(scope="module")
def targets():
    return jax.random.bernoulli(jax.random.key(1), 0.4, (T, B, KEYS))


def test_it_is_minus_the_log_of_the_probability_of_all_answers(logits, targets):
    shares = 1 / (1 + np.exp(-np.asarray(logits)))
    expected = -np.log(np.where(targets, shares, 1 - shares).prod(-1))
    np.testing.assert_allclose(per_step(logits, targets), expected, rtol=1e-12)
    of_optax = optax.losses.sigmoid_binary_cross_entropy(logits, targets.astype(jnp.float64))
    np.testing.assert_allclose(per_step(logits, targets), of_optax.sum(-1), rtol=1e-12)


def test_a_mixture_gives_every_answer_its_share(targets):
    """Of one component it is the loss without; all 2^I answers have the probability one."""
    logits = 2 * np.random.default_rng(1).normal(size=(2, KEYS))
    of_components = np.array([0.3, -0.4])
    answers = np.asarray(list(itertools.product((False, True), repeat=KEYS)))
    shape = (len(answers), 2)
    losses = per_step_of_mixture(
        np.broadcast_to(logits, (*shape, KEYS)), np.broadcast_to(of_components, shape), answers
    )
    assert np.exp(-losses).sum() == pytest.approx(1, rel=1e-12)
    shares, weights = (
        1 / (1 + np.exp(-np.asarray(logits))),
        np.exp(of_components),
    )
    expected = [
        np.where(answer, shares, 1 - shares).prod(-1) @ weights / weights.sum()
        for answer in answers
    ]
    np.testing.assert_allclose(np.exp(-losses), expected, rtol=1e-7)
    alone = np.random.default_rng(0).normal(size=(T, B, 1, KEYS))
    np.testing.assert_allclose(
        per_step_of_mixture(alone, alone[..., 0], targets),
        per_step(alone[..., 0, :], targets),
        rtol=1e-12,
    )


def test_a_mixture_ignores_what_weighs_nothing(targets):
    logits = jnp.zeros((T, B, 2, KEYS), jnp.float64).at[1, 0].set(jnp.nan)
    weights = jnp.ones((T, B), jnp.float32).at[1, 0].set(0)

    def loss(logits):
        return binary_mixture_cross_entropy_per_step(logits, logits[..., 0], targets, weights).sum()

    value, gradient = jax.jit(jax.value_and_grad(loss))(logits)
    assert value == pytest.approx((T * B - 1) * KEYS * np.log(2))
    assert np.isfinite(gradient).all()
    with pytest.raises(ValueError, match=r"^component_logits: got shape \(3, 2, 4\), expected"):
        binary_mixture_cross_entropy_per_step(logits, logits[:, :, 0], targets)


def test_what_weighs_nothing_has_no_loss_and_no_gradient_even_if_nan(logits, targets):
    weights = jnp.ones((T, B), jnp.float32).at[1, 0].set(0)
    spoilt = logits.at[1, 0].set(jnp.nan)
    losses, gradient = jax.jit(
        lambda x: (
            binary_cross_entropy_per_step(x, targets, weights),
            jax.grad(lambda y: binary_cross_entropy_per_step(y, targets, weights).sum())(x),
        )
    )(spoilt)
    assert losses[1, 0] == 0
    assert not gradient[1, 0].any()
    np.testing.assert_allclose(losses.sum(), per_step(logits, targets).at[1, 0].set(0).sum())


def test_huge_logits_do_not_overflow_and_narrow_ones_are_raised():
    huge = jnp.array([1e4, -1e4], jnp.float32)
    assert binary_cross_entropy_per_step(huge, jnp.array([True, False])) == 0
    assert binary_cross_entropy_per_step(huge, jnp.array([False, True])) == 2e4
    assert binary_cross_entropy_per_step(huge.astype(jnp.bfloat16), huge > 0).dtype == jnp.float32


def test_wrong_shapes_and_dtypes_are_refused(logits, targets):
    with pytest.raises(TypeError, match=r"^logits: got dtype int32, expected a floating dtype"):
        binary_cross_entropy_per_step(targets.astype(jnp.int32), targets)
    with pytest.raises(ValueError, match=r"^targets: got shape \(2, 4\), expected \(3, 2, 4\)"):
        binary_cross_entropy_per_step(logits, targets[0])
    with pytest.raises(ValueError, match=r"^weights: got shape \(3,\), expected \(3, 2\)"):
        binary_cross_entropy_per_step(logits, targets, jnp.ones(3))
