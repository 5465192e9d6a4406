"""Connectionist temporal classification: labels in order, without knowing when each was said."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from rnnjax.layers.checks import check_floating, checked_ids

BLANK = 0
"""The id of the blank, which says that no label is said at a step."""

_NEVER = -1e5  # as optax has it: exp of it is 0, and it makes no NaN


class LabelWindows(NamedTuple):
    """Between which steps labels may be said; both ends are among them."""

    first: ArrayLike  # (Ty, *B) integer
    last: ArrayLike  # (Ty, *B) integer


def ctc_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None,
    windows: LabelWindows | None = None,
) -> Array:
    """How surprised a network is by a sequence of labels, however they are laid out along time.

    L = −log P(y | x),  P(y | x) = Σ_π Π_t softmax(logits^<t>)[π^<t>]

    The sum is over the paths π of Tx labels and blanks that say y: a run of one label is one label,
    and then blanks are left out. Of a path with a label outside of its window the probability is
    not counted: the loss is then −log of what is left, so that it teaches to say a label in time. A
    step is open to a label if it is in the window of any place in y that has this label.

    Where y cannot be said in Tx steps (it takes Ty, and a blank between two equal labels), the loss
    is of the order of 1e5.

    Args:
        logits: `(T, *B, V)`, floating; those below float32 are raised to it. Past a length they are
            not read. Label 0 is the blank.
        labels: `(Ty, *B)` integer, 1 … V−1; past a length anything within 0 … V−1.
        lengths: `(*B,)` integer, 0 … T; None is T for all.
        label_lengths: `(*B,)` integer, 0 … Ty; None is Ty for all.
        windows: When labels may be said; None is at any step.

    Returns:
        `(*B,)`, nats; float32, or float64 for logits in float64. 0 where both lengths are 0.

    Raises:
        TypeError: An argument is of the wrong dtype.
        ValueError: Shapes do not fit, T or Ty is 0, or a known label is out of range.

    References:
        Graves et al. (2006), ICML, section 4; computed by `optax.losses.ctc_loss`. Sak et al.
        (2015), arXiv:1507.06947, section 3.3: paths that are restricted in time.
    """
    logits = jnp.asarray(logits)
    check_floating("logits", logits.dtype)
    if logits.ndim < 2 or logits.shape[0] < 1:
        raise ValueError(f"logits: got shape {logits.shape}, expected (T, *B, V), T at least 1")
    if jnp.finfo(logits.dtype).bits < 32:
        logits = logits.astype(jnp.float32)
    batch_shape, count = logits.shape[1:-1], logits.shape[-1]
    labels = checked_ids("labels", labels, count)
    if labels.ndim < 1 or labels.shape[0] < 1 or labels.shape[1:] != batch_shape:
        raise ValueError(
            f"labels: got shape {labels.shape}, expected (Ty, *B), Ty at least 1, *B {batch_shape}"
        )
    within = _within("lengths", lengths, logits.shape[0], batch_shape)
    said = _within("label_lengths", label_lengths, labels.shape[0], batch_shape)
    logits = jnp.where(within[..., None], logits, jnp.zeros_like(logits))

    outside = jnp.zeros(batch_shape, logits.dtype)
    if windows is not None:
        open_to = _open_to(windows, labels, said, logits.shape)
        restricted = jnp.where(open_to, logits, jnp.full_like(logits, _NEVER))
        # The loss makes the rest sum to 1 at each step; what the others had is added here.
        lost = jax.nn.logsumexp(logits, axis=-1) - jax.nn.logsumexp(restricted, axis=-1)
        outside = jnp.sum(jnp.where(within, lost, jnp.zeros_like(lost)), axis=0)
        logits = restricted

    def rows_first(array: Array) -> Array:
        rest = array.shape[1 + len(batch_shape) :]
        return jnp.moveaxis(array.reshape(array.shape[0], -1, *rest), 1, 0)

    with jax.numpy_dtype_promotion("standard"):  # optax mixes its own constants in
        losses = optax.losses.ctc_loss(
            rows_first(logits),
            1 - rows_first(within).astype(logits.dtype),
            rows_first(labels),
            1 - rows_first(said).astype(logits.dtype),
            blank_id=BLANK,
            log_epsilon=_NEVER,
        )
    return losses.reshape(batch_shape).astype(logits.dtype) + outside


def _within(name: str, lengths: ArrayLike | None, steps: int, batch_shape: tuple) -> Array:
    """`(steps, *B)` bool."""
    if lengths is None:
        return jnp.ones((steps, *batch_shape), jnp.bool_)
    lengths = checked_ids(name, lengths, steps + 1)
    if lengths.shape != batch_shape:
        raise ValueError(f"{name}: got shape {lengths.shape}, expected {batch_shape}")
    places = jnp.arange(steps, dtype=jnp.int32).reshape(-1, *(1,) * len(batch_shape))
    return places < lengths.astype(jnp.int32)


def _open_to(windows: LabelWindows, labels: Array, said: Array, shape: tuple[int, ...]) -> Array:
    """`(T, *B, V)` bool: the labels that may be said at each step, the blank always among them."""
    ends = [jnp.asarray(end) for end in windows]
    for name, end in zip(LabelWindows._fields, ends, strict=True):
        if not jnp.issubdtype(end.dtype, jnp.integer):
            raise TypeError(f"windows.{name}: got dtype {end.dtype.name}, expected an integer one")
        if end.shape != labels.shape:
            raise ValueError(f"windows.{name}: got shape {end.shape}, expected {labels.shape}")
    first, last = (end.astype(jnp.int32) for end in ends)
    steps = jnp.arange(shape[0], dtype=jnp.int32).reshape(-1, *(1,) * labels.ndim)
    inside = (first <= steps) & (steps <= last) & said  # (T, Ty, *B)
    of_label = jax.nn.one_hot(labels, shape[-1], dtype=jnp.float32)  # (Ty, *B, V)
    often = jnp.einsum("ty...,y...v->t...v", inside.astype(jnp.float32), of_label)
    return (often > 0) | (jnp.arange(shape[-1]) == BLANK)
