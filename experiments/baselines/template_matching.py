"""Recognition without learning: the recorded template that is nearest after bending time.

Dynamic time warping in the form that follows the sound step by step: every frame heard is matched
once, and a template stands still, goes on by one frame or by two. So costs of templates of any
length compare.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Templates(NamedTuple):
    """N recordings side by side, time first."""

    frames: np.ndarray  # (J, N, D) float32; past a length zeros, which are not read
    lengths: np.ndarray  # (N,)
    squares: np.ndarray  # (J, N), |r_j|²


def templates_of(recordings: Sequence[np.ndarray]) -> Templates:
    """Recordings `(J, D)`, J of each its own, as templates.

    Raises:
        ValueError: There is none, or one has no frame.
    """
    lengths = np.asarray([len(one) for one in recordings])
    if not len(lengths) or lengths.min() < 1:
        raise ValueError(
            f"recordings: got lengths {lengths.tolist()}, expected at least one of at least 1"
        )
    frames = np.zeros((lengths.max(), len(recordings), recordings[0].shape[1]), np.float32)
    for number, one in enumerate(recordings):
        frames[: len(one), number] = one
    return Templates(frames, lengths, (frames**2).sum(-1))


def match(templates: Templates, heard: np.ndarray) -> np.ndarray:
    """What it costs to take what is heard for each template, `(N,)`; infinite where it cannot be.

    D_t[j] = |x^<t> − r_j|² + min(D_{t-1}[j], D_{t-1}[j−1], D_{t-1}[j−2]), from r_0 to the last one

    References:
        Sakoe and Chiba (1978), IEEE Transactions on Acoustics, Speech, and Signal Processing 26(1),
        in the asymmetric form.
    """
    lengths = templates.lengths
    total = np.full(templates.frames.shape[:2], np.inf, np.float32)
    for t, frame in enumerate(heard):
        before = _cheapest(total)
        if t == 0:
            before[0] = 0
        total = before + _distances(templates, frame)
    return total[lengths - 1, np.arange(len(lengths))]


def match_string(templates: Templates, heard: np.ndarray, penalty: float) -> list[int]:
    """The templates, one after the other, that are nearest together; empty if none can be.

    Args:
        templates: The words.
        heard: `(T, D)`.
        penalty: What a further word costs.

    References:
        Ney (1984), IEEE Transactions on Acoustics, Speech, and Signal Processing 32(2): one stage.
    """
    lengths, count = templates.lengths, len(templates.lengths)
    shape = templates.frames.shape[:2]
    total, began = np.full(shape, np.inf, np.float32), np.zeros(shape, np.int32)
    entry, words, starts = np.float32(0), [], []
    for t, frame in enumerate(heard):
        once, twice = _later(total, 1, np.inf), _later(total, 2, np.inf)
        skips = twice < once
        moved = np.where(skips, twice, once)
        since = np.where(skips, _later(began, 2, 0), _later(began, 1, 0))
        moves = moved < total
        total, began = np.where(moves, moved, total), np.where(moves, since, began)
        enters = total[0] > entry
        began[0] = np.where(enters, t, began[0])
        total[0] = np.minimum(total[0], entry)
        total = total + _distances(templates, frame)
        ends = total[lengths - 1, np.arange(count)]
        best = int(np.argmin(ends))
        words.append(best)
        starts.append(int(began[lengths[best] - 1, best]))
        entry = ends[best] + np.float32(penalty)
    if not words or not np.isfinite(entry):
        return []
    found, t = [], len(words) - 1
    while t >= 0:
        found.append(words[t])
        t = starts[t] - 1
    return found[::-1]


def _later(values: np.ndarray, by: int, fill: float) -> np.ndarray:
    """Each template moved on by so many of its frames."""
    moved = np.full_like(values, fill)
    moved[by:] = values[: len(values) - by]
    return moved


def _cheapest(total: np.ndarray) -> np.ndarray:
    return np.minimum(total, np.minimum(_later(total, 1, np.inf), _later(total, 2, np.inf)))


def _distances(templates: Templates, frame: np.ndarray) -> np.ndarray:
    """Squared distance of a frame to each frame of each template, `(J, N)`."""
    frame = frame.astype(np.float32)
    return np.maximum(templates.squares - 2 * templates.frames @ frame + frame @ frame, 0)
