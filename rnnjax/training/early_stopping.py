"""Stop when held-out scores no longer improve."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rnnjax.training.step import Counters


@dataclass(frozen=True)
class EarlyStopping:
    """When to stop: after `patience` evaluations in a row without a new best one.

    Attributes:
        metric: a name in what `evaluate` returns.
        patience: evaluations, at least 1.
        minimum_gain: by how much a score must be better than the best one to be a new best.
        lower_is_better: the sense of the metric.

    Raises:
        ValueError: a field is outside its range.
    """

    metric: str
    patience: int
    minimum_gain: float = 0.0
    lower_is_better: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.patience, int) or self.patience < 1:
            raise ValueError(f"patience: got {self.patience!r}, expected an integer of at least 1")
        if not 0 <= self.minimum_gain < math.inf:
            raise ValueError(
                f"minimum_gain: got {self.minimum_gain}, expected a finite number of at least 0"
            )

    def is_over(self, counters: Counters) -> bool:
        """Whether patience has run out."""
        return int(counters.evaluations_since_best) >= self.patience


def count_evaluation(
    counters: Counters, step: int, metrics: Mapping[str, float], watch: EarlyStopping | None
) -> Counters:
    """The counters after the evaluation of a step; a score that is not finite is no gain.

    Raises:
        ValueError: what is watched is not among `metrics`.
    """
    if watch is None:
        return _evaluated(counters, step)
    if watch.metric not in metrics:
        raise ValueError(
            f"metric: got {watch.metric!r}, expected one that evaluate returns: "
            f"{', '.join(metrics) or 'it returns none'}"
        )
    return _watched(
        watch.lower_is_better, counters, step, metrics[watch.metric], watch.minimum_gain
    )


# Compiled, so that the counters stay on the devices they are on.
@jax.jit
def _evaluated(counters: Counters, step: ArrayLike) -> Counters:
    return counters._replace(evaluated_step=jnp.asarray(step, jnp.int32))


@partial(jax.jit, static_argnums=0)
def _watched(
    lower_is_better: bool,
    counters: Counters,
    step: ArrayLike,
    value: ArrayLike,
    minimum_gain: ArrayLike,
) -> Counters:
    value, minimum_gain = (jnp.asarray(x, jnp.float32) for x in (value, minimum_gain))
    best = counters.best_evaluation
    gain = best - value if lower_is_better else value - best
    is_best = jnp.isfinite(value) & (jnp.isnan(best) | ((gain > 0) & (gain >= minimum_gain)))
    since = counters.evaluations_since_best
    return _evaluated(counters, step)._replace(
        best_evaluation=jnp.where(is_best, value, best),
        evaluations_since_best=jnp.where(is_best, jnp.zeros_like(since), since + 1),
    )
