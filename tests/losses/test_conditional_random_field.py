"""Against the sum over all K^T sequences of tags, one by one, in NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import assert_close

from rnnjax.decoding.viterbi import viterbi
from rnnjax.losses.conditional_random_field import (
    ConditionalRandomFieldParams,
    conditional_random_field_loss,
    forbid,
    init_conditional_random_field,
    log_partition,
    marginals,
    sequence_score,
)
from rnnjax.losses.cross_entropy import cross_entropy_of_sequences, weights_of_lengths

T, K = 5, 3
LENGTHS = np.array([5, 0, 1, 2, 3, 4])
B = len(LENGTHS)
VALID = np.arange(T)[:, None] < LENGTHS
# Tag 2 may not come first nor follow tag 0; tag 1 may not be the last.
ALLOWED = {
    "transitions": np.array([[1, 1, 0], [1, 1, 1], [1, 1, 1]], bool),
    "start": np.array([1, 1, 0], bool),
    "end": np.array([1, 0, 1], bool),
}


def drawn(*shape, seed):
    return np.random.default_rng(seed).normal(size=shape)


PARAMS = ConditionalRandomFieldParams(
    jnp.asarray(2 * drawn(K, K, seed=0)),
    jnp.asarray(drawn(K, seed=1)),
    jnp.asarray(drawn(K, seed=2)),
)
SCORES = 2 * drawn(T, B, K, seed=3)
TAGS = np.random.default_rng(4).integers(0, K, (T, B))


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """What is computed does not depend on how hard XLA tries; how long the tests take does."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def all_sequences(length):
    return list(itertools.product(range(K), repeat=length))


def score_of(params, scores, tags):
    """The definition, term by term, of one row without padding."""
    if not len(tags):
        return 0.0
    transitions, start, end = map(np.asarray, params)
    total = start[tags[0]] + end[tags[-1]]
    total += sum(scores[t][tag] for t, tag in enumerate(tags))
    return total + sum(transitions[pair] for pair in itertools.pairwise(tags))


@jax.jit
def everything(params, scores, tags, lengths):
    """All functions and the gradient of the loss, compiled once for all tests."""

    def loss(params, scores):
        return jnp.sum(conditional_random_field_loss(params, scores, tags, lengths=lengths))

    return {
        "score": sequence_score(params, scores, tags, lengths=lengths),
        "log_partition": log_partition(params, scores, lengths=lengths),
        "loss": conditional_random_field_loss(params, scores, tags, lengths=lengths),
        "marginals": marginals(params, scores, lengths=lengths),
        "viterbi": viterbi(params, scores, lengths=lengths),
        "gradient": jax.grad(loss, argnums=(0, 1))(params, scores),
    }


@pytest.fixture(scope="module", params=["all allowed", "some forbidden"])
def params(request):
    return PARAMS if request.param == "all allowed" else forbid(PARAMS, **ALLOWED)


def test_it_is_the_sum_over_all_sequences_for_each_length(params):
    found = everything(params, SCORES, TAGS, LENGTHS)
    for b, length in enumerate(LENGTHS):
        row = SCORES[:length, b]
        sequences = all_sequences(length)
        scores = np.array([score_of(params, row, tags) for tags in sequences])
        weights = np.exp(scores)
        expected = {
            "log_partition": np.log(weights.sum()),
            "score": score_of(params, row, TAGS[:length, b]),
        }
        expected["loss"] = expected["log_partition"] - expected["score"]
        for name, value in expected.items():
            np.testing.assert_allclose(found[name][b], value, rtol=1e-12, atol=1e-13, err_msg=name)
        one_hot = np.eye(K)[np.array(sequences, int).reshape(len(sequences), length)]
        probable = np.einsum("n,ntk->tk", weights / weights.sum(), one_hot)
        np.testing.assert_allclose(found["marginals"][:length, b], probable, atol=1e-13)
        np.testing.assert_array_equal(found["marginals"][length:, b], 0)

        tags, best = found["viterbi"]
        np.testing.assert_array_equal(tags[:length, b], sequences[np.argmax(scores)])
        np.testing.assert_array_equal(tags[length:, b], 0)
        np.testing.assert_allclose(best[b], scores.max(), rtol=1e-12)


def test_probabilities_of_all_sequences_add_up_to_one(params):
    sequences = np.array(all_sequences(T)).T
    rows = np.repeat(SCORES[:, :1], sequences.shape[1], axis=1)
    losses = np.asarray(jax.jit(conditional_random_field_loss)(params, rows, sequences))
    assert losses.min() >= 0
    np.testing.assert_allclose(np.exp(-losses).sum(), 1, rtol=1e-12)


def test_the_gradient_is_expected_counts_less_the_counts(params):
    """Lafferty et al.'s equation: ∂L/∂θ = E[count of θ] − its count in the tags."""
    tags = np.where(VALID, viterbi(params, SCORES, lengths=LENGTHS)[0], 0)  # allowed ones
    of_params, of_scores = everything(params, SCORES, tags, LENGTHS)["gradient"]
    expected = [np.zeros((K, K)), np.zeros(K), np.zeros(K)]
    for b, length in enumerate(LENGTHS):
        if not length:
            continue
        row, sequences = SCORES[:length, b], all_sequences(length)
        weights = np.exp([score_of(params, row, one) for one in sequences])
        counted = [(p, s) for p, s in zip(weights / weights.sum(), sequences, strict=True)]
        for p, one in [*counted, (-1.0, tags[:length, b])]:
            for pair in itertools.pairwise(one):
                expected[0][pair] += p
            expected[1][one[0]] += p
            expected[2][one[-1]] += p
    for name, gradient, counts in zip(params._fields, of_params, expected, strict=True):
        np.testing.assert_allclose(gradient, counts, atol=1e-12, err_msg=name)
    of_tags = np.eye(K)[tags] * VALID[..., None]
    found = everything(params, SCORES, tags, LENGTHS)["marginals"]
    np.testing.assert_allclose(of_scores, found - of_tags, atol=1e-12)


def test_nothing_leaks_out_of_padding(params):
    clean = everything(params, SCORES, np.where(VALID, TAGS, 0), LENGTHS)
    scores = np.where(VALID[..., None], SCORES, np.nan)
    assert_close(everything(params, scores, np.where(VALID, TAGS, -7), LENGTHS), clean, "float64")


def test_without_transitions_it_is_the_softmax_of_each_step():
    params = init_conditional_random_field(K, dtype=jnp.float64)
    found = everything(params, SCORES, TAGS, LENGTHS)
    weights = weights_of_lengths(LENGTHS, T)
    expected = cross_entropy_of_sequences(SCORES, TAGS, weights)
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-12, atol=1e-13)
    softmax = np.asarray(jax.nn.softmax(SCORES)) * VALID[..., None]
    np.testing.assert_allclose(found["marginals"], softmax, atol=1e-13)
    np.testing.assert_array_equal(found["viterbi"][0], SCORES.argmax(-1) * VALID)


def test_what_is_forbidden_has_no_probability_and_no_gradient():
    params = forbid(PARAMS, **ALLOWED)
    bad = np.zeros((T, B), int)
    bad[0] = 2  # may not come first
    loss = everything(params, SCORES, bad, LENGTHS)["loss"]
    np.testing.assert_array_equal(np.isposinf(loss), LENGTHS > 0)

    def total(scores_of_tags):
        return jnp.sum(log_partition(forbid(scores_of_tags, **ALLOWED), SCORES, lengths=LENGTHS))

    gradient = jax.grad(total)(PARAMS)
    for name, of_scores in gradient._asdict().items():
        assert np.isfinite(of_scores).all(), name
        np.testing.assert_array_equal(np.asarray(of_scores)[~ALLOWED[name]], 0)
    nothing = forbid(PARAMS, start=np.zeros(K, bool))
    of_nothing = everything(nothing, SCORES, TAGS, LENGTHS)["log_partition"]
    np.testing.assert_array_equal(np.isneginf(of_nothing), LENGTHS > 0)


def test_scores_may_be_huge_and_of_low_precision():
    huge = everything(PARAMS, 1e4 * SCORES, TAGS, LENGTHS)
    assert np.isfinite(huge["loss"]).all()
    assert np.isfinite(huge["gradient"][1]).all()
    low = jnp.asarray(SCORES, jnp.bfloat16)
    narrow = jax.tree.map(lambda array: array.astype(jnp.bfloat16), PARAMS)
    losses = jax.jit(
        lambda *given: [
            conditional_random_field_loss(params, scores, TAGS, lengths=LENGTHS)
            for params, scores in (given, jax.tree.map(lambda a: a.astype(jnp.float32), given))
        ]
    )(narrow, low)
    assert losses[0].dtype == jnp.float32
    np.testing.assert_array_equal(*losses)


def test_batch_axes_may_be_any():
    several = everything(PARAMS, SCORES, TAGS, LENGTHS)

    @jax.jit
    def with_two_axes_and_with_none(scores, tags, lengths):
        two = scores.reshape(T, 2, 3, K), tags.reshape(T, 2, 3)
        loss = conditional_random_field_loss(PARAMS, *two, lengths=lengths.reshape(2, 3))
        return loss, viterbi(PARAMS, scores[:, 0])

    loss, (tags, best) = with_two_axes_and_with_none(SCORES, TAGS, LENGTHS)
    assert loss.shape == (2, 3)
    np.testing.assert_allclose(loss.reshape(-1), several["loss"], rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(tags, several["viterbi"][0][:, 0])
    assert best.shape == ()


def test_a_field_learns_what_follows_what():
    """Tags 0, 1, 2, 0, … with steps that say nothing: the transitions must carry it."""
    tags = np.tile(np.array([0, 1, 2]), 2)[:T, None]
    silent = np.zeros((T, 1, K))

    def loss(params):
        return jnp.sum(conditional_random_field_loss(params, silent, tags))

    @jax.jit
    def trained(params):
        def descend(_, params):
            return jax.tree.map(lambda p, g: p - g, params, jax.grad(loss)(params))

        params = jax.lax.fori_loop(0, 60, descend, params)
        return loss(params), viterbi(params, silent)[0]

    nats, best = trained(init_conditional_random_field(K, dtype=jnp.float64))
    assert nats < 0.1
    np.testing.assert_array_equal(best, tags)


def test_bad_arguments_are_refused():
    for scores, tags, error, message in (
        (SCORES[..., :2], TAGS, ValueError, r"scores: got shape \(5, 6, 2\), expected \(T, \*B, 3"),
        (SCORES[:0], TAGS[:0], ValueError, r"with T at least 1"),
        (SCORES.astype(int), TAGS, TypeError, "scores: got int64, expected a floating dtype"),
        (SCORES, TAGS[:, :2], ValueError, r"tags: got shape \(5, 2\), expected \(5, 6\)"),
        (SCORES, TAGS * 1.0, TypeError, "tags: got dtype float64, expected an integer dtype"),
        (SCORES, TAGS + K, ValueError, "tags: got values from 3 to 5, expected 0 … 2"),
    ):
        with pytest.raises(error, match=message):
            conditional_random_field_loss(PARAMS, scores, tags)
    with pytest.raises(ValueError, match=r"lengths: got shape \(1,\), expected \(6,\)"):
        log_partition(PARAMS, SCORES, lengths=np.array([3]))
    with pytest.raises(ValueError, match="lengths: got values from 0 to 6, expected 0 … 5"):
        viterbi(PARAMS, SCORES, lengths=LENGTHS + (LENGTHS == 5))
    with pytest.raises(TypeError, match="start: got dtype int64, expected bool"):
        forbid(PARAMS, start=np.ones(K, int))
    with pytest.raises(ValueError, match=r"end: got shape \(2,\), expected \(3,\)"):
        forbid(PARAMS, end=np.ones(2, bool))
    with pytest.raises(ValueError, match="tag_count: got 0, expected an integer of at least 1"):
        init_conditional_random_field(0)
    outside = everything(PARAMS, SCORES, np.where(np.arange(B) == 0, K, TAGS), LENGTHS)["loss"]
    np.testing.assert_array_equal(np.isnan(outside), np.arange(B) == 0)
