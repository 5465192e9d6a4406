from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import assert_close

from rnnjax.layers.attention import (
    AdditiveAttentionParams,
    GeneralAttentionParams,
    additive,
    attend,
    dot,
    general,
    init_additive_attention,
    init_general_attention,
    lengths_to_mask,
    prepare_memory,
)

N, S, B, Q, K, A, D = 3, 5, 4, 2, 6, 7, 8
LENGTHS = np.array([5, 0, 3, 1])
DTYPE = "float64"


def _normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


KEYS, VALUES, QUERIES = _normal(0, S, B, K), _normal(1, S, B, D), _normal(2, N, B, Q)


@pytest.fixture(scope="module")
def mask():
    return lengths_to_mask(LENGTHS, S)


# name -> attention, parameters, queries, and the score of one query and one key in NumPy
ATTENTIONS = {
    "additive": (
        additive,
        AdditiveAttentionParams(_normal(3, Q, A), _normal(4, K, A), _normal(5, A)),
        QUERIES,
        lambda p, q, k: np.tanh(q @ p.w_query + k @ p.w_key) @ p.v,
    ),
    "general": (
        general,
        GeneralAttentionParams(_normal(3, Q, K)),
        QUERIES,
        lambda p, q, k: q @ p.w @ k,
    ),
    "dot": (dot, None, _normal(6, N, B, K), lambda p, q, k: q @ k),
}


@partial(jax.jit, static_argnums=0)
def run(name, params, queries, keys, values, mask):
    attention = ATTENTIONS[name][0]
    memory = prepare_memory(attention, params, keys, values, mask)
    return attend(attention, params, queries, memory)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_it_is_a_loop_written_out_and_nothing_leaks_from_what_is_masked(name, mask):
    """Values against NumPy; values and gradients are the same with NaN in what is masked."""
    _, params, queries, score = ATTENTIONS[name]

    @jax.jit
    def with_gradients(*arguments):
        def scalar(params, queries, keys, values):
            out = run(name, params, queries, keys, values, mask)
            return sum(jnp.sum(jnp.sin(leaf + leaf**2)) for leaf in out), out

        return jax.value_and_grad(scalar, (0, 1, 2, 3), has_aux=True)(*arguments)

    clean = with_gradients(params, queries, KEYS, VALUES)
    own = jax.tree.map(np.asarray, params)
    weights, context = np.zeros((N, S, B)), np.zeros((N, B, D))
    for n in range(N):
        for b, length in enumerate(LENGTHS):
            scores = [
                score(own, np.asarray(queries[n, b]), np.asarray(KEYS[s, b])) for s in range(S)
            ]
            exponentials = np.exp(scores[:length])
            weights[n, :length, b] = exponentials / exponentials.sum()
            context[n, b] = weights[n, :, b] @ np.asarray(VALUES[:, b])
    assert_close(clean[0][1], (context, weights), DTYPE)

    spoil = np.where(np.asarray(mask)[..., None], 1, np.nan)
    spoiled = with_gradients(params, queries, KEYS * spoil, VALUES * spoil)
    assert_close(spoiled, clean, DTYPE)
    assert not np.asarray(clean[1][2])[~np.asarray(mask)].any()


@pytest.mark.parametrize("name", ["additive", "dot"])
def test_many_queries_are_single_ones_in_a_loop_and_batches_are_rows(name, mask):
    attention, params, queries, _ = ATTENTIONS[name]

    @jax.jit
    def every_way(queries, keys, values, mask):
        memory = prepare_memory(attention, params, keys, values, mask)
        at_once = attend(attention, params, queries, memory)
        _, one_by_one = jax.lax.scan(
            lambda carry, query: (carry, attend(attention, params, query, memory)), None, queries
        )
        two_axes = run(
            name,
            params,
            queries.reshape(N, 2, 2, -1),
            keys.reshape(S, 2, 2, -1),
            values.reshape(S, 2, 2, -1),
            mask.reshape(S, 2, 2),
        )
        row = run(name, params, queries[:, 2], keys[:, 2], values[:, 2], mask[:, 2])
        return at_once, one_by_one, two_axes, row

    (context, weights), one_by_one, two_axes, row = every_way(queries, KEYS, VALUES, mask)
    assert_close(one_by_one, (context, weights), DTYPE)
    expected = context.reshape(N, 2, 2, D), weights.reshape(N, S, 2, 2)
    assert_close(two_axes, expected, DTYPE)
    assert_close(row, (context[:, 2], weights[..., 2]), DTYPE)


def test_without_mask_and_values_all_keys_are_attended_to_and_averaged():
    everything = jnp.ones((S, B), bool)
    actual = run("dot", None, ATTENTIONS["dot"][2], KEYS, None, None)
    assert_close(actual, run("dot", None, ATTENTIONS["dot"][2], KEYS, KEYS, everything), DTYPE)


def test_large_scores_choose_one_key(mask):
    """No overflow: the weight goes to the best of what is not masked."""
    queries = 1e4 * ATTENTIONS["dot"][2]
    context, weights = run("dot", None, queries, KEYS, VALUES, mask)
    scores = np.einsum("nbk,sbk->nsb", queries, KEYS)
    best = np.where(np.asarray(mask), scores, -np.inf).argmax(axis=1)
    for b in (0, 2, 3):
        np.testing.assert_array_equal(np.asarray(weights)[..., b].argmax(axis=1), best[:, b])
        np.testing.assert_allclose(context[:, b], np.asarray(VALUES)[best[:, b], b], rtol=1e-12)


def test_concatenation_is_additive():
    """Luong's third score, from the weights of the additive one."""
    _, params, queries, _ = ATTENTIONS["additive"]
    _, weights = run("additive", params, queries, KEYS, VALUES, None)
    both = np.concatenate(
        [np.broadcast_to(queries[:, None], (N, S, B, Q)), np.broadcast_to(KEYS, (N, S, B, K))], -1
    )
    w = np.concatenate([params.w_query, params.w_key])
    scores = np.exp(np.tanh(both @ w) @ np.asarray(params.v))
    assert_close(weights, scores / scores.sum(axis=1, keepdims=True), DTYPE)


def test_sixteen_bits_are_summed_in_thirty_two(mask):
    _, params, queries, _ = ATTENTIONS["additive"]  # parameters in float64
    halves = [a.astype(jnp.bfloat16) for a in (queries, KEYS, VALUES)]
    q, k, v = (a.astype(jnp.float64) for a in halves)
    expected = run("additive", params, q, k, v, mask)
    q, k, v = halves
    actual = run("additive", params, q, k, v, mask)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in actual)
    assert_close(actual, expected, "bfloat16")

    # A sum of so many parts ends early in bfloat16: 256 + 1 = 256.
    ones = jnp.ones((4096, 1), jnp.bfloat16)
    context, weights = run("dot", None, ones[0], ones, ones, None)
    assert float(context[0]) == 1
    np.testing.assert_array_equal(weights.astype(jnp.float32), 1 / 4096)


def test_weights_begin_with_glorots_variance_and_bound():
    params = init_additive_attention(jax.random.key(0), 200, 100, 300)
    last = init_general_attention(jax.random.key(1), 150, 250)
    matrices = [(params.w_query, 500), (params.w_key, 400), (params.v[:, None], 301)]
    for matrix, fans in (*matrices, (last.w, 400)):
        assert abs(np.asarray(matrix)).max() <= np.sqrt(6 / fans)
        np.testing.assert_allclose(np.var(matrix), 2 / fans, rtol=6 / np.sqrt(matrix.size))


def test_the_mask_of_lengths():
    expected = [[1, 0, 1, 1], [1, 0, 1, 0], [1, 0, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0]]
    np.testing.assert_array_equal(lengths_to_mask(LENGTHS, S), np.array(expected, bool))
    np.testing.assert_array_equal(lengths_to_mask(np.uint8(2), 3), [True, True, False])


def test_bad_arguments_are_refused(mask):
    key = jax.random.key(0)
    params = init_additive_attention(key, Q, K, A, dtype=DTYPE)
    memory = prepare_memory(additive, params, KEYS)
    with pytest.raises(ValueError, match="attention_size: got 0, expected an integer"):
        init_additive_attention(key, Q, K, 0)
    with pytest.raises(ValueError, match=r"keys: got shape \(5, 4, 2\), expected \(S, \*B, 6\)"):
        prepare_memory(additive, params, KEYS[..., :2])
    with pytest.raises(ValueError, match=r"values: got shape \(4, 4, 8\), expected \(5, 4\)"):
        prepare_memory(additive, params, KEYS, VALUES[1:])
    with pytest.raises(TypeError, match="values: got dtype float32, expected float64"):
        prepare_memory(additive, params, KEYS, VALUES.astype(jnp.float32))
    with pytest.raises(ValueError, match=r"mask: got shape \(4, 5\), expected \(5, 4\) \(S, \*B\)"):
        prepare_memory(additive, params, KEYS, mask=mask.T)
    with pytest.raises(TypeError, match="mask: got dtype int32, expected bool"):
        prepare_memory(additive, params, KEYS, mask=mask.astype(jnp.int32))
    with pytest.raises(ValueError, match=r"query: got shape \(2, 2\), expected \(\.\.\., 4, 2\)"):
        attend(additive, params, QUERIES[0, :2], memory)
    with pytest.raises(ValueError, match=r"query: got shape \(2,\), expected \(\.\.\., 4, 2\)"):
        attend(additive, params, QUERIES[0, 0], memory)
    with pytest.raises(ValueError, match=r"query: got shape \(4, 2\), expected \(\.\.\., 4, 6\)"):
        attend(dot, None, QUERIES[0], prepare_memory(dot, None, KEYS))
    with pytest.raises(TypeError, match="query: got dtype float32, expected float64"):
        attend(additive, params, QUERIES.astype(jnp.float32), memory)
    with pytest.raises(ValueError, match="lengths: got 6, expected values within 0 … 5"):
        lengths_to_mask(np.array([6, 1]), S)
    with pytest.raises(TypeError, match="lengths: got dtype float64, expected an integer dtype"):
        lengths_to_mask(np.ones(2), S)
