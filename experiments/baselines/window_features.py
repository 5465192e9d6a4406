"""What is done in a few seconds of sensor signals, by features of them and a random forest."""

from typing import Any

import numpy as np

BANDS = (0.0, 0.3, 0.6, 1.0, 2.0, 5.0)
"""Edges of bands of frequency, in Hz; above the last one is one more."""


def features(windows: np.ndarray, rate: float) -> np.ndarray:
    """What describes each window whatever the phase of a movement: `(N, T, I) -> (N, F)`.

    Of each axis the mean, deviation, least, largest, quartiles and mean change from sample to
    sample, and the logarithm of the energy in each of `BANDS`; of each two axes the correlation.

    Args:
        windows: `(N, T, I)`.
        rate: samples a second.
    """
    deviations = windows.std(1)
    parts = [
        windows.mean(1),
        deviations,
        windows.min(1),
        windows.max(1),
        *np.quantile(windows, (0.25, 0.5, 0.75), axis=1),
        np.abs(np.diff(windows, axis=1)).mean(1),
    ]
    centred = windows - windows.mean(1, keepdims=True)
    energy = np.abs(np.fft.rfft(centred, axis=1)) ** 2 / windows.shape[1]
    band = np.digitize(np.fft.rfftfreq(windows.shape[1], 1 / rate), BANDS[1:])
    parts += [
        np.log(energy[:, band == place].sum(1) + 1e-6)
        for place in range(len(BANDS))
        if (band == place).any()
    ]
    scaled = centred / np.maximum(deviations, 1e-9)[:, None]
    correlations = np.einsum("nti,ntj->nij", scaled, scaled) / windows.shape[1]
    first, second = np.triu_indices(windows.shape[2], 1)
    parts.append(correlations[:, first, second])
    return np.concatenate(parts, axis=1)


def fit(windows: np.ndarray, labels: np.ndarray, rate: float, seed: int) -> Any:
    """A random forest of 300 trees over the features; a scikit-learn classifier of these.

    Args:
        windows: `(N, T, I)`.
        labels: `(N,)` integer.
        rate: samples a second.
        seed: of the trees.
    """
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(300, random_state=seed).fit(features(windows, rate), labels)


def log_probabilities(
    forest: Any, windows: np.ndarray, rate: float, class_count: int
) -> np.ndarray:
    """Log P(class) of each window, `(N, K)`; a class that no tree names has a little."""
    found = np.full((len(windows), class_count), 1e-6)
    found[:, forest.classes_] += forest.predict_proba(features(windows, rate))
    return np.log(found / found.sum(1, keepdims=True))
