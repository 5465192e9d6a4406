"""The network of windows: what it sees, its answers, its gradient by the input."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.models.window_network import (
    ANSWERS,
    WindowBatch,
    WindowNetworkConfig,
    apply_window_network,
    init_window_network,
    input_gradients,
    window_network_loss,
    windows,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

T, B = 7, 2
ONE = WindowNetworkConfig(
    3, window=3, feature_size=5, recurrence="elman", hidden_sizes=(4,), bidirectional=False
)
BOTH = replace(ONE, bidirectional=True)


@pytest.fixture(scope="module")
def quick_compilation():
    """What is asked here does not depend on how hard XLA tries; how long it takes does."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def _made(config, seed=0):
    """Parameters and inputs in float64, so that differences can be taken."""
    params = init_window_network(jax.random.key(seed), config)
    xs = np.random.default_rng(seed).normal(size=(T, B, config.input_size))
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params), xs


_applied = jax.jit(partial(apply_window_network, plan="reference"), static_argnums=0)


def _apply(config, params, xs, lengths=None):
    return np.asarray(_applied(config, params, xs, lengths))


def test_a_window_is_the_steps_around_one():
    xs = jnp.arange(1.0, 5.0)[:, None]
    assert windows(xs, 3).tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 0]]
    assert (windows(xs, 1) == xs).all()
    assert windows(xs, 3, 3).tolist() == [[1, 2, 3], [4, 0, 0]]  # around 2 and 5
    assert windows(xs, 3, 2).tolist() == [[1, 2, 3], [3, 4, 0]]


def test_with_a_stride_one_answer_is_that_of_several_steps():
    config = replace(BOTH, stride=3)
    params, xs = _made(config)
    found = _apply(config, params, xs, jnp.asarray([T, 4]))
    assert found.shape == (T, B, 3)
    assert (found[0] == found[2]).all()
    assert not np.allclose(found[2], found[3])
    assert np.allclose(found[:4, 1], _apply(config, params, xs[:4])[:, 1])


def test_in_one_direction_the_future_is_seen_within_the_window_alone():
    t = 3
    for config, sees_the_end in ((ONE, False), (BOTH, True)):
        params, xs = _made(config)
        whole = _apply(config, params, xs)
        near, far = xs.copy(), xs.copy()
        near[t + 1] += 1  # half a window of 3 behind t
        far[t + 2] += 1
        assert whole.shape == (T, B, 3)
        assert not np.allclose(_apply(config, params, near)[t], whole[t])
        assert np.allclose(_apply(config, params, far)[t], whole[t]) is not sees_the_end


def test_padding_is_not_read():
    params, xs = _made(BOTH)
    padded = np.concatenate([xs, np.full((3, *xs.shape[1:]), np.nan)])

    @jax.jit
    def of_all_answers(xs, padded):
        found = {}
        for answer in ANSWERS:
            read = partial(
                apply_window_network, replace(BOTH, answer=answer), params, plan="reference"
            )
            found[answer] = (read(xs), read(padded, jnp.full(B, T)))
        return found

    for answer, (alone, with_padding) in of_all_answers(xs, padded).items():
        assert np.allclose(with_padding[:T] if answer == "each" else with_padding, alone), answer


def test_the_gradient_by_the_input_is_that_of_the_log_probability():
    config = replace(BOTH, answer="max")
    params, xs = _made(config)
    classes = np.asarray([2, 0])
    gradients = jax.jit(partial(input_gradients, config, plan="reference"))
    found = np.asarray(gradients(params, xs, classes))
    assert np.allclose(found.sum(axis=-1), 0)

    def log_probability(xs):
        logs = jax.nn.log_softmax(_apply(config, params, xs))
        return np.asarray(logs)[np.arange(B), classes]

    # A base in place of another: along e_k − e_j, as sequences of one-hot vectors can move.
    t, k, j, step = 4, 1, 3, 1e-5
    up, down = xs.copy(), xs.copy()
    up[t, :, k] += step
    up[t, :, j] -= step
    down[t, :, k] -= step
    down[t, :, j] += step
    slope = (log_probability(up) - log_probability(down)) / (2 * step)
    assert np.allclose(found[t, :, k] - found[t, :, j], slope, atol=1e-7)
    with pytest.raises(ValueError, match=r"^answer: got 'each', expected a network of one answer"):
        input_gradients(BOTH, params, xs, classes)


def test_what_has_no_weight_does_not_count():
    params, xs = _made(BOTH)
    labels, weights = np.zeros((T, B), np.int32), np.ones((T, B), np.float32)
    weights[2:, 1] = 0
    others = np.where(weights > 0, labels, 2)

    @jax.jit
    def loss(labels):
        batch = WindowBatch(xs, np.full(B, T), labels, weights)
        return window_network_loss(BOTH, params, (), batch, jax.random.key(0), plan="reference")

    (value, (memory, metrics)), (other, _) = loss(labels), loss(others)
    assert value == other
    assert memory == ()
    assert metrics["examples"] == T + 2
    logs = jax.nn.log_softmax(_apply(BOTH, params, xs))[..., 0]
    assert value == pytest.approx(-(np.asarray(logs) * weights).sum() / (T * B))


def test_dropout_needs_a_key_and_keeps_the_mean():
    params, xs = _made(ONE)
    rate = {"dropout": 0.5, "plan": "reference"}
    whole = apply_window_network(ONE, params, xs, **rate)
    assert np.allclose(whole, _apply(ONE, params, xs))
    dropped = apply_window_network(ONE, params, xs, key=jax.random.key(0), **rate)
    assert not np.allclose(dropped, whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": 4}, "^window: got 4, expected an odd number"),
        ({"window": 0}, "^window: got 0"),
        ({"class_count": 1}, "^class_count: got 1, expected at least 2"),
        ({"answer": "sum"}, "^answer: got 'sum', expected one of middle, last, mean"),
        ({"hidden_sizes": ()}, r"^hidden_sizes: got \(\), expected a tuple of at least one size"),
        ({"recurrence": "lstn"}, "^recurrence: got 'lstn', expected one of elman"),
    ],
)
def test_configs_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(ONE, **changes)


def test_inputs_that_do_not_fit_are_refused():
    params, xs = _made(ONE)
    with pytest.raises(ValueError, match=r"^inputs: got shape \(7, 2, 3\), expected \(T, \*B, 4\)"):
        apply_window_network(ONE, params, xs[..., :3])
    with pytest.raises(TypeError, match=r"^inputs: got int64, expected a floating dtype"):
        apply_window_network(ONE, params, xs.astype(int))
    with pytest.raises(ValueError, match=r"^lengths: got shape \(3,\), expected \(2,\)"):
        apply_window_network(ONE, params, xs, np.full(3, T))
    with pytest.raises(ValueError, match=r"^rate: got 1.0|^dropout: got 1.0"):
        apply_window_network(ONE, params, xs, dropout=1.0)
