"""The training loop: steps, and between them logging, evaluation, checkpoints and signals."""

import math
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from rnnjax.training.early_stopping import EarlyStopping, count_evaluation
from rnnjax.training.interval import Interval
from rnnjax.training.prefetch import prefetched
from rnnjax.training.signals import signals_noted
from rnnjax.training.step import TrainState, TrainStep


class CheckpointWriter(Protocol):
    """Where `train` saves; `Checkpoints` and `BackgroundSaves` of `rnnjax.training` are two."""

    def save(
        self, state: TrainState, metrics: Mapping[str, float], metadata: Mapping[str, Any]
    ) -> Path:
        """Save the state, or begin to, and return the place. The state may be consumed then."""
        ...

    def finish(self) -> None:
        """Return when all that was saved is on the disk.

        Raises:
            OSError: it could not be written.
        """
        ...

    def last_good(self) -> Path | None:
        """The newest checkpoint that can be restored."""
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
    evaluation; `skipped_steps` and `clipped_steps` count this call of `train` only, while
    `state.counters.skipped` counts the run.
    """

    state: TrainState
    step: int
    metrics: dict[str, float]
    evaluation: dict[str, float]
    skipped_steps: int
    clipped_steps: int
    stopped_early: bool


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


class DivergedError(ArithmeticError):
    """Many steps in a row had a loss or gradient that is not finite; its text says the way back.

    Attributes:
        step: how many steps the state has seen.
        skipped_in_a_row: how many of them were skipped, at the end.
        checkpoint: the last good one, or None without checkpoints.
    """

    def __init__(self, step: int, skipped_in_a_row: int, checkpoint: Path | None) -> None:
        self.step = step
        self.skipped_in_a_row = skipped_in_a_row
        self.checkpoint = checkpoint
        super().__init__(
            f"diverged: loss or gradient was not finite in the {skipped_in_a_row} steps up to "
            f"{step}; last good checkpoint: {checkpoint or 'none'}"
        )


def train(
    state: TrainState,
    train_step: TrainStep,
    batch_at: Callable[[int], Any],
    *,
    total_steps: int,
    evaluate: Callable[[TrainState], Mapping[str, float]] | None = None,
    evaluate_every: int | None = None,
    early_stopping: EarlyStopping | None = None,
    checkpoint_every: int | None = None,
    log_every: int = 50,
    stop_after_skipped: int | None = 20,
    batches_ahead: int = 2,
    checkpoints: CheckpointWriter | None = None,
    logger: MetricWriter | None = None,
    progress: ProgressReport | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> TrainResult:
    """Train from `state.step` to `total_steps`; the state given is consumed.

    The batch of a step is a pure function of the step, so a restored state goes on exactly
    where it stopped: to resume, restore and call `train` again. All that decides how training
    goes on is in the state, the patience of early stopping too. The host runs ahead of the
    device by at most `STEPS_IN_FLIGHT` steps, and metrics are fetched only every `log_every` steps.

    Logged as `train/NAME`: means over the interval's steps that were not skipped (`clipped`
    thus is the share of clipped steps), the number `skipped`, the last `learning_rate`,
    `steps_per_second` (without compilation, evaluation and saving), and of that time the share
    spent `waiting_for_data`. Logged as `held_out/NAME`: what `evaluate` returns. After a resume
    inside an interval the means cover the steps since the resume.

    A checkpoint is saved every `checkpoint_every` steps, after an evaluation that is the best
    yet, at the end, and on SIGINT or SIGTERM (when called in the main thread): the step
    begun is finished first, an evaluation due after it is made when the run goes on. A second
    signal leaves at once by KeyboardInterrupt.

    With several processes all call this alike, and a signal to one of them stops all after the
    same step. Give `logger` and `progress` to the first alone.

    Args:
        state: where to start.
        train_step: made by `make_train_step`.
        batch_at: step -> batch, deterministic, in arrays not written to afterwards: the device
            may still read them. Called in a thread of its own, see `prefetched`.
        total_steps: the step at which training is complete.
        evaluate: state -> metrics by name, each a number; it must not consume the state.
        evaluate_every: steps between evaluations; the last step is always evaluated.
        early_stopping: stop before `total_steps` when evaluations get no better; None never.
        checkpoint_every: steps between checkpoints; the last step is always saved.
        log_every: steps between logged metrics.
        stop_after_skipped: how many steps skipped in a row, for a loss or gradient that is not
            finite, end training; None is any number. (Steps in flight are finished.)
        batches_ahead: how many batches are made beforehand; 0 for none.
        checkpoints: where to save, or None.
        logger: where to log, or None.
        progress: told after each step, or None.
        metadata: stored with each checkpoint, JSON.

    Raises:
        ValueError: a number of steps is not positive, `state.step` is past `total_steps`, or
            early stopping watches what `evaluate` does not return.
        Interrupted: SIGINT or SIGTERM came; the state was saved first.
        DivergedError: too many steps in a row were skipped.
    """
    _require_positive(
        total_steps=total_steps,
        evaluate_every=evaluate_every,
        checkpoint_every=checkpoint_every,
        log_every=log_every,
        stop_after_skipped=stop_after_skipped,
    )
    step = int(state.step)
    if step > total_steps:
        raise ValueError(f"total_steps: got {total_steps}, expected at least state.step = {step}")
    if early_stopping is not None and evaluate is None:
        raise ValueError("early_stopping: got one without evaluate, expected both")
    interval, evaluation = Interval(), dict[str, float]()
    is_over = step == total_steps or (
        early_stopping is not None and early_stopping.is_over(state.counters)
    )
    saved: Path | None = None
    saved_step: int | None = None

    def is_due(every: int | None) -> bool:
        return is_over or (every is not None and step % every == 0)

    def log(prefix: str, metrics: Mapping[str, float]) -> None:
        if logger is not None:
            logger.log(step, {f"{prefix}/{name}": value for name, value in metrics.items()})

    def save(metrics: Mapping[str, float]) -> None:
        nonlocal saved, saved_step
        if checkpoints is not None:
            saved, saved_step = checkpoints.save(state, metrics, metadata or {}), step

    def evaluate_and_save() -> None:
        nonlocal state, is_over
        metrics: dict[str, float] = {}
        if evaluate is not None and is_due(evaluate_every):
            metrics = _as_floats(evaluate(state))
            log("held_out", metrics)
            evaluation.update(metrics)
            counters = count_evaluation(state.counters, step, metrics, early_stopping)
            state = state._replace(counters=counters)
            is_over |= early_stopping is not None and early_stopping.is_over(counters)
        is_best = checkpoints is not None and checkpoints.would_be_best(metrics)
        if is_best or is_due(checkpoint_every):
            save(metrics)

    try:
        if step > 0 and evaluate is not None and is_due(evaluate_every):
            if int(state.counters.evaluated_step) != step:
                evaluate_and_save()  # It was left out when the run was interrupted.
            elif is_over:
                evaluation |= _as_floats(evaluate(state))
        steps = range(step, step if is_over else total_steps)
        with signals_noted() as signals, prefetched(batch_at, steps, batches_ahead) as batches:
            while not is_over and signals.first is None:
                with interval.waiting_for_data():
                    batch = next(batches)
                state, step_metrics = train_step(state, batch)
                signals.after_step()
                step += 1
                is_over = step == total_steps
                interval.add(step_metrics)
                if progress is not None:
                    progress.update(step, interval.last)
                if is_due(log_every):
                    log("train", interval.close())
                if interval.skipped_in_a_row >= (stop_after_skipped or math.inf):
                    raise DivergedError(step, interval.skipped_in_a_row, _last_good(checkpoints))
                is_pause = is_due(evaluate_every) or is_due(checkpoint_every)
                if is_pause and signals.first is None:
                    with interval.clock_stopped():
                        evaluate_and_save()
            if interval.pending:
                log("train", interval.close())
            if signals.first is not None and saved_step != step:
                save({})
            if checkpoints is not None:
                checkpoints.finish()
            if signals.first is not None:
                raise Interrupted(step, signals.first, saved)
    except Exception as error:
        if checkpoints is not None and not isinstance(error, DivergedError):
            error.add_note(
                f"training failed in step {step}; "
                f"last good checkpoint: {_last_good(checkpoints) or 'none'}"
            )
        raise
    return TrainResult(
        state,
        step,
        interval.last,
        evaluation,
        interval.skipped_steps,
        interval.clipped_steps,
        stopped_early=step < total_steps,
    )


def _last_good(checkpoints: CheckpointWriter | None) -> Path | None:
    return None if checkpoints is None else checkpoints.last_good()


def _as_floats(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _require_positive(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and (not isinstance(count, int) or count < 1):
            raise ValueError(f"{name}: got {count!r}, expected an integer of at least 1")
