"""Word n-gram models of any order: interpolated modified Kneser–Ney, counted with NumPy.

Words are ids 0 … V−1 of a closed vocabulary, in which a rare word is UNK. A document is one
sentence, its END the last of its ids; each is predicted from its own beginning. Figures are those
of a word, UNK and END counted, and in nats where they are logarithms.

Why not a library's: `nltk.lm.KneserNeyInterpolated` goes through all contexts of the next higher
order for each word that it scores, of which a million words of text have some hundred thousand; it
also has one fixed discount for all counts. A test holds this model to the textbook's equations,
written out with dictionaries.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.baselines.character_ngram import discounts_of_counts


class ContextLevel(NamedTuple):
    """What is counted for contexts of k words. A context's id is its place among the sorted keys.

    The key of a context is (the id of the context without its first word) · (V + 1) + that first
    word; the key of a continuation is (the id of its context) · (V + 1) + the next word.
    """

    contexts: np.ndarray  # (C,) int64, sorted keys
    totals: np.ndarray  # (C,) float64, the sum of the counts of a context
    released: np.ndarray  # (C,) float64, the sum of its discounts
    continuations: np.ndarray  # (N,) int64, sorted keys
    discounted: np.ndarray  # (N,) float64, their counts less the discount


class WordNGram(NamedTuple):
    """P_k(w | h) = (n(hw) − D(n(hw)) + R(h) P_{k-1}(w | h')) / n(h), with P_{-1} = 1 / V.

    n counts at the longest context, and below it counts the distinct words before (Kneser–Ney); but
    where h starts with the beginning of a sentence, before which nothing can stand, n counts at
    every length. h' is h without its first word; R(h) is the sum of the discounts D in h; an
    unseen context passes P_{k-1} on. Each of P_k(. | h) sums to 1 over the V words.
    """

    vocabulary_size: int
    levels: tuple[ContextLevel, ...]  # contexts of 0, 1, … words


def fit(documents: Sequence[np.ndarray], vocabulary_size: int, order: int) -> WordNGram:
    """Count, with discounts from the counts of counts: nothing is tuned.

    Args:
        documents: arrays (n,) of ids 0 … V−1, a sentence each.
        vocabulary_size: V.
        order: the longest n-gram, that is one more than the longest context; 1 is the unigram.

    Raises:
        ValueError: there is no word, or an id or the order is out of range.

    References:
        Chen and Goodman (1998), An Empirical Study of Smoothing Techniques for Language Modeling,
        section 3; the beginning of a sentence as in the adjusted counts of Heafield et al. (2013),
        Scalable Modified Kneser-Ney Language Model Estimation.
    """
    if order < 1:
        raise ValueError(f"order: got {order}, expected at least 1")
    base = vocabulary_size + 1
    words, before = _words_and_positions(documents, vocabulary_size)
    contexts = np.zeros(len(words), np.int64)  # ids; of no words there is one context
    keys = [np.zeros(1, np.int64)]
    ids = [contexts]
    for length in range(1, order):
        reaches = before >= length - 1
        if not reaches.any():
            break  # no sentence is so long
        left = _word_before(words, before, length, vocabulary_size)
        found, inverse = np.unique((contexts * base + left)[reaches], return_inverse=True)
        contexts = np.full(len(words), -1, np.int64)
        contexts[reaches] = inverse
        keys.append(found)
        ids.append(contexts)

    levels: list[ContextLevel] = []
    above: np.ndarray | None = None  # keys of this level's continuations, one for each n-gram above
    for length in range(len(ids) - 1, -1, -1):
        # Counted as they occur: at the longest length, and where a sentence's beginning is reached.
        occurs = ids[length] >= 0 if above is None else before == length - 1
        own = (ids[length] * base + words)[occurs]
        all_keys = own if above is None else np.concatenate([own, above])
        continuations, counts = np.unique(all_keys, return_counts=True)
        levels.append(_level(keys[length], continuations, counts, base))
        # An n-gram counts once for the one that lacks its first word.
        parents = keys[length] // base
        above = parents[continuations // base] * base + continuations % base
    return WordNGram(vocabulary_size, tuple(reversed(levels)))


def probabilities(model: WordNGram, documents: Sequence[np.ndarray]) -> np.ndarray:
    """The probability of each word given those before it in its sentence: (words in all,) float64.

    Raises:
        ValueError: there is no word, or an id is out of range.
    """
    size, base = model.vocabulary_size, model.vocabulary_size + 1
    words, before = _words_and_positions(documents, size)
    result = np.full(len(words), 1 / size)
    contexts = np.zeros(len(words), np.int64)
    for length, level in enumerate(model.levels):
        if length:
            left = _word_before(words, before, length, size)
            reaches = (before >= length - 1) & (contexts >= 0)
            contexts = np.where(reaches, _places(level.contexts, contexts * base + left), -1)
        seen = contexts >= 0
        places = _places(level.continuations, contexts * base + words)
        discounted = np.where(seen & (places >= 0), level.discounted[places], 0.0)
        smoothed = (discounted + level.released[contexts] * result) / level.totals[contexts]
        result = np.where(seen, smoothed, result)
    return result


def perplexity(model: WordNGram, documents: Sequence[np.ndarray]) -> float:
    """The exponential of the mean of −log P over the words of the sentences.

    Raises:
        ValueError: there is no word, or an id is out of range.
    """
    return float(np.exp(-np.mean(np.log(probabilities(model, documents)))))


def _words_and_positions(
    documents: Sequence[np.ndarray], vocabulary_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """All words one after the other, and how many of its sentence stand before each."""
    words = np.concatenate([np.zeros(0, np.int64), *documents]).astype(np.int64)
    if not words.size:
        raise ValueError("documents: got no words, expected at least one")
    if words.min() < 0 or words.max() >= vocabulary_size:
        raise ValueError(
            f"documents: got ids from {words.min()} to {words.max()}, "
            f"expected 0..{vocabulary_size - 1}"
        )
    before = np.concatenate([np.arange(len(document)) for document in documents])
    return words, before


def _word_before(words: np.ndarray, before: np.ndarray, distance: int, begin: int) -> np.ndarray:
    """The word so many places before each; `begin` where its sentence does not reach so far."""
    shifted = np.concatenate([np.full(distance, begin, np.int64), words])[: len(words)]
    return np.where(before >= distance, shifted, begin)


def _level(
    contexts: np.ndarray, continuations: np.ndarray, counts: np.ndarray, base: int
) -> ContextLevel:
    taken = discounts_of_counts(counts)
    owners = continuations // base
    totals = np.bincount(owners, counts, len(contexts))
    released = np.bincount(owners, taken, len(contexts))
    return ContextLevel(contexts, totals, released, continuations, counts - taken)


def _places(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The place of each wanted key among the sorted keys, −1 where it is not there."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, places, -1)
