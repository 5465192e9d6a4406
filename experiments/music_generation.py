"""Music: frames of piano rolls, four-part chorales and folk tunes; novel music of each kind.

    python -m experiments.music_generation train
    python -m experiments.music_generation train --preset tunes
    python -m experiments.music_generation train --preset jsb_chorales --data.path JSB_Chorales.mat
    python -m experiments.music_generation generate --group "minor 4/4" --count 4

Without a command it trains on chorales. Written music is one to many: the network reads a group,
mode and metre of a chorale, metre and key of a tune, as x<1>, and then each token it has written. A
chorale is bar lines and events of four voices, a tune characters of ABC notation. Held-out music is
scored in bits per token beside n-grams; what is made up is asked for valid bars, notes in key,
endings, and for the longest run that the training part has too, beside real pieces and those of an
n-gram.

Piano rolls (JSB Chorales, Nottingham, by their own files) are many to many: after each frame the
network says of 88 keys how likely each sounds in the next. They are scored in nats per frame beside
keys by frequency, the last frame with noise, an n-gram of frames, and published scores: of JSB
Chorales LSTM 8.45, GRU 8.43, TCN 8.10, of Nottingham 3.29, 3.46, 3.07 (Bai et al. 2018,
arXiv:1803.01271, test parts). Their file's validation part is not selected on.

A run leaves MIDI, WAV and a picture of what was made up.

Recorded: chorales: 1.482 bits per token of test pieces, against 2.131 of order 6, modified
Kneser–Ney; `python -m experiments.music_generation train`, 1.8 minutes on 2 cores of AMD EPYC
(docs/results/music_chorales/report.md). tunes: 2.087 bits per token of test pieces, against 2.474
of order 6, modified Kneser–Ney; `python -m experiments.music_generation train --preset tunes`, 1.5
minutes on 2 cores of AMD EPYC (docs/results/music_tunes/report.md). JSB_Chorales: 8.65 nats per
frame of the validation part, against 6.25 of an n-gram of whole frames (the two before, back-off);
`python -m experiments.music_generation train --preset jsb_chorales --data.path JSB_Chorales.mat`,
0.2 minutes on 2 cores of AMD EPYC (docs/results/music_jsb_chorales/report.md). JSB_Chorales: 6.78
nats per frame of the validation part, against 6.25 of an n-gram of whole frames (the two before,
back-off); `python -m experiments.music_generation train --preset jsb_chorales --data.path
JSB_Chorales.mat --model.components 16 --run runs/music_jsb_chorales_mixture`, 0.5 minutes on 2
cores of AMD EPYC (docs/results/music_jsb_chorales_mixture/report.md). Nottingham: 3.25 nats per
frame of the validation part, against 2.53 of an n-gram of whole frames (the two before, back-off);
`python -m experiments.music_generation train --preset nottingham --data.path Nottingham.mat`, 1.1
minutes on 2 cores of AMD EPYC (docs/results/music_nottingham/report.md).
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro

from experiments.command_line import one_line_errors, preset_named, say
from experiments.music.config import MAY_DIFFER, PRESETS, Generate, Train
from experiments.music.files import check_tempo
from experiments.music.task import Task
from experiments.trained_run import best_state, code_of, params_to_use
from rnnjax.decoding.sampling import check_sampling
from rnnjax.layers.checks import check_size
from rnnjax.layers.dropout import check_rate
from rnnjax.plans import REGISTRY as PLANS
from rnnjax.text.vocabulary import from_json
from rnnjax.training.files import replace_text
from rnnjax.training.fingerprint import fingerprint
from rnnjax.training.optimizer import build_optimizer
from rnnjax.training.run_folder import open_run_folder, read_config
from rnnjax.training.step import make_train_step


def check(config: Train) -> None:
    """Refuse what would fail only after the run folder is made, and be kept in it.

    Raises:
        ValueError: A number is out of range, the plan is unknown, or the corpus has no package.
    """
    for name in ("batch_size", "window", "samples"):
        check_size(name, getattr(config, name))
    if not 0 <= config.transpose <= 12:
        raise ValueError(f"transpose: got {config.transpose}, expected 0 … 12")
    if config.transpose and config.data.corpus != "piano_rolls":
        raise ValueError(
            f"transpose: got {config.transpose} with corpus={config.data.corpus!r}, expected 0"
        )
    check_sampling(config.temperature, None, None, None)
    check_rate("dropout", config.model.dropout)
    check_rate("input_dropout", config.model.input_dropout)
    if config.model.plan not in ("auto", *PLANS):
        known = ", ".join(["auto", *PLANS])
        raise ValueError(f"plan: got {config.model.plan!r}, expected one of {known}")
    if config.data.corpus == "piano_rolls" and config.data.source != "path":
        raise ValueError(
            "source: got 'package' with corpus='piano_rolls', expected 'path': no package has them"
        )


def task_of(config: Train) -> Task:
    """The corpus of a config, and a model of it.

    Raises:
        ValueError: As the loader of the corpus.
    """
    if config.data.corpus == "piano_rolls":
        from experiments.music.frames import frames_task

        return frames_task(config)
    from experiments.music.tokens import tokens_task

    return tokens_task(config)


def train(config: Train) -> dict[str, Any]:
    """Train to the end, or resume; then compare, draw, and make up pieces.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    from rnnjax.training.runs import train_in_folder

    check(config)
    task = task_of(config)
    here = Path(__file__)
    made_of = fingerprint(
        data=task.data,
        config=config,
        code=code_of(here, here.parent / "music"),
        without=("run", "preset", "data.path", *MAY_DIFFER),
    )
    total = config.optimizer.total_steps
    with open_run_folder(config.run, config, may_differ=MAY_DIFFER, fingerprint=made_of) as run:
        for name, text in task.files.items():
            replace_text(run.path / name, text)
        count = sum(leaf.size for leaf in jax.tree.leaves(task.state.params))
        say(
            f"{task.summary}; {config.model.recurrence} {list(config.model.hidden_sizes)}, "
            f"{count:,} parameters; {total:,} steps of {config.batch_size} × {config.window} "
            f"{task.steps}"
        )
        trained = train_in_folder(
            run,
            task.state,
            make_train_step(task.loss_function, build_optimizer(config.optimizer)),
            task.batch_at,
            total_steps=total,
            evaluate=lambda state: task.evaluate(params_to_use(config, state)),
            metric=task.metric,
            loop=config.loop,
            metadata=task.metadata,
            items_per_step=config.batch_size * config.window,
            unit=task.steps,
        )
        best = trained.best
        return task.report(params_to_use(config, best.state), best.step, run)


def generate(config: Generate) -> list[Path]:
    """Make up music with the best model of a run.

    Returns:
        The files that were written.

    Raises:
        FileNotFoundError: There is no run in the folder, or no checkpoint in the run.
        ValueError: An option is out of range, or none that the corpus has.
    """
    check_size("count", config.count)
    check_tempo(config.quarters_per_minute)
    if not (config.run / "config.json").exists():
        raise FileNotFoundError(f"run: got {config.run}, expected the folder of a run of `train`")
    trained = read_config(config.run, Train)
    if trained.data.corpus == "piano_rolls":
        from experiments.music import frames

        metadata = frames.checkpoint_metadata(trained)
        state = best_state(config.run, frames.new_state(trained), metadata, frames.METRIC)
        name = "" if trained.data.path is None else trained.data.path.stem
        written = frames.generate(config, trained, state, name)
    else:
        from experiments.music import tokens

        file = config.run / "vocabulary.json"
        if not file.exists():
            raise FileNotFoundError(f"run: got {config.run}, expected a run with {file.name}")
        vocabulary = from_json(file.read_text("utf-8"))
        metadata = tokens.checkpoint_metadata(trained, vocabulary)
        template = tokens.new_state(trained, vocabulary)
        state = best_state(config.run, template, metadata, tokens.METRIC)
        written = tokens.generate(config, trained, state, vocabulary)
    print(f"In {written[-1].parent}: {', '.join(path.name for path in written)}")
    return written


def parse(arguments: list[str]) -> Train | Generate:
    """The command line as a record; `--preset` says which defaults the other flags have."""
    commands = (
        Annotated[Train, tyro.conf.subcommand("train", default=preset_named(arguments, PRESETS))]
        | Annotated[Generate, tyro.conf.subcommand("generate")]
    )
    return tyro.cli(commands, args=arguments, description=(__doc__ or "").split("\n\n")[0])


def main(arguments: list[str] | None = None) -> None:
    """Run a command line."""
    with one_line_errors():
        config = parse((sys.argv[1:] if arguments is None else arguments) or ["train"])
        if isinstance(config, Train):
            train(config)
        else:
            generate(config)


if __name__ == "__main__":
    main()
