"""Character n-gram models: the unigram, and interpolated modified Kneser–Ney of any order.

All figures are bits per character, where a character is a decoded Unicode code point, not a byte.
Documents are predicted as the recurrent models predict them: each from its own start, every
character of it, over V symbols that are the characters of the training text and one for all unknown
ones.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class ContextLevel(NamedTuple):
    """What is counted for contexts of one length k. Keys are k-digit and (k+1)-digit numbers."""

    continuations: np.ndarray  # (N,) int64, sorted keys of a context and its next symbol
    discounted: np.ndarray  # (N,) float64, their counts less the discount
    contexts: np.ndarray  # (C,) int64, sorted keys of the contexts
    totals: np.ndarray  # (C,) float64, the sum of the counts of a context
    released: np.ndarray  # (C,) float64, the sum of its discounts


class CharacterNGram(NamedTuple):
    """P_k(c | h) = (n(hc) - D(n(hc)) + R(h) P_{k-1}(c | h')) / n(h), with P_{-1} = 1 / V.

    n counts at the longest context, and below it counts the distinct symbols before (Kneser–Ney);
    h' is h without its first symbol; R(h) is the sum of the discounts D in h; an unseen context
    passes P_{k-1} on. Each of P_k(. | h) sums to 1 over the V symbols.
    """

    characters: str  # the V - 1 known characters, sorted; symbol V - 1 is every other one
    levels: tuple[ContextLevel, ...]  # contexts of 0, 1, … characters


def fit(documents: Sequence[str], context_length: int = 3) -> CharacterNGram:
    """Interpolated modified Kneser–Ney, discounts from the counts of counts, nothing to tune.

    Source: Chen and Goodman (1998), An Empirical Study of Smoothing Techniques for Language
    Modeling, section 3.

    Args:
        documents: the training texts.
        context_length: how many characters before are seen, 0 for a unigram model.

    Raises:
        ValueError: there is no text, or the context is so long that keys leave 64 bits.
    """
    characters = "".join(sorted(set().union(*documents)))
    if not characters:
        raise ValueError("documents: got no text, expected at least one character")
    base = len(characters) + 2
    if context_length < 0 or base ** (context_length + 1) >= 2**63:
        raise ValueError(
            f"context_length: got {context_length} with {len(characters)} distinct characters, "
            f"expected 0..{int(63 / np.log2(base)) - 1}"
        )
    keys = _keys(characters, documents, context_length)
    levels: list[ContextLevel] = []
    for length in range(context_length, -1, -1):
        continuations, counts = np.unique(keys, return_counts=True)
        levels.append(_level(continuations, counts, base))
        # Each distinct continuation counts once for the one that lacks its first symbol.
        keys = continuations % base**length
    return CharacterNGram(characters, tuple(reversed(levels)))


def probabilities(model: CharacterNGram, documents: Sequence[str]) -> np.ndarray:
    """Probability of each character given those before it: (total length,) float64."""
    context_length = len(model.levels) - 1
    return _probabilities(model, _keys(model.characters, documents, context_length))


def distribution(model: CharacterNGram, context: str) -> np.ndarray:
    """P(. | context) over the known characters in order, and all unknown ones last: (V,) float64.

    A context shorter than the model's stands at the start of a document.
    """
    context_length = len(model.levels) - 1
    size = len(model.characters) + 1
    (last,) = _keys(model.characters, [context + "\0"], context_length)[-1:]
    context_key = last // (size + 1)
    return _probabilities(model, context_key * (size + 1) + np.arange(size))


def sample_document(
    model: CharacterNGram, beginning: str, end: str, longest: int, rng: np.random.Generator
) -> str:
    """A document drawn character by character, what follows its beginning.

    Args:
        model: the characters' probabilities; no unknown one is drawn.
        beginning: at the start of the document.
        end: the character with which a document ends; it is not part of what is returned.
        longest: characters after which a document that has not ended is cut.
        rng: of the draws.
    """
    base, size = len(model.characters) + 2, len(model.characters) + 1
    context_length = len(model.levels) - 1
    (key,) = _keys(model.characters, [beginning + "\0"], context_length)[-1:] // base
    known = np.arange(size - 1)
    drawn = []
    while len(drawn) < longest:
        shares = _probabilities(model, key * base + known)
        symbol = int(rng.choice(size - 1, p=shares / shares.sum()))
        if model.characters[symbol] == end:
            break
        drawn.append(model.characters[symbol])
        key = (key * base + symbol) % base**context_length
    return "".join(drawn)


def bits_per_character(model: CharacterNGram, documents: Sequence[str]) -> float:
    """Mean of -log2 P over the characters of the documents.

    Raises:
        ValueError: there is no text.
    """
    if not any(documents):
        raise ValueError("documents: got no text, expected at least one character")
    return float(-np.mean(np.log2(probabilities(model, documents))))


def unigram_bits_per_character(train: Sequence[str], held_out: Sequence[str]) -> float:
    """Bits per character of held-out documents under the character frequencies of training ones.

    Raises:
        ValueError: one of them has no text.
    """
    return bits_per_character(fit(train, context_length=0), held_out)


def _level(continuations: np.ndarray, counts: np.ndarray, base: int) -> ContextLevel:
    taken = discounts_of_counts(counts)
    contexts, starts = np.unique(continuations // base, return_index=True)
    return ContextLevel(
        continuations,
        counts - taken,
        contexts,
        np.add.reduceat(counts, starts).astype(np.float64),
        np.add.reduceat(taken, starts),
    )


def discounts_of_counts(counts: np.ndarray) -> np.ndarray:
    """D(n) of each count n, modified Kneser–Ney's: one for 1, 2 and 3 or more.

    Where the counts of counts do not give one in (0, n], it is one half.
    """
    of_counts = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].astype(np.float64)
    once, twice = of_counts[:2]
    order = np.arange(1.0, 4.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        estimates = order - (order + 1) * once / (once + 2 * twice) * of_counts[1:] / of_counts[:3]
    usable = (estimates > 0) & (estimates <= order)
    by_count = np.concatenate([[0.0], np.where(usable, estimates, 0.5)])
    return by_count[np.minimum(counts, 3)]


def _keys(characters: str, documents: Sequence[str], context_length: int) -> np.ndarray:
    """Each character with those before it as one number: (total length,) int64.

    Digits are symbols, the character the last one; the symbol V stands before a document's start.
    """
    unknown, begin = len(characters), len(characters) + 1
    table = np.full(0x110000, unknown, np.int64)
    table[[ord(character) for character in characters]] = np.arange(unknown)
    parts = [np.zeros(0, np.int64)]
    for document in documents:
        code_points = np.frombuffer(document.encode("utf-32-le", "surrogatepass"), "<u4")
        symbols = np.concatenate([np.full(context_length, begin), table[code_points]])
        key = np.zeros(len(code_points), np.int64)
        for place in range(context_length + 1):
            key = key * (begin + 1) + symbols[place : place + len(code_points)]
        parts.append(key)
    return np.concatenate(parts)


def _probabilities(model: CharacterNGram, keys: np.ndarray) -> np.ndarray:
    base = len(model.characters) + 2
    result = np.full(len(keys), 1 / (len(model.characters) + 1))
    for length, level in enumerate(model.levels):
        of_level = keys % base ** (length + 1)
        discounted = _looked_up(level.continuations, level.discounted, of_level)
        contexts = of_level // base
        totals = _looked_up(level.contexts, level.totals, contexts)
        released = _looked_up(level.contexts, level.released, contexts)
        seen = totals > 0
        smoothed = (discounted + released * result) / np.where(seen, totals, 1.0)
        result = np.where(seen, smoothed, result)
    return result


def _looked_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each wanted key, 0 where it is not among the sorted keys."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0.0)
