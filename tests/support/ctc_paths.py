"""Connectionist temporal classification by its definition: every path, one after the other."""

from collections import defaultdict
from collections.abc import Callable
from itertools import groupby, product

import numpy as np


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    """What a path says: runs as one label, then without blanks."""
    return tuple(label for label, _ in groupby(path) if label != 0)


def probabilities_of_labellings(
    logits: np.ndarray, counts: Callable[[tuple[int, ...]], bool] = lambda path: True
) -> dict[tuple[int, ...], float]:
    """P(y | x) of every y, `(T, V)` logits; of the paths that count."""
    p = np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))
    found: dict[tuple[int, ...], float] = defaultdict(float)
    for path in product(range(p.shape[1]), repeat=len(p)):
        if counts(path):
            found[collapsed(path)] += float(np.prod(p[np.arange(len(p)), path]))
    return dict(found)
