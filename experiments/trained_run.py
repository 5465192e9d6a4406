"""What experiments share around a run: the code it is of, the model it left, how it was made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import rnnjax
from rnnjax.training.optimizer import OptimizerConfig
from rnnjax.training.optimizer_links import averaged_params
from rnnjax.training.step import TrainState


def code_of(*files: Path) -> list[Path]:
    """What a result depends on: the library, its kernels, loaders, baselines, and these files."""
    here = Path(__file__)
    return [
        Path(rnnjax.__file__).parent,
        here.parents[1] / "native",
        here.parent / "data",
        here.parent / "baselines",
        here.parent / "command_line.py",
        here,
        *files,
    ]


def best_state(
    run: Path,
    template: TrainState,
    metadata: Mapping[str, Any],
    metric: str,
    *,
    lower_is_better: bool = True,
) -> TrainState:
    """The best state of a run, or its last one if it was never evaluated.

    Args:
        run: The run folder.
        template: As in `Checkpoints.restore_latest`.
        metadata: Likewise.
        metric: By which the best is known.
        lower_is_better: Which end of it is.

    Raises:
        FileNotFoundError: There is no checkpoint in the run.
        ForeignCheckpointError: It is of another model.
        DamagedCheckpointError: All are damaged.
    """
    from rnnjax.training.checkpoints import Checkpoints

    checkpoints = Checkpoints(
        run / "checkpoints", keep_best=1, best_metric=metric, lower_is_better=lower_is_better
    )
    restored = checkpoints.restore_best(template, metadata) or checkpoints.restore_latest(
        template, metadata
    )
    if restored is None:
        raise FileNotFoundError(f"run: got {run} without a checkpoint, expected at least one")
    return restored.state


class Optimized(Protocol):
    """The config of an experiment that is trained."""

    @property
    def optimizer(self) -> OptimizerConfig:
        """The algorithm, clipping, warm-up and decay."""
        ...


def params_to_use(config: Optimized, state: TrainState) -> Any:
    """Of the state, the moving average if the optimiser keeps one, else the parameters."""
    decay = config.optimizer.average_decay
    if decay is None:
        return state.params
    return averaged_params(decay, state.params, state.optimizer_state)


def made_by(report: Mapping[str, Any]) -> str:
    """How a report was made: the command, when, how long it took, on what, with which versions.

    Args:
        report: With what `RunFolder.start` has, and "seconds".
    """
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return (
        f"`{report['command']}`, {report['started']}, {report['seconds'] / 60:.1f} minutes on "
        f"{machine['cores']} cores of {machine['cpu']};\n{versions}."
    )
