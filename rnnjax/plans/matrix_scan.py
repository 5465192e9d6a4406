"""Linear recurrences with a matrix a step, solved for all of time at once.

x^<t> = A^<t> x^<t-1> + b^<t>,  x^<0> = 0

Two steps are one such step: A'' = A' A, b'' = A' b + b'. This is associative, so that a tree of
compositions takes O(log T) dependent ones, of about 2 T in all.

References:
    Blelloch (1990), Prefix Sums and Their Applications, section 1.4.
"""

import jax.numpy as jnp
from jax import Array, lax


def dense_scan(matrices: Array, vectors: Array, *, reverse: bool) -> Array:
    """Solve with full matrices.

    Args:
        matrices: `(T, ..., D, D)`; the first in the order of running meets x = 0 and is not read.
        vectors: `(T, ..., D)`.
        reverse: From the last step to the first.

    Returns:
        `(T, ..., D)`.
    """

    def then(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
        (a, b), (a_later, b_later) = first, second
        return a_later @ a, (a_later @ b[..., None])[..., 0] + b_later

    return lax.associative_scan(then, (matrices, vectors), reverse=reverse)[1]


def unit_scan(matrices: Array, vectors: Array, *, reverse: bool) -> Array:
    """Solve with one small matrix for each of H units, which do not touch each other.

    Units are the last axis, so that all is elementwise work along it.

    Args:
        matrices: `(T, ..., K, K, H)`; the first in the order of running is not read.
        vectors: `(T, ..., K, H)`.
        reverse: From the last step to the first.

    Returns:
        `(T, ..., K, H)`.
    """

    def then(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
        (a, b), (a_later, b_later) = first, second
        a_both = jnp.sum(a_later[..., :, :, None, :] * a[..., None, :, :, :], axis=-3)
        b_both = jnp.sum(a_later * b[..., None, :, :], axis=-2) + b_later
        return a_both, b_both

    return lax.associative_scan(then, (matrices, vectors), reverse=reverse)[1]
