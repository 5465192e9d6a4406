"""The training loop: steps, and between them logging, evaluation, checkpoints and signals."""

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from rnnjax.training.step import Metrics, TrainState, TrainStep

STEPS_IN_FLIGHT = 2
"""How many steps may be dispatched and unfinished: one runs, the next one waits behind it."""


class CheckpointWriter(Protocol):
    """Where `train` saves; `rnnjax.training.checkpoints.Checkpoints` is one."""

    def save(
        self, state: TrainState, metrics: Mapping[str, float], metadata: Mapping[str, Any]
    ) -> Path:
        """Save the state and return the place."""
        ...

    def would_be_best(self, metrics: Mapping[str, float]) -> bool:
        """Whether a checkpoint with these metrics would be the best one yet."""
        ...


class MetricWriter(Protocol):
    """Where `train` logs; `rnnjax.training.metrics.MetricLogger` is one."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of a step."""
        ...


class ProgressReport(Protocol):
    """What `train` tells each step; see `rnnjax.training.progress`."""

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        """Say that `step` steps were dispatched; the metrics are the last ones logged."""
        ...


class TrainResult(NamedTuple):
    """What training leaves.

    `metrics` are those of the last logged interval and `evaluation` those of the last
    evaluation; `skipped_steps` and `clipped_steps` count this call of `train` only.
    """

    state: TrainState
    step: int
    metrics: dict[str, float]
    evaluation: dict[str, float]
    skipped_steps: int
    clipped_steps: int


class Interrupted(KeyboardInterrupt):
    """Training left by a signal after a whole step; its text says where to go on from.

    Attributes:
        step: how many steps the state has seen.
        checkpoint: where the state was saved, or None without checkpoints.
        exit_status: 128 + the signal's number, what a shell expects of a process so ended.
    """

    def __init__(self, step: int, signal_number: int, checkpoint: Path | None) -> None:
        self.step = step
        self.checkpoint = checkpoint
        self.exit_status = 128 + signal_number
        saved = "nothing was saved" if checkpoint is None else f"saved {checkpoint}"
        name = signal.Signals(signal_number).name
        super().__init__(f"interrupted by {name} after step {step}; {saved}")


def train(
    state: TrainState,
    train_step: TrainStep,
    batch_at: Callable[[int], Any],
    *,
    total_steps: int,
    evaluate: Callable[[TrainState], Mapping[str, float]] | None = None,
    evaluate_every: int | None = None,
    checkpoint_every: int | None = None,
    log_every: int = 50,
    checkpoints: CheckpointWriter | None = None,
    logger: MetricWriter | None = None,
    progress: ProgressReport | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> TrainResult:
    """Train from `state.step` to `total_steps`; the state given is consumed.

    The batch of a step is a pure function of the step, so a restored state goes on exactly
    where it stopped: to resume, restore and call `train` again. The host runs ahead of the
    device by at most `STEPS_IN_FLIGHT` steps: `batch_at(step + 1)` is called while step
    `step` computes, and metrics are fetched only every `log_every` steps.

    Logged as `train/NAME`: means over the interval's steps that were not skipped (`clipped`
    thus is the share of clipped steps), the number `skipped`, the last `learning_rate`, and
    `steps_per_second` (without compilation, evaluation and saving). Logged as
    `held_out/NAME`: what `evaluate` returns. After a resume inside an interval the means
    cover the steps since the resume.

    A checkpoint is saved every `checkpoint_every` steps, after an evaluation that is the best
    yet, at the end, and on SIGINT or SIGTERM (when called in the main thread): the step
    begun is finished first, an evaluation due after it is left out. A second signal leaves at
    once by KeyboardInterrupt.

    Args:
        state: where to start.
        train_step: made by `make_train_step`.
        batch_at: step -> batch, deterministic, in arrays not written to afterwards: the device
            may still read them.
        total_steps: the step at which training is complete.
        evaluate: state -> metrics by name, each a number; it must not consume the state.
        evaluate_every: steps between evaluations; the last step is always evaluated.
        checkpoint_every: steps between checkpoints; the last step is always saved.
        log_every: steps between logged metrics.
        checkpoints: where to save, or None.
        logger: where to log, or None.
        progress: told after each step, or None.
        metadata: stored with each checkpoint, JSON.

    Raises:
        ValueError: a number of steps is not positive, or `state.step` is past `total_steps`.
        Interrupted: SIGINT or SIGTERM came; the state was saved first.
    """
    _require_positive(
        total_steps=total_steps,
        evaluate_every=evaluate_every,
        checkpoint_every=checkpoint_every,
        log_every=log_every,
    )
    step = int(state.step)
    if step > total_steps:
        raise ValueError(f"total_steps: got {total_steps}, expected at least state.step = {step}")
    interval = _Interval()
    evaluation: dict[str, float] = {}
    saved: Path | None = None
    saved_step: int | None = None

    def is_due(every: int | None) -> bool:
        return step == total_steps or (every is not None and step % every == 0)

    def log(prefix: str, metrics: Mapping[str, float]) -> None:
        if logger is not None:
            logger.log(step, {f"{prefix}/{name}": value for name, value in metrics.items()})

    def save(metrics: Mapping[str, float]) -> None:
        nonlocal saved, saved_step
        if checkpoints is not None:
            saved, saved_step = checkpoints.save(state, metrics, metadata or {}), step

    def evaluate_and_save() -> None:
        metrics_here: dict[str, float] = {}
        if evaluate is not None and is_due(evaluate_every):
            metrics_here = _as_floats(evaluate(state))
            log("held_out", metrics_here)
            evaluation.update(metrics_here)
        is_best = checkpoints is not None and checkpoints.would_be_best(metrics_here)
        if is_best or is_due(checkpoint_every):
            save(metrics_here)

    if step == total_steps and evaluate is not None:
        evaluation |= _as_floats(evaluate(state))
    try:
        with _signals_noted() as signals:
            while step < total_steps and signals.first is None:
                state, step_metrics = train_step(state, batch_at(step))
                step += 1
                interval.add(step_metrics)
                if progress is not None:
                    progress.update(step, interval.last)
                if is_due(log_every):
                    log("train", interval.close())
                is_pause = is_due(evaluate_every) or is_due(checkpoint_every)
                if is_pause and signals.first is None:
                    with interval.clock_stopped():
                        evaluate_and_save()
            if signals.first is not None:
                if interval.pending:
                    log("train", interval.close())
                if saved_step != step:
                    save({})
                raise Interrupted(step, signals.first, saved)
    except Exception as error:
        if checkpoints is not None:
            error.add_note(
                f"training failed in step {step}; last checkpoint it saved: {saved or 'none'}"
            )
        raise
    return TrainResult(
        state, step, interval.last, evaluation, interval.skipped_steps, interval.clipped_steps
    )


@dataclass
class _Interval:
    """The metrics of the steps since the last log, left on the device until asked for."""

    pending: list[Metrics] = field(default_factory=list)
    last: dict[str, float] = field(default_factory=dict)
    skipped_steps: int = 0
    clipped_steps: int = 0
    _is_first: bool = True
    _timed_steps: int = 0
    _clock: float = 0.0

    def add(self, metrics: Metrics) -> None:
        self.pending.append(metrics)
        if self._is_first:
            # The first step compiles, which says nothing about the rate of the others.
            jax.block_until_ready(metrics)
            self._is_first, self._clock = False, time.monotonic()
        else:
            self._timed_steps += 1
        if len(self.pending) > STEPS_IN_FLIGHT:
            # Wait for an older step, never for the newest: the device always has work, while
            # batches do not pile up and a signal is answered after a step or two.
            jax.block_until_ready(self.pending[-1 - STEPS_IN_FLIGHT])

    @contextmanager
    def clock_stopped(self) -> Iterator[None]:
        """Leave what the host does between steps out of the rate of steps."""
        jax.block_until_ready(self.pending)
        started = time.monotonic()
        yield
        self._clock += time.monotonic() - started

    def close(self) -> dict[str, float]:
        steps = jax.device_get(self.pending)
        now = time.monotonic()
        rate = self._timed_steps / (now - self._clock) if self._timed_steps else math.nan
        skipped = sum(int(metrics["skipped"]) for metrics in steps)
        kept = [metrics for metrics in steps if not metrics["skipped"]]
        self.last = {name: _mean([metrics[name] for metrics in kept]) for name in steps[-1]}
        if "learning_rate" in self.last:
            self.last["learning_rate"] = float(steps[-1]["learning_rate"])
        self.last |= {"skipped": float(skipped), "steps_per_second": rate}
        self.skipped_steps += skipped
        self.clipped_steps += sum(int(metrics["clipped"]) for metrics in kept)
        self.pending, self._timed_steps, self._clock = [], 0, now
        return self.last


@dataclass
class _Signals:
    first: int | None = None


@contextmanager
def _signals_noted() -> Iterator[_Signals]:
    """Note the first SIGINT or SIGTERM instead of dying of it; a second one raises."""
    noted = _Signals()
    if threading.current_thread() is not threading.main_thread():
        yield noted  # Python allows handlers in the main thread only.
        return

    def note(signal_number: int, frame: FrameType | None) -> None:
        del frame
        if noted.first is not None:
            raise KeyboardInterrupt("second signal: left at once, without a checkpoint")
        noted.first = signal_number
        # os.write, for a print may be interrupted in the middle of another one.
        os.write(2, b"\nfinishing the step and saving; once more to leave at once\n")

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # A signal ignored from the start (a background job of a script) stays ignored.
    previous = {number: old for number, old in previous.items() if old is not signal.SIG_IGN}
    try:
        for number in previous:
            signal.signal(number, note)
        yield noted
    finally:
        for number, handler in previous.items():
            # None is a handler that was not installed from Python, and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _mean(values: Sequence[np.ndarray]) -> float:
    return float(np.mean(values, dtype=np.float64)) if values else math.nan


def _as_floats(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _require_positive(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and (not isinstance(count, int) or count < 1):
            raise ValueError(f"{name}: got {count!r}, expected an integer of at least 1")
