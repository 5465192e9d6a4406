"""A run in its folder: what every experiment does around its model, its data and its report."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rnnjax.training.checkpoints import BackgroundSaves, Checkpoints, Restored
from rnnjax.training.early_stopping import EarlyStopping
from rnnjax.training.loop import TrainResult, train
from rnnjax.training.loop_config import LoopConfig
from rnnjax.training.metrics import MetricLogger
from rnnjax.training.placement import (
    ONE_DEVICE,
    Placement,
    on_one_device,
    placed_batches,
    placed_state,
)
from rnnjax.training.progress import make_progress
from rnnjax.training.run_folder import RunFolder
from rnnjax.training.step import TrainState, TrainStep


class Trained(NamedTuple):
    """What a finished run leaves: how it ended, and its best checkpoint."""

    result: TrainResult
    best: Restored


def train_in_folder(
    run: RunFolder,
    state: TrainState,
    train_step: TrainStep,
    batch_at: Callable[[int], Any],
    *,
    total_steps: int,
    evaluate: Callable[[TrainState], Mapping[str, float]],
    metric: str,
    lower_is_better: bool = True,
    loop: LoopConfig | None = None,
    placement: Placement = ONE_DEVICE,
    metadata: Mapping[str, Any] | None = None,
    items_per_step: int = 1,
    unit: str = "steps",
    say: Callable[[str], None] | None = None,
) -> Trained:
    """Train to the end from the last good checkpoint of the folder, or from `state`.

    The same call in a new process goes on where the last one was stopped, however it was. Metrics
    go to `metrics.jsonl` and `tensorboard/` of the folder, checkpoints to `checkpoints/`, written
    in the background; the best by `metric` is kept besides the last. For one process: several
    that train together call `train` themselves. A run may go on with another number of devices.

    Args:
        run: the open folder.
        state: before the first step, on one device; consumed.
        train_step: as `train` takes it; with a `placement`, made by `make_placed_train_step`.
        batch_at: as `train` takes it, of all rows.
        total_steps: as `train` takes it.
        evaluate: as `train` takes it, given the state on one device; `metric` is among what it
            returns.
        metric: what tells the best checkpoint, and what `loop.patience` watches.
        lower_is_better: the sense of it.
        loop: None is `LoopConfig()`.
        placement: where the rows of a batch go, from `rnnjax.training.placement.place_rows`.
        metadata: what a checkpoint must have been saved with to be of this model, JSON.
        items_per_step: with `unit`, what progress counts besides steps.
        unit: what of.
        say: told in a line of damaged checkpoints, of where the run goes on and of several devices;
            None prints to standard error.

    Returns:
        How training ended, and the best checkpoint, its state on one device.

    Raises:
        Interrupted, DivergedError: as `train`.
        ForeignCheckpointError, DamagedCheckpointError: as `Checkpoints.restore_latest`.
        ValueError: as `train`, or `evaluate` never gave a finite `metric`.
        OSError: the folder cannot be written; what is in it is good.
    """
    loop = loop or LoopConfig()
    say = say or _print_to_standard_error
    checkpoints = Checkpoints(run.checkpoints, loop.keep_last, 1, metric, lower_is_better)
    restored = checkpoints.restore_latest(state, metadata)
    if restored is not None:
        for damage in restored.damaged:
            say(f"checkpoint {damage.name} is damaged ({damage.reason}); an earlier one serves")
        say(f"resuming from step {restored.step:,} ({restored.path})")
        state = restored.state
    if placement.mesh is not None:
        say(f"the rows of a batch are shared among {placement.mesh.size} devices")
    watch = None
    if loop.patience is not None:
        watch = EarlyStopping(metric, loop.patience, loop.minimum_gain, lower_is_better)
    with (
        MetricLogger(run.path, int(state.step)) as logger,
        make_progress(total_steps, items_per_step=items_per_step, unit=unit) as progress,
    ):
        result = train(
            placed_state(placement, state),
            train_step,
            placed_batches(placement, batch_at),
            total_steps=total_steps,
            evaluate=lambda state: evaluate(on_one_device(placement, state)),
            evaluate_every=loop.evaluate_every,
            early_stopping=watch,
            checkpoint_every=loop.checkpoint_every,
            log_every=loop.log_every,
            stop_after_skipped=loop.stop_after_skipped,
            batches_ahead=loop.batches_ahead,
            checkpoints=BackgroundSaves(checkpoints),
            logger=logger,
            progress=progress,
            metadata=metadata,
        )
    if result.stopped_early:
        say(f"stopped at step {result.step:,}: {loop.patience} evaluations without a better one")
    result = result._replace(state=on_one_device(placement, result.state))
    best = checkpoints.restore_best(result.state, metadata)
    if best is None:
        raise ValueError(f"metric: got no finite {metric!r} from evaluate, expected one at least")
    return Trained(result, best)


def _print_to_standard_error(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
