"""The best sequence of tags of a linear-chain conditional random field."""

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from rnnjax.losses.conditional_random_field import ConditionalRandomFieldParams, checked_field


def viterbi(
    params: ConditionalRandomFieldParams,
    scores: ArrayLike,
    *,
    lengths: ArrayLike | None = None,
) -> tuple[Array, Array]:
    """The likeliest tags of each sequence, all together: argmax_y P(y | x).

    δ^<1> = start + s^<1>,  δ^<t>[j] = s^<t>[j] + max_i (δ^<t-1>[i] + transitions[i, j]); then back
    from the best δ^<Ty>[j] + end[j] along the maxima.

    Where nothing is forbidden and transitions are zero, it is the best tag of each step by itself.

    Args:
        params: The scores of transitions; −inf is never taken if there is another way.
        scores: `(T, *B, K)`, floating: s^<t>; past a length they are not read.
        lengths: `(*B,)` integer, 0 … T; None is T for all.

    Returns:
        tags: `(T, *B)` int32; 0 past a length.
        score: `(*B,)`, that of the tags, as `sequence_score` gives it.

    Raises:
        TypeError: An argument is of the wrong dtype.
        ValueError: Shapes do not fit, or a known length is outside 0 … T.

    References:
        Viterbi (1967), IEEE Transactions on Information Theory 13(2); Forney (1973), section III.
    """
    params, scores, valid = checked_field(params, scores, lengths)
    same = jnp.broadcast_to(jnp.arange(scores.shape[-1], dtype=jnp.int32), scores.shape[1:])

    def forward(delta: Array, at_t: tuple[Array, Array]) -> tuple[Array, Array]:
        score, is_valid = at_t
        ways = delta[..., :, None] + params.transitions
        new, before = score + jnp.max(ways, axis=-2), jnp.argmax(ways, axis=-2).astype(jnp.int32)
        # In padding the best way to a tag is to have been there.
        is_valid = is_valid[..., None]
        return jnp.where(is_valid, new, delta), jnp.where(is_valid, before, same)

    delta, before = lax.scan(forward, params.start + scores[0], (scores[1:], valid[1:]))
    best = jnp.max(delta + params.end, axis=-1)
    last = jnp.argmax(delta + params.end, axis=-1).astype(jnp.int32)

    def backward(tag: Array, before: Array) -> tuple[Array, Array]:
        return jnp.take_along_axis(before, tag[..., None], axis=-1)[..., 0], tag

    first, rest = lax.scan(backward, last, before, reverse=True)
    tags = jnp.concatenate([first[None], rest])
    return (
        jnp.where(valid, tags, jnp.zeros_like(tags)),
        jnp.where(valid[0], best, jnp.zeros_like(best)),
    )
