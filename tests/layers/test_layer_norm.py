import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.tolerances import assert_close

from rnnjax.layers.layer_norm import LayerNormParams, apply_layer_norm, init_layer_norm

SIZE = 6


@pytest.fixture(scope="module")
def params():
    scale, shift = np.random.default_rng(0).normal(size=(2, SIZE))
    return LayerNormParams(jnp.asarray(scale), jnp.asarray(shift))


@pytest.fixture(scope="module")
def xs():
    return jnp.asarray(np.random.default_rng(1).normal(3, 2, size=(4, 3, SIZE)))


def test_values_and_gradients_are_those_of_flax(params, xs):
    graph, _ = nnx.split(
        nnx.LayerNorm(
            SIZE,
            epsilon=1e-3,
            use_fast_variance=False,
            param_dtype=jnp.float64,
            rngs=nnx.Rngs(0),
        )
    )

    def flax(params, xs):
        state = nnx.State({"scale": nnx.Param(params.scale), "bias": nnx.Param(params.shift)})
        with jax.numpy_dtype_promotion("standard"):
            return nnx.merge(graph, state)(xs)

    def ours(params, xs):
        return apply_layer_norm(params, xs, epsilon=1e-3)

    def with_gradients(function):
        def scalar(params, xs):
            ys = function(params, xs)
            return jnp.sum(jnp.sin(ys * jnp.arange(1.0, SIZE + 1))), ys

        return jax.value_and_grad(scalar, (0, 1), has_aux=True)(params, xs)

    actual, expected = jax.jit(lambda: (with_gradients(ours), with_gradients(flax)))()
    assert_close(actual, expected, "float64")


def test_it_forgets_the_size_and_the_offset_of_a_vector(xs):
    params = init_layer_norm(SIZE, dtype=jnp.float64)
    ys = apply_layer_norm(params, xs, epsilon=1e-30)
    np.testing.assert_allclose(ys.mean(axis=-1), 0, atol=1e-14)
    np.testing.assert_allclose(ys.var(axis=-1), 1, rtol=1e-13)
    assert_close(apply_layer_norm(params, 7 * xs - 5, epsilon=1e-30), ys, "float64")


def test_a_vector_of_equal_entries_becomes_the_shift_with_finite_gradients(params):
    equal = jnp.full((2, SIZE), 3.0)
    ys, vjp = jax.vjp(apply_layer_norm, params, equal)
    np.testing.assert_allclose(ys, np.broadcast_to(params.shift, (2, SIZE)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(vjp(jnp.ones_like(ys))))


def test_sixteen_bits_are_rounded_once_at_the_end(params, xs):
    # A mean of 200 and a deviation of 1: in bfloat16 the sums alone would lose the deviation.
    halves = (xs / 2 + 200).astype(jnp.bfloat16)
    ys = apply_layer_norm(params, halves)
    assert ys.dtype == jnp.bfloat16
    exact = apply_layer_norm(params, halves.astype(jnp.float64))
    np.testing.assert_allclose(ys.astype(jnp.float64), exact, rtol=2**-8, atol=1e-4)


def test_bad_arguments_are_refused():
    params = init_layer_norm(SIZE)
    with pytest.raises(ValueError, match="size: got 0, expected an integer of at least 1"):
        init_layer_norm(0)
    with pytest.raises(ValueError, match=r"xs: got shape \(2, 4\), expected \(\.\.\., 6\)"):
        apply_layer_norm(params, jnp.zeros((2, 4)))
    with pytest.raises(TypeError, match="xs: got int32, expected a floating dtype"):
        apply_layer_norm(params, jnp.zeros(SIZE, jnp.int32))
    with pytest.raises(ValueError, match="epsilon: got 0, expected a number above 0"):
        apply_layer_norm(params, jnp.zeros(SIZE), epsilon=0)
