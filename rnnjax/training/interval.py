"""What happened between two logs: metrics, rate, and the time spent waiting for data."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import jax
import numpy as np

from rnnjax.training.step import Metrics

STEPS_IN_FLIGHT = 2
"""How many steps may be dispatched and unfinished: one runs, the next one waits behind it."""

LAST = ("learning_rate", "loss_scale", "skipped_in_a_row")
"""The metrics of which the last value counts, not the mean."""


@dataclass
class Interval:
    """The metrics of the steps since the last log, left on the device until asked for."""

    pending: list[Metrics] = field(default_factory=list)
    last: dict[str, float] = field(default_factory=dict)
    skipped_steps: int = 0
    clipped_steps: int = 0
    skipped_in_a_row: int = 0  # of the newest step known to be finished
    _is_first: bool = True
    _timed_steps: int = 0
    _clock: float = 0.0
    _waited: float = 0.0

    @contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Count the time of the block as waiting for data."""
        started = time.monotonic()
        yield
        self._waited += time.monotonic() - started

    def add(self, metrics: Metrics) -> None:
        """Take the metrics of the step just dispatched, and wait for an older step."""
        self.pending.append(metrics)
        if self._is_first:
            # The first step compiles, which says nothing about the rate of the others.
            jax.block_until_ready(metrics)
            self._is_first, self._clock, self._waited = False, time.monotonic(), 0.0
        else:
            self._timed_steps += 1
        if len(self.pending) > STEPS_IN_FLIGHT:
            # Wait for an older step, never for the newest: the device always has work, while
            # batches do not pile up and a signal is answered after a step or two.
            older = self.pending[-1 - STEPS_IN_FLIGHT]
            self.skipped_in_a_row = int(older["skipped_in_a_row"])

    @contextmanager
    def clock_stopped(self) -> Iterator[None]:
        """Leave what the host does between steps out of the rate of steps."""
        jax.block_until_ready(self.pending)
        started = time.monotonic()
        yield
        self._clock += time.monotonic() - started

    def close(self) -> dict[str, float]:
        """The metrics of the interval; the next one begins.

        Means over the steps that were not skipped, but of those in `LAST` the last value; the
        number `skipped`; and of all but the first step of training `steps_per_second` and
        `waiting_for_data`, the share of time.
        """
        steps = jax.device_get(self.pending)
        now = time.monotonic()
        seconds = now - self._clock if self._timed_steps else math.nan
        skipped = sum(int(metrics["skipped"]) for metrics in steps)
        kept = [metrics for metrics in steps if not metrics["skipped"]]
        self.last = {name: _mean([metrics[name] for metrics in kept]) for name in steps[-1]}
        self.last |= {name: float(steps[-1][name]) for name in LAST if name in steps[-1]}
        self.last |= {
            "skipped": float(skipped),
            "steps_per_second": self._timed_steps / seconds,
            "waiting_for_data": self._waited / seconds,
        }
        self.skipped_steps += skipped
        self.clipped_steps += sum(int(metrics["clipped"]) for metrics in kept)
        self.skipped_in_a_row = int(steps[-1]["skipped_in_a_row"])
        self.pending, self._timed_steps, self._clock, self._waited = [], 0, now, 0.0
        return self.last


def _mean(values: Sequence[np.ndarray]) -> float:
    return float(np.mean(values, dtype=np.float64)) if values else math.nan
