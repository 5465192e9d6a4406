"""A linear-chain conditional random field: the tags of a sequence scored together, not one by one.

score(y) = start[y^<1>] + Σ_t s^<t>[y^<t>] + Σ_t transitions[y^<t-1>, y^<t>] + end[y^<Ty>],
P(y | x) = exp(score(y)) / Z,  Z = Σ_y' exp(score(y'))

s^<t> is what a network makes of x. There are K^Ty sequences of tags; sums over all of them, and the
best of them (`rnnjax.decoding.viterbi`), take Ty·K² operations, since a step sees the tag before it
alone.

References:
    Lafferty, McCallum and Pereira (2001), "Conditional random fields", section 3. Lample et al.
    (2016), arXiv:1603.01360, section 2.2, on top of a bidirectional LSTM.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike, DTypeLike

from rnnjax.layers.checks import check_floating, check_size, checked_ids
from rnnjax.plans.masking import within_lengths


class ConditionalRandomFieldParams(NamedTuple):
    """Scores of tags beside each other; −inf forbids, see `forbid`."""

    transitions: Array  # (K, K), [i, j] from tag i to tag j
    start: Array  # (K,), of the first tag
    end: Array  # (K,), of the last tag


def init_conditional_random_field(
    tag_count: int, *, dtype: DTypeLike = jnp.float32
) -> ConditionalRandomFieldParams:
    """All scores zero: tags are independent, and P(y | x) is a softmax at each step.

    Args:
        tag_count: K.
        dtype: Floating.

    Raises:
        ValueError: K is not an integer or below one.
        TypeError: The dtype is not floating.
    """
    check_size("tag_count", tag_count)
    check_floating("dtype", dtype)
    zeros = jnp.zeros(tag_count, dtype)
    return ConditionalRandomFieldParams(jnp.zeros((tag_count, tag_count), dtype), zeros, zeros)


def forbid(
    params: ConditionalRandomFieldParams,
    *,
    transitions: ArrayLike | None = None,
    start: ArrayLike | None = None,
    end: ArrayLike | None = None,
) -> ConditionalRandomFieldParams:
    """The field over fewer sequences: P is 0 of those with a tag where it may not stand.

    The scores of what is forbidden become −inf and get no gradient.

    Args:
        params: The scores.
        transitions: `(K, K)` bool, True where tag j may follow tag i; None is everywhere.
        start: `(K,)` bool, True for a tag that may be the first; None is all.
        end: `(K,)` bool, True for a tag that may be the last; None is all.

    Raises:
        TypeError: One is not boolean.
        ValueError: One has another shape than its scores.
    """
    allowed = {"transitions": transitions, "start": start, "end": end}
    changed: dict[str, Array] = {}
    for name, given in allowed.items():
        if given is None:
            continue
        mask, scores = jnp.asarray(given), getattr(params, name)
        if mask.dtype != jnp.bool_:
            raise TypeError(f"{name}: got dtype {mask.dtype.name}, expected bool")
        if mask.shape != scores.shape:
            raise ValueError(f"{name}: got shape {mask.shape}, expected {scores.shape}")
        changed[name] = jnp.where(mask, scores, jnp.full_like(scores, -jnp.inf))
    return params._replace(**changed)


def sequence_score(
    params: ConditionalRandomFieldParams,
    scores: ArrayLike,
    tags: ArrayLike,
    *,
    lengths: ArrayLike | None = None,
) -> Array:
    """The score of one sequence of tags: of its steps, its transitions, and its two ends.

    score(y) = start[y^<1>] + Σ_t s^<t>[y^<t>] + Σ_t transitions[y^<t-1>, y^<t>] + end[y^<Ty>]

    Args:
        params: The scores of transitions.
        scores: `(T, *B, K)`, floating: s^<t>; past a length they are not read.
        tags: `(T, *B)` integer, 0 … K−1; past a length they are not read.
        lengths: `(*B,)` integer, 0 … T; None is T for all.

    Returns:
        `(*B,)`, float32 or wider; 0 of an empty sequence.

    Raises:
        TypeError: An argument is of the wrong dtype.
        ValueError: Shapes do not fit, or a known tag that counts is outside 0 … K−1.
    """
    params, scores, valid = checked_field(params, scores, lengths)
    tags = jnp.asarray(tags)
    if tags.shape != scores.shape[:-1]:
        raise ValueError(f"tags: got shape {tags.shape}, expected {scores.shape[:-1]}")
    if not jnp.issubdtype(tags.dtype, jnp.integer):
        raise TypeError(f"tags: got dtype {tags.dtype.name}, expected an integer dtype")
    tags = checked_ids("tags", jnp.where(valid, tags, jnp.zeros_like(tags)), scores.shape[-1])
    of_steps = jnp.take_along_axis(scores, tags[..., None], axis=-1, mode="fill")[..., 0]
    of_transitions = params.transitions.at[tags[:-1], tags[1:]].get(
        mode="fill", fill_value=jnp.nan, wrap_negative_indices=False
    )
    last = jnp.sum(valid, axis=0, dtype=jnp.int32) - 1
    last_tag = jnp.take_along_axis(tags, jnp.maximum(last, 0)[None], axis=0)[0]
    zero = jnp.zeros_like(of_steps[0])
    return (
        jnp.sum(jnp.where(valid, of_steps, zero), axis=0)
        + jnp.sum(jnp.where(valid[1:], of_transitions, zero), axis=0)
        + jnp.where(valid[0], params.start[tags[0]] + params.end[last_tag], zero)
    )


def log_partition(
    params: ConditionalRandomFieldParams,
    scores: ArrayLike,
    *,
    lengths: ArrayLike | None = None,
) -> Array:
    """Log Z, the log of the sum over all sequences of tags, by one scan along time.

    α^<1> = start + s^<1>,  α^<t>[j] = s^<t>[j] + log Σ_i exp(α^<t-1>[i] + transitions[i, j]),
    log Z = log Σ_j exp(α^<Ty>[j] + end[j])

    Its gradient is finite wherever Z > 0, also beside scores of −inf.

    Args:
        params: The scores of transitions.
        scores: `(T, *B, K)`, floating: s^<t>; past a length they are not read.
        lengths: `(*B,)` integer, 0 … T; None is T for all.

    Returns:
        `(*B,)`, float32 or wider; 0 of an empty sequence, which has one sequence of tags; −inf
        where all are forbidden.

    Raises:
        TypeError: An argument is of the wrong dtype.
        ValueError: Shapes do not fit.
    """
    params, scores, valid = checked_field(params, scores, lengths)

    def step(alpha: Array, at_t: tuple[Array, Array]) -> tuple[Array, None]:
        score, is_valid = at_t
        new = score + _log_sum_exp(alpha[..., :, None] + params.transitions, axis=-2)
        return jnp.where(is_valid[..., None], new, alpha), None

    alpha, _ = lax.scan(step, params.start + scores[0], (scores[1:], valid[1:]))
    total = _log_sum_exp(alpha + params.end, axis=-1)
    return jnp.where(valid[0], total, jnp.zeros_like(total))


def conditional_random_field_loss(
    params: ConditionalRandomFieldParams,
    scores: ArrayLike,
    tags: ArrayLike,
    *,
    lengths: ArrayLike | None = None,
) -> Array:
    """How surprised the field is by the tags of each sequence, in nats.

    L = −log P(y | x) = log Z − score(y)

    With all transitions zero it is the cross-entropy summed over the steps. Of tags that the field
    forbids it is +inf.

    Args:
        params: The scores of transitions.
        scores: `(T, *B, K)`, floating: s^<t>.
        tags: `(T, *B)` integer, 0 … K−1.
        lengths: `(*B,)` integer, 0 … T; None is T for all. What lies past them is not read.

    Returns:
        `(*B,)`, float32 or wider, at least 0; 0 of an empty sequence.

    Raises:
        TypeError: An argument is of the wrong dtype.
        ValueError: As `sequence_score`.
    """
    score = sequence_score(params, scores, tags, lengths=lengths)
    return log_partition(params, scores, lengths=lengths) - score


def marginals(
    params: ConditionalRandomFieldParams,
    scores: ArrayLike,
    *,
    lengths: ArrayLike | None = None,
) -> Array:
    """How probable each tag is at each step, whatever the others are: P(y^<t> = k | x).

    P(y^<t> = k | x) = ∂ log Z / ∂ s^<t>[k]: the backward pass of the scan is the backward half of
    the forward-backward algorithm.

    Args:
        params: The scores of transitions.
        scores: `(T, *B, K)`, floating: s^<t>.
        lengths: `(*B,)` integer, 0 … T; None is T for all.

    Returns:
        `(T, *B, K)`, float32 or wider: sums to 1 over K within a length, 0 past it.

    Raises:
        TypeError: An argument is of the wrong dtype.
        ValueError: As `log_partition`.
    """
    params, scores, _ = checked_field(params, scores, lengths)
    return jax.grad(lambda s: jnp.sum(log_partition(params, s, lengths=lengths)))(scores)


def checked_field(
    params: ConditionalRandomFieldParams, scores: ArrayLike, lengths: ArrayLike | None
) -> tuple[ConditionalRandomFieldParams, Array, Array]:
    """The arguments in one dtype, float32 at least, scores past a length zero, and which are not.

    Returns:
        params: In the dtype of the scores.
        scores: `(T, *B, K)`.
        valid: `(T, *B)` bool.

    Raises:
        TypeError: An argument is of the wrong dtype.
        ValueError: Shapes do not fit, or a known length is outside 0 … T.
    """
    scores = jnp.asarray(scores)
    check_floating("scores", scores.dtype)
    tag_count = params.start.shape[-1]
    if scores.ndim < 2 or scores.shape[0] < 1 or scores.shape[-1] != tag_count:
        raise ValueError(
            f"scores: got shape {scores.shape}, expected (T, *B, {tag_count}) with T at least 1"
        )
    if jnp.finfo(scores.dtype).bits < 32:
        scores = scores.astype(jnp.float32)
    params = jax.tree.map(lambda array: array.astype(scores.dtype), params)
    steps, batch_shape = scores.shape[0], scores.shape[1:-1]
    if lengths is None:
        return params, scores, jnp.ones(scores.shape[:-1], jnp.bool_)
    lengths = jnp.asarray(lengths)
    if lengths.shape != batch_shape:
        raise ValueError(f"lengths: got shape {lengths.shape}, expected {batch_shape}")
    lengths = checked_ids("lengths", lengths, steps + 1)
    valid = within_lengths(lengths, steps)
    return params, jnp.where(valid[..., None], scores, jnp.zeros_like(scores)), valid


def _log_sum_exp(values: Array, axis: int) -> Array:
    """Log Σ exp; −inf, with a gradient of zero rather than NaN, where all values are −inf."""
    highest = lax.stop_gradient(jnp.max(values, axis=axis, keepdims=True))
    highest = jnp.where(jnp.isneginf(highest), jnp.zeros_like(highest), highest)
    total = jnp.sum(jnp.exp(values - highest), axis=axis)
    is_none = total == 0
    log_total = jnp.log(jnp.where(is_none, jnp.ones_like(total), total))
    summed = jnp.squeeze(highest, axis) + log_total
    return jnp.where(is_none, jnp.full_like(total, -jnp.inf), summed)
