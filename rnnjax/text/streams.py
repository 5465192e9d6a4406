"""A corpus as parallel continuous streams, for truncated backpropagation through time.

The documents stand one after the other, the whole is cut into B streams, and a training step reads
the next T steps of all of them, so that the carry at the end of one window is the right carry for
the start of the next.

Each document is preceded by a begin token, and nothing is predicted across the border between two
documents: a document's first token is predicted from the begin token and a cleared carry. So every
token of the corpus is a target exactly once an epoch, the probabilities of a document's tokens
multiply to the probability of the document, and a new document is sampled from the begin token
and the zero carry, exactly as the model was trained. To have the end of a document predicted too,
put an end token behind it before it comes here.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np


class TextBatch(NamedTuple):
    """T steps of B streams: what a language model reads, and what it is to predict."""

    inputs: np.ndarray | jax.Array  # (T, B) int32, the token before each target
    targets: np.ndarray | jax.Array  # (T, B) int32
    resets: np.ndarray | jax.Array  # (T, B) bool, clear the carry before this step
    weights: np.ndarray | jax.Array  # (T, B) float32, 1 for a token, 0 for padding


class TokenStreams(NamedTuple):
    """A corpus of N tokens in B streams of S = ceil(N / B) steps.

    Stream b holds the tokens from floor(b N / B) to floor((b + 1) N / B), so that streams differ by
    one token at most, and padding behind them.
    """

    inputs: np.ndarray  # (S, B) int32
    targets: np.ndarray  # (S, B) int32
    resets: np.ndarray  # (S, B) bool
    weights: np.ndarray  # (S, B) float32


def lay_out(
    documents: Sequence[np.ndarray] | np.ndarray, batch_size: int, begin_id: int
) -> TokenStreams:
    """Lay documents out in B parallel streams; inputs are the targets shifted by one.

    `resets` is True at the first token of each document, and at the first step of each stream: a
    carry brought along from the end of the last epoch is cleared by the model's own resets. (A
    stream that starts inside a document starts with that document's true previous token as input.)

    Args:
        documents: arrays (n,) of ids, or one such array; empty documents add nothing.
        batch_size: B.
        begin_id: the id of the begin token.

    Raises:
        ValueError: a document is not one row of integers, or there are fewer than B tokens.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}, expected at least 1")
    rows = [documents] if isinstance(documents, np.ndarray) else documents
    rows = [_checked(index, row) for index, row in enumerate(rows) if len(row)]
    count = sum(map(len, rows))
    if count == 0:
        raise ValueError("documents: got an empty corpus, expected at least one token")
    if count < batch_size:
        raise ValueError(
            f"documents: got {count} tokens in all, expected at least batch_size = {batch_size}"
        )
    targets = np.concatenate(rows)
    resets = np.zeros(count, bool)
    resets[np.cumsum([0, *map(len, rows[:-1])])] = True
    inputs = np.concatenate([targets[:1], targets[:-1]])
    inputs[resets] = begin_id

    cuts = np.arange(batch_size + 1) * count // batch_size
    starts, lengths = cuts[:-1], np.diff(cuts)
    steps = np.arange(lengths.max())[:, None]
    valid = steps < lengths
    places = np.minimum(starts + steps, count - 1)
    return TokenStreams(
        inputs=np.where(valid, inputs[places], np.int32(begin_id)),
        targets=np.where(valid, targets[places], np.int32(begin_id)),
        resets=(valid & resets[places]) | (steps == 0),
        weights=valid.astype(np.float32),
    )


def windows_per_epoch(streams: TokenStreams, steps: int) -> int:
    """How many windows of T steps cover every token once: ceil(S / T).

    Raises:
        ValueError: T is not positive, or is longer than the streams (the corpus is too short).
    """
    length, batch_size = streams.targets.shape
    if not 1 <= steps <= length:
        raise ValueError(
            f"steps: got {steps}, expected 1..{length}, the length of the {batch_size} streams "
            "of this corpus"
        )
    return -(-length // steps)


def window(streams: TokenStreams, position: int, steps: int) -> TextBatch:
    """The window (T, B) number `position` since training began; a pure function of its arguments.

    Past the end of an epoch the count wraps round to the first window, whose first step resets
    every stream. The last window of an epoch is filled up with padding of weight 0.

    Args:
        streams: the corpus.
        position: the number of windows before this one, over all epochs.
        steps: T.

    Raises:
        ValueError: the position is negative, or as `windows_per_epoch`.
    """
    if position < 0:
        raise ValueError(f"position: got {position}, expected at least 0")
    return _slice(streams, position % windows_per_epoch(streams, steps), steps)


def evaluation_windows(streams: TokenStreams, steps: int) -> Iterator[TextBatch]:
    """All windows of one epoch in order, each token once; all are (T, B), so one trace serves all.

    A corpus shorter than one window is legal here: it is one window with padding.

    Raises:
        ValueError: T is not positive.
    """
    if steps < 1:
        raise ValueError(f"steps: got {steps}, expected at least 1")
    count = -(-len(streams.targets) // steps)
    return (_slice(streams, index, steps) for index in range(count))


def _slice(streams: TokenStreams, index: int, steps: int) -> TextBatch:
    parts = [part[index * steps : (index + 1) * steps] for part in streams]
    missing = steps - len(parts[0])
    if missing:
        parts = [np.pad(part, ((0, missing), (0, 0))) for part in parts]
    return TextBatch(*parts)


def _checked(index: int, row: np.ndarray) -> np.ndarray:
    ids = np.asarray(row)
    if ids.ndim != 1:
        raise ValueError(f"documents: number {index} has shape {ids.shape}, expected one axis")
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(
            f"documents: number {index} has dtype {ids.dtype}, expected an integer dtype"
        )
    return ids.astype(np.int32)
