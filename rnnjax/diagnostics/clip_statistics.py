"""How often gradients are clipped, and by how much."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class ClipStatistics(NamedTuple):
    """Of the steps of a run whose gradient was finite.

    Attributes:
        share_clipped: `(*S)`, the share of them whose gradient was clipped; NaN if there are none.
        mean_before: `(*S)`, the mean of the gradient's norm before clipping.
        mean_after: `(*S)`, after it.
    """

    share_clipped: np.ndarray
    mean_before: np.ndarray
    mean_after: np.ndarray


def clip_statistics(norms_before: ArrayLike, norms_after: ArrayLike) -> ClipStatistics:
    """What clipping did, step by step, of one run or of several side by side.

    Args:
        norms_before: `(N, *S)`, of the gradient of each step before clipping.
        norms_after: `(N, *S)`, after it. A step is clipped where its norm got smaller.

    Raises:
        ValueError: The shapes differ, or there is no step.
    """
    before, after = np.asarray(norms_before, np.float64), np.asarray(norms_after, np.float64)
    if before.ndim < 1 or before.shape[0] < 1:
        raise ValueError(f"norms_before: got shape {before.shape}, expected (N, *S)")
    if after.shape != before.shape:
        raise ValueError(f"norms_after: got shape {after.shape}, expected {before.shape}")
    weights = (np.isfinite(before) & np.isfinite(after)).astype(np.float64)
    return _weighted(before, after, (after < before).astype(np.float64), weights)


def logged_clip_statistics(records: Sequence[Mapping[str, Any]]) -> ClipStatistics:
    """What clipping did in a run of `rnnjax.training`, from its log.

    A record holds means over the steps since the record before; each counts by the number of those
    that were not skipped.

    Args:
        records: Of `rnnjax.training.metrics.read_metrics`.

    Raises:
        ValueError: No record says anything of clipping.
    """
    names = ("train/gradient_norm", "train/clipped_gradient_norm", "train/clipped")
    logged = [record for record in records if all(name in record for name in names)]
    if not logged:
        raise ValueError(f"records: got none with {', '.join(names)}, expected those of a run")
    before, after, clipped = (
        np.asarray([np.nan if record[name] is None else record[name] for record in logged])
        for name in names
    )
    steps = np.diff([record["step"] for record in logged], prepend=0)
    skipped = np.asarray([record.get("train/skipped") or 0.0 for record in logged])
    weights = np.where(np.isfinite(before) & np.isfinite(after), steps - skipped, 0.0)
    return _weighted(before, after, clipped, weights)


def _weighted(
    before: np.ndarray, after: np.ndarray, clipped: np.ndarray, weights: np.ndarray
) -> ClipStatistics:
    total = weights.sum(0)
    divisor = np.where(total > 0, total, np.nan)
    counts = weights > 0
    return ClipStatistics(
        *(
            (np.where(counts, part, 0.0) * weights).sum(0) / divisor
            for part in (clipped, before, after)
        )
    )
