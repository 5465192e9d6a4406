"""Dropout as arrays, drawn before a loop and multiplied in wherever units are to be dropped."""

from numbers import Real

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from rnnjax.layers.checks import check_floating


def dropout_mask(
    key: Array, rate: float, shape: tuple[int, ...], *, dtype: DTypeLike = jnp.float32
) -> Array:
    """Draw a mask to multiply with: units are dropped, the others scaled to the same mean.

    mask = d / (1 − rate),  d ~ Bernoulli(1 − rate)

    One of shape `(*B, H)` is the same at every step (variational dropout, Gal and Ghahramani), one
    of `(T, *B, H)` is another one at each (Srivastava et al.; Zaremba et al. between layers). In
    evaluation leave the product out: the mean of a mask is one.

    Args:
        key: A random key.
        rate: The probability that a unit is dropped, 0 ≤ rate < 1.
        shape: Of the mask.
        dtype: Floating.

    Returns:
        0 or 1 / (1 − rate), independently, of the given shape and dtype.

    Raises:
        ValueError: The rate is outside 0 ≤ rate < 1.
        TypeError: The rate is not a number, or the dtype is not floating.

    References:
        Srivastava et al. (2014), Journal of Machine Learning Research 15, section 10; Gal and
        Ghahramani (2016), arXiv:1512.05287, section 4.
    """
    check_rate("rate", rate)
    check_floating("dtype", dtype)
    kept = bernoulli(key, 1 - rate, shape)
    return jnp.where(kept, 1 / (1 - rate), 0).astype(dtype)


def per_sequence(masks: Array, starts: Array) -> Array:
    """For rows that hold several sequences: each sequence keeps the mask of its first step.

    mask^<t> = masks^<s>,  s the latest start up to t, or the first step

    Args:
        masks: `(T, *B, H)`, one drawn for each step.
        starts: `(T, *B)` bool, True at the first step of each sequence of a row: the resets of a
            forward scan. The masks serve a reversed one too.

    Returns:
        `(T, *B, H)`.

    Raises:
        TypeError: `starts` is not boolean.
        ValueError: The shapes do not fit.
    """
    if starts.dtype != jnp.bool_:
        raise TypeError(f"starts: got dtype {starts.dtype.name}, expected bool")
    if starts.ndim < 1 or starts.shape != masks.shape[:-1]:
        raise ValueError(
            f"starts: got shape {starts.shape}, expected {masks.shape[:-1]} (T, *B), "
            "the masks' without their last axis"
        )
    times = lax.broadcasted_iota(jnp.int32, starts.shape, 0)
    latest = lax.cummax(jnp.where(starts, times, 0), axis=0)
    return jnp.take_along_axis(masks, latest[..., None], axis=0)


def check_rate(name: str, rate: object) -> None:
    """Raise an error that names the argument unless it is a number within 0 ≤ rate < 1."""
    if not isinstance(rate, Real) or isinstance(rate, bool):
        raise TypeError(f"{name}: got {rate!r}, expected a number")
    if not 0 <= float(rate) < 1:
        raise ValueError(f"{name}: got {rate!r}, expected 0 ≤ {name} < 1")


def bernoulli(key: Array, probability: float, shape: tuple[int, ...]) -> Array:
    """True with the given probability, independently: the same draws with and without x64."""
    return jax.random.bernoulli(key, jnp.asarray(probability, jnp.float32), shape)
