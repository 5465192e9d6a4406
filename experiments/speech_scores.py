"""How far what was written is from what was said."""

from collections.abc import Sequence
from typing import Any

METRIC = "character_error_rate"
"""What chooses among models."""


def edits(said: Sequence[Any], written: Sequence[Any]) -> int:
    """The fewest insertions, deletions and substitutions that make one of the other."""
    from nltk.metrics.distance import edit_distance

    return edit_distance(said, written)


def error_rates(said: Sequence[str], written: Sequence[str]) -> dict[str, float]:
    """Errors of N texts, all together.

    `character_error_rate` is Σ edits of characters ÷ Σ characters said, `word_error_rate` the same
    of words parted by spaces, `wrong` the share of texts with an error. The first two may be above
    1.

    Raises:
        ValueError: The numbers of texts differ, or nothing is said in any.
    """
    if len(said) != len(written) or not any(said):
        raise ValueError(
            f"written: got {len(written)} texts for {len(said)}, expected as many, and a word said"
        )
    pairs = list(zip(said, written, strict=True))
    characters = sum(edits(one, other) for one, other in pairs)
    words = sum(edits(one.split(), other.split()) for one, other in pairs)
    return {
        "character_error_rate": characters / sum(map(len, said)),
        "word_error_rate": words / sum(len(one.split()) for one in said),
        "wrong": sum(one != other for one, other in pairs) / len(pairs),
    }
