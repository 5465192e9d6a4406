import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import assert_close

from rnnjax.layers.dense import DenseParams, apply_dense, init_dense


def test_it_is_the_affine_map():
    params = DenseParams(jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), jnp.array([10.0, 20.0]))
    np.testing.assert_array_equal(apply_dense(params, jnp.array([1.0, 0.0, 2.0])), [21, 34])


def test_weights_begin_with_glorots_bound_and_variance():
    params = init_dense(jax.random.key(0), 300, 100, dtype=jnp.float64)
    bound = np.sqrt(6 / 400)
    assert np.abs(params.w).max() <= bound
    np.testing.assert_allclose(np.var(params.w), 2 / 400, rtol=0.03)
    np.testing.assert_array_equal(params.b, 0)


def test_bad_arguments_are_refused():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="output_size: got 0, expected an integer of at least 1"):
        init_dense(key, 3, 0)
    with pytest.raises(TypeError, match="dtype: got int32, expected a floating dtype"):
        init_dense(key, 3, 2, dtype=jnp.int32)
    with pytest.raises(ValueError, match=r"xs: got shape \(2, 4\), expected \(\.\.\., 3\)"):
        apply_dense(init_dense(key, 3, 2), jnp.zeros((2, 4), jnp.float32))


def test_inputs_of_16_bits_give_outputs_of_16_bits_summed_in_float32():
    params = init_dense(jax.random.key(0), 1000, 3)
    xs = jnp.ones((2, 1000), jnp.bfloat16)
    rounded = np.asarray(params.w.astype(jnp.bfloat16), np.float64)
    ys = apply_dense(params, xs)
    assert ys.dtype == jnp.bfloat16
    assert_close(ys, np.broadcast_to(rounded.sum(axis=0), (2, 3)), "bfloat16")
