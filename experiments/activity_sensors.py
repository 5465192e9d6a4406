"""What somebody does, by a watch; part of `experiments.activity_recognition`."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import numpy as np
import tyro

from experiments.command_line import say
from experiments.trained_run import code_of, made_by
from rnnjax.layers.checks import check_size
from rnnjax.layers.dropout import check_rate
from rnnjax.models.signal_classifier import (
    Pooling,
    SignalBatch,
    SignalClassifierConfig,
    init_signal_classifier,
    signal_classifier_loss,
    signal_log_probabilities,
)
from rnnjax.plans import REGISTRY as PLANS
from rnnjax.training.files import replace_text
from rnnjax.training.fingerprint import fingerprint
from rnnjax.training.loop_config import LoopConfig
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.placement import Placement, make_placed_train_step, place_rows, plan_of
from rnnjax.training.run_folder import open_run_folder, read_config
from rnnjax.training.step import TrainState, TrainStep, initial_train_state

RUN = Path("runs/activity_sensors")
METRIC = "cross_entropy"
RATE = 50
"""Samples a second, as they are recorded."""

MIRROR = np.asarray([-1, 1, 1, 1, -1, -1], np.float32)
"""What a mirror does to ax, ay, az, wx, wy, wz if x is turned round: the other arm.

Acceleration turns as an arrow does; a rate of rotation keeps its part about x and turns the others.
"""

NETWORK, FOREST = "recurrent network", "features, random forest"
PUBLISHED = {
    "random forest, these ten people": 0.873,
    "convolutional and recurrent network, twenty people": 0.889,
}
"""Burns et al. (2018), arXiv:1802.01489, versions 1 and 2: five folds by people, of windows."""


@dataclass(frozen=True)
class SensorData:
    """Where the recordings come from, and how they are read.

    Attributes:
        source: "package": a pinned package, fetched once; "path": your own files.
        path: The folder of source=path, with index.csv.
        every: How many samples are averaged into one step.
        seconds: Of a window, which is what one verdict is on.
        hop: Seconds from one held-out window to the next.
    """

    source: Literal["package", "path"] = "package"
    path: Path | None = None
    every: int = 2
    seconds: float = 4.0
    hop: float = 1.0


@dataclass(frozen=True)
class SensorModel:
    """What the network is made of.

    Attributes:
        recurrence: A name in rnnjax.recurrences.REGISTRY.
        hidden_sizes: H of each layer, bottom first; of one direction.
        bidirectional: Whether each layer also runs from the future.
        pooling: How all steps become one vector.
        plan: How the recurrence is run along time; the results do not depend on it.
    """

    recurrence: str = "lstm"
    hidden_sizes: tuple[int, ...] = (64,)
    bidirectional: bool = True
    pooling: Pooling = "mean"
    plan: str = "auto"


@dataclass(frozen=True)
class TrainSensors:
    """Train a network for each fold of people, or go on; then compare with a forest, and once more.

    The last model learns from all people: it is the one that classify-recording uses.

    Attributes:
        run: The run folder.
        preset: Defaults for the flags below: "demo" learns in minutes on two cores, "smoke" only
            shows in seconds that everything runs, "full" is larger and leaves one person out at a
            time.
        data: Where the recordings come from.
        model: What the network is made of.
        optimizer: The algorithm, clipping, warm-up and decay.
        loop: What happens between steps. The model is the one of the last step: held-out people
            choose nothing.
        folds: Parts that the people are shared out into; each part is held out once.
        batch_size: B, windows a step.
        dropout: Between layers and of the pooled vector.
        turn: Standard deviation, in degrees, by which the watch is turned round the forearm in
            training.
        speed: By how much at most a movement is made slower or faster in training.
        seed: Of parameters, windows and what is drawn in training.
    """

    run: Path = RUN
    preset: Literal["demo", "smoke", "full"] = "demo"
    data: SensorData = SensorData()
    model: SensorModel = SensorModel()
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: Annotated[LoopConfig, tyro.conf.arg(name="")] = field(default_factory=LoopConfig)
    folds: int = 5
    batch_size: int = 64
    dropout: float = 0.5
    turn: float = 15.0
    speed: float = 0.2
    seed: int = 0


@dataclass(frozen=True)
class ClassifyRecording:
    """Say what somebody does in recordings of a watch.

    Attributes:
        files: CSV files with the columns ax, ay, az, wx, wy and wz, 50 samples a second.
        side: The wrist that wears the watch.
        run: The folder of a run of train-sensors.
    """

    files: tyro.conf.Positional[tuple[Path, ...]] = ()
    side: Literal["left", "right"] = "right"
    run: Path = RUN


PRESETS = {
    "demo": TrainSensors(
        optimizer=OptimizerConfig(
            learning_rate=2e-3, warmup_steps=30, total_steps=450, weight_decay=1e-2, clip_norm=1.0
        ),
        loop=LoopConfig(evaluate_every=150, checkpoint_every=300, log_every=25),
    ),
    "smoke": TrainSensors(
        run=RUN.with_name("activity_sensors_smoke"),
        preset="smoke",
        data=SensorData(every=5, seconds=2.0),
        model=SensorModel(hidden_sizes=(8,)),
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=5, total_steps=20),
        loop=LoopConfig(evaluate_every=10, checkpoint_every=10, log_every=5),
        folds=2,
        batch_size=8,
    ),
    "full": TrainSensors(
        run=RUN.with_name("activity_sensors_full"),
        preset="full",
        data=SensorData(every=1),
        model=SensorModel(hidden_sizes=(128, 128)),
        optimizer=OptimizerConfig(
            learning_rate=1e-3, warmup_steps=100, total_steps=3000, weight_decay=1e-2, clip_norm=1.0
        ),
        loop=LoopConfig(evaluate_every=500, checkpoint_every=500, log_every=50),
        folds=10,
    ),
}


class Recordings(NamedTuple):
    """N recordings as if all were of the right arm, thinned; and what each is."""

    signals: list[np.ndarray]  # (Tx, 6) float32 each
    exercises: np.ndarray  # (N,) int32
    subjects: list[str]

    def of(self, places: Sequence[int]) -> "Recordings":
        """Some of them."""
        return Recordings(
            [self.signals[place] for place in places],
            self.exercises[list(places)],
            [self.subjects[place] for place in places],
        )


class Windows(NamedTuple):
    """M windows of recordings: what a verdict is on."""

    signals: np.ndarray  # (M, T, 6) float32
    lengths: np.ndarray  # (M,) int32; below T of a recording that is shorter than a window
    labels: np.ndarray  # (M,) int32
    recordings: np.ndarray  # (M,) int64, the place of the recording


class Scaling(NamedTuple):
    """What each axis is shifted and divided by, `(6,)` float32; of the people learned from."""

    centre: np.ndarray
    scale: np.ndarray

    def __call__(self, signals: np.ndarray) -> np.ndarray:
        """`(..., 6)`, each axis with mean 0 and deviation 1 over those that were learned from."""
        return (signals - self.centre) / self.scale


def check(config: TrainSensors) -> None:
    """Refuse what would fail only after the run folder is made, and be kept in it.

    Raises:
        ValueError: A number is out of range, or the recurrence or the plan is unknown.
    """
    check_size("batch_size", config.batch_size)
    check_size("data.every", config.data.every)
    if config.folds < 2:
        raise ValueError(f"folds: got {config.folds}, expected at least 2")
    for name in ("seconds", "hop"):
        if not getattr(config.data, name) * RATE >= config.data.every:
            raise ValueError(
                f"data.{name}: got {getattr(config.data, name)}, expected at least one step, "
                f"{config.data.every / RATE} s"
            )
    check_rate("dropout", config.dropout)
    check_rate("speed", config.speed)
    if not 0 <= config.turn < 180:
        raise ValueError(f"turn: got {config.turn}, expected 0 ≤ turn < 180")
    model_config(config, 2)
    if config.model.plan not in ("auto", *PLANS):
        known = ", ".join(["auto", *PLANS])
        raise ValueError(f"plan: got {config.model.plan!r}, expected one of {known}")


def load_recordings(data: SensorData) -> tuple[Recordings, tuple[str, ...]]:
    """All recordings, and the exercises.

    Raises:
        ValueError: The path is missing or superfluous, or a file is not as it must be.
    """
    from experiments.data import recording_files, watch_recordings

    if (data.source == "path") != (data.path is not None):
        raise ValueError(
            f"path: got {data.path} with source={data.source!r}; source='path' needs it alone"
        )
    loaded = watch_recordings.load() if data.path is None else recording_files.load(data.path)
    rows = loaded["recordings"].with_format("numpy")
    signals = [
        prepared(np.asarray(signal), str(side), data.every)
        for signal, side in zip(rows["signal"], rows["side"], strict=True)
    ]
    names = tuple(loaded["recordings"].features["exercise"].names)
    exercises = np.asarray(rows["exercise"], np.int32)
    return Recordings(signals, exercises, [str(one) for one in rows["subject"]]), names


def prepared(signal: np.ndarray, side: str, every: int) -> np.ndarray:
    """A recording as if it were of the right arm, `every` samples averaged into one step.

    A rest of fewer samples is left out.

    Raises:
        ValueError: It has fewer than one step.
    """
    steps = len(signal) // every
    if steps < 1:
        raise ValueError(f"signal: got {len(signal)} samples, expected at least {every}")
    of_right = signal * MIRROR if side == "left" else signal
    thinned = of_right[: steps * every].reshape(steps, every, -1).mean(1)
    return thinned.astype(np.float32)


def steps_of(data: SensorData, seconds: float) -> int:
    """How many steps so many seconds are."""
    return max(1, round(seconds * RATE / data.every))


def windows_of(recordings: Recordings, data: SensorData) -> Windows:
    """Windows of all recordings, one every `data.hop` seconds; a shorter recording is one alone."""
    steps, hop = steps_of(data, data.seconds), steps_of(data, data.hop)
    signals, lengths, places = [], [], []
    for place, signal in enumerate(recordings.signals):
        for begin in range(0, max(1, len(signal) - steps + 1), hop):
            window = signal[begin : begin + steps]
            signals.append(np.pad(window, ((0, steps - len(window)), (0, 0))))
            lengths.append(len(window))
            places.append(place)
    return Windows(
        np.stack(signals),
        np.asarray(lengths, np.int32),
        recordings.exercises[places],
        np.asarray(places),
    )


def folds_of(subjects: Sequence[str], folds: int) -> list[list[str]]:
    """The people of each fold, in turn in the order of their names.

    Raises:
        ValueError: There are fewer people than folds.
    """
    people = sorted(set(subjects))
    if len(people) < folds:
        raise ValueError(f"folds: got {folds} for {len(people)} people, expected at most as many")
    return [people[fold::folds] for fold in range(folds)]


def scaling_of(recordings: Recordings) -> Scaling:
    """Mean and deviation of each axis over all steps."""
    steps = np.concatenate(recordings.signals)
    return Scaling(steps.mean(0), np.maximum(steps.std(0), 1e-6))


def model_config(config: TrainSensors, class_count: int) -> SignalClassifierConfig:
    """The model's own record."""
    model = config.model
    return SignalClassifierConfig(
        len(MIRROR),
        class_count,
        model.recurrence,
        model.hidden_sizes,
        model.bidirectional,
        model.pooling,
    )


def checkpoint_metadata(model: SignalClassifierConfig, exercises: Sequence[str]) -> dict[str, Any]:
    """What a checkpoint must have been saved with, to be of this model."""
    return {"experiment": "activity_sensors", "classes": list(exercises)} | json.loads(
        json.dumps(asdict(model))
    )


def run_fingerprint(config: TrainSensors, recordings: Recordings) -> dict[str, str]:
    """Digests of the recordings, of the settings that decide the result, and of the code."""
    here = Path(__file__)
    return fingerprint(
        data=recordings._asdict(),
        config=config,
        code=code_of(here.parent / "activity_pictures.py", here),
        without=("run", "preset", "data.path"),
    )


def new_state(config: TrainSensors, model: SignalClassifierConfig) -> TrainState:
    """The state before the first step."""
    key_params, key = jax.random.split(jax.random.key(config.seed))
    params = init_signal_classifier(key_params, model)
    return initial_train_state(params, build_optimizer(config.optimizer), (), key)


ROWS_AXES: Any = SignalBatch(1, 0, 0, 0)
"""Which axis of each leaf of a batch is that of windows."""


# Compiled functions are kept by what they are made of, so that folds share them.
@lru_cache
def compiled_step(
    model: SignalClassifierConfig,
    optimizer: OptimizerConfig,
    dropout: float,
    plan: str,
    placement: Placement,
) -> TrainStep:
    """The training step."""
    loss = partial(signal_classifier_loss, model, dropout=dropout, plan=plan_of(placement, plan))
    return make_placed_train_step(placement, loss, build_optimizer(optimizer))


@lru_cache
def compiled(model: SignalClassifierConfig, plan: str) -> Any:
    """`(params, signals, lengths) -> (B, K)`."""
    return jax.jit(partial(signal_log_probabilities, model, plan=plan))


def turned(signals: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Signals of a watch that is turned round the forearm, the x axis.

    y' = y cos φ − z sin φ,  z' = y sin φ + z cos φ,  of acceleration and of rotation

    Args:
        signals: `(T, B, 6)`.
        angles: φ, `(B,)`, radians.
    """
    sine, cosine = np.sin(angles)[None, :, None], np.cos(angles)[None, :, None]
    both = signals.reshape(*signals.shape[:-1], 2, 3)
    x, y, z = both[..., 0], both[..., 1], both[..., 2]
    around = np.stack([x, y * cosine - z * sine, y * sine + z * cosine], axis=-1)
    return around.reshape(signals.shape).astype(np.float32)


def read_at(signal: np.ndarray, times: np.ndarray) -> np.ndarray:
    """A signal between its steps, by straight lines: `(Tx, I), (T,) -> (T, I)`; ends go on."""
    times = np.clip(times, 0, len(signal) - 1)
    before = np.minimum(times.astype(np.int64), max(0, len(signal) - 2))
    after = np.minimum(before + 1, len(signal) - 1)
    share = (times - before)[:, None]
    return signal[before] * (1 - share) + signal[after] * share


def training_batches(
    config: TrainSensors, recordings: Recordings, scaling: Scaling
) -> Callable[[int], SignalBatch]:
    """Step -> batch: windows drawn anywhere in any recording, slower or faster, turned."""
    size, steps = config.batch_size, steps_of(config.data, config.data.seconds)

    def batch_at(step: int) -> SignalBatch:
        rng = np.random.default_rng([config.seed, step])
        places = rng.integers(len(recordings.signals), size=size)
        speeds = 1 + config.speed * rng.uniform(-1, 1, size)
        rows = []
        for place, speed in zip(places, speeds, strict=True):
            signal = recordings.signals[place]
            begin = rng.uniform(0, max(0.0, len(signal) - steps * speed))
            rows.append(read_at(signal, begin + speed * np.arange(steps)))
        signals = turned(np.stack(rows, axis=1), np.radians(rng.normal(0, config.turn, size)))
        lengths = np.minimum(steps, [len(recordings.signals[place]) for place in places])
        return SignalBatch(
            scaling(signals),
            lengths.astype(np.int32),
            recordings.exercises[places],
            np.ones(size, np.float32),
        )

    return batch_at


def predict(
    model: SignalClassifierConfig,
    plan: str,
    params: Any,
    scaling: Scaling,
    windows: Windows,
    batch_size: int = 256,
) -> np.ndarray:
    """Log P(exercise) of each window, `(M, K)` float32."""
    score = compiled(model, plan)
    found = []
    for begin in range(0, len(windows.lengths), batch_size):
        signals = scaling(windows.signals[begin : begin + batch_size])
        missing = batch_size - len(signals)
        padded = np.pad(signals, ((0, missing), (0, 0), (0, 0))).transpose(1, 0, 2)
        lengths = np.pad(windows.lengths[begin : begin + batch_size], (0, missing))
        found.append(np.asarray(score(params, padded, lengths))[: len(signals)])
    return np.concatenate(found)


def scores(log_probabilities: np.ndarray, windows: Windows) -> dict[str, float]:
    """What is reported of verdicts on M windows.

    `accuracy` of windows, `recording_accuracy` of recordings by the mean of their windows' log P,
    `cross_entropy` in nats per window.
    """
    chosen = np.take_along_axis(log_probabilities, windows.labels[:, None], -1)
    right = []
    for place in np.unique(windows.recordings):
        of_recording = windows.recordings == place
        verdict = log_probabilities[of_recording].mean(0).argmax()
        right.append(verdict == windows.labels[of_recording][0])
    return {
        "accuracy": float((log_probabilities.argmax(-1) == windows.labels).mean()),
        "recording_accuracy": float(np.mean(right)),
        METRIC: -float(chosen.mean()),
    }


class Outcome(NamedTuple):
    """The last model of a training run."""

    model: SignalClassifierConfig
    params: Any
    scaling: Scaling


def train_one(
    config: TrainSensors,
    folder: Path,
    learned: Recordings,
    watched: Recordings,
    exercises: Sequence[str],
    made_of: Mapping[str, str],
) -> Outcome:
    """Train one network in its folder to the end, or go on there.

    Args:
        config: Of the run.
        folder: The network's.
        learned: What it learns from.
        watched: What its curves are drawn of; they choose nothing.
        exercises: The classes.
        made_of: The fingerprint.
    """
    from rnnjax.training.runs import train_in_folder

    model, plan = model_config(config, len(exercises)), config.model.plan
    scaling, windows = scaling_of(learned), windows_of(watched, config.data)

    def evaluate(state: TrainState) -> dict[str, float]:
        return scores(predict(model, plan, state.params, scaling, windows), windows)

    with open_run_folder(folder, config, fingerprint=made_of) as run:
        state = new_state(config, model)
        placement = place_rows(config.batch_size, rows_axis=ROWS_AXES)
        say(
            f"{folder.name}: {len(learned.signals)} recordings of {len(set(learned.subjects))} "
            f"people to learn from, {len(windows.lengths):,} windows of "
            f"{len(set(watched.subjects))} people to watch"
        )
        trained = train_in_folder(
            run,
            state,
            compiled_step(model, config.optimizer, config.dropout, plan, placement),
            training_batches(config, learned, scaling),
            total_steps=config.optimizer.total_steps,
            evaluate=evaluate,
            metric=METRIC,
            loop=config.loop,
            placement=placement,
            metadata=checkpoint_metadata(model, exercises),
            items_per_step=config.batch_size,
            unit="windows",
        )
    return Outcome(model, trained.result.state.params, scaling)


def train(config: TrainSensors) -> dict[str, Any]:
    """Train and score every fold, or the rest of them; then a model of all people.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    check(config)
    recordings, exercises = load_recordings(config.data)
    folds = folds_of(recordings.subjects, config.folds)
    made_of = run_fingerprint(config, recordings)
    with open_run_folder(config.run, config, fingerprint=made_of) as run:
        cells = [
            _kept(
                run.path / f"fold_{number}.json",
                lambda held_out=held_out, number=number: fold(
                    config, number, held_out, recordings, exercises, made_of
                ),
            )
            for number, held_out in enumerate(folds, start=1)
        ]
        outcome = train_one(
            config, run.path / "everybody", recordings, recordings, exercises, made_of
        )
        task = {
            "exercises": exercises,
            "centre": outcome.scaling.centre.tolist(),
            "scale": outcome.scaling.scale.tolist(),
        }
        replace_text(run.path / "task.json", json.dumps(task))
        summary = run.start | {
            "metric": "accuracy",
            "lower_is_better": False,
            "seconds": run.seconds(),
            "exercises": exercises,
            "recordings": len(recordings.signals),
            "people": len(set(recordings.subjects)),
            "windows": sum(cell["windows"] for cell in cells),
            "window_seconds": config.data.seconds,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(outcome.params)),
            "steps": config.optimizer.total_steps,
            "model": asdict(config.model),
            "folds": cells,
            "scores": over_folds(cells),
            "published": PUBLISHED if config.data.source == "package" else {},
        }
        replace_text(run.path / "report.json", json.dumps(summary, indent=1))
        replace_text(run.path / "report.md", report_page(summary))
        _draw(config, recordings, summary)
        print("\n".join(table_of_scores(summary)))
        print(f"\nIn {run.path}: report.md, folds.png, confusion.png, signals.png, training.png")
    return summary


def fold(
    config: TrainSensors,
    number: int,
    held_out: Sequence[str],
    recordings: Recordings,
    exercises: Sequence[str],
    made_of: Mapping[str, str],
) -> dict[str, Any]:
    """What a network and a forest tell of some people, having learned from the others."""
    from experiments.baselines import window_features

    is_held_out = [subject in held_out for subject in recordings.subjects]
    learned = recordings.of([place for place, out in enumerate(is_held_out) if not out])
    tested = recordings.of([place for place, out in enumerate(is_held_out) if out])
    outcome = train_one(
        config, config.run / "folds" / str(number), learned, tested, exercises, made_of
    )
    windows, to_learn = windows_of(tested, config.data), windows_of(learned, config.data)
    rate = RATE / config.data.every
    forest = window_features.fit(to_learn.signals, to_learn.labels, rate, config.seed)
    said = {
        NETWORK: predict(
            outcome.model, config.model.plan, outcome.params, outcome.scaling, windows
        ),
        FOREST: window_features.log_probabilities(forest, windows.signals, rate, len(exercises)),
    }
    return {
        "people": list(held_out),
        "windows": len(windows.labels),
        "scores": {name: scores(one, windows) for name, one in said.items()},
        "confusion": {name: confusion(one, windows) for name, one in said.items()},
    }


def confusion(log_probabilities: np.ndarray, windows: Windows) -> list[list[int]]:
    """How often each exercise (row) is taken for each (column), in windows."""
    count = log_probabilities.shape[-1]
    cells = np.zeros((count, count), int)
    np.add.at(cells, (windows.labels, log_probabilities.argmax(-1)), 1)
    return cells.tolist()


def over_folds(cells: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each model the mean over folds of each score, and how the accuracy varies among them."""
    found = {}
    for name in (NETWORK, FOREST):
        rows = [cell["scores"][name] for cell in cells]
        found[name] = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        found[name]["deviation"] = float(np.std([row["accuracy"] for row in rows]))
    return found


def _kept(path: Path, compute: Callable[[], Any]) -> Any:
    """The JSON value of a file, computed and written if there is none."""
    if not path.exists():
        replace_text(path, json.dumps(compute(), indent=1))
    return json.loads(path.read_text("utf-8"))


def table_of_scores(summary: Mapping[str, Any]) -> list[str]:
    """Scores over all folds as the lines of a table."""
    lines = [
        "| people never seen | windows | over the folds, ± | whole recordings |",
        "| --- | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {name} | {row['accuracy']:.3f} | {row['deviation']:.3f} "
        f"| {row['recording_accuracy']:.3f} |"
        for name, row in summary["scores"].items()
    ]
    guess = 1 / len(summary["exercises"])
    lines.append(f"| guessing | {guess:.3f} | | {guess:.3f} |")
    lines += [
        f"| published: {name} | {row:.3f} | | |" for name, row in summary["published"].items()
    ]
    return lines


def report_page(summary: Mapping[str, Any]) -> str:
    """The report as a page, with the command, the machine and the versions."""
    model, folds = summary["model"], summary["folds"]
    people = "; ".join(
        f"{', '.join(cell['people'])}: {cell['scores'][NETWORK]['accuracy']:.3f} and "
        f"{cell['scores'][FOREST]['accuracy']:.3f}"
        for cell in folds
    )
    sizes = ", ".join(map(str, model["hidden_sizes"]))
    published = ""
    if summary["published"]:
        published = (
            "\nPublished: Burns et al. (2018), arXiv:1802.01489, five folds by people too. Its "
            "first version reports on\nthe ten people whose recordings these are, its second one "
            "on twenty. Which people are in which fold, and\nhow windows are cut, may differ.\n"
        )
    return f"""# Activity recognition: a watch

{made_by(summary)} {summary["parameters"]:,} parameters ({model["recurrence"]}, H {sizes},
{"both directions" if model["bidirectional"] else "one direction"}, pooling {model["pooling"]}),
{summary["steps"]:,} steps a fold. {summary["recordings"]} recordings of {summary["people"]} people,
{summary["windows"]:,} windows of {summary["window_seconds"]:g} s. In each of {len(folds)} folds
some people are held out of everything, and chose nothing: the model is the one of the last step.
(But the settings were found on these very folds.)

{chr(10).join(table_of_scores(summary))}
{published}
By fold, people held out: accuracy of the network and of the forest. {people}.

![accuracy by fold](folds.png)

![what is taken for what](confusion.png)

![some seconds of each exercise](signals.png)

![loss, learning rate and gradient norm of the first fold](training.png)
"""


def _draw(config: TrainSensors, recordings: Recordings, summary: Mapping[str, Any]) -> None:
    from experiments.activity_pictures import draw_confusions, draw_folds, draw_signals
    from experiments.data.recording_rows import AXES
    from rnnjax.training.plots import plot_training

    folder, cells = config.run, summary["folds"]
    names = (FOREST, NETWORK)
    draw_folds(
        folder / "folds.png",
        {name: [cell["scores"][name]["accuracy"] for cell in cells] for name in names},
        summary["published"],
    )
    draw_confusions(
        folder / "confusion.png",
        {name: np.sum([cell["confusion"][name] for cell in cells], axis=0) for name in names},
        summary["exercises"],
    )
    steps = steps_of(config.data, 2 * config.data.seconds)
    firsts = [
        int(np.flatnonzero(recordings.exercises == k)[0]) for k in range(len(summary["exercises"]))
    ]
    draw_signals(
        folder / "signals.png",
        {
            name: recordings.signals[place][:steps]
            for name, place in zip(summary["exercises"], firsts, strict=True)
        },
        AXES,
        RATE / config.data.every,
    )
    plot_training(
        folder / "folds" / "1" / "metrics.jsonl",
        folder / "training.png",
        {},
        quantity=METRIC,
        clip_norm=config.optimizer.clip_norm,
    )


class Trained(NamedTuple):
    """The model of a run that learned from all people."""

    config: TrainSensors
    model: SignalClassifierConfig
    params: Any
    scaling: Scaling
    exercises: tuple[str, ...]


def load_trained(run: Path) -> Trained:
    """The model of all people.

    Raises:
        FileNotFoundError: There is no finished run of train-sensors in the folder.
    """
    if not all((run / name).exists() for name in ("config.json", "task.json", "everybody")):
        raise FileNotFoundError(
            f"run: got {run}, expected the folder of a finished run of `train-sensors`"
        )
    config = read_config(run, TrainSensors)
    task = json.loads((run / "task.json").read_text("utf-8"))
    model = model_config(config, len(task["exercises"]))
    state = last_state(
        run / "everybody",
        new_state(config, model),
        checkpoint_metadata(model, task["exercises"]),
    )
    scaling = Scaling(*(np.asarray(task[name], np.float32) for name in Scaling._fields))
    return Trained(config, model, state.params, scaling, tuple(task["exercises"]))


def last_state(run: Path, template: TrainState, metadata: Mapping[str, Any]) -> TrainState:
    """The last state of a run.

    Raises:
        FileNotFoundError: There is no checkpoint in the run.
    """
    from rnnjax.training.checkpoints import Checkpoints

    restored = Checkpoints(run / "checkpoints").restore_latest(template, metadata)
    if restored is None:
        raise FileNotFoundError(f"run: got {run} without a checkpoint, expected at least one")
    return restored.state


def classify(config: ClassifyRecording) -> list[np.ndarray]:
    """Print what somebody does in each recording, and in how many of its windows.

    Returns:
        Of each recording log P(exercise) of its windows, `(M, K)`.
    """
    from experiments.data.recording_files import read_signal

    if not config.files:
        raise ValueError("files: got none, expected at least one")
    trained = load_trained(config.run)
    data, found = trained.config.data, []
    for path in config.files:
        signal = prepared(read_signal(path), config.side, data.every)
        windows = windows_of(Recordings([signal], np.zeros(1, np.int32), [""]), data)
        said = predict(
            trained.model, trained.config.model.plan, trained.params, trained.scaling, windows
        )
        found.append(said)
        verdicts = said.argmax(-1)
        whole = int(said.mean(0).argmax())
        share = float((verdicts == whole).mean())
        print(
            f"{path}: {trained.exercises[whole]}, in {share:.0%} of {len(said)} windows of "
            f"{data.seconds:g} s"
        )
        if windows.lengths[0] < steps_of(data, data.seconds):
            seconds = len(signal) * data.every / RATE
            print(f"    {seconds:.1f} s are less than one window")
    return found
