import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax
from rnnjax.layers.deep import init_deep, initial_deep_carry, scan_deep, step_deep

T, B, I = 6, 3, 2  # noqa: E741
MIXED = (rnnjax.lstm, rnnjax.gru)
LENGTHS = np.array([6, 0, 4])


@pytest.fixture(scope="module")
def params():
    return init_deep(jax.random.key(0), MIXED, I, (4, 5), dtype=jnp.float64)


@pytest.fixture(scope="module")
def xs():
    return jax.random.normal(jax.random.key(1), (T, B, I), jnp.float64)


def assert_close(left, right):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_it_is_one_scan_upon_another_with_all_options(params, xs):
    resets = jnp.zeros((T, B), bool).at[2, 0].set(True)
    options = {"lengths": LENGTHS, "resets": resets, "reverse": True}
    carry, ys = scan_deep(MIXED, params, xs, **options)
    low, hidden = rnnjax.scan(rnnjax.lstm, params[0], xs, **options)
    high, expected = rnnjax.scan(rnnjax.gru, params[1], hidden, **options)
    assert_close((carry, ys), ((low, high), expected))


def test_streaming_in_windows_and_in_steps_is_the_whole(params, xs):
    whole_carry, whole = scan_deep(MIXED, params, xs)
    carry, first = scan_deep(MIXED, params, xs[: T // 2])
    carry, second = scan_deep(MIXED, params, xs[T // 2 :], carry)
    assert_close((carry, jnp.concatenate([first, second])), (whole_carry, whole))

    step = jax.jit(lambda carry, x: step_deep(MIXED, params, carry, x))
    carry, ys = initial_deep_carry(MIXED, params, (B,)), []
    for x in xs:
        carry, y = step(carry, x)
        ys.append(y)
    assert_close((carry, jnp.stack(ys)), (whole_carry, whole))


def test_plans_agree_on_the_gradient_of_every_layer(params, xs):
    def loss(params, plan):
        _, ys = scan_deep(MIXED, params, xs, lengths=LENGTHS, plan=plan)
        return jnp.sum(jnp.sin(ys))

    gradients = jax.jit(lambda p: [jax.grad(loss)(p, plan) for plan in ("fused", "reference")])
    assert_close(*gradients(params))


def test_one_recurrence_serves_all_layers_each_with_weights_of_its_own():
    params = init_deep(jax.random.key(0), rnnjax.elman, 3, [3, 3, 3])
    assert len(params) == 3
    assert not np.array_equal(params[0].w_h, params[1].w_h)
    assert not np.array_equal(params[1].w_h, params[2].w_h)
    x = jnp.ones((1, 3), jnp.float32)
    assert_close(scan_deep(rnnjax.elman, params, x), scan_deep((rnnjax.elman,) * 3, params, x))


def test_a_repeated_call_traces_once(params, xs):
    traces = 0

    def counted(params, carry, z):
        nonlocal traces
        traces += 1
        return rnnjax.elman.step(params, carry, z)

    elman = rnnjax.Recurrence(
        "counted",
        "",
        rnnjax.elman.init,
        rnnjax.elman.initial_carry,
        rnnjax.elman.project,
        counted,
        rnnjax.elman.input_shape,
    )
    weights = init_deep(jax.random.key(0), elman, I, (2, 2), dtype=jnp.float64)
    scan_deep(elman, weights, xs)
    after_the_first = traces
    scan_deep(elman, weights, xs + 1)
    assert traces == after_the_first


def test_bad_arguments_are_refused(params, xs):
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="hidden_sizes: got none, expected at least one layer"):
        init_deep(key, rnnjax.gru, I, ())
    with pytest.raises(ValueError, match=r"hidden_sizes\[1\]: got 0, expected an integer"):
        init_deep(key, rnnjax.gru, I, (3, 0))
    with pytest.raises(ValueError, match="layers: got 2, expected 1 or 3, one a layer"):
        init_deep(key, MIXED, I, (3, 3, 3))
    with pytest.raises(ValueError, match="params: got no layers, expected at least one"):
        scan_deep(MIXED, (), xs)
    with pytest.raises(ValueError, match="carry: got 1 carries, expected a carry for each of 2"):
        scan_deep(MIXED, params, xs, initial_deep_carry(MIXED, params, (B,))[:1])
    with pytest.raises(ValueError, match="carry: got 1 carries, expected 2, one a layer"):
        step_deep(MIXED, params, initial_deep_carry(MIXED, params, (B,))[:1], xs[0])
    with pytest.raises(ValueError, match="lengths: got 7, expected values within 0 … 6"):
        scan_deep(MIXED, params, xs, lengths=np.array([1, 7, 2]))
    other = init_deep(key, rnnjax.gru, 7, (5,), dtype=jnp.float64)
    with pytest.raises(ValueError, match=r"params\[1\]: takes inputs of shape \(7,\), expected"):
        scan_deep(MIXED, (params[0], *other), xs)
