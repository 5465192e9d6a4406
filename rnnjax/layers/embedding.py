"""A learned vector for each token."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from rnnjax.layers.checks import check_floating, check_size, checked_ids


class EmbeddingParams(NamedTuple):
    """The course's embedding matrix E, transposed: row v is the vector e_v of token v."""

    table: Array  # (V, E)


def init_embedding(
    key: Array, vocabulary_size: int, embedding_size: int, *, dtype: DTypeLike = jnp.float32
) -> EmbeddingParams:
    """Draw vectors from N(0, 1/E), so that their norm is about 1, that of a one-hot vector.

    Args:
        key: A random key.
        vocabulary_size: V.
        embedding_size: E.
        dtype: Floating.

    Raises:
        ValueError: A size is not an integer or below one.
        TypeError: The dtype is not floating.
    """
    check_size("vocabulary_size", vocabulary_size)
    check_size("embedding_size", embedding_size)
    check_floating("dtype", dtype)
    table = jax.random.normal(key, (vocabulary_size, embedding_size), dtype)
    return EmbeddingParams(table / jnp.sqrt(jnp.asarray(embedding_size, dtype)))


def embed(params: EmbeddingParams, ids: ArrayLike) -> Array:
    """The vectors of tokens: e^<t> = o^<t> E for the one-hot o^<t>, computed as a gather.

    Under `jit`, where ids are not known, one outside 0 … V−1 gives a vector of NaN rather than
    some other token's, and gives the table no gradient.

    Args:
        params: The table `(V, E)`.
        ids: `(...)` integer, 0 … V−1.

    Returns:
        `(..., E)`.

    Raises:
        TypeError: The ids are not integers.
        ValueError: Ids are known and outside 0 … V−1.
    """
    ids = checked_ids("ids", ids, params.table.shape[0])
    return params.table.at[ids].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
