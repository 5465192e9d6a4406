"""The rows every set of recordings has: six axes over time, what was done, by whom, which arm."""

from collections.abc import Iterable
from typing import NamedTuple

import datasets
import numpy as np

AXES = ("ax", "ay", "az", "wx", "wy", "wz")
"""Acceleration and rate of rotation of a watch; x is along the forearm."""

SIDES = ("left", "right")
RATE = 50
"""Samples a second."""


class Recording(NamedTuple):
    """One recording."""

    signal: np.ndarray  # (Tx, 6) float32, the axes as in `AXES`
    exercise: str
    subject: str
    side: str  # one of `SIDES`


def data_set(recordings: Iterable[Recording], exercises: Iterable[str]) -> datasets.DatasetDict:
    """One split, "recordings", of rows {"signal", "exercise", "subject", "side"}.

    Args:
        recordings: at least one of each exercise.
        exercises: what the classes are, in their order.

    Raises:
        ValueError: there is none of an exercise.
    """
    rows, names = list(recordings), list(exercises)
    missing = set(names) - {row.exercise for row in rows}
    if not rows or missing:
        raise ValueError(f"recordings: got none of {sorted(missing)}, expected some of each")
    features = datasets.Features(
        {
            "signal": datasets.Array2D((None, len(AXES)), "float32"),
            "exercise": datasets.ClassLabel(names=names),
            "subject": datasets.Value("string"),
            "side": datasets.Value("string"),
        }
    )
    columns = {name: [getattr(row, name) for row in rows] for name in Recording._fields}
    made = datasets.Dataset.from_dict(columns, features=features)
    return datasets.DatasetDict({"recordings": made})
