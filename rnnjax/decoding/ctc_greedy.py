"""The likeliest path of connectionist temporal classification, whole or while the sound plays."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from rnnjax.layers.checks import check_floating, checked_ids
from rnnjax.losses.ctc import BLANK


class GreedyLabels(NamedTuple):
    """The likeliest label of each step, and at which steps one is said that was not before."""

    path: Array  # (T, *B) int32; the blank past a length
    said: Array  # (T, *B) bool; the labels of a row are path[said]
    last: Array  # (*B,) int32, what the next steps are given as `before`


def ctc_greedy(
    scores: ArrayLike, *, lengths: ArrayLike | None = None, before: ArrayLike | None = None
) -> GreedyLabels:
    """The likeliest path, π^<t> = argmax_v scores^<t>[v], and the labels it says.

    said^<t> = (π^<t> ≠ blank) and (π^<t> ≠ π^<t-1>)

    It is the most probable path, not the most probable labelling, which many paths may share; see
    `rnnjax.decoding.ctc_prefix_beam`. A stretch of time at once gives what its parts give one after
    the other, each with the `last` of the one before.

    Args:
        scores: `(T, *B, V)`, floating: logits or log-probabilities. Label 0 is the blank.
        lengths: `(*B,)` integer, 0 … T; None is T for all.
        before: `(*B,)` integer, π^<0>; None is the blank.

    Raises:
        TypeError: An argument is of the wrong dtype.
        ValueError: Shapes do not fit, or a known value is out of range.

    References:
        Graves et al. (2006), ICML, section 3.2: best path decoding.
    """
    scores = jnp.asarray(scores)
    check_floating("scores", scores.dtype)
    if scores.ndim < 2:
        raise ValueError(f"scores: got shape {scores.shape}, expected (T, *B, V)")
    steps, batch_shape = scores.shape[0], scores.shape[1:-1]
    if before is None:
        before = jnp.full(batch_shape, BLANK, jnp.int32)
    before = checked_ids("before", before, scores.shape[-1]).astype(jnp.int32)
    if before.shape != batch_shape:
        raise ValueError(f"before: got shape {before.shape}, expected {batch_shape}")
    path = lax.argmax(scores, scores.ndim - 1, jnp.int32)
    count = jnp.full(batch_shape, steps, jnp.int32)
    if lengths is not None:
        count = checked_ids("lengths", lengths, steps + 1).astype(jnp.int32)
        if count.shape != batch_shape:
            raise ValueError(f"lengths: got shape {count.shape}, expected {batch_shape}")
        places = jnp.arange(steps, dtype=jnp.int32).reshape(-1, *(1,) * len(batch_shape))
        path = jnp.where(places < count, path, jnp.full_like(path, BLANK))
    since = jnp.concatenate([before[None], path])
    said = (path != BLANK) & (path != since[:-1])
    return GreedyLabels(path, said, jnp.take_along_axis(since, count[None], axis=0)[0])
