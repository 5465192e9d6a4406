"""Lengths and resets, for every plan: selected with `where`, so that a NaN cannot leak."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from rnnjax.plans.protocol import Inputs
from rnnjax.recurrences.protocol import Carry, Params, Recurrence


def times_along(time_steps: int, batch_axes: int) -> Array:
    """The number of each step, `(T, 1, …)` int32, to be compared with what rows have."""
    return jnp.arange(time_steps, dtype=jnp.int32).reshape(-1, *(1,) * batch_axes)


def within_lengths(lengths: Array, time_steps: int) -> Array:
    """`(*B,)` integer -> `(T, *B)` bool: whether a step is within the length of its row."""
    return times_along(time_steps, lengths.ndim) < lengths.astype(jnp.int32)


def select(mask: Array, where_true: Any, where_false: Any) -> Any:
    """`where(mask, ...)` leaf by leaf, the mask's axes being the first ones of every leaf."""

    def leaf(a: Array, b: Array) -> Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, b)

    return jax.tree.map(leaf, where_true, where_false)


def zero_unless(mask: Array | None, tree: Any) -> Any:
    """The tree with zeros where the mask is False; the tree itself without a mask."""
    if mask is None:
        return tree
    return select(mask, tree, jax.tree.map(jnp.zeros_like, tree))


def enter(carry: Carry, fresh: Carry, valid: Array | None, reset: Array | None) -> Carry:
    """The carry that a step sees: fresh after a reset, zero in padding.

    Padding is computed and thrown away; a carry of zeros keeps a NaN in an unused row's carry out
    of the gradients.
    """
    if reset is not None:
        carry = select(reset, fresh, carry)
    return zero_unless(valid, carry)


def leave(new: Carry, old: Carry, valid: Array | None) -> Carry:
    """The carry after a step: frozen in padding."""
    return new if valid is None else select(valid, new, old)


def masked_step(recurrence: Recurrence, fresh: Carry) -> Callable[..., tuple[Carry, Array]]:
    """`(params, carry, x, valid, reset) -> (carry, y)`: the definition of lengths and resets.

    A reset at t puts the fresh carry in place before step t; past a row's length its output is
    zero and its carry is frozen (a reset there does nothing).
    """

    def step(
        params: Params, carry: Carry, x: Array, valid: Array | None, reset: Array | None
    ) -> tuple[Carry, Array]:
        z = recurrence.project(params, zero_unless(valid, x))
        new, y = recurrence.step(params, enter(carry, fresh, valid, reset), z)
        return leave(new, carry, valid), zero_unless(valid, y)

    return step


def per_step(inputs: Inputs) -> tuple[Array, Array | None, Array | None]:
    """What is sliced along time."""
    return inputs.xs, inputs.valid, inputs.resets
