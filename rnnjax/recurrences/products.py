"""The product with a weight matrix, in whatever precision `scan` was asked for."""

import jax.numpy as jnp
from jax import Array


def product(x: Array, w: Array) -> Array:
    """The product x W, `(..., I) -> (..., O)`: computed in W's dtype, summed and returned in x's.

    The two differ in mixed precision only: `scan` then hands a recurrence its vectors and its
    carry in the accumulation dtype, and its matrices in the compute dtype.

    Args:
        x: `(..., I)` in the accumulation dtype.
        w: `(I, O)` in the compute dtype.
    """
    if x.dtype == w.dtype:
        return x @ w
    return jnp.matmul(x.astype(w.dtype), w, preferred_element_type=x.dtype)
