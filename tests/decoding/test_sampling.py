from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.decoding.sampling import keep_top_k, keep_top_p, sample_token, sample_tokens

V, DRAWS = 6, 4000
# The 99.9 % quantile of χ² with 5 degrees of freedom; seeds are fixed, so nothing is left to luck.
CHI_SQUARE_5 = 20.52


@pytest.fixture(scope="module")
def logits():
    return jnp.array([0.3, -1.0, 1.7, 0.0, 0.9, -0.2], jnp.float64)


@partial(jax.jit, static_argnames="top_k")
def draw(key, logits, temperature, top_k=None, top_p=None, forbidden=None):
    """DRAWS independent tokens."""
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "forbidden": forbidden}
    return sample_token(key, jnp.broadcast_to(logits, (DRAWS, V)), **options)


def frequencies(tokens):
    return np.bincount(np.asarray(tokens).ravel(), minlength=V)


def subsets_that_reach(probabilities, p):
    """Sizes of all sets of tokens of probability at least p."""
    members = [[(subset >> v) & 1 for v in range(V)] for subset in range(1 << V)]
    return [sum(m) for m in members if np.dot(m, probabilities) >= p]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_are_those_of_the_tempered_softmax(logits, temperature):
    counts = frequencies(draw(jax.random.key(0), logits, temperature))
    expected = DRAWS * np.asarray(jax.nn.softmax(logits / temperature))
    assert ((counts - expected) ** 2 / expected).sum() < CHI_SQUARE_5


def test_filters_renormalise_what_they_keep(logits):
    # Tempered, tokens 2 and 4 have 0.364 + 0.213 = 0.577.
    for options, kept in (({"top_k": 3}, [0, 2, 4]), ({"top_p": 0.55}, [2, 4])):
        counts = frequencies(draw(jax.random.key(1), logits, 1.5, **options))
        assert set(np.flatnonzero(counts)) == set(kept)
        expected = DRAWS * np.asarray(jax.nn.softmax(logits[np.array(kept)] / 1.5))
        assert ((counts[kept] - expected) ** 2 / expected).sum() < CHI_SQUARE_5


def test_temperature_zero_top_1_and_a_tiny_top_p_are_greedy(logits):
    key = jax.random.key(2)
    for tokens in (
        draw(key, logits, 0.0),
        draw(key, logits, 0.0, top_p=1.0),
        draw(key, logits, 1e-300, top_p=0.9),
        draw(key, logits, 5.0, top_k=1),
        draw(key, logits, 5.0, top_p=1e-9),
    ):
        np.testing.assert_array_equal(tokens, 2)
    ties = jnp.array([1.0, 3.0, 3.0, 0.0, 3.0, 2.0])
    np.testing.assert_array_equal(draw(key, ties, 0.0), 1)
    np.testing.assert_array_equal(draw(key, ties, 1.0, top_k=1), 1)


def test_a_forbidden_token_is_never_drawn_not_even_greedily(logits):
    forbidden = jnp.arange(V) == 2
    tokens = draw(jax.random.key(3), logits.at[2].set(50.0), 1.0, forbidden=forbidden)
    counts = frequencies(tokens)
    assert counts[2] == 0
    expected = DRAWS * np.asarray(jax.nn.softmax(logits.at[2].set(-jnp.inf)))
    others = np.arange(V) != 2
    assert ((counts - expected)[others] ** 2 / expected[others]).sum() < CHI_SQUARE_5
    np.testing.assert_array_equal(draw(jax.random.key(3), logits, 0.0, None, 0.5, forbidden), 4)


def test_top_k_keeps_exactly_the_k_greatest_the_first_of_equals():
    rows = jnp.array([[1.0, 4.0, 2.0, 3.0, 0.0, -1.0], [7.0, 7.0, 1.0, 7.0, 7.0, 7.0]])
    kept = np.isfinite(keep_top_k(rows, 3))
    np.testing.assert_array_equal(kept[0], [False, True, True, True, False, False])
    np.testing.assert_array_equal(kept[1], [True, True, False, True, False, False])
    np.testing.assert_array_equal(keep_top_k(rows, V), rows)
    np.testing.assert_array_equal(np.asarray(keep_top_k(rows, 3))[kept], np.asarray(rows)[kept])


def test_top_p_keeps_the_smallest_set_that_reaches_p(logits):
    rows = jnp.stack([logits, logits[::-1] * 3, jnp.zeros(V), logits - 1000])
    keep = jax.jit(keep_top_p)
    for p in (1e-6, 0.2, 0.45, 0.7, 0.95, 0.9999):
        for kept, row in zip(keep(rows, p), rows, strict=True):
            probabilities = np.asarray(jax.nn.softmax(row))
            chosen = np.isfinite(kept)
            assert probabilities[chosen].sum() >= p - 1e-12
            assert chosen.sum() == min(subsets_that_reach(probabilities, p - 1e-12))
            assert probabilities[chosen].min() >= probabilities[~chosen].max(initial=0)


def test_top_p_of_one_keeps_even_what_float32_would_lose():
    logits = jnp.array([0.0, -5.0, -30.0, -60.0, -80.0, -100.0], jnp.float32)
    np.testing.assert_array_equal(keep_top_p(logits, 1.0), logits)


def counter_step(state, token):
    """A model that says: the sum of all tokens so far and one more, modulo V."""
    state = state + token
    return state, 40 * jax.nn.one_hot((state + 1) % V, V, dtype=jnp.float64)


def test_each_token_is_drawn_from_the_prediction_after_the_one_before():
    first = jnp.array([0, 1, 5], jnp.int32)
    state, tokens = sample_tokens(jax.random.key(0), counter_step, jnp.zeros_like(first), first, 5)
    sums, expected = np.zeros(3, int), [np.asarray(first)]
    for _ in range(5):
        sums = sums + expected[-1]
        expected.append((sums + 1) % V)
    np.testing.assert_array_equal(tokens, expected[1:])
    np.testing.assert_array_equal(state, sums)


def constant_step(state, token):
    logits = jnp.array([0.3, -1.0, 1.7, 0.0, 0.9, -0.2], jnp.float64)
    return state, jnp.broadcast_to(logits, (*token.shape, V))


def test_same_key_same_tokens_and_a_longer_sample_begins_with_the_shorter():
    @partial(jax.jit, static_argnums=1)
    def sample(key, length):
        return sample_tokens(key, constant_step, (), jnp.zeros(200, jnp.int32), length)[1]

    tokens = np.asarray(sample(jax.random.key(0), 8))
    np.testing.assert_array_equal(sample(jax.random.key(0), 8), tokens)
    np.testing.assert_array_equal(sample(jax.random.key(0), 3), tokens[:3])
    assert not np.array_equal(sample(jax.random.key(1), 8), tokens)
    # Independent along time and batch: pairs of neighbours have the product's frequencies.
    probabilities = np.asarray(jax.nn.softmax(constant_step((), jnp.int32(0))[1]))
    for left, right in ((tokens[:-1], tokens[1:]), (tokens[:, :-1], tokens[:, 1:])):
        same = (left == right).mean()
        expected = (probabilities**2).sum()
        assert abs(same - expected) < 4 * np.sqrt(expected / left.size)


def test_temperature_and_top_p_do_not_retrace():
    traces = 0

    @jax.jit
    def sample(key, temperature, top_p):
        nonlocal traces
        traces += 1
        options = {"temperature": temperature, "top_p": top_p}
        return sample_tokens(key, constant_step, (), jnp.int32(0), 4, **options)[1]

    for temperature in (0.0, 0.7, 1.3):
        sample(jax.random.key(0), temperature, 1 - temperature / 2)
    assert traces == 1


def test_bad_options_are_refused():
    def sample(**options):
        return sample_tokens(jax.random.key(0), constant_step, (), jnp.int32(0), **options)

    for options, message in (
        ({"temperature": -0.1}, "temperature: got -0.1, expected at least 0"),
        ({"temperature": float("nan")}, "temperature: got nan, expected at least 0"),
        ({"top_k": 0}, "top_k: got 0, expected an integer of at least 1"),
        ({"top_k": 7}, r"top_k: got 7, expected at most 6 \(V\)"),
        ({"top_p": 0.0}, r"top_p: got 0.0, expected within \(0, 1\]"),
        ({"top_p": 1.1}, r"top_p: got 1.1, expected within \(0, 1\]"),
        ({"length": 0}, "length: got 0, expected an integer of at least 1"),
        ({"forbidden": np.ones(V, bool)}, "forbidden: got every token, expected at least one"),
        ({"forbidden": np.zeros(2, bool)}, r"forbidden: got shape \(2,\), expected \(6,\) \(V,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            sample(**{"length": 2, **options})
    with pytest.raises(TypeError, match="forbidden: got dtype int64, expected bool"):
        sample(length=2, forbidden=np.zeros(V, np.int64))
    with pytest.raises(TypeError, match="first_token: got dtype float64, expected an integer"):
        sample_tokens(jax.random.key(0), constant_step, (), jnp.float64(0), 2)
