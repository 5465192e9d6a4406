"""The size at which a network has as many parameters as the others."""

from collections.abc import Callable
from typing import Any

import jax


def parameter_count(init: Callable[[jax.Array], Any]) -> int:
    """The number of parameters that `init(key)` draws; nothing is computed."""
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(init, jax.random.key(0))))


def nearest(increasing: Callable[[int], int], wanted: int) -> int:
    """The n of at least 1 for which an increasing function is nearest to what is wanted."""
    below, above = 0, 1
    while increasing(above) < wanted:
        below, above = above, 2 * above
    while above - below > 1:
        middle = (below + above) // 2
        if increasing(middle) < wanted:
            below = middle
        else:
            above = middle
    return min((n for n in (below, above) if n), key=lambda n: abs(increasing(n) - wanted))
