import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.baselines.word_ngram import fit, perplexity, probabilities

V = 4
sentences = st.lists(st.integers(0, V - 1), min_size=1, max_size=9)
corpora = st.lists(sentences, min_size=1, max_size=6)


def arrays(rows):
    return [np.asarray(row, np.int32) for row in rows]


class NaiveKneserNey:
    """Interpolated modified Kneser–Ney as the textbook writes it, with dictionaries."""

    def __init__(self, rows: list[list[int]], order: int) -> None:
        occurrences: list[Counter] = [Counter() for _ in range(order)]
        for row in rows:
            padded = ["<s>", *row]
            for end in range(1, len(padded)):
                for length in range(min(order, end + 1)):
                    occurrences[length][(*padded[end - length : end], padded[end])] += 1
        self.levels = []
        for length in range(order):
            counts = dict(occurrences[length])
            if length < order - 1:
                before = Counter(gram[1:] for gram in occurrences[length + 1])
                counts = {g: n if g[0] == "<s>" else before[g] for g, n in counts.items()}
            by_context = defaultdict(dict)
            for (*context, last), count in counts.items():
                by_context[tuple(context)][last] = count
            self.levels.append((by_context, self.discounts(list(counts.values()))))

    @staticmethod
    def discounts(counts: list[int]) -> list[float]:
        n = [sum(count == i for count in counts) for i in range(5)]
        result = [0.0]
        for i in (1, 2, 3):
            known = n[1] + 2 * n[2] > 0 and n[i] > 0
            value = i - (i + 1) * n[1] / (n[1] + 2 * n[2]) * n[i + 1] / n[i] if known else 0.0
            result.append(value if 0 < value <= i else 0.5)
        return result

    def probability(self, context: tuple, last: int) -> float:
        below = self.probability(context[1:], last) if context else 1 / V
        by_context, discounts = self.levels[len(context)]
        if context not in by_context:
            return below
        here = by_context[context]
        released = sum(discounts[min(count, 3)] for count in here.values())
        count = here.get(last, 0)
        return (count - discounts[min(count, 3)] + released * below) / sum(here.values())

    def of_sentence(self, row: list[int]) -> list[float]:
        padded, longest = ["<s>", *row], len(self.levels) - 1
        return [
            self.probability(tuple(padded[max(0, end - longest) : end]), padded[end])
            for end in range(1, len(padded))
        ]


@given(corpora, corpora, st.integers(1, 5))
def test_it_is_the_textbook_model(known, held_out, order):
    naive = NaiveKneserNey(known, order)
    expected = [p for row in held_out for p in naive.of_sentence(row)]
    found = probabilities(fit(arrays(known), V, order), arrays(held_out))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@given(corpora, st.lists(st.integers(0, V - 1), max_size=5), st.integers(1, 5))
def test_probabilities_sum_to_one_after_seen_and_unseen_words(known, context, order):
    model = fit(arrays(known), V, order)
    continued = arrays([[*context, word] for word in range(V)])
    last = probabilities(model, continued).reshape(V, -1)[:, -1]
    assert np.all(last > 0)
    assert math.isclose(last.sum(), 1, rel_tol=1e-12)


def test_a_known_period_surprises_a_longer_context_least():
    row = arrays([[0, 0, 1, 0, 0, 2] * 200])
    by_order = [perplexity(fit(row, V, order), row) for order in (1, 2, 4)]
    assert by_order[0] > 2.1 > by_order[1] > 1.1 > by_order[2]
    # A longer context than any sentence has is none.
    short = arrays([[1], [2, 3]])
    assert perplexity(fit(short, V, 9), short) == perplexity(fit(short, V, 2), short)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="documents: got no words, expected at least one"):
        fit([], V, 2)
    with pytest.raises(ValueError, match=r"documents: got ids from 0 to 4, expected 0\.\.3"):
        fit(arrays([[0, 4]]), V, 2)
    with pytest.raises(ValueError, match="order: got 0, expected at least 1"):
        fit(arrays([[0]]), V, 0)
    with pytest.raises(ValueError, match="documents: got no words"):
        probabilities(fit(arrays([[0]]), V, 2), arrays([[]]))
