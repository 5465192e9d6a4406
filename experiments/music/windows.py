"""Pieces as rows of steps: to train in windows of truncated BPTT, to score each one whole."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from rnnjax.text.batches import Batches, shuffler


class Steps(NamedTuple):
    """The steps of all pieces, one behind the other; N in all."""

    inputs: np.ndarray  # (N, ...)
    targets: np.ndarray  # (N, ...)
    lengths: np.ndarray  # of each piece


class Window(NamedTuple):
    """T steps of B rows; a pytree, with the names that models ask of a batch."""

    inputs: np.ndarray  # (T, B, ...)
    targets: np.ndarray  # (T, B, ...)
    resets: np.ndarray  # (T, B) bool: a piece, or a row that begins within one
    weights: np.ndarray  # (T, B) float32, 0 for padding


def training_windows(steps: Steps, batch_size: int, window: int, seed: int) -> Batches:
    """Windows of T steps of B rows: an epoch has all pieces, in another order each time.

    They stand one behind the other and are cut into B rows of one length, so that every epoch has
    as many windows. A piece that is cut has a row for either part, the second from the zero state.

    Raises:
        ValueError: there are fewer steps than rows, or a size is below one.
    """
    count = len(steps.targets)
    if not 1 <= batch_size <= count or window < 1:
        raise ValueError(
            f"batch_size, window: got {batch_size} and {window}, expected at least 1, and at most "
            f"{count} rows"
        )
    longest = -(-count // batch_size)
    per_epoch = -(-longest // window)

    @lru_cache(2)
    def rows(epoch: int) -> tuple[np.ndarray, np.ndarray]:
        order = shuffler(seed, epoch).permutation(len(steps.lengths))
        places, begins = _one_behind_the_other(steps.lengths, order)
        cuts = np.arange(batch_size + 1) * count // batch_size
        laid = np.full((per_epoch * window, batch_size), -1, np.int64)
        resets = np.zeros(laid.shape, bool)
        for row, (begin, end) in enumerate(pairwise(cuts)):
            laid[: end - begin, row] = places[begin:end]
            resets[: end - begin, row] = begins[begin:end]
        resets[0] = True
        return laid, resets

    def make(epoch: int, index: int) -> Window:
        laid, resets = rows(epoch)
        here = slice(index * window, (index + 1) * window)
        return _window(steps, laid[here], resets[here])

    return Batches(per_epoch, make)


def transposed(batches: Batches, keys: int, seed: int) -> Batches:
    """Windows of piano rolls `(T, B, I)`, in each epoch half of the rows moved by up to `keys`.

    A row is moved by one number for a whole epoch, so that it stays one piece of music. Keys at the
    ends are taken to be silent: what is moved past one end comes in at the other.

    Args:
        batches: of `training_windows`.
        keys: the most, up or down; 0 moves none.
        seed: of the draws.
    """

    def make(epoch: int, index: int) -> Window:
        window = batches.make(epoch, index)
        rng = shuffler(seed, epoch)
        rows = window.inputs.shape[1]
        moves = rng.integers(-keys, keys, rows, endpoint=True) * (rng.random(rows) < 0.5)
        inputs, targets = (
            np.stack([np.roll(part[:, row], moves[row], axis=-1) for row in range(rows)], axis=1)
            for part in (window.inputs, window.targets)
        )
        return window._replace(inputs=inputs, targets=targets)

    return Batches(batches.per_epoch, make)


def whole_windows(steps: Steps, batch_size: int, window: int) -> list[Window]:
    """All steps once, each piece whole in one of B rows, in windows of T steps in order.

    The longest piece first, each to the row that is shortest so far.

    Raises:
        ValueError: a size is below one.
    """
    if batch_size < 1 or window < 1:
        raise ValueError(f"batch_size, window: got {batch_size} and {window}, expected at least 1")
    rows: list[list[int]] = [[] for _ in range(batch_size)]
    ends = np.zeros(batch_size, np.int64)
    for piece in np.argsort(-np.asarray(steps.lengths), kind="stable"):
        row = int(ends.argmin())
        rows[row].append(int(piece))
        ends[row] += steps.lengths[piece]
    count = -(-int(ends.max()) // window)
    laid = np.full((count * window, batch_size), -1, np.int64)
    resets = np.zeros(laid.shape, bool)
    for row, pieces in enumerate(rows):
        places, begins = _one_behind_the_other(steps.lengths, pieces)
        laid[: len(places), row] = places
        resets[: len(places), row] = begins
    return [
        _window(steps, laid[begin : begin + window], resets[begin : begin + window])
        for begin in range(0, len(laid), window)
    ]


def _one_behind_the_other(
    lengths: np.ndarray, order: Sequence[int] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Places of steps of pieces in an order, and whether a piece begins there."""
    starts = np.cumsum(lengths) - lengths
    runs = [np.arange(starts[piece], starts[piece] + lengths[piece]) for piece in order]
    places = np.concatenate([np.zeros(0, np.int64), *runs])
    return places, np.isin(places, starts)


def _window(steps: Steps, places: np.ndarray, resets: np.ndarray) -> Window:
    is_step = places >= 0
    shape = (*places.shape, *(1,) * (steps.inputs.ndim - 1))
    inputs, targets = (
        np.where(is_step.reshape(shape), part[places], np.zeros((), part.dtype))
        for part in (steps.inputs, steps.targets)
    )
    return Window(inputs, targets, resets, is_step.astype(np.float32))
