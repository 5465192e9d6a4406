"""Attention over a source sequence: for one query at a time in a decoder's loop, or for many.

What does not depend on the query is computed once, by `prepare_memory`; `attend` does the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from rnnjax.layers.checks import check_floating, check_size
from rnnjax.plans.masking import within_lengths
from rnnjax.precision import default_accumulation_dtype, product_of_inputs


@dataclass(frozen=True, eq=False)
class Attention:
    """How well a query fits a key, e = score(query, prepare(key)).

    Attributes:
        name: What an error calls it.
        prepare: `(params, keys) -> prepared`, `(S, *B, K) -> (S, *B, A)` in the dtype of the keys.
        score: `(params, query, prepared) -> scores`, `(*N, *B, Q), (S, *B, A) -> (*N, S, *B)` in
            the accumulation dtype.
        key_size: `(params) -> K`, or None where any will do.
        query_size: `(params, prepared) -> Q`.
    """

    name: str
    prepare: Callable[[Any, Array], Array]
    score: Callable[[Any, Array, Array], Array]
    key_size: Callable[[Any], int | None]
    query_size: Callable[[Any, Array], int]

    def __repr__(self) -> str:
        return f"<attention {self.name}>"


class Memory(NamedTuple):
    """What is attended to; a pytree, to be closed over by a decoder's step or carried beside it."""

    keys: Array  # (S, *B, A): prepared
    values: Array  # (S, *B, D): zero where masked
    mask: Array | None  # (S, *B) bool: True where there is something to attend to


def prepare_memory(
    attention: Attention,
    params: Any,
    keys: Array,
    values: Array | None = None,
    mask: Array | None = None,
) -> Memory:
    """Compute once what does not depend on the query.

    What the mask leaves out, NaN too, reaches no value and no gradient.

    Args:
        attention: `additive`, `general` or `dot`.
        params: Its parameters; of `dot` None.
        keys: `(S, *B, K)`, such as the outputs of an encoder, time first. Their dtype is that in
            which products are computed.
        values: `(S, *B, D)` of the same dtype; None is the keys.
        mask: `(S, *B)` bool, such as `lengths_to_mask`; None is True everywhere.

    Raises:
        TypeError: The keys are not floating, the values of another dtype, or the mask not boolean.
        ValueError: The shapes do not fit each other or the parameters.
    """
    check_floating("keys", keys.dtype)
    if keys.ndim < 2:
        raise ValueError(f"keys: got shape {keys.shape}, expected (S, *B, K)")
    size = attention.key_size(params)
    if size is not None and keys.shape[-1] != size:
        raise ValueError(f"keys: got shape {keys.shape}, expected (S, *B, {size})")
    if values is None:
        values = keys
    if values.ndim < 2 or values.shape[:-1] != keys.shape[:-1]:
        raise ValueError(
            f"values: got shape {values.shape}, expected {keys.shape[:-1]} (S, *B) and a last axis"
        )
    if values.dtype != keys.dtype:
        raise TypeError(
            f"values: got dtype {values.dtype.name}, expected {keys.dtype.name}, that of keys"
        )
    if mask is not None:
        if mask.dtype != jnp.bool_:
            raise TypeError(f"mask: got dtype {mask.dtype.name}, expected bool")
        if mask.shape != keys.shape[:-1]:
            raise ValueError(f"mask: got shape {mask.shape}, expected {keys.shape[:-1]} (S, *B)")
        keys, values = (jnp.where(mask[..., None], a, jnp.zeros_like(a)) for a in (keys, values))
    return Memory(attention.prepare(params, keys), values, mask)


def attend(attention: Attention, params: Any, query: Array, memory: Memory) -> tuple[Array, Array]:
    """The mean of the values, each weighted by how well its key fits the query.

    α_s = exp(e_s) / Σ_s' exp(e_s'),  context = Σ_s α_s value_s,  over the s that are not masked

    Where all are masked, weights and context are zero. Scores, softmax and sums are computed in
    float32 where the query has 16 bits.

    Args:
        attention: That of the memory.
        params: Those of the memory.
        query: `(*B, Q)`, one query a row; or `(*N, *B, Q)`, many. Of the memory's dtype.
        memory: From `prepare_memory`.

    Returns:
        context: `(*N, *B, D)` in the dtype of the query.
        weights: `(*N, S, *B)` in the dtype of the query; of many queries what a loop over single
            ones stacks.

    Raises:
        TypeError: The query is not of the memory's dtype.
        ValueError: The shape of the query does not fit the memory or the parameters.
    """
    _check_query(query, memory, attention.query_size(params, memory.keys))
    scores = attention.score(params, query, memory.keys)
    weights = _softmax_over_source(scores, memory).astype(query.dtype)

    source_length, *batch_shape = memory.keys.shape[:-1]
    leading = query.shape[: query.ndim - 1 - len(batch_shape)]
    context = jnp.einsum(
        "nsr,srd->nrd",
        weights.reshape(prod(leading), source_length, prod(batch_shape)),
        memory.values.reshape(source_length, prod(batch_shape), -1),
        preferred_element_type=default_accumulation_dtype(query.dtype),
    )
    return context.reshape(*query.shape[:-1], -1).astype(query.dtype), weights


def lengths_to_mask(lengths: ArrayLike, source_length: int) -> Array:
    """True within the length of each row: mask_s = s < length.

    Args:
        lengths: `(*B,)` integer, 0 … S.
        source_length: S.

    Returns:
        `(S, *B)` bool.

    Raises:
        TypeError: The lengths are not integers.
        ValueError: A length is known and outside 0 … S, or S is not an integer or below one.
    """
    check_size("source_length", source_length)
    lengths = jnp.asarray(lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"lengths: got dtype {lengths.dtype.name}, expected an integer dtype")
    if not isinstance(lengths, jax.core.Tracer):
        values = np.asarray(lengths)
        outside = values[(values < 0) | (values > source_length)]
        if outside.size:
            raise ValueError(
                f"lengths: got {outside.flat[0]}, expected values within 0 … {source_length} (S)"
            )
    return within_lengths(lengths, source_length)


class AdditiveAttentionParams(NamedTuple):
    """The paper's W_a, U_a and v_a, transposed: rows are inputs."""

    w_query: Array  # (Q, A)
    w_key: Array  # (K, A)
    v: Array  # (A,)


def init_additive_attention(
    key: Array,
    query_size: int,
    key_size: int,
    attention_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
) -> AdditiveAttentionParams:
    """Draw weights from Glorot's uniform distribution.

    Args:
        key: A random key.
        query_size: Q.
        key_size: K.
        attention_size: A.
        dtype: Floating.

    Raises:
        ValueError: A size is not an integer or below one.
        TypeError: The dtype is not floating.
    """
    check_size("query_size", query_size)
    check_size("key_size", key_size)
    check_size("attention_size", attention_size)
    check_floating("dtype", dtype)
    glorot = jax.nn.initializers.glorot_uniform()
    key_query, key_key, key_v = jax.random.split(key, 3)
    return AdditiveAttentionParams(
        glorot(key_query, (query_size, attention_size), dtype),
        glorot(key_key, (key_size, attention_size), dtype),
        glorot(key_v, (attention_size, 1), dtype)[:, 0],
    )


def additive_prepare(params: AdditiveAttentionParams, keys: Array) -> Array:
    """`(S, *B, K) -> (S, *B, A)`, k U_a."""
    return product_of_inputs(keys, params.w_key).astype(keys.dtype)


def additive_score(params: AdditiveAttentionParams, query: Array, prepared: Array) -> Array:
    """How well a query fits a key, by a network of one hidden layer.

    e = vᵀ tanh(q W_a + k U_a)

    Many queries at once hold an array `(*N, S, *B, A)`.

    References:
        Bahdanau, Cho and Bengio (2015), arXiv:1409.0473, appendix A.1.2. Luong et al.'s "concat",
        vᵀ tanh([q; k] W), is the same with W_a above U_a in W; and so is the course's e<t,t'>.
    """
    hidden = jnp.expand_dims(product_of_inputs(query, params.w_query), -prepared.ndim)
    hidden = jnp.tanh(hidden + prepared.astype(hidden.dtype))
    return hidden @ params.v.astype(hidden.dtype)


additive = Attention(
    name="additive",
    prepare=additive_prepare,
    score=additive_score,
    key_size=lambda params: params.w_key.shape[0],
    query_size=lambda params, _: params.w_query.shape[0],
)


class GeneralAttentionParams(NamedTuple):
    """The paper's W_a."""

    w: Array  # (Q, K)


def init_general_attention(
    key: Array, query_size: int, key_size: int, *, dtype: DTypeLike = jnp.float32
) -> GeneralAttentionParams:
    """Draw weights from Glorot's uniform distribution.

    Args:
        key: A random key.
        query_size: Q.
        key_size: K.
        dtype: Floating.

    Raises:
        ValueError: A size is not an integer or below one.
        TypeError: The dtype is not floating.
    """
    check_size("query_size", query_size)
    check_size("key_size", key_size)
    check_floating("dtype", dtype)
    shape = (query_size, key_size)
    return GeneralAttentionParams(jax.nn.initializers.glorot_uniform()(key, shape, dtype))


def general_prepare(params: GeneralAttentionParams, keys: Array) -> Array:
    """`(S, *B, K) -> (S, *B, Q)`, k Wᵀ."""
    return product_of_inputs(keys, params.w.T).astype(keys.dtype)


def dot_score(params: Any, query: Array, prepared: Array) -> Array:
    """How well a query fits a key, by their product.

    e = q · k,  or for `general` e = q W kᵀ, the W kᵀ being prepared.

    References:
        Luong, Pham and Manning (2015), arXiv:1508.04025, section 3.1.
    """
    del params
    source_length, *batch_shape, size = prepared.shape
    leading = query.shape[: query.ndim - 1 - len(batch_shape)]
    scores = jnp.einsum(
        "nra,sra->nsr",
        query.reshape(prod(leading), prod(batch_shape), size),
        prepared.reshape(source_length, prod(batch_shape), size),
        preferred_element_type=default_accumulation_dtype(query.dtype),
    )
    return scores.reshape(*leading, source_length, *batch_shape)


general = Attention(
    name="general",
    prepare=general_prepare,
    score=dot_score,
    key_size=lambda params: params.w.shape[1],
    query_size=lambda params, _: params.w.shape[0],
)

dot = Attention(
    name="dot",
    prepare=lambda _, keys: keys,
    score=dot_score,
    key_size=lambda _: None,
    query_size=lambda _, prepared: prepared.shape[-1],
)


def _check_query(query: Array, memory: Memory, query_size: int) -> None:
    batch_shape = memory.keys.shape[1:-1]
    if query.shape[-1 - len(batch_shape) :] != (*batch_shape, query_size):
        expected = ", ".join(map(str, (*batch_shape, query_size)))
        raise ValueError(f"query: got shape {query.shape}, expected (..., {expected})")
    if query.dtype != memory.values.dtype:
        raise TypeError(
            f"query: got dtype {query.dtype.name}, expected {memory.values.dtype.name}, "
            "that of the memory"
        )


def _softmax_over_source(scores: Array, memory: Memory) -> Array:
    """`(*N, S, *B) -> (*N, S, *B)`, zero where masked, everywhere too."""
    axis = -memory.keys.ndim + 1
    if memory.mask is None:
        return jax.nn.softmax(scores, axis=axis)
    scores = jnp.where(memory.mask, scores, -jnp.inf)
    # Any finite number does where all are masked, so that no infinities are subtracted.
    highest = jax.lax.stop_gradient(scores.max(axis=axis, keepdims=True))
    exponentials = jnp.exp(scores - jnp.where(jnp.isfinite(highest), highest, 0))
    total = exponentials.sum(axis=axis, keepdims=True)
    return exponentials / jnp.where(total > 0, total, 1)
