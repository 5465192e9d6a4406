"""Beam search against the search of everything, and against greedy search."""

from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.decoding.beam_search import beam_search

STATES, V, END, LENGTH, ROWS = 7, 4, 2, 4, 3


def step_of(table):
    """A machine whose logits depend on all that it read."""

    def step(state, token):
        state = (3 * state + token + 1) % STATES
        return state, table[state]

    return step


found = jax.jit(
    lambda table, beam_width, exponent, count=1: beam_search(
        step_of(table),
        jnp.arange(ROWS, dtype=jnp.int32),
        jnp.zeros(ROWS, jnp.int32),
        LENGTH,
        beam_width=beam_width,
        end_token=END,
        length_exponent=exponent,
        count=count,
    ),
    static_argnums=(1, 2, 3),
)


def table_of(seed):
    return np.random.default_rng(seed).normal(0, 2, (STATES, V))


def log_probability(table, row, tokens):
    """Of tokens up to the end token, or up to the last."""
    predictions = table - np.log(np.exp(table).sum(-1, keepdims=True))
    state, last, total = row, 0, 0.0
    for token in tokens:
        state = (3 * state + last + 1) % STATES
        total, last = total + predictions[state, token], token
    return total


def all_sequences():
    others = [token for token in range(V) if token != END]
    for length in range(1, LENGTH + 1):
        for tokens in product(others, repeat=length - 1):
            yield (*tokens, END)
    yield from product(others, repeat=LENGTH)


def exhaustive(table, row, exponent):
    """All sequences with their scores, best first."""
    scored = [
        (log_probability(table, row, tokens) / len(tokens) ** exponent, tokens)
        for tokens in all_sequences()
    ]
    return sorted(scored, reverse=True)


def greedy(table, row):
    tokens, state, last = [], row, 0
    while len(tokens) < LENGTH and END not in tokens:
        state = (3 * state + last + 1) % STATES
        last = int(table[state].argmax())
        tokens.append(last)
    return tuple(tokens)


def as_tuple(hypotheses, row, place=0):
    length = int(hypotheses.lengths[row, place])
    return tuple(int(token) for token in hypotheses.tokens[:length, row, place])


@pytest.mark.parametrize("exponent", [0.0, 0.7, 1.5])
def test_a_beam_that_holds_everything_finds_the_best_few(exponent):
    for seed in range(8):
        table = table_of(seed)
        hypotheses = found(table, (V - 1) ** LENGTH, exponent, 3)
        for row in range(ROWS):
            best = exhaustive(table, row, exponent)[:3]
            assert [as_tuple(hypotheses, row, place) for place in range(3)] == [t for _, t in best]
            np.testing.assert_allclose(hypotheses.scores[row], [s for s, _ in best], rtol=1e-5)


@pytest.mark.parametrize("beam_width", [1, 2, 3])
def test_a_narrow_beam_is_never_below_greedy_search(beam_width):
    better = 0
    for seed in range(60):
        table = table_of(seed)
        hypotheses = found(table, beam_width, 0.7)
        for row in range(ROWS):
            tokens, of_greedy = as_tuple(hypotheses, row), greedy(table, row)
            actual = log_probability(table, row, tokens)
            np.testing.assert_allclose(hypotheses.log_probabilities[row, 0], actual, rtol=1e-5)
            np.testing.assert_allclose(
                hypotheses.scores[row, 0], actual / len(tokens) ** 0.7, rtol=1e-5
            )
            least = log_probability(table, row, of_greedy) / len(of_greedy) ** 0.7
            assert hypotheses.scores[row, 0] >= least - 1e-5
            better += float(hypotheses.scores[row, 0]) > least + 1e-3
            assert np.all(np.asarray(hypotheses.tokens)[len(tokens) :, row] == END)
    assert better > 0


def test_more_hypotheses_than_there_are_have_no_probability():
    table = jnp.zeros((STATES, 2))  # an end token, 1, and one other
    hypotheses = beam_search(
        step_of(table),
        jnp.zeros(1, jnp.int32),
        np.array([0]),
        2,
        beam_width=4,
        end_token=1,
        count=5,
    )
    assert np.isfinite(hypotheses.scores[0]).tolist() == [True] * 3 + [False] * 2


def test_the_search_ends_when_nothing_can_overtake():
    table = np.full((STATES, V), -50.0)
    table[:, END] = 50.0
    steps = []

    def step(state, token):
        jax.debug.callback(lambda: steps.append(1))
        return step_of(jnp.asarray(table))(state, token)

    hypotheses = beam_search(
        step, jnp.zeros(1, jnp.int32), np.array([0]), 100, beam_width=3, end_token=END
    )
    assert int(hypotheses.lengths[0, 0]) == 1
    jax.effects_barrier()
    assert len(steps) == 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"beam_width": 0}, ValueError, "beam_width: got 0, expected an integer of at least 1"),
        ({"count": 0}, ValueError, "count: got 0"),
        ({"length": 0}, ValueError, "length: got 0"),
        ({"length_exponent": -1.0}, ValueError, "length_exponent: got -1.0, expected at least 0"),
        ({"end_token": V}, ValueError, "end_token: got 4, expected 0 … 3"),
        ({"first_token": np.zeros(3)}, TypeError, "first_token: got dtype float64, expected an in"),
        ({"first_token": np.array(0)}, ValueError, r"first_token: got shape \(\), expected \(N,\)"),
    ],
)
def test_bad_arguments_are_refused(change, error, message):
    arguments: dict[str, Any] = {
        "first_token": np.zeros(3, int),
        "length": 2,
        "beam_width": 2,
        "end_token": END,
    } | change
    state = jnp.arange(3, dtype=jnp.int32)
    with pytest.raises(error, match=message):
        beam_search(step_of(jnp.zeros((STATES, V))), state, **arguments)
