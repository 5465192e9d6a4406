import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.baselines.character_ngram import (
    bits_per_character,
    distribution,
    fit,
    probabilities,
    unigram_bits_per_character,
)

corpora = st.lists(st.text(alphabet="abcd", min_size=1, max_size=40), min_size=1, max_size=4)
contexts = st.text(alphabet="abcdx", max_size=5)


class NaiveKneserNey:
    """Interpolated modified Kneser–Ney as Chen and Goodman write it, with dictionaries."""

    def __init__(self, documents: list[str], context_length: int) -> None:
        self.characters = sorted(set("".join(documents)))
        self.context_length = context_length
        longest = Counter(
            (tuple(padded[i : i + context_length]), padded[i + context_length])
            for padded in (["<s>"] * context_length + list(text) for text in documents)
            for i in range(len(padded) - context_length)
        )
        counts = [longest]
        for _ in range(context_length):
            counts.insert(0, Counter((history[1:], last) for history, last in counts[0]))
        self.levels = []
        for level in counts:
            by_context: dict[tuple[str, ...], dict[str, int]] = defaultdict(dict)
            for (history, last), count in level.items():
                by_context[history][last] = count
            self.levels.append((by_context, self.discounts(list(level.values()))))

    @staticmethod
    def discounts(counts: list[int]) -> list[float]:
        n = [sum(count == i for count in counts) for i in range(5)]
        result = [0.0]
        for i in (1, 2, 3):
            known = n[1] + 2 * n[2] > 0 and n[i] > 0
            value = i - (i + 1) * n[1] / (n[1] + 2 * n[2]) * n[i + 1] / n[i] if known else 0.0
            result.append(value if 0 < value <= i else 0.5)
        return result

    def probability(self, history: tuple[str, ...], last: str) -> float:
        uniform = 1 / (len(self.characters) + 1)
        below = self.probability(history[1:], last) if history else uniform
        by_context, discounts = self.levels[len(history)]
        if history not in by_context:
            return below
        here = by_context[history]
        released = sum(discounts[min(count, 3)] for count in here.values())
        count = here.get(last, 0)
        return (count - discounts[min(count, 3)] + released * below) / sum(here.values())

    def of_text(self, text: str) -> list[float]:
        padded = ["<s>"] * self.context_length + list(text)
        return [
            self.probability(
                tuple(padded[i : i + self.context_length]), padded[i + self.context_length]
            )
            for i in range(len(text))
        ]


@given(corpora, contexts, st.integers(0, 3))
def test_probabilities_sum_to_one_for_seen_and_unseen_contexts(documents, context, length):
    model = fit(documents, length)
    result = distribution(model, context)
    assert result.shape == (len(set("".join(documents))) + 1,)
    assert np.all(result > 0)
    assert math.isclose(result.sum(), 1, rel_tol=1e-12)


@given(corpora, st.text(alphabet="abcdx", min_size=1, max_size=20), st.integers(0, 3))
def test_it_is_the_textbook_model(documents, held_out, length):
    naive = NaiveKneserNey(documents, length).of_text(held_out)
    np.testing.assert_allclose(probabilities(fit(documents, length), [held_out]), naive, rtol=1e-12)


@given(corpora, st.text(alphabet="abcd", max_size=6), st.integers(0, 3))
def test_a_distribution_holds_the_probability_of_each_next_character(documents, context, length):
    model = fit(documents, length)
    result = distribution(model, context)
    for character, probability in zip(model.characters, result, strict=False):
        assert probabilities(model, [context + character])[-1] == probability


def test_a_unigram_model_of_a_long_text_scores_its_entropy():
    text = "aaab" * 5000
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert unigram_bits_per_character([text], [text]) == pytest.approx(entropy, abs=1e-3)
    assert bits_per_character(fit([text], 3), [text]) < 0.01


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="documents: got no text"):
        fit(["", ""])
    with pytest.raises(ValueError, match="documents: got no text"):
        bits_per_character(fit(["ab"]), [])
    with pytest.raises(ValueError, match="context_length: got 40 with 2 distinct characters"):
        fit(["ab"], 40)
