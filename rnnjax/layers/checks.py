"""What layers ask of their sizes, dtypes and token ids."""

import jax.core
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from rnnjax.plans.protocol import check_size

__all__ = ["check_floating", "check_size", "checked_ids"]


def check_floating(name: str, dtype: DTypeLike) -> None:
    """Raise TypeError unless `dtype` is floating."""
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name}: got {jnp.dtype(dtype).name}, expected a floating dtype")


def checked_ids(name: str, ids: ArrayLike, vocabulary_size: int) -> Array:
    """The ids as an array.

    Args:
        name: What an error calls them.
        ids: `(...)`.
        vocabulary_size: V.

    Raises:
        TypeError: They are not integers.
        ValueError: They are known and outside 0 … V−1.
    """
    ids = jnp.asarray(ids)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(f"{name}: got dtype {ids.dtype.name}, expected an integer dtype")
    if not isinstance(ids, jax.core.Tracer) and ids.size:
        known = np.asarray(ids)
        if known.min() < 0 or known.max() >= vocabulary_size:
            raise ValueError(
                f"{name}: got values from {known.min()} to {known.max()}, "
                f"expected 0 … {vocabulary_size - 1}"
            )
    return ids
