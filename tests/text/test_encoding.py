import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.text.encoding import one_hot


def test_each_vector_is_one_at_its_id_and_zero_elsewhere():
    ids = np.array([[0, 3, 1], [2, 2, 0]], np.int32)
    vectors = one_hot(ids, 4, jnp.bfloat16)
    assert vectors.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(vectors, np.float32), np.eye(4)[ids])


def test_the_matmul_with_a_matrix_looks_its_rows_up():
    matrix = jnp.arange(12, dtype=jnp.float32).reshape(4, 3)
    ids = jnp.array([3, 1, 1])
    np.testing.assert_array_equal(one_hot(ids, 4) @ matrix, matrix[ids])


def test_ids_outside_the_vocabulary_are_refused_when_known_and_zero_under_jit():
    ids = jnp.array([0, 4, -1])
    with pytest.raises(ValueError, match=r"ids: got values from -1 to 4, expected 0\.\.3"):
        one_hot(ids, 4)
    vectors = jax.jit(one_hot, static_argnums=1)(ids, 4)
    np.testing.assert_array_equal(vectors, [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="ids: got dtype float32, expected an integer dtype"):
        one_hot(jnp.zeros(2, jnp.float32), 4)
    with pytest.raises(ValueError, match="vocabulary_size: got 0, expected at least 1"):
        one_hot(jnp.zeros(2, jnp.int32), 0)
    assert one_hot(np.zeros((0,), np.int32), 4).shape == (0, 4)
