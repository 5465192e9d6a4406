"""The carry of a row as one real vector, so that a diagnostic need not know what it is made of."""

from collections.abc import Callable
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rnnjax.recurrences.protocol import Carry, Params, Recurrence
from rnnjax.scanning import explain_plan


def carry_as_vector(carry: Carry) -> Array:
    """All numbers of one row's carry, `(D,)`, real.

    Leaf after leaf; of a complex leaf the real parts, then the imaginary ones, so that the vector's
    Euclidean norm is that of the carry.

    Args:
        carry: Of one row: leaves without batch axes.
    """
    parts: list[Array] = []
    for leaf in jax.tree.leaves(carry):
        halves = (leaf.real, leaf.imag) if jnp.iscomplexobj(leaf) else (leaf,)
        parts += [half.ravel() for half in halves]
    return jnp.concatenate(parts)


def carry_size(carry: Carry, batch_axes: int) -> int:
    """D, the real numbers in one row's carry."""
    return sum(
        prod(leaf.shape[batch_axes:]) * (2 if jnp.iscomplexobj(leaf) else 1)
        for leaf in jax.tree.leaves(carry)
    )


def carry_from_vector(vector: Array, like: Carry) -> Carry:
    """The inverse of `carry_as_vector`.

    Args:
        vector: `(D,)`.
        like: A carry of one row, of which only structure, shapes and kinds are read.
    """
    leaves, structure = jax.tree.flatten(like)
    found: list[Array] = []
    begin = 0

    def next_part(shape: tuple[int, ...], size: int) -> Array:
        nonlocal begin
        part = vector[begin : begin + size].reshape(shape)
        begin += size
        return part

    for leaf in leaves:
        if jnp.iscomplexobj(leaf):
            real, imaginary = (next_part(leaf.shape, leaf.size) for _ in range(2))
            found.append(jax.lax.complex(real, imaginary))
        else:
            found.append(next_part(leaf.shape, leaf.size))
    return jax.tree.unflatten(structure, found)


def vector_step(
    recurrence: Recurrence, params: Params, like: Carry
) -> Callable[[Array, Array], Array]:
    """The step of one row as `(v^<t-1>, x^<t>) -> v^<t>`, `(D,), (I,) -> (D,)`.

    Args:
        recurrence: What is computed in one step.
        params: Its parameters.
        like: A carry of one row.
    """

    def step(vector: Array, x: Array) -> Array:
        z = recurrence.project(params, x)
        after, _ = recurrence.step(params, carry_from_vector(vector, like), z)
        return carry_as_vector(after)

    return step


def over_rows(function: Callable[..., Any], batch_axes: int, out_axes: int) -> Callable[..., Any]:
    """A function of one row's carry and inputs, as one of all rows.

    Args:
        function: `(carry, xs) -> array`: leaves without batch axes, `(T, I)`.
        batch_axes: How many there are; after time in `xs`, first in the carry.
        out_axes: Where they stand in the result: 0 first, 1 after time.
    """
    for _ in range(batch_axes):
        function = jax.vmap(function, in_axes=(0, 1), out_axes=out_axes)
    return function


def checked_arguments(
    recurrence: Recurrence, params: Params, xs: ArrayLike, carry: Carry | None
) -> tuple[Array, Carry, int]:
    """The inputs, the carry to begin with, and the number of batch axes.

    Raises:
        TypeError: As `rnnjax.scan`, or `xs` is not of the parameters' dtype: a diagnostic is not
            computed in mixed precision.
        ValueError: As `rnnjax.scan`.
    """
    explain_plan(recurrence, params, xs, carry, plan="reference")
    xs = jnp.asarray(xs)
    dtype = jax.tree.leaves(params)[0].dtype
    if xs.dtype != dtype:
        raise TypeError(f"xs: got dtype {xs.dtype.name}, expected {dtype.name}, that of params")
    batch_shape = xs.shape[1 : xs.ndim - len(recurrence.input_shape(params))]
    if carry is None:
        carry = recurrence.initial_carry(params, batch_shape)
    return xs, jax.tree.map(jnp.asarray, carry), len(batch_shape)
