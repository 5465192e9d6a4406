"""Clips as arrays: which frames of each are shown, in which order, and what the classes are."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Clips(NamedTuple):
    """The frames of N clips one after the other, and what is done in each clip."""

    frames: np.ndarray  # (F, S, S, 3) uint8
    begins: np.ndarray  # (N,) int64, where each clip begins
    counts: np.ndarray  # (N,) int64, how many frames it has, at least 1
    actions: np.ndarray  # (N,) int32
    names: list[str]

    def __len__(self) -> int:
        return len(self.names)


class Classes(NamedTuple):
    """What there is to tell: an action forwards, or backwards where that is another thing to see.

    The first A classes are the A actions forwards.
    """

    names: tuple[str, ...]  # K of them
    forwards: np.ndarray  # (A,) int32, the class of each action forwards
    backwards: np.ndarray  # (A,) int32, and backwards; the same of an action that has no direction

    @property
    def has_direction(self) -> np.ndarray:
        """Of each action, `(A,)` bool."""
        return self.forwards != self.backwards


def classes_of(actions: Sequence[str], still: Sequence[str]) -> Classes:
    """The classes of actions, of which some look the same backwards.

    Raises:
        ValueError: there are fewer than two actions, or one that is still is none of them.
    """
    if len(actions) < 2:
        raise ValueError(f"actions: got {list(actions)}, expected at least two")
    for name in still:
        if name not in actions:
            raise ValueError(f"data.still: got {name!r}, expected some of {', '.join(actions)}")
    moving = [name for name in actions if name not in still]
    names = (*actions, *(f"{name}, backwards" for name in moving))
    backwards = [
        len(actions) + moving.index(name) if name in moving else place
        for place, name in enumerate(actions)
    ]
    return Classes(names, np.arange(len(actions), dtype=np.int32), np.asarray(backwards, np.int32))


def clips_of(rows: Any, size: int) -> Clips:
    """Rows of `experiments.data.clip_rows` as arrays, each frame `size` × `size`.

    Raises:
        ValueError: a frame is no image, or the frames of a clip differ in size.
    """
    from experiments.data.clip_rows import decode_clip

    decoded = [decode_clip(row["frames"], size, row["name"]) for row in rows]
    counts = np.asarray([len(one) for one in decoded])
    return Clips(
        np.concatenate(decoded),
        np.cumsum(counts) - counts,
        counts,
        np.asarray(rows["action"], np.int32),
        list(rows["name"]),
    )


def shown_frames(count: int | np.ndarray, within: np.ndarray) -> np.ndarray:
    """Which T of a clip's frames are shown: one of each of T parts that the clip is cut into.

    ⌊(t + u_t) n / T⌋ for t = 0 … T−1. A clip of fewer than T frames shows some of them twice, one
    of a single frame always the same.

    Args:
        count: n, or `(B,)` of them.
        within: u, `(T,)` or `(T, B)`, 0 ≤ u < 1: where in its part; 0.5 is the middle.

    Returns:
        As u, int64, ascending along time.

    References:
        Wang et al. (2016), arXiv:1608.00859, section 3.1.
    """
    steps = len(within)
    parts = np.arange(steps).reshape(-1, *(1,) * (within.ndim - 1))
    return ((parts + within) * count / steps).astype(np.int64)


def take(clips: Clips, places: np.ndarray, within: np.ndarray, backwards: np.ndarray) -> np.ndarray:
    """Some clips side by side, each forwards or backwards.

    Args:
        clips: All clips.
        places: `(B,)` which.
        within: `(T, B)`, u of `shown_frames`.
        backwards: `(B,)` bool.

    Returns:
        `(T, B, S, S, 3)` uint8.
    """
    shown = clips.begins[places] + shown_frames(clips.counts[places], within)
    return clips.frames[np.where(backwards, shown[::-1], shown)]


class BothWays(NamedTuple):
    """Every clip of N forwards, then every one backwards: 2N examples."""

    places: np.ndarray  # (2N,)
    backwards: np.ndarray  # (2N,) bool
    labels: np.ndarray  # (2N,) int32, classes


def both_ways(clips: Clips, classes: Classes) -> BothWays:
    """Each clip as it is shown both ways."""
    places = np.tile(np.arange(len(clips)), 2)
    backwards = np.repeat([False, True], len(clips))
    return BothWays(places, backwards, labels_of(classes, clips.actions[places], backwards))


def labels_of(classes: Classes, actions: np.ndarray, backwards: np.ndarray) -> np.ndarray:
    """The class of each action as it is shown, `(B,)` int32."""
    return np.where(backwards, classes.backwards[actions], classes.forwards[actions])


def action_probabilities(classes: Classes, probabilities: np.ndarray) -> np.ndarray:
    """P(action), whichever way it is shown: `(..., K) -> (..., A)`."""
    forwards = probabilities[..., classes.forwards]
    return forwards + np.where(classes.has_direction, probabilities[..., classes.backwards], 0)


def backwards_probability(classes: Classes, probabilities: np.ndarray) -> np.ndarray:
    """P(backwards) given that what is shown has a direction: `(..., K) -> (...)`.

    Where nothing that has a direction has a probability, it is one half.
    """
    moving = classes.has_direction
    forwards = probabilities[..., classes.forwards[moving]].sum(-1)
    backwards = probabilities[..., classes.backwards[moving]].sum(-1)
    both = forwards + backwards
    return np.divide(backwards, both, out=np.full_like(both, 0.5), where=both > 0)


def scores(
    classes: Classes, log_probabilities: np.ndarray, clips: Clips, shown: BothWays
) -> dict[str, float]:
    """What is reported of verdicts on clips that are shown both ways.

    Args:
        classes: What there is to tell.
        log_probabilities: `(2N, K)`, nats.
        clips: N of them.
        shown: `both_ways(clips, classes)`.

    Returns:
        `accuracy` of all classes; `action_accuracy` and `balanced_action_accuracy` (the mean over
        actions) of what is done, whichever way; `direction_accuracy` of which way, over the clips
        that have a direction, where even odds are half right; `cross_entropy` in nats.
    """
    probabilities = np.exp(log_probabilities)
    actions = clips.actions[shown.places]
    is_right = action_probabilities(classes, probabilities).argmax(-1) == actions
    chosen = np.take_along_axis(log_probabilities, shown.labels[:, None], -1)
    return {
        "accuracy": float((log_probabilities.argmax(-1) == shown.labels).mean()),
        **action_scores(is_right, actions),
        "direction_accuracy": direction_accuracy(
            classes, backwards_probability(classes, probabilities), clips, shown
        ),
        "cross_entropy": -float(chosen.mean()),
    }


def action_scores(is_right: np.ndarray, actions: np.ndarray) -> dict[str, float]:
    """Accuracy of what is done, plain and as the mean over actions."""
    by_action = [is_right[actions == action].mean() for action in np.unique(actions)]
    return {
        "action_accuracy": float(is_right.mean()),
        "balanced_action_accuracy": float(np.mean(by_action)),
    }


def direction_accuracy(
    classes: Classes, backwards: np.ndarray, clips: Clips, shown: BothWays
) -> float:
    """How often it is told which way a clip is shown; NaN if none has a direction.

    Args:
        classes: What there is to tell.
        backwards: `(2N,)`, P(backwards).
        clips: N of them.
        shown: Each both ways.
    """
    asked = classes.has_direction[clips.actions[shown.places]]
    right = np.where(backwards == 0.5, 0.5, (backwards > 0.5) == shown.backwards)
    return float(right[asked].mean()) if asked.any() else float("nan")
