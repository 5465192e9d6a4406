"""Tokens as the vectors that a network reads."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike


def one_hot(ids: ArrayLike, vocabulary_size: int, dtype: DTypeLike = jnp.float32) -> Array:
    """The course's one-hot vectors o^<t>: o[..., v] = 1 if ids[...] = v, else 0.

    Under `jax.jit` the values of `ids` are not known when they are checked: there, an id outside
    0..V-1 gives a row of zeros.

    Args:
        ids: (...), an integer dtype, in 0..V-1.
        vocabulary_size: V.
        dtype: dtype of the vectors.

    Returns:
        (..., V) of `dtype`.

    Raises:
        ValueError: ids are not integers, or are known and outside 0..V-1; V is not positive.
    """
    if vocabulary_size < 1:
        raise ValueError(f"vocabulary_size: got {vocabulary_size}, expected at least 1")
    id_dtype = jnp.result_type(ids)
    if not jnp.issubdtype(id_dtype, jnp.integer):
        raise ValueError(f"ids: got dtype {id_dtype}, expected an integer dtype")
    if not isinstance(ids, Tracer):
        known = np.asarray(ids)
        if known.size and (known.min() < 0 or known.max() >= vocabulary_size):
            raise ValueError(
                f"ids: got values from {known.min()} to {known.max()}, "
                f"expected 0..{vocabulary_size - 1}"
            )
    return jax.nn.one_hot(ids, vocabulary_size, dtype=dtype)
