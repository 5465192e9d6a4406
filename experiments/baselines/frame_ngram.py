"""Models of piano rolls that are not neural nets: keys by frequency, the last frame, n-grams.

All give −log P of each frame, in nats, of pieces that begin after a silent frame.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class FrameNGram(NamedTuple):
    """P_k(y | h) = (n(hy) + d(h) P_{k-1}(y | h')) / (n(h) + d(h)), whole frames as symbols.

    h are the k frames before, h' is h without the first of them, d(h) is the number of distinct
    frames seen after h (Witten and Bell 1991); where h was never seen P is P_{k-1}. P_{-1} has each
    key by itself, given whether it sounded in the frame before; so every frame has a probability,
    and those of all 2^I frames have the sum 1.
    """

    sounding: np.ndarray  # (2, I) float64: P that a key sounds, given silent or sounding before
    counts: tuple[dict[bytes, Counter[bytes]], ...]  # by k: h -> frame -> how often


def by_frequency(train: Sequence[np.ndarray], held_out: Sequence[np.ndarray]) -> list[np.ndarray]:
    """−log P of each frame with keys independent, and as frequent as in the training part.

    P(y) = Π_i p_i^{y_i} (1 − p_i)^{1 − y_i},  p_i = (n_i + 1/2) / (n + 1)

    Args:
        train: pieces `(frames, I)` of 0 and 1.
        held_out: likewise.

    Returns:
        For each held-out piece `(frames,)` float64.
    """
    frames = np.concatenate(train)
    shares = (frames.sum(0) + 0.5) / (len(frames) + 1)
    return [_nats(piece, np.broadcast_to(shares, piece.shape)) for piece in held_out]


def by_last_frame(train: Sequence[np.ndarray], held_out: Sequence[np.ndarray]) -> list[np.ndarray]:
    """−log P of each frame with keys independent given each one's own last frame.

    The last frame is repeated with noise: a key that sounds ends, and one that is silent begins,
    as often as in the training part, each key by itself (n + 1/2 over N + 1).

    Args:
        train: pieces `(frames, I)` of 0 and 1.
        held_out: likewise.

    Returns:
        For each held-out piece `(frames,)` float64.
    """
    sounding = _after_last_frame(train)
    return [_nats_of_keys(sounding, piece) for piece in held_out]


def fit(train: Sequence[np.ndarray], frames_before: int = 2) -> FrameNGram:
    """Count frames after 0 … `frames_before` frames.

    Args:
        train: pieces `(frames, I)` of 0 and 1.
        frames_before: k of the longest context.

    Raises:
        ValueError: there is no piece, or the context is negative.
    """
    if not train or frames_before < 0:
        raise ValueError(
            f"train, frames_before: got {len(train)} pieces and {frames_before}, expected at "
            "least one piece and at least 0"
        )
    counts: list[dict[bytes, Counter[bytes]]] = []
    for before in range(frames_before + 1):
        of_length: dict[bytes, Counter[bytes]] = defaultdict(Counter)
        for piece in train:
            for context, frame in _contexts(piece, before):
                of_length[context][frame] += 1
        counts.append(dict(of_length))
    return FrameNGram(_after_last_frame(train), tuple(counts))


def nats(model: FrameNGram, held_out: Sequence[np.ndarray]) -> list[np.ndarray]:
    """−log P of each frame: for each piece `(frames,)` float64."""
    found = []
    for piece in held_out:
        probability = np.exp(-_nats_of_keys(model.sounding, piece))
        for before, counts in enumerate(model.counts):
            for time, (context, frame) in enumerate(_contexts(piece, before)):
                after = counts.get(context)
                if after is not None:
                    distinct = len(after)
                    probability[time] = (after[frame] + distinct * probability[time]) / (
                        after.total() + distinct
                    )
        found.append(-np.log(probability))
    return found


def _contexts(piece: np.ndarray, before: int) -> list[tuple[bytes, bytes]]:
    silence = np.zeros((before, piece.shape[1]), np.uint8)
    padded = np.concatenate([silence, piece.astype(np.uint8)])
    width = padded.shape[1]
    content = padded.tobytes()
    return [
        (
            content[t * width : (t + before) * width],
            content[(t + before) * width : (t + before + 1) * width],
        )
        for t in range(len(piece))
    ]


def _after_last_frame(train: Sequence[np.ndarray]) -> np.ndarray:
    before = np.concatenate([np.concatenate([np.zeros_like(p[:1]), p[:-1]]) for p in train])
    now = np.concatenate(train)
    seen = [(before == state) for state in (0, 1)]
    return np.stack([((now * s).sum(0) + 0.5) / (s.sum(0) + 1) for s in seen])


def _nats_of_keys(sounding: np.ndarray, piece: np.ndarray) -> np.ndarray:
    before = np.concatenate([np.zeros_like(piece[:1]), piece[:-1]]).astype(np.int64)
    return _nats(piece, sounding[before, np.arange(piece.shape[1])])


def _nats(piece: np.ndarray, shares: np.ndarray) -> np.ndarray:
    return -np.log(np.where(piece == 1, shares, 1 - shares)).sum(1)
