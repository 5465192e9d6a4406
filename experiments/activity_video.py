"""What is done in a clip; part of `experiments.activity_recognition`, which says how it is run."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import numpy as np
import tyro

from experiments.clips import (
    BothWays,
    Classes,
    Clips,
    action_probabilities,
    backwards_probability,
    both_ways,
    classes_of,
    clips_of,
    labels_of,
    scores,
    take,
)
from experiments.command_line import say
from experiments.trained_run import best_state, code_of, made_by
from rnnjax.layers.checks import check_size
from rnnjax.layers.dropout import check_rate
from rnnjax.layers.frame_augmentation import check_augmentation
from rnnjax.models.clip_classifier import (
    IMAGES,
    ClipBatch,
    ClipClassifierConfig,
    clip_classifier_loss,
    clip_log_probabilities,
    init_clip_classifier,
)
from rnnjax.plans import REGISTRY as PLANS
from rnnjax.text.batches import shuffler
from rnnjax.training.files import replace_text
from rnnjax.training.fingerprint import fingerprint
from rnnjax.training.loop_config import LoopConfig
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.placement import Placement, make_placed_train_step, place_rows, plan_of
from rnnjax.training.run_folder import open_run_folder, read_config
from rnnjax.training.step import TrainState, TrainStep, initial_train_state

RUN = Path("runs/activity_video")
METRIC = "cross_entropy"
MAY_DIFFER = ("strips",)  # when a run goes on: it is of its report

SINGLE, BAG, RECURRENT, CONV_LSTM = "single_frame", "bag_of_frames", "recurrent", "conv_lstm"
NETWORKS = {
    SINGLE: "a single frame",
    BAG: "a bag of frames",
    RECURRENT: "frames in order",
    CONV_LSTM: "frames in order, ConvLSTM",
}
"""Name -> what the network sees of a clip."""

PUBLISHED = {
    "networks that read many frames (Yue-Hei Ng et al. 2015)": 0.826,
    "what they compare with": 0.730,
}
"""Accuracy on UCF-101, films of 101 actions, without optical flow: arXiv:1503.08909, abstract."""


@dataclass(frozen=True)
class ClipData:
    """Where the clips come from, and how they are shown.

    Attributes:
        source: "package": a pinned package, fetched once; "path": your own pictures.
        path: The folder of source=path, with pictures in train/ACTION/CLIP/, and likewise in
            validation and test.
        size: S, pixels along a side of a frame.
        frames: T, how many frames of a clip are shown.
        still: Actions that look the same backwards; of the others it is asked which way they are
            shown.
    """

    source: Literal["package", "path"] = "package"
    path: Path | None = None
    size: int = 32
    frames: int = 4
    still: tuple[str, ...] = ("stance",)


@dataclass(frozen=True)
class ClipModel:
    """What the networks are made of.

    Attributes:
        channels: Of each convolution, bottom first; each halves height and width.
        feature_size: F, of the vector that a frame becomes.
        recurrence: A name in rnnjax.recurrences.REGISTRY, of what reads these vectors.
        hidden_size: H of it.
        conv_lstm_channels: H of the ConvLSTM, which reads maps.
        plan: How the recurrence is run along time; the results do not depend on it.
    """

    channels: tuple[int, ...] = (16, 32, 64)
    feature_size: int = 128
    recurrence: str = "lstm"
    hidden_size: int = 128
    conv_lstm_channels: int = 16
    plan: str = "auto"


@dataclass(frozen=True)
class TrainVideo:
    """Train networks that see more and more of a clip, or go on; then compare them.

    Attributes:
        run: The run folder.
        preset: Defaults for the flags below: "demo" learns in minutes on two cores, "smoke" only
            shows in seconds that everything runs, "full" is for the frames of UCF-101 by
            data.path.
        data: Where the clips come from.
        model: What the networks are made of.
        networks: Which of them.
        optimizer: The algorithm, clipping, warm-up and decay.
        loop: What happens between steps.
        batch_size: B, clips a step.
        dropout: Of the vector that the verdict is read from.
        shift: By how many pixels at most a clip is moved in training.
        brightness: By how much at most it is made darker or brighter.
        seed: Of parameters, order, frames and what is drawn in training.
        strips: How many clips the report shows.
    """

    run: Path = RUN
    preset: Literal["demo", "smoke", "full"] = "demo"
    data: ClipData = ClipData()
    model: ClipModel = ClipModel()
    networks: tuple[str, ...] = tuple(NETWORKS)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: Annotated[LoopConfig, tyro.conf.arg(name="")] = field(default_factory=LoopConfig)
    batch_size: int = 32
    dropout: float = 0.1
    shift: int = 1
    brightness: float = 0.1
    seed: int = 0
    strips: int = 5


@dataclass(frozen=True)
class ClassifyClip:
    """Say what is done in clips, after each frame, and which way they are shown.

    Attributes:
        clips: Folders of pictures in the order of their names, or files that hold several (GIF).
        run: The folder of a run of train-video.
        network: One of its networks.
        picture: A .png to be drawn of the clips.
    """

    clips: tyro.conf.Positional[tuple[Path, ...]] = ()
    run: Path = RUN
    network: str = RECURRENT
    picture: Path | None = None


PRESETS = {
    "demo": TrainVideo(
        optimizer=OptimizerConfig(
            learning_rate=2e-3, warmup_steps=100, total_steps=2500, weight_decay=1e-2
        ),
        loop=LoopConfig(evaluate_every=500, checkpoint_every=500, log_every=25),
    ),
    "smoke": TrainVideo(
        run=RUN.with_name("activity_video_smoke"),
        preset="smoke",
        data=ClipData(size=16),
        model=ClipModel(channels=(4, 8), feature_size=8, hidden_size=8, conv_lstm_channels=4),
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=5, total_steps=20),
        loop=LoopConfig(evaluate_every=10, checkpoint_every=10, log_every=5),
        batch_size=8,
        shift=1,
    ),
    "full": TrainVideo(
        run=RUN.with_name("activity_video_full"),
        preset="full",
        data=ClipData(source="path", size=112, frames=16, still=()),
        model=ClipModel(channels=(32, 64, 128, 256, 256), feature_size=512, hidden_size=256),
        networks=(SINGLE, RECURRENT),
        optimizer=OptimizerConfig(
            learning_rate=1e-3, warmup_steps=500, total_steps=50_000, weight_decay=1e-2
        ),
        loop=LoopConfig(evaluate_every=1000, checkpoint_every=1000, log_every=50),
        dropout=0.5,
        shift=8,
    ),
}


class Pixels(NamedTuple):
    """Mean and deviation of the pixels that are learned from, as of 0 … 1."""

    mean: float
    deviation: float


class ClipCorpus(NamedTuple):
    """Clips by split, what is done in them, and what there is to tell."""

    train: Clips
    validation: Clips
    held_out: dict[str, Clips]  # "test" and, of the package, "new_kinds"
    actions: tuple[str, ...]
    classes: Classes


def check(config: TrainVideo) -> None:
    """Refuse what would fail only after the run folder is made, and be kept in it.

    Raises:
        ValueError: A number is out of range, or a network or the plan is unknown.
    """
    check_size("batch_size", config.batch_size)
    check_size("data.size", config.data.size)
    check_size("data.frames", config.data.frames)
    if config.strips < 0:
        raise ValueError(f"strips: got {config.strips}, expected at least 0")
    check_rate("dropout", config.dropout)
    check_augmentation(config.shift, config.brightness)
    if not config.networks or len(set(config.networks)) < len(config.networks):
        raise ValueError(
            f"networks: got {list(config.networks)}, expected at least one, and none twice"
        )
    for name in config.networks:
        if name not in NETWORKS:
            raise ValueError(f"networks: got {name!r}, expected some of {', '.join(NETWORKS)}")
        model_config(config, name, 2, Pixels(0.5, 0.25))
    if config.model.plan not in ("auto", *PLANS):
        known = ", ".join(["auto", *PLANS])
        raise ValueError(f"plan: got {config.model.plan!r}, expected one of {known}")


def load_clips(data: ClipData) -> ClipCorpus:
    """The clips, decoded.

    Raises:
        ValueError: The path is missing or superfluous, a clip has no frame, a frame is no image, or
            the frames of a clip differ in size.
    """
    from experiments.data import clip_folder, sprite_clips  # `datasets` takes seconds to import

    if (data.source == "path") != (data.path is not None):
        raise ValueError(
            f"path: got {data.path} with source={data.source!r}; source='path' needs it alone"
        )
    rows = sprite_clips.load() if data.path is None else clip_folder.load(data.path)
    actions = tuple(rows["train"].features["action"].names)
    parts: dict[str, Clips] = {str(name): clips_of(rows[name], data.size) for name in rows}
    train, validation = parts.pop("train"), parts.pop("validation")
    return ClipCorpus(train, validation, parts, actions, classes_of(actions, data.still))


def pixels_of(clips: Clips) -> Pixels:
    """Of all frames; rounded, since they are part of a config."""
    values = np.arange(256) / 255
    shares = np.bincount(clips.frames.ravel(), minlength=256) / clips.frames.size
    mean = float(shares @ values)
    deviation = float(np.sqrt(shares @ (values - mean) ** 2))
    return Pixels(round(mean, 4), max(round(deviation, 4), 1e-3))


def model_config(
    config: TrainVideo, name: str, class_count: int, pixels: Pixels
) -> ClipClassifierConfig:
    """The record of one network."""
    model, size = config.model, config.data.size
    recurrence = {RECURRENT: model.recurrence, CONV_LSTM: IMAGES}.get(name)
    return ClipClassifierConfig(
        (size, size, 3),
        class_count,
        model.channels,
        recurrence,
        model.feature_size,
        model.conv_lstm_channels if name == CONV_LSTM else model.hidden_size,
        *pixels,
    )


def frames_shown(config: TrainVideo, name: str) -> int:
    """T of a network."""
    return 1 if name == SINGLE else config.data.frames


def checkpoint_metadata(model: ClipClassifierConfig, classes: Sequence[str]) -> dict[str, Any]:
    """What a checkpoint must have been saved with, to be of this model."""
    return {"experiment": "activity_video", "classes": list(classes)} | json.loads(
        json.dumps(asdict(model))
    )


def run_fingerprint(config: TrainVideo, corpus: ClipCorpus) -> dict[str, str]:
    """Digests of the clips, of the settings that decide the result, and of the code."""
    here = Path(__file__)
    parts = {"train": corpus.train, "validation": corpus.validation, **corpus.held_out}
    return fingerprint(
        data={name: clips._asdict() for name, clips in parts.items()},
        config=config,
        code=code_of(here.parent / "clips.py", here.parent / "activity_pictures.py", here),
        without=("run", "preset", "data.path", *MAY_DIFFER),
    )


def new_state(config: TrainVideo, model: ClipClassifierConfig) -> TrainState:
    """The state before the first step."""
    key_params, key = jax.random.split(jax.random.key(config.seed))
    params = init_clip_classifier(key_params, model)
    return initial_train_state(params, build_optimizer(config.optimizer), (), key)


ROWS_AXES: Any = ClipBatch(1, 0, 0)
"""Which axis of each leaf of a batch is that of clips."""


def compiled_step(
    config: TrainVideo, model: ClipClassifierConfig, placement: Placement
) -> TrainStep:
    """The training step."""
    loss = partial(
        clip_classifier_loss,
        model,
        dropout=config.dropout,
        shift=config.shift,
        brightness=config.brightness,
        plan=plan_of(placement, config.model.plan),
    )
    return make_placed_train_step(placement, loss, build_optimizer(config.optimizer))


@lru_cache
def compiled(model: ClipClassifierConfig, plan: str) -> Any:
    """`(params, frames) -> (T, B, K)`."""
    return jax.jit(partial(clip_log_probabilities, model, plan=plan))


def training_batches(
    config: TrainVideo, name: str, clips: Clips, classes: Classes
) -> Callable[[int], ClipBatch]:
    """Step -> batch: each clip about once an epoch, either way, of each part any frame."""
    size, steps = config.batch_size, frames_shown(config, name)
    per_epoch = -(-len(clips) // size)

    @lru_cache(2)
    def order(epoch: int) -> np.ndarray:
        # The last batch of an epoch is filled up with clips from its first one.
        return np.resize(shuffler(config.seed, epoch).permutation(len(clips)), per_epoch * size)

    def batch_at(step: int) -> ClipBatch:
        epoch, index = divmod(step, per_epoch)
        places = order(epoch)[index * size : (index + 1) * size]
        rng = np.random.default_rng([config.seed, step])
        backwards = rng.random(size) < 0.5
        frames = take(clips, places, rng.random((steps, size)), backwards)
        labels = labels_of(classes, clips.actions[places], backwards)
        return ClipBatch(frames, labels, np.ones(size, np.float32))

    return batch_at


def predict(
    model: ClipClassifierConfig,
    plan: str,
    params: Any,
    clips: Clips,
    shown: BothWays,
    steps: int,
    batch_size: int = 64,
) -> np.ndarray:
    """Log P(class) of each clip as it is shown, after each frame: `(T, M, K)` float32."""
    score = compiled(model, plan)
    found = []
    for begin in range(0, len(shown.places), batch_size):
        places = shown.places[begin : begin + batch_size]
        count = len(places)
        missing = (0, batch_size - count)
        frames = take(
            clips,
            np.pad(places, missing),
            np.full((steps, batch_size), 0.5),
            np.pad(shown.backwards[begin : begin + batch_size], missing),
        )
        found.append(np.asarray(score(params, frames))[:, :count])
    return np.concatenate(found, axis=1)


class Outcome(NamedTuple):
    """The best model of a training run."""

    model: ClipClassifierConfig
    params: Any
    step: int


def train_one(
    config: TrainVideo, name: str, corpus: ClipCorpus, made_of: Mapping[str, str]
) -> Outcome:
    """Train one network in its folder to the end, or go on there."""
    from rnnjax.training.runs import train_in_folder

    model = model_config(config, name, len(corpus.classes.names), pixels_of(corpus.train))
    shown = both_ways(corpus.validation, corpus.classes)
    plan, steps = config.model.plan, frames_shown(config, name)

    def evaluate(state: TrainState) -> dict[str, float]:
        found = predict(model, plan, state.params, corpus.validation, shown, steps)
        return scores(corpus.classes, found[-1], corpus.validation, shown)

    folder = network_folder(config.run, name)
    with open_run_folder(folder, config, may_differ=MAY_DIFFER, fingerprint=made_of) as run:
        state = new_state(config, model)
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        say(
            f"{NETWORKS[name]}: {len(corpus.train):,} clips to learn from, {steps} frames of each, "
            f"{len(corpus.classes.names)} classes; {count:,} parameters"
        )
        placement = place_rows(config.batch_size, rows_axis=ROWS_AXES)
        trained = train_in_folder(
            run,
            state,
            compiled_step(config, model, placement),
            training_batches(config, name, corpus.train, corpus.classes),
            total_steps=config.optimizer.total_steps,
            evaluate=evaluate,
            metric=METRIC,
            loop=config.loop,
            placement=placement,
            metadata=checkpoint_metadata(model, corpus.classes.names),
            items_per_step=config.batch_size,
            unit="clips",
        )
    return Outcome(model, trained.best.state.params, trained.best.step)


def network_folder(run: Path, name: str) -> Path:
    """Where one network is trained."""
    return run / "networks" / name


def train(config: TrainVideo) -> dict[str, Any]:
    """Train every network, or the rest of them; then compare them with each other and baselines.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    from experiments.baselines import mean_frames

    check(config)
    corpus = load_clips(config.data)
    made_of = run_fingerprint(config, corpus)
    classes = corpus.classes
    with open_run_folder(config.run, config, may_differ=MAY_DIFFER, fingerprint=made_of) as run:
        task = {
            "actions": corpus.actions,
            "still": config.data.still,
            "pixels": pixels_of(corpus.train),
        }
        replace_text(run.path / "task.json", json.dumps(task))
        outcomes = {name: train_one(config, name, corpus, made_of) for name in config.networks}
        networks: dict[str, Any] = {}
        verdicts: dict[tuple[str, str], np.ndarray] = {}
        for name, (model, params, step) in outcomes.items():
            networks[name] = {
                "step": step,
                "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
                "parts": {},
            }
            for part, clips in corpus.held_out.items():
                shown = both_ways(clips, classes)
                steps = frames_shown(config, name)
                found = predict(model, config.model.plan, params, clips, shown, steps)
                verdicts[name, part] = found
                networks[name]["parts"][part] = scores(classes, found[-1], clips, shown)
        baselines = mean_frames.scores(corpus.train, corpus.held_out, classes, config.data.frames)
        summary = run.start | {
            "metric": "action_accuracy",
            "lower_is_better": False,
            "seconds": run.seconds(),
            "actions": corpus.actions,
            "classes": classes.names,
            "clips": {
                "train": len(corpus.train),
                "validation": len(corpus.validation),
                **{part: len(clips) for part, clips in corpus.held_out.items()},
            },
            "frames": config.data.frames,
            "size": config.data.size,
            "networks": networks,
            "scores_without_networks": baselines,
            "published": PUBLISHED,
            "confusion": {
                f"{name}/{part}": confusion(classes, found[-1], corpus.held_out[part])
                for (name, part), found in verdicts.items()
            },
        }
        _draw(config, corpus, outcomes, verdicts, summary)
        replace_text(run.path / "report.json", json.dumps(summary, indent=1))
        replace_text(run.path / "report.md", report_page(summary, strips=config.strips > 0))
        print("\n".join(tables(summary)))
        print(f"\nIn {run.path}: report.md, scores.png, confusion.png, networks/")
    return summary


def confusion(classes: Classes, log_probabilities: np.ndarray, clips: Clips) -> list[list[int]]:
    """How often each action (row) is taken for each (column), of clips shown both ways."""
    verdicts = action_probabilities(classes, np.exp(log_probabilities)).argmax(-1)
    count = len(classes.forwards)
    cells = np.zeros((count, count), int)
    np.add.at(cells, (np.tile(clips.actions, 2), verdicts), 1)
    return cells.tolist()


def _draw(
    config: TrainVideo,
    corpus: ClipCorpus,
    outcomes: Mapping[str, Outcome],
    verdicts: Mapping[tuple[str, str], np.ndarray],
    summary: Mapping[str, Any],
) -> None:
    from experiments.activity_pictures import draw_confusions, draw_scores, draw_strips
    from rnnjax.training.plots import plot_training

    folder = config.run
    best = RECURRENT if RECURRENT in outcomes else config.networks[-1]
    plot_training(
        network_folder(folder, best) / "metrics.jsonl",
        folder / "training.png",
        {},
        quantity=METRIC,
        clip_norm=config.optimizer.clip_norm,
    )
    for part in corpus.held_out:
        names = [name for name in outcomes if name in (BAG, best)]
        draw_confusions(
            folder / ("confusion.png" if part == "test" else f"confusion_{part}.png"),
            {NETWORKS[name]: np.asarray(summary["confusion"][f"{name}/{part}"]) for name in names},
            corpus.actions,
        )
    draw_scores(folder / "scores.png", score_rows(summary))
    if config.strips:
        clips = corpus.held_out["test"]
        shown, found = both_ways(clips, corpus.classes), verdicts[best, "test"]
        strips = []
        for place in strip_places(clips.actions, corpus.classes, config.strips):
            strips += [
                strip(corpus, clips, shown, row, found[:, row])
                for row in (place, place + len(clips))
            ]
        draw_strips(folder / "filmstrip.png", *zip(*strips, strict=True), beside=2)


def strip_places(actions: np.ndarray, classes: Classes, count: int) -> list[int]:
    """A clip of each action that has a direction, evenly from among all, so that nobody chose."""
    moving = np.flatnonzero(classes.has_direction)
    found = [np.flatnonzero(actions == action) for action in moving]
    found = [places for places in found if len(places)][:count]
    return [int(places[turn * len(places) // len(found)]) for turn, places in enumerate(found)]


def strip(
    corpus: ClipCorpus,
    clips: Clips,
    shown: BothWays,
    row: int,
    log_probabilities: np.ndarray,
) -> tuple[np.ndarray, list[str], str]:
    """The frames of a clip as it is shown, the verdict after each of them, and what is true."""
    steps = len(log_probabilities)
    places, backwards = shown.places[row : row + 1], shown.backwards[row : row + 1]
    frames = take(clips, places, np.full((steps, 1), 0.5), backwards)[:, 0]
    said = [verdict_of(corpus.classes.names, one) for one in log_probabilities]
    truth = corpus.classes.names[int(shown.labels[row])]
    return frames, said, f"{truth} ({clips.names[int(places[0])]})"


def verdict_of(names: Sequence[str], log_probabilities: np.ndarray) -> str:
    """The likeliest class and how probable it is."""
    place = int(log_probabilities.argmax())
    return f"{names[place]} {np.exp(log_probabilities[place]):.0%}"


PARTS = {"test": "new actors of known kinds", "new_kinds": "new kinds"}
COLUMNS = {
    "action_accuracy": "action",
    "balanced_action_accuracy": "mean over actions",
    "direction_accuracy": "which way",
}


def title_of(part: str) -> str:
    """What tables call a held-out part."""
    return PARTS.get(part, part)


def score_rows(summary: Mapping[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """Part -> name -> scores, baselines first and then the networks."""
    return {
        title_of(part): dict(baselines)
        | {NETWORKS[name]: one["parts"][part] for name, one in summary["networks"].items()}
        for part, baselines in summary["scores_without_networks"].items()
    }


def tables(summary: Mapping[str, Any]) -> list[str]:
    """Scores on each held-out part, the lines of a table each."""
    lines: list[str] = []
    for part, rows in score_rows(summary).items():
        lines += [
            "",
            f"| {part} | " + " | ".join(COLUMNS.values()) + " |",
            "| --- |" + " ---: |" * len(COLUMNS),
        ]
        for name, row in rows.items():
            lines.append(f"| {name} | " + " | ".join(f"{row[key]:.3f}" for key in COLUMNS) + " |")
    return lines[1:]


def report_page(summary: Mapping[str, Any], *, strips: bool) -> str:
    """The report as a page, with the command, the machine and the versions."""
    clips = summary["clips"]
    parts = ", ".join(f"{count:,} {name}" for name, count in clips.items())
    published = "".join(f"| {name} | {score:.3f} |\n" for name, score in PUBLISHED.items())
    networks = "".join(
        f"- {NETWORKS[name]}: {one['parameters']:,} parameters, the best by validation is of step "
        f"{one['step']:,}\n"
        for name, one in summary["networks"].items()
    )
    film = (
        "\nA clip of each action of the test part, evenly from among all, forwards and backwards; "
        "under a frame\nthe verdict after it:\n\n![frames of clips with verdicts](filmstrip.png)\n"
        "\nThe pictures are those of Flare, © Clint Bellanger and contributors, CC-BY-SA 3.0.\n"
    )
    others = "".join(
        f"![who is taken for whom, {title_of(part)}](confusion_{part}.png)\n"
        for part in summary["scores_without_networks"]
        if part != "test"
    )
    return f"""# Activity recognition: clips

{made_by(summary)}
Clips: {parts}. {summary["frames"]} frames of {summary["size"]} × {summary["size"]} pixels are shown
of each. {len(summary["actions"])} actions; each clip is shown forwards and backwards, and "which
way" is asked of those that look different. Guessing the way is half right.

{chr(10).join(tables(summary))}

{networks}
There is no published score on these clips. On UCF-101, films of 101 actions, and with networks
that had learned from a million other films, accuracy without optical flow is (arXiv:1503.08909):

| UCF-101 | accuracy |
| --- | ---: |
{published}
![scores](scores.png)
{film if strips else ""}
![who is taken for whom](confusion.png)
{others}
![loss, learning rate and gradient norm of the recurrent network](training.png)
"""


class Trained(NamedTuple):
    """The best model of one network of a run."""

    config: TrainVideo
    model: ClipClassifierConfig
    params: Any
    actions: tuple[str, ...]
    classes: Classes


def load_trained(run: Path, network: str) -> Trained:
    """The best model of a network of a run, or its last one if it was never evaluated.

    Raises:
        FileNotFoundError: There is no run of train-video in the folder, or no checkpoint.
        ValueError: The run has no such network.
    """
    if not all((run / name).exists() for name in ("config.json", "task.json", "networks")):
        raise FileNotFoundError(f"run: got {run}, expected the folder of a run of `train-video`")
    config = read_config(run, TrainVideo)
    if network not in config.networks:
        raise ValueError(f"network: got {network!r}, expected one of {', '.join(config.networks)}")
    task = json.loads((run / "task.json").read_text("utf-8"))
    classes = classes_of(task["actions"], task["still"])
    model = model_config(config, network, len(classes.names), Pixels(*task["pixels"]))
    state = best_state(
        network_folder(run, network),
        new_state(config, model),
        checkpoint_metadata(model, classes.names),
        METRIC,
    )
    return Trained(config, model, state.params, tuple(task["actions"]), classes)


def read_clip(path: Path, size: int) -> np.ndarray:
    """The frames of a folder of pictures, or of a file that holds several: `(n, S, S, 3)` uint8.

    Raises:
        ValueError: There is no frame, one is no image, or they differ in size.
        OSError: The path cannot be read.
    """
    from experiments.data.clip_folder import read_frames
    from experiments.data.clip_rows import decode_clip, split_frames

    if path.is_dir():
        return decode_clip(read_frames(path), size, path.name)
    return decode_clip(split_frames(path.read_bytes(), path.name), size, path.name)


def classify(config: ClassifyClip) -> list[np.ndarray]:
    """Print what is done in each clip, and which way it is shown.

    Returns:
        Of each clip log P(class) after each frame, `(T, K)`.
    """
    if not config.clips:
        raise ValueError("clips: got none, expected at least one")
    if config.picture is not None and config.picture.suffix != ".png":
        raise ValueError(f"picture: got {config.picture.name!r}, expected a name ending in .png")
    trained = load_trained(config.run, config.network)
    steps = frames_shown(trained.config, config.network)
    found, strips = [], []
    for path in config.clips:
        frames = read_clip(path, trained.config.data.size)
        count = len(frames)
        clips = Clips(
            frames, np.zeros(1, int), np.asarray([count]), np.zeros(1, np.int32), [path.name]
        )
        shown = BothWays(np.zeros(1, int), np.zeros(1, bool), np.zeros(1, np.int32))
        said = predict(
            trained.model, trained.config.model.plan, trained.params, clips, shown, steps
        )[:, 0]
        found.append(said)
        probabilities = np.exp(said[-1])
        of_actions = action_probabilities(trained.classes, probabilities)
        likeliest = np.argsort(-of_actions, kind="stable")[:3]
        listed = ", ".join(f"{trained.actions[one]} {of_actions[one]:.1%}" for one in likeliest)
        print(f"{path}: {listed}")
        if count == 1 or steps == 1:
            print("    one frame: which way it is shown cannot be told")
        elif not trained.classes.has_direction[likeliest[0]]:
            print(f"    {trained.actions[likeliest[0]]} looks the same backwards")
        else:
            backwards = float(backwards_probability(trained.classes, probabilities))
            way = "backwards" if backwards > 0.5 else "forwards"
            print(f"    shown {way}, {max(backwards, 1 - backwards):.1%}")
        if count < steps:
            print(f"    {count} of {steps} frames: some are shown again")
        strips.append(
            (
                take(clips, shown.places, np.full((steps, 1), 0.5), shown.backwards)[:, 0],
                [verdict_of(trained.classes.names, one) for one in said],
                path.name,
            )
        )
    if config.picture is not None:
        from experiments.activity_pictures import draw_strips

        draw_strips(config.picture, *zip(*strips, strict=True))
        print(f"In {config.picture}")
    return found
