"""An LSTM as loops over rows and steps in NumPy, with a place to meddle in each step."""

from collections.abc import Callable
from typing import Any

import numpy as np

RowState = tuple[np.ndarray, np.ndarray]


def seen_as_it_is(t: int, row: int, h: np.ndarray) -> np.ndarray:
    return h


def kept_as_it_is(t: int, row: int, old: RowState, new: RowState) -> RowState:
    return new


def scan_rows(
    params: Any,
    xs: Any,
    carry: Any,
    *,
    lengths: Any,
    resets: Any,
    fresh_carry: Any,
    reverse: bool,
    seen: Callable[..., np.ndarray] = seen_as_it_is,
    kept: Callable[..., RowState] = kept_as_it_is,
) -> tuple[RowState, np.ndarray]:
    """Run `(T, B, I)` row by row.

    `seen` makes of h what the recurrent weights see; `kept` makes of the carries before and after
    a step the one that is kept, whose h is the output.
    """
    w_x, w_h, b = (np.asarray(leaf) for leaf in params)
    xs, h_last, c_last = np.asarray(xs), *(np.array(leaf) for leaf in carry)
    ys = np.zeros((*xs.shape[:2], w_h.shape[0]))
    for row, length in enumerate(np.asarray(lengths)):
        state = h_last[row], c_last[row]
        for t in reversed(range(length)) if reverse else range(length):
            if resets[t, row]:
                state = tuple(np.asarray(leaf)[row] for leaf in fresh_carry)
            h, c = state
            sums = xs[t, row] @ w_x + b + seen(t, row, h) @ w_h
            input_, forget, candidate, output = np.split(sums, 4)
            new_c = _sigmoid(forget) * c + _sigmoid(input_) * np.tanh(candidate)
            state = kept(t, row, (h, c), (_sigmoid(output) * np.tanh(new_c), new_c))
            ys[t, row] = state[0]
        h_last[row], c_last[row] = state
    return (h_last, c_last), ys


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
