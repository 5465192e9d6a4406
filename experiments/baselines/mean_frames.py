"""What is done in a clip without a neural network: its frames averaged, or laid side by side."""

import numpy as np

from experiments.clips import (
    BothWays,
    Classes,
    Clips,
    action_scores,
    both_ways,
    direction_accuracy,
    shown_frames,
)

MAJORITY = "the most frequent action"
COUNT = "how many frames the clip has"
NEAREST_MEAN = "mean frame, nearest neighbour"
LINEAR_MEAN = "mean frame, logistic regression"
NEAREST_ORDERED = "frames in order, nearest neighbour"

PENALTY = 1e-2
"""C of the logistic regression of standardised pixels."""

SIDE = 16
"""Pixels along a side of the grey pictures that are compared."""


def scores(
    train: Clips, parts: dict[str, Clips], classes: Classes, frames: int
) -> dict[str, dict[str, dict[str, float]]]:
    """What each baseline gets right, by part and name.

    The mean of T frames is the same backwards: what only sees that tells no direction, and is half
    right by that alone.

    Args:
        train: the clips to learn from.
        parts: held-out clips by name.
        classes: what there is to tell.
        frames: T.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    ways = both_ways(train, classes)
    mean, ordered = _means(train, frames), _ordered(train, ways, frames)
    nearest_mean = KNeighborsClassifier(1).fit(mean, train.actions)
    linear_mean = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=500))
    linear_mean.fit(mean, train.actions)
    nearest_ordered = KNeighborsClassifier(1).fit(ordered, ways.labels)
    most_frequent = int(np.bincount(train.actions).argmax())
    by_count = {
        count: int(np.bincount(train.actions[train.counts == count]).argmax())
        for count in np.unique(train.counts).tolist()
    }
    found = {}
    for part, clips in parts.items():
        shown = both_ways(clips, classes)
        half = np.full(len(shown.places), 0.5)
        means = _means(clips, frames)
        verdicts = nearest_ordered.predict(_ordered(clips, shown, frames))
        action_of = np.concatenate([classes.forwards, classes.forwards[classes.has_direction]])
        directed = classes.has_direction[action_of[verdicts]]
        backwards = np.where(directed, verdicts >= len(classes.forwards), 0.5)
        counted = [by_count.get(count, most_frequent) for count in clips.counts.tolist()]
        told = {
            MAJORITY: (np.full(len(clips), most_frequent), half),
            COUNT: (np.asarray(counted), half),
            NEAREST_MEAN: (nearest_mean.predict(means), half),
            LINEAR_MEAN: (linear_mean.predict(means), half),
            NEAREST_ORDERED: (action_of[verdicts], backwards),
        }
        found[part] = {
            name: _scores(classes, clips, shown, actions, way)
            for name, (actions, way) in told.items()
        }
    return found


def _scores(
    classes: Classes, clips: Clips, shown: BothWays, actions: np.ndarray, backwards: np.ndarray
) -> dict[str, float]:
    """Of verdicts on each clip, `(N,)`, or on each as it is shown, `(2N,)`."""
    verdicts = np.resize(actions, len(shown.places))
    truth = clips.actions[shown.places]
    return action_scores(verdicts == truth, truth) | {
        "direction_accuracy": direction_accuracy(classes, backwards, clips, shown)
    }


def _grey(clips: Clips, frames: int) -> np.ndarray:
    """The frames in the middle of each part, grey and small: `(T, N, SIDE²)` float32, 0 … 1."""
    within = np.full((frames, len(clips)), 0.5)
    shown = clips.begins + shown_frames(clips.counts, within)
    size = clips.frames.shape[1]
    # Each small pixel is the mean of those it covers, of a size that need not divide.
    edges = np.arange(SIDE + 1) * size // SIDE if size >= SIDE else np.arange(size + 1)
    grey = clips.frames.mean(-1, dtype=np.float32)
    for axis in (1, 2):
        widths = np.diff(edges).reshape(-1, *(1,) * (2 - axis))
        grey = np.add.reduceat(grey, edges[:-1], axis=axis) / widths.astype(np.float32)
    return grey.reshape(len(grey), -1)[shown] / 255


def _means(clips: Clips, frames: int) -> np.ndarray:
    return _grey(clips, frames).mean(0)


def _ordered(clips: Clips, shown: BothWays, frames: int) -> np.ndarray:
    """The frames of each clip as it is shown, side by side: `(2N, T · SIDE²)`."""
    grey = _grey(clips, frames)[:, shown.places]
    turned = np.where(shown.backwards[:, None], grey[::-1], grey)
    return turned.transpose(1, 0, 2).reshape(len(shown.places), -1)
