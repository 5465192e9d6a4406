"""A sequence too long to be read at once, as pieces that overlap; one of them tells of each step.

The steps near a cut lack what is beyond it: so pieces overlap, and the margins of each are left
out.
"""

from typing import NamedTuple

import numpy as np

from rnnjax.plans.protocol import check_size


class Pieces(NamedTuple):
    """Where the pieces of a sequence of T steps lie; all have P steps, but that of a short one.

    The parts from `begins` to `ends` lie side by side: together they are the sequence.
    """

    starts: np.ndarray  # (N,) int64
    begins: np.ndarray  # (N,) int64, first step that a piece is asked for
    ends: np.ndarray  # (N,) int64, and the one after the last
    size: int  # P, or T if that is less


def cut_points(steps: int, size: int, margin: int) -> Pieces:
    """Where to cut a sequence.

    A step has `margin` steps of its piece on both sides, or is as near to an end of the sequence.

    Args:
        steps: T.
        size: P, of a piece.
        margin: M, left out at both ends of a piece, 2 M < P.

    Raises:
        ValueError: A number is below one, the margin negative or too large.
    """
    check_size("steps", steps)
    check_size("size", size)
    if not 0 <= 2 * margin < size:
        raise ValueError(f"margin: got {margin}, expected at least 0 and below {size} / 2")
    if steps <= size:
        return Pieces(np.zeros(1, np.int64), np.zeros(1, np.int64), np.asarray([steps]), steps)
    starts = np.arange(0, steps - size, size - 2 * margin)
    starts = np.append(starts, steps - size)
    ends = starts + size - margin
    ends[-1] = steps
    begins = np.concatenate([[0], ends[:-1]])
    return Pieces(starts, begins, ends, size)


def cut(xs: np.ndarray, pieces: Pieces) -> np.ndarray:
    """The pieces side by side, `(T, ...) -> (P, N, ...)`."""
    return xs[np.arange(pieces.size)[:, None] + pieces.starts]


def join(ys: np.ndarray, pieces: Pieces) -> np.ndarray:
    """What was told of the pieces as one sequence, `(P, N, ...) -> (T, ...)`."""
    return np.concatenate(
        [
            ys[begin - start : end - start, n]
            for n, (start, begin, end) in enumerate(
                zip(pieces.starts, pieces.begins, pieces.ends, strict=True)
            )
        ]
    )
