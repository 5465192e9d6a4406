"""Translation word by word, in the order of the source: each word by its likeliest translation.

Which word translates which is not told; it is learned from sentences by IBM model 1, where each
target word t is written by one word s of the source, any alike, or by none:

    P(t_1 … t_n | s_1 … s_m) = Π_j Σ_i P(t_j | s_i) / (m + 1),  i = 0 … m, s_0 being "none"

P(t | s) is found by expectation-maximisation: share each t_j among the s_i in proportion to
P(t_j | s_i), count the shares, divide by their sum over t; and again.

Brown et al. (1993), The mathematics of statistical machine translation, section 4.1. Why not a
library's: `nltk.translate.IBMModel1` is the same in loops of Python, minutes where this takes
seconds; a test holds the one to the other.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rnnjax.text.tokenisers import join_words, words

NONE = ""  # s_0


class Lexicon(NamedTuple):
    """P(t | s) of the pairs of words that stand in one pair of sentences."""

    sources: list[str]  # the first of them is `NONE`
    targets: list[str]
    source_ids: np.ndarray  # (P,) int64
    target_ids: np.ndarray  # (P,) int64
    probabilities: np.ndarray  # (P,) float64, of sum 1 over the targets of a source


def fit(sources: Sequence[str], targets: Sequence[str], iterations: int = 5) -> Lexicon:
    """Learn from sentences and their translations.

    Raises:
        ValueError: There are none, or not as many of the one as of the other.
    """
    if not sources or len(sources) != len(targets):
        raise ValueError(
            f"sources: got {len(sources)} and {len(targets)} targets, expected as many, at least 1"
        )
    known_sources, known_targets = {NONE: 0}, dict[str, int]()
    cells, rows, count = [], [], 0
    for source, target in zip(sources, targets, strict=True):
        ids = [known_sources.setdefault(word, len(known_sources)) for word in words(source)]
        own = [known_targets.setdefault(word, len(known_targets)) for word in words(target)]
        s, t = np.asarray([0, *ids], np.int64), np.asarray(own, np.int64)
        cells.append(np.stack(np.broadcast_arrays(s, t[:, None])).reshape(2, -1))
        rows.append(np.repeat(np.arange(count, count + len(t)), len(s)))
        count += len(t)
    pairs, row = np.concatenate(cells, axis=1), np.concatenate(rows)
    # A cell is a word of the target with a word of its source; a parameter is a pair of words.
    keys, parameter = np.unique(pairs[0] * len(known_targets) + pairs[1], return_inverse=True)
    source_ids, target_ids = np.divmod(keys, len(known_targets))
    probabilities = np.full(len(keys), 1 / len(known_targets))
    for _ in range(iterations):
        shares = probabilities[parameter]
        shares /= np.bincount(row, shares, count)[row]
        probabilities = np.bincount(parameter, shares, len(keys))
        probabilities /= np.bincount(source_ids, probabilities)[source_ids]
    return Lexicon(list(known_sources), list(known_targets), source_ids, target_ids, probabilities)


def translate(lexicon: Lexicon, texts: Sequence[str]) -> list[str]:
    """Each word by argmax_t P(t | s); a word that was never seen stays as it is."""
    order = np.lexsort((lexicon.probabilities, lexicon.source_ids))
    last = np.searchsorted(lexicon.source_ids[order], np.arange(len(lexicon.sources)), "right") - 1
    best = {
        word: lexicon.targets[lexicon.target_ids[order[place]]]
        for word, place in zip(lexicon.sources, last, strict=True)
    }
    return [join_words([best.get(word, word) for word in words(text)]) for text in texts]
