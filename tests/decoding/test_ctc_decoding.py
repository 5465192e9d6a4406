"""Greedy and prefix beam decoding against every path and every labelling."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.ctc_paths import collapsed, probabilities_of_labellings

from rnnjax.decoding.ctc_greedy import ctc_greedy
from rnnjax.decoding.ctc_prefix_beam import LabelScorer, ctc_prefix_beam

T, V, K = 4, 3, 40  # there are fewer than 40 labellings of 4 steps: nothing is dropped
LENGTHS = np.array([4, 4, 2, 0])
LOGITS = np.random.default_rng(1).normal(0, 2, (T, len(LENGTHS), V))
PREDICTED = np.log(np.random.default_rng(2).dirichlet(np.ones(V), 5))  # of each state
ALPHA, BETA = 0.7, 0.3


def read(state, label):
    return (2 * state + label) % len(PREDICTED)


@partial(jax.jit, static_argnums=(0, 1))
def search(width, with_scorer, logits=LOGITS, alpha=ALPHA, beta=BETA):
    scorer = None
    if with_scorer:
        table = jnp.asarray(PREDICTED)

        def step(state, labels):
            state = read(state, labels)
            return state, table[state]

        scorer = LabelScorer(jnp.int32(3), table[3], step)
    return ctc_prefix_beam(
        logits,
        beam_width=width,
        lengths=LENGTHS,
        scorer=scorer,
        scorer_weight=alpha,
        label_bonus=beta if with_scorer else 0.0,
    )


def text_score(labels):
    """By hand: each label after those before, and the end in the place of the blank."""
    state, total = 3, 0.0
    for label in labels:
        total += PREDICTED[state, label]
        state = read(state, label)
    return ALPHA * (total + PREDICTED[state, 0]) + BETA * len(labels)


def found_in(result, row):
    """Labelling -> (log P, score), in the order of the result."""
    found = {}
    for k in range(result.scores.shape[1]):
        if result.log_probabilities[row, k] > -np.inf:
            count = int(result.lengths[row, k])
            labels = tuple(int(label) for label in result.labels[:count, row, k])
            assert (result.labels[count:, row, k] == -1).all()
            assert labels not in found
            found[labels] = float(result.log_probabilities[row, k]), float(result.scores[row, k])
    return found


@pytest.mark.parametrize("with_scorer", [False, True])
def test_a_beam_that_drops_nothing_is_the_search_of_everything(with_scorer):
    result = jax.tree.map(np.asarray, search(K, with_scorer))
    for row, length in enumerate(LENGTHS):
        every = probabilities_of_labellings(LOGITS[:length, row])
        found = found_in(result, row)
        assert set(found) == set(every)
        for labels, (log_probability, score) in found.items():
            np.testing.assert_allclose(log_probability, np.log(every[labels]), atol=1e-9)
            other = text_score(labels) if with_scorer else 0.0
            np.testing.assert_allclose(score, log_probability + other, atol=1e-9)
        scores = [score for _, score in found.values()]
        assert scores == sorted(scores, reverse=True)


def test_a_narrow_beam_never_counts_more_than_there_is():
    result = jax.tree.map(np.asarray, search(2, with_scorer=False))
    for row, length in enumerate(LENGTHS):
        every = probabilities_of_labellings(LOGITS[:length, row])
        for labels, (log_probability, _) in found_in(result, row).items():
            assert log_probability <= np.log(every[labels]) + 1e-9


def test_the_best_labelling_need_not_be_that_of_the_best_path():
    """Graves et al. (2006), figure 3: two paths to one labelling beat the best path."""
    logits = np.log(np.broadcast_to([0.6, 0.4, 1e-9], (T, len(LENGTHS), V)))
    assert collapsed(tuple(np.asarray(ctc_greedy(logits).path)[:2, 2])) == ()
    best = search(K, False, logits)
    assert int(best.lengths[2, 0]) == 1
    np.testing.assert_allclose(np.exp(best.log_probabilities[2, 0]), 1 - 0.36, rtol=1e-6)


def test_greedy_takes_the_best_path_and_chunks_give_what_the_whole_gives():
    found = jax.tree.map(np.asarray, ctc_greedy(LOGITS, lengths=LENGTHS))
    for row, length in enumerate(LENGTHS):
        path = LOGITS[:length, row].argmax(-1)
        np.testing.assert_array_equal(found.path[:length, row], path)
        assert tuple(found.path[found.said[:, row], row]) == collapsed(tuple(path))
        assert found.last[row] == (path[-1] if length else 0)
    for cut in range(T + 1):
        one = ctc_greedy(LOGITS[:cut])
        two = ctc_greedy(LOGITS[cut:], before=one.last)
        whole = ctc_greedy(LOGITS)
        np.testing.assert_array_equal(np.concatenate([one.said, two.said]), whole.said)
        np.testing.assert_array_equal(two.last, whole.last)


def test_what_they_refuse():
    with pytest.raises(TypeError, match="scores: got int"):
        ctc_greedy(LOGITS.astype(int))
    with pytest.raises(ValueError, match=r"scores: got shape \(4,\)"):
        ctc_greedy(LOGITS[:, 0, 0])
    with pytest.raises(ValueError, match=r"before: got shape \(3,\), expected \(4,\)"):
        ctc_greedy(LOGITS, before=np.zeros(3, int))
    with pytest.raises(ValueError, match=r"lengths: got values from 9 to 9"):
        ctc_greedy(LOGITS, lengths=np.full(4, 9))
    with pytest.raises(ValueError, match=r"lengths: got shape \(1,\)"):
        ctc_greedy(LOGITS, lengths=np.zeros(1, int))
    refused: list[tuple[Any, type[Exception], str]] = [
        ({"beam_width": 0}, ValueError, "beam_width: got 0"),
        ({"logits": LOGITS[0]}, ValueError, r"logits: got shape \(4, 3\)"),
        ({"logits": LOGITS.astype(int)}, TypeError, "logits: got int"),
        ({"lengths": np.zeros(2, int)}, ValueError, r"lengths: got shape \(2,\)"),
        (
            {"scorer": LabelScorer((), jnp.zeros(2), lambda state, labels: (state, labels))},
            ValueError,
            r"scorer: got first of \(2,\)",
        ),
    ]
    for options, kind, message in refused:
        with pytest.raises(kind, match=message):
            ctc_prefix_beam(**({"logits": LOGITS, "beam_width": 2} | options))
