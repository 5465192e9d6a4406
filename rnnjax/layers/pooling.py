"""From the outputs of all steps to one vector a sequence: many-to-one.

Padding, and a NaN in it, reaches no value and no gradient. A sequence of length 0 gives zeros.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from rnnjax.layers.attention import Attention, attend, lengths_to_mask, prepare_memory
from rnnjax.layers.checks import check_floating, check_size
from rnnjax.plans.masking import zero_unless
from rnnjax.precision import default_accumulation_dtype, product_of_inputs


def last_step(ys: Array, lengths: ArrayLike | None = None) -> Array:
    """The output at each row's own last step, y^<Tx>.

    Args:
        ys: `(T, *B, H)`.
        lengths: `(*B,)` integer, 0 … T; None is T of all.

    Returns:
        `(*B, H)`.

    Raises:
        TypeError: ys is not floating, or the lengths are not integers.
        ValueError: The shapes do not fit, or a known length is outside 0 … T.
    """
    mask = _checked_mask(ys, lengths)
    if mask is None:
        return ys[-1]
    count = mask.sum(axis=0, dtype=jnp.int32)
    last = jnp.maximum(count - jnp.ones_like(count), 0)
    found = jnp.take_along_axis(ys, last[None, ..., None], axis=0)[0]
    return zero_unless(mask[0], found)


def both_ends(ys: Array, lengths: ArrayLike | None = None) -> Array:
    """The last state of each direction of a bidirectional layer, [a→^<Tx>, a←^<1>].

    The backward direction has read all of its row at the first step; its output at the last one
    knows one element only.

    Args:
        ys: `(T, *B, 2H)`, merged by `rnnjax.layers.bidirectional.concatenate`.
        lengths: `(*B,)` integer, 0 … T; None is T of all.

    Returns:
        `(*B, 2H)`.

    Raises:
        TypeError: As `last_step`.
        ValueError: As `last_step`, or the last axis is odd.
    """
    mask = _checked_mask(ys, lengths)
    if ys.shape[-1] % 2:
        raise ValueError(f"ys: got shape {ys.shape}, expected two directions of one size, 2H")
    forward, backward = jnp.split(ys, 2, axis=-1)
    first = zero_unless(None if mask is None else mask[0], backward[0])
    return jnp.concatenate([last_step(forward, lengths), first], axis=-1)


def mean_over_time(ys: Array, lengths: ArrayLike | None = None) -> Array:
    """The mean output of a row, (1/Tx) Σ_t y^<t>.

    Args:
        ys: `(T, *B, H)`.
        lengths: `(*B,)` integer, 0 … T; None is T of all.

    Returns:
        `(*B, H)`, summed in float32 where ys has 16 bits.

    Raises:
        TypeError: As `last_step`.
        ValueError: As `last_step`.
    """
    mask = _checked_mask(ys, lengths)
    dtype = default_accumulation_dtype(ys.dtype)
    total = zero_unless(mask, ys).sum(axis=0, dtype=dtype)
    if mask is None:
        return (total / ys.shape[0]).astype(ys.dtype)
    count = jnp.maximum(mask.sum(axis=0, dtype=jnp.int32), 1)
    return (total / count[..., None].astype(dtype)).astype(ys.dtype)


def max_over_time(ys: Array, lengths: ArrayLike | None = None) -> Array:
    """The largest output of each unit of a row, max_t y^<t>.

    Args:
        ys: `(T, *B, H)`.
        lengths: `(*B,)` integer, 0 … T; None is T of all.

    Returns:
        `(*B, H)`.

    Raises:
        TypeError: As `last_step`.
        ValueError: As `last_step`.

    References:
        Collobert et al. (2011), arXiv:1103.0398, section 3.3.2.
    """
    mask = _checked_mask(ys, lengths)
    if mask is None:
        return ys.max(axis=0)
    lowest = jnp.full_like(ys, -jnp.inf)
    return zero_unless(mask[0], jnp.where(mask[..., None], ys, lowest).max(axis=0))


class AttentionPoolingParams(NamedTuple):
    """The paper's W_w, b_w and u_w, the first transposed: rows are inputs."""

    w: Array  # (H, A)
    b: Array  # (A,)
    v: Array  # (A,): what a word that matters looks like

    @property
    def input_size(self) -> int:
        """H."""
        return self.w.shape[0]


def init_attention_pooling(
    key: Array, input_size: int, attention_size: int, *, dtype: DTypeLike = jnp.float32
) -> AttentionPoolingParams:
    """Draw weights from Glorot's uniform distribution; the bias is zero.

    Args:
        key: A random key.
        input_size: H.
        attention_size: A.
        dtype: Floating.

    Raises:
        ValueError: A size is not an integer or below one.
        TypeError: The dtype is not floating.
    """
    check_size("input_size", input_size)
    check_size("attention_size", attention_size)
    check_floating("dtype", dtype)
    glorot = jax.nn.initializers.glorot_uniform()
    key_w, key_v = jax.random.split(key)
    return AttentionPoolingParams(
        glorot(key_w, (input_size, attention_size), dtype),
        jnp.zeros(attention_size, dtype),
        glorot(key_v, (attention_size, 1), dtype)[:, 0],
    )


def attention_pooling(
    params: AttentionPoolingParams, ys: Array, lengths: ArrayLike | None = None
) -> tuple[Array, Array]:
    """The mean output of a row, each step weighted by how well it fits a learned vector.

    e_t = vᵀ tanh(y^<t> W + b),  α = softmax(e) over the row's own steps,  s = Σ_t α_t y^<t>

    Args:
        params: W, b and v.
        ys: `(T, *B, H)`.
        lengths: `(*B,)` integer, 0 … T; None is T of all.

    Returns:
        s: `(*B, H)`.
        α: `(T, *B)`, zero past a row's length.

    Raises:
        TypeError: As `last_step`.
        ValueError: As `last_step`, or the last axis is not H.

    References:
        Yang et al. (2016), "Hierarchical attention networks for document classification", NAACL,
        section 2.2, equations 5 to 7.
    """
    mask = _checked_mask(ys, lengths)
    memory = prepare_memory(_to_a_learned_vector, params, ys, mask=mask)
    # Of the query there is but one, learned: the bias of the hidden layer.
    query = jnp.broadcast_to(params.b.astype(ys.dtype), (*ys.shape[1:-1], params.b.shape[0]))
    return attend(_to_a_learned_vector, params, query, memory)


def _prepare(params: AttentionPoolingParams, keys: Array) -> Array:
    return product_of_inputs(keys, params.w).astype(keys.dtype)


def _score(params: AttentionPoolingParams, query: Array, prepared: Array) -> Array:
    dtype = default_accumulation_dtype(query.dtype)
    hidden = jnp.expand_dims(query, -prepared.ndim).astype(dtype) + prepared.astype(dtype)
    return jnp.tanh(hidden) @ params.v.astype(dtype)


_to_a_learned_vector = Attention(
    name="pooling",
    prepare=_prepare,
    score=_score,
    key_size=lambda params: params.input_size,
    query_size=lambda params, _: params.b.shape[0],
)


def _checked_mask(ys: Array, lengths: ArrayLike | None) -> Array | None:
    """`(T, *B)` bool, or None without lengths."""
    check_floating("ys", ys.dtype)
    if ys.ndim < 2 or ys.shape[0] < 1:
        raise ValueError(f"ys: got shape {ys.shape}, expected (T, *B, H) with T of at least 1")
    if lengths is None:
        return None
    mask = lengths_to_mask(lengths, ys.shape[0])
    if mask.shape != ys.shape[:-1]:
        raise ValueError(
            f"lengths: got shape {mask.shape[1:]}, expected {ys.shape[1:-1]} (*B), that of ys"
        )
    return mask
