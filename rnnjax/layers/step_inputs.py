"""Arrays that a step reads besides its input, such as masks, carried along within the inputs.

Joined to the features of `xs` they are sliced, masked, reset and reversed as those are, so that a
recurrence that reads them runs under every plan as it stands.
"""

from collections.abc import Sequence
from itertools import accumulate
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from rnnjax.layers.checks import check_floating
from rnnjax.plans.aliases import first_equal_output
from rnnjax.recurrences.protocol import Params, Recurrence

Shapes = Sequence[tuple[int, ...]]
"""Of each array, without its leading axes."""


def joined_size(shapes: Shapes) -> int:
    """The length of the last axis that `join` makes."""
    return sum(map(prod, shapes))


def join(arrays: Sequence[Array], shapes: Shapes) -> Array:
    """`(..., *shape)` each `-> (..., joined_size(shapes))`, the leading axes being the same."""
    rows = [
        a.reshape(*a.shape[: a.ndim - len(shape)], prod(shape))
        for a, shape in zip(arrays, shapes, strict=True)
    ]
    return jnp.concatenate(rows, axis=-1)


def split(joined: Array, shapes: Shapes) -> list[Array]:
    """The inverse of `join`."""
    ends = list(accumulate(map(prod, shapes)))
    parts = jnp.split(joined, ends[:-1], axis=-1)
    return [
        part.reshape(*joined.shape[:-1], *shape) for part, shape in zip(parts, shapes, strict=True)
    ]


def carry_shapes(recurrence: Recurrence, params: Params) -> Any:
    """The carry of one row, without values."""
    return jax.eval_shape(lambda params: recurrence.initial_carry(params, ()), params)


def output_leaf(recurrence: Recurrence, params: Params) -> int:
    """Which leaf of the new carry the output is.

    Raises:
        ValueError: It is none of them.
    """

    def step(params: Params, carry: Any, x: Array) -> Any:
        return recurrence.step(params, carry, recurrence.project(params, x))

    dtype = jax.tree.leaves(params)[0].dtype
    x = jax.ShapeDtypeStruct(recurrence.input_shape(params), dtype)
    *carry, output = first_equal_output(step, params, carry_shapes(recurrence, params), x)
    if output >= len(carry):
        raise ValueError(
            f"recurrence: got {recurrence.name}, whose output is not a part of its carry, "
            "expected one whose is, such as rnnjax.lstm"
        )
    return output


def broadcast_mask(name: str, mask: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """The mask in all of a shape, rounded to a dtype.

    Args:
        name: What an error calls it.
        mask: Floating.
        shape: `(T, *B, H)`, or `(*B, H)` of one step.
        dtype: That of the inputs.

    Raises:
        TypeError: The mask is not floating.
        ValueError: It does not broadcast to the shape.
    """
    check_floating(name, mask.dtype)
    own = mask.shape
    if len(own) > len(shape) or any(
        size not in (1, whole) for size, whole in zip(own[::-1], shape[::-1], strict=False)
    ):
        raise ValueError(f"{name}: got shape {own}, expected one that broadcasts to {shape}")
    return jnp.broadcast_to(mask.astype(dtype), shape)
