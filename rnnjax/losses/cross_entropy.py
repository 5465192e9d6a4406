"""The cross-entropy of a prediction at each step, and what is reported of it."""

import math

import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from rnnjax.layers.checks import checked_ids


def cross_entropy_per_step(
    logits: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> Array:
    """The course's L^<t>, in nats: how surprised the model is by each target.

    L^<t> = −w^<t> log softmax(logits^<t>)[y^<t>]

    Where the weight is 0 the loss is exactly 0 and has no gradient, whatever the logits (NaN too)
    and the target. Under `jit`, where targets are not known, one outside 0 … V−1 gives NaN rather
    than the loss of some other token.

    Args:
        logits: `(*S, V)`, floating; those below float32 are raised to it first.
        targets: `(*S)` integer, 0 … V−1 wherever the weight is not 0.
        weights: `(*S)` floating or bool; None is 1 everywhere.

    Returns:
        `(*S)`, `*S` being usually `(T, *B)`; float32, or float64 for logits in float64.

    Raises:
        TypeError: An argument is of the wrong dtype.
        ValueError: Shapes differ, or a target that counts is outside 0 … V−1.
    """
    logits, targets = jnp.asarray(logits), jnp.asarray(targets)
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"logits: got dtype {logits.dtype.name}, expected a floating dtype")
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        raise TypeError(f"targets: got dtype {targets.dtype.name}, expected an integer dtype")
    if logits.ndim < 1 or targets.shape != logits.shape[:-1]:
        raise ValueError(f"targets: got shape {targets.shape}, expected {logits.shape[:-1]}")
    if jnp.finfo(logits.dtype).bits < 32:
        logits = logits.astype(jnp.float32)
    vocabulary_size = logits.shape[-1]

    counts = None
    if weights is not None:
        weights = _checked_weights(weights, targets.shape)
        counts = weights.astype(jnp.bool_)
        # Selected before the softmax: a NaN that is multiplied by 0 afterwards is still a NaN.
        logits = jnp.where(counts[..., None], logits, jnp.zeros_like(logits))
        targets = jnp.where(counts, targets, jnp.zeros_like(targets))
    targets = checked_ids("targets", targets, vocabulary_size)

    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, targets)
    inside = (targets >= 0) & (targets < vocabulary_size)
    losses = jnp.where(inside, losses, jnp.full_like(losses, jnp.nan))
    if weights is None or counts is None:
        return losses
    weighted = losses * weights.astype(losses.dtype)
    return jnp.where(counts, weighted, jnp.zeros_like(losses))


def cross_entropy_of_sequences(
    logits: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> Array:
    """The course's loss of each sequence, in nats: the sum over its steps.

    L = Σ_t L^<t> = −log P(y^<1>, …, y^<Ty>)

    Args:
        logits: `(T, *B, V)`, floating.
        targets: `(T, *B)` integer.
        weights: `(T, *B)`, as in `cross_entropy_per_step`; see `weights_of_lengths`.

    Returns:
        `(*B,)`.

    Raises:
        TypeError: An argument is of the wrong dtype.
        ValueError: As `cross_entropy_per_step`, or there is no time axis.
    """
    if jnp.ndim(targets) < 1:
        raise ValueError("targets: got shape (), expected (T, *B)")
    return jnp.sum(cross_entropy_per_step(logits, targets, weights), axis=0)


def mean_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> Array:
    """The mean over all steps that count, in nats per step: for reporting.

    Σ w L^<t> / Σ w, over time and batch; 0 if nothing counts.

    Args:
        logits: `(*S, V)`, floating.
        targets: `(*S)` integer.
        weights: `(*S)`, as in `cross_entropy_per_step`.

    Returns:
        `()`.

    Raises:
        TypeError: An argument is of the wrong dtype.
        ValueError: As `cross_entropy_per_step`.
    """
    losses = cross_entropy_per_step(logits, targets, weights)
    if weights is None:
        return mean_over_counted(jnp.sum(losses), jnp.asarray(losses.size, losses.dtype))
    return mean_over_counted(jnp.sum(losses), jnp.sum(jnp.asarray(weights, losses.dtype)))


def mean_over_counted(total: Array, count: Array) -> Array:
    """`total / count`, and 0 where nothing was counted, without a NaN in the gradient."""
    return total / jnp.where(count == 0, jnp.ones_like(count), count)


def weights_of_lengths(
    lengths: ArrayLike, time_steps: int, dtype: DTypeLike = jnp.float32
) -> Array:
    """1 within a sequence's length and 0 past it.

    Args:
        lengths: `(*B,)` integer, 0 … T.
        time_steps: T.
        dtype: Of the result.

    Returns:
        `(T, *B)`.

    Raises:
        TypeError: The lengths are not integers.
    """
    lengths = jnp.asarray(lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"lengths: got dtype {lengths.dtype.name}, expected an integer dtype")
    times = jnp.arange(time_steps, dtype=lengths.dtype).reshape(-1, *(1,) * lengths.ndim)
    return (times < lengths).astype(dtype)


def bits_per_character(nats: Array) -> Array:
    """Nats per character as bits per character: nats / ln 2."""
    return nats / math.log(2)


def perplexity(nats: Array) -> Array:
    """Nats per token as the number of equally likely tokens that would surprise as much: e^nats."""
    return jnp.exp(nats)


def _checked_weights(weights: ArrayLike, shape: tuple[int, ...]) -> Array:
    weights = jnp.asarray(weights)
    if not (jnp.issubdtype(weights.dtype, jnp.floating) or weights.dtype == jnp.bool_):
        raise TypeError(f"weights: got dtype {weights.dtype.name}, expected floating or bool")
    if weights.shape != shape:
        raise ValueError(f"weights: got shape {weights.shape}, expected {shape}")
    return weights
