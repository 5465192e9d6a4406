import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.layers.embedding import embed, init_embedding
from rnnjax.text.encoding import one_hot

IDS = jnp.array([[3, 0], [1, 3]])


@pytest.fixture(scope="module")
def params():
    return init_embedding(jax.random.key(0), 4, 3, dtype=jnp.float64)


def test_a_lookup_is_the_product_with_a_one_hot_vector_values_and_gradients(params):
    table = params.table
    np.testing.assert_array_equal(embed(params, IDS), one_hot(IDS, 4, jnp.float64) @ table)
    by_lookup = jax.grad(lambda p: jnp.sum(embed(p, IDS) ** 2))(params).table
    by_product = jax.grad(lambda e: jnp.sum((one_hot(IDS, 4, jnp.float64) @ e) ** 2))(table)
    np.testing.assert_allclose(by_lookup, by_product, rtol=1e-14)


def test_an_id_outside_is_refused_when_known_and_loud_under_jit(params):
    for outside in (-1, 4):
        bad = IDS.at[0, 1].set(outside)
        with pytest.raises(ValueError, match=r"ids: got values from .* expected 0 … 3"):
            embed(params, bad)
        vectors = np.asarray(jax.jit(embed)(params, bad))
        assert np.isnan(vectors[0, 1]).all()
        np.testing.assert_array_equal(vectors[1], params.table[np.array([1, 3])])


def test_vectors_begin_with_norm_about_one():
    table = init_embedding(jax.random.key(1), 50, 200).table
    np.testing.assert_allclose(np.linalg.norm(table, axis=-1).mean(), 1, rtol=0.02)


def test_bad_arguments_are_refused(params):
    with pytest.raises(TypeError, match="ids: got dtype float64, expected an integer dtype"):
        embed(params, jnp.zeros(2))
    with pytest.raises(ValueError, match="embedding_size: got -1, expected an integer"):
        init_embedding(jax.random.key(0), 4, -1)
