"""Speech to text: Ty letters out of Tx steps of sound, without knowing when each was said (CTC).

    python -m experiments.speech_recognition train
    python -m experiments.speech_recognition transcribe prompt.wav
    python -m experiments.speech_recognition train --preset digits --data.path recordings.zip
    python -m experiments.speech_recognition latency --data.path recordings.zip
    python -m experiments.speech_recognition speakers --data.path recordings.zip

A deep bidirectional GRU (or any recurrence of the registry) reads log-mel energies, 30 ms a step,
and says a letter or nothing at each; connectionist temporal classification sums over all ways to
say a text. It is decoded greedily, and by a beam of prefixes with or without a character language
model that is trained on the transcripts. `demo` learns telephone prompts of one speaker, out of a
package. `digits` learns the Free Spoken Digit Dataset by path, alone and joined into strings.
`latency` asks what reading in one direction costs, which can write while the sound plays;
`speakers` leaves each speaker out of training in turn. Interrupted, the same command goes on from
the last checkpoint.

There is no published score for the prompts. The nearest is that of Graves and Jaitly (2014), with
CTC on 81 hours of read newspapers by many speakers: a word error rate of 30.1 % without a language
model, and of 74.2 % from 14 hours; here are 20 minutes of one speaker who often says the same. On
the digits mteb records an accuracy of 93.5 % for a logistic regression of what the network
mms-1b-all, of a billion parameters, makes of a few labelled recordings
(https://github.com/embeddings-benchmark/results); of another corpus, thus of speakers never heard,
Adoptante et al. (2023), ASEAN Engineering Journal 13(1), report an F1 of 81.9 %.

Recorded: telephone prompts: a character error rate of 16.4 % with the language model and 20.3 %
without, against 55.2 % of the nearest template; `python -m experiments.speech_recognition train`,
2.6 minutes on 2 cores of AMD EPYC (docs/results/speech_recognition_prompts/report.md). Spoken
digits: 98.7 % of the validation part written right, against 95.0 % of the nearest template, and in
strings 3.0 % of digits wrong; `python -m experiments.speech_recognition train --preset digits
--data.path ../shared/data/free_spoken_digits/recordings.zip`, 1.2 minutes on 2 cores of AMD EPYC
(docs/results/speech_recognition_digits/report.md). Digits of strings wrong, and the mean wait from
the end of a digit on: both directions: 3.7 %, +1074 ms; one direction: 38.5 %, -344 ms; one
direction by -100 ms: 59.8 %, -234 ms; one direction by +50 ms: 14.9 %, -11 ms; one direction by
+200 ms: 10.7 %, +94 ms; `python -m experiments.speech_recognition latency --data.path
../shared/data/free_spoken_digits/recordings.zip`, 1.8 minutes on 2 cores of AMD EPYC
(docs/results/speech_recognition_latency/report.md). Speakers never heard: 54.8 % right in the mean,
16.9 % of the hardest; `python -m experiments.speech_recognition speakers --data.path
../shared/data/free_spoken_digits/recordings.zip`, 2.8 minutes on 2 cores of AMD EPYC
(docs/results/speech_recognition_speakers/report.md).
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import tyro

from experiments.command_line import one_line_errors, preset_named, say
from experiments.data.audio_files import RATE, as_int16, read_wav
from experiments.speech_baselines import baseline_texts, pooled_accuracy
from experiments.speech_decoding import (
    LanguageModel,
    Transcriber,
    in_chunks,
    likeliest_single,
    load_language_model,
    score_sounds,
    stream,
    write_by_beam,
    write_greedily,
)
from experiments.speech_features import Heard, Recording, Scale, join, steps_of
from experiments.speech_pages import (
    BEAM,
    BEAM_WITH_LANGUAGE_MODEL,
    GREEDY,
    LOGISTIC,
    PUBLISHED,
    TEMPLATES,
    latency_page,
    report_page,
    speakers_page,
)
from experiments.speech_scores import METRIC, error_rates
from experiments.speech_training import (
    PRESETS,
    RUN,
    Corpus,
    Outcome,
    Train,
    check,
    checkpoint_metadata,
    held_out_sounds,
    load_corpus,
    model_config,
    new_state,
    params_to_use,
    run_fingerprint,
    run_of,
    steps,
    train_one,
)
from experiments.trained_run import best_state
from rnnjax.training.files import replace_text
from rnnjax.training.loop_config import LoopConfig
from rnnjax.training.optimizer import OptimizerConfig
from rnnjax.training.run_folder import RunFolder, open_run_folder, read_config

WEIGHTS, BONUSES = (0.25, 0.5, 0.75, 1.0), (0.0, 0.5, 1.0)
"""What is tried for α and β of the beam, on what also chooses the checkpoint."""
LANGUAGE_STREAMS = 8
"""Streams that the transcripts are laid out in for the language model."""


@dataclass(frozen=True)
class Transcribe:
    """Write what is said in files with the best model of a run.

    Attributes:
        files: WAV files of any rate and number of channels.
        run: The run folder.
        streaming: Write while the sound plays, with a model of one direction.
        chunk: Seconds that come at once when streaming.
    """

    files: tyro.conf.Positional[tuple[Path, ...]]
    run: Path = RUN
    streaming: bool = False
    chunk: float = 0.1


@dataclass(frozen=True)
class Latency:
    """Train models of both directions and of one, with several deadlines, on spoken digits.

    Attributes:
        template: All else, as of `train`.
        deadlines: Seconds after the end of a digit by which it is to be written, see `train`.
    """

    template: Annotated[Train, tyro.conf.arg(name="")]
    deadlines: tuple[float, ...] = (-0.1, 0.05, 0.2)


@dataclass(frozen=True)
class Speakers:
    """Leave each speaker out of training in turn, and report on that one.

    Attributes:
        template: All else, as of `train`.
    """

    template: Annotated[Train, tyro.conf.arg(name="")]


def train_language_model(config: Train, corpus: Corpus) -> LanguageModel:
    """A character language model of the transcripts, in a run of its own within the run folder."""
    from experiments import character_language_model as characters

    texts = config.run / "transcripts"
    texts.mkdir(exist_ok=True)
    for name, part in (
        ("train", corpus.train),
        ("validation", corpus.development),
        ("test", corpus.held_out),
    ):
        replace_text(texts / f"{name}.txt", "".join(f"{one.text}\n" for one in part))
    count = sum(len(one.text) + 1 for one in corpus.train)
    run = config.run / "language_model"
    say("A character language model of the transcripts:")
    characters.train(
        characters.Train(
            run=run,
            data=characters.Data(source="path", path=texts),
            model=characters.Model("gru", (128,), 32),
            optimizer=OptimizerConfig(
                learning_rate=5e-3,
                warmup_steps=20,
                total_steps=config.language_steps,
                clip_norm=20.0,
            ),
            loop=LoopConfig(evaluate_every=50, checkpoint_every=200, log_every=20),
            batch_size=LANGUAGE_STREAMS,
            window=max(1, min(32, count // LANGUAGE_STREAMS - 1)),
            xz=False,
            sample_length=200,
            seed=config.seed,
        )
    )
    return load_language_model(run)


def train(config: Train) -> dict[str, Any]:
    """Train to the end, or resume; then compare with what is no neural net, draw and write.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    check(config)
    corpus = load_corpus(config)
    with run_of(config, corpus) as run:
        outcome = train_one(run, config, corpus)
        language_model = train_language_model(config, corpus) if config.language_steps else None
        return report(run, config, corpus, outcome, language_model)


def report(
    run: RunFolder,
    config: Train,
    corpus: Corpus,
    outcome: Outcome,
    language_model: LanguageModel | None,
) -> dict[str, Any]:
    """Score what is held out beside what is no neural net, draw, and show what was written."""
    from experiments.speech_pictures import draw_writing
    from rnnjax.training.plots import plot_training

    folder, transcriber = run.path, outcome.transcriber
    alone, in_rows = held_out_sounds(config, corpus.held_out, 5, config.joining.held_out)
    tuned = {"weight": 0.0, "bonus": 0.0}
    if language_model is not None:
        tuned = _kept(folder / "beam.json", lambda: tune(config, corpus, outcome, language_model))
    found = {
        "alone": texts_of(config, outcome, alone, language_model, tuned),
        "joined": texts_of(config, outcome, in_rows, language_model, tuned) if in_rows else {},
    }
    baselines = _kept(
        folder / "baselines.json", lambda: baseline_texts(config, corpus, alone, in_rows)
    )
    scores = {}
    for part, sounds in (("alone", alone), ("joined", in_rows)):
        if sounds:
            said = [one.text for one in sounds]
            scores[part] = {
                name: error_rates(said, written)
                for name, written in (found[part] | baselines[part]).items()
            }
    summary = run.start | {
        "metric": METRIC,
        "lower_is_better": True,
        "split": corpus.split,
        "step": outcome.step,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(transcriber.params)),
        "model": asdict(config.model),
        "recordings": {
            "train": len(corpus.train),
            "development": len(corpus.development),
            corpus.split: len(corpus.held_out),
            "left_out": corpus.left_out,
        },
        "joined": {"count": len(in_rows), "recordings": config.joining.most},
        "of_single_characters": corpus.of_single_characters,
        "scores": scores,
        "published": PUBLISHED[corpus.of_single_characters],
        "beam": {"width": config.beam_width} | tuned,
        "samples": [
            {"said": one.text} | {name: texts[place] for name, texts in found["alone"].items()}
            for place, one in enumerate(alone[:40])
        ],
    }
    if corpus.of_single_characters:
        scored = score_sounds(transcriber, steps(config, alone))
        single = likeliest_single(transcriber, scored)
        summary["one_of_all"] = {
            "this model": 1 - error_rates([one.text for one in alone], single)["wrong"],
            LOGISTIC: _kept(folder / "logistic.json", lambda: pooled_accuracy(corpus)),
        }
    summary["seconds"] = run.seconds()
    # The first of the longest that a picture has room for, whatever is written of it.
    shown = max(in_rows or alone, key=lambda one: len(one.text) * (len(one.text) <= 40))
    replace_text(folder / "report.json", json.dumps(summary, indent=1, ensure_ascii=False))
    replace_text(folder / "report.md", report_page(summary))
    plot_training(
        folder / "metrics.jsonl",
        folder / "training.png",
        {},
        quantity=METRIC,
        clip_norm=config.optimizer.clip_norm,
    )
    draw_writing(folder / "writing.png", transcriber, shown)
    print(report_page(summary))
    print(f"In {folder}: report.md, training.png, writing.png, metrics.jsonl, tensorboard/")
    return summary


def texts_of(
    config: Train,
    outcome: Outcome,
    sounds: Sequence[Heard],
    language_model: LanguageModel | None,
    tuned: Mapping[str, float],
) -> dict[str, list[str]]:
    """What is written of each sound, by way of decoding."""
    transcriber = outcome.transcriber
    scored = score_sounds(transcriber, steps(config, sounds))
    found = {
        GREEDY: [one.text for one in write_greedily(transcriber, scored)],
        BEAM: write_by_beam(transcriber, scored, config.beam_width),
    }
    if language_model is not None:
        found[BEAM_WITH_LANGUAGE_MODEL] = write_by_beam(
            transcriber, scored, config.beam_width, language_model, tuned["weight"], tuned["bonus"]
        )
    return found


def tune(
    config: Train, corpus: Corpus, outcome: Outcome, language_model: LanguageModel
) -> dict[str, float]:
    """The α and β that write the fewest wrong characters of what also chose the checkpoint."""
    sounds, _ = held_out_sounds(config, corpus.development, 4, 0)
    transcriber = outcome.transcriber
    scored = score_sounds(transcriber, steps(config, sounds))
    said = [one.text for one in sounds]
    best = {"weight": 0.0, "bonus": 0.0, METRIC: np.inf}
    for weight in WEIGHTS:
        for bonus in BONUSES:
            written = write_by_beam(
                transcriber, scored, config.beam_width, language_model, weight, bonus
            )
            rate = error_rates(said, written)[METRIC]
            if rate < best[METRIC]:
                best = {"weight": weight, "bonus": bonus, METRIC: rate}
    return best


def delays(outcome: Outcome, sounds: Sequence[Heard]) -> np.ndarray:
    """Seconds from the end of each digit until it is known, in strings that were written right.

    A model of both directions knows nothing before the last recording ends, and all of it then: the
    quiet that follows is not counted against it.
    """
    transcriber = outcome.transcriber
    sounds_steps = [steps_of(transcriber.features, one.samples) for one in sounds]
    written = write_greedily(transcriber, score_sounds(transcriber, sounds_steps))
    found = []
    for one, of_one in zip(sounds, written, strict=True):
        if of_one.text == one.text:
            ends = np.asarray([end for _, end in one.spans])
            known = transcriber.features.known_at(of_one.steps)
            if transcriber.model.bidirectional:
                known = np.full_like(ends, ends[-1])
            found.append(known - ends)
    return np.concatenate(found) if found else np.zeros(0)


def real_time_factor(outcome: Outcome, sounds: Sequence[Heard], chunk: float) -> float:
    """Seconds of computing for a second of sound, streaming in pieces; of what is compiled."""
    list(stream(outcome.transcriber, in_chunks(sounds[0].samples, chunk)))
    begin = perf_counter()
    for one in sounds:
        list(stream(outcome.transcriber, in_chunks(one.samples, chunk)))

    return (perf_counter() - begin) / (sum(len(one.samples) for one in sounds) / RATE)


def latency(config: Latency) -> dict[str, Any]:
    """Train each model, or the rest of them; then ask how long each waits and how often it errs.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    from experiments.speech_pictures import draw_latency

    template = config.template
    for deadline in (None, *config.deadlines):
        check(replace(template, deadline=deadline))
    if not config.deadlines or not template.joining.held_out:
        raise ValueError("deadlines: got none, or no strings held out; expected some of both")
    corpus = load_corpus(replace(template, deadline=0.0))
    with open_run_folder(
        template.run, config, fingerprint=run_fingerprint(config, corpus, "template.")
    ) as run:
        _, in_rows = held_out_sounds(template, corpus.held_out, 5, template.joining.held_out)
        said = [one.text for one in in_rows]
        rows = []
        for bidirectional, deadline in (
            (True, None),
            (False, None),
            *((False, deadline) for deadline in config.deadlines),
        ):
            name = "both" if bidirectional else f"one_{deadline}"
            model = replace(template.model, bidirectional=bidirectional)
            one = replace(template, model=model, deadline=deadline, run=run.path / "models" / name)

            def row(one: Train = one) -> dict[str, Any]:
                with run_of(one, corpus) as inner:
                    outcome = train_one(inner, one, corpus)
                    seconds = inner.seconds()
                written = texts_of(one, outcome, in_rows, None, {})[GREEDY]
                waited = delays(outcome, in_rows)
                factor = None
                if not one.model.bidirectional:
                    factor = real_time_factor(outcome, in_rows[:10], 0.1)
                return error_rates(said, written) | {
                    "bidirectional": one.model.bidirectional,
                    "deadline": one.deadline,
                    "delay": float(np.mean(waited)) if len(waited) else None,
                    "delay_95": float(np.quantile(waited, 0.95)) if len(waited) else None,
                    "real_time_factor": factor,
                    "step": outcome.step,
                    "seconds": seconds,
                }

            rows.append(_kept(run.path / f"row_{name}.json", row))
        summary = run.start | {
            "seconds": run.seconds(),
            "split": corpus.split,
            "strings": len(in_rows),
            "digits": sum(map(len, said)),
            "joining": asdict(template.joining),
            "step_seconds": template.features.step_seconds,
            "slack": template.slack,
            "rows": rows,
        }
        replace_text(run.path / "report.json", json.dumps(summary, indent=1, ensure_ascii=False))
        replace_text(run.path / "report.md", latency_page(summary))
        draw_latency(run.path / "latency.png", rows)
        print(latency_page(summary))
        print(f"In {run.path}: report.md, latency.png, models/")
        return summary


def speakers(config: Speakers) -> dict[str, Any]:
    """Train without each speaker in turn, or go on; and report on the one left out.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    template = config.template
    check(template)
    corpus = load_corpus(template)
    if not corpus.of_single_characters:
        raise ValueError("data: got recordings of whole texts, expected spoken digits")
    with open_run_folder(
        template.run, config, fingerprint=run_fingerprint(config, corpus, "template.")
    ) as run:
        rows = []
        for speaker in sorted({one.speaker for one in corpus.train}):
            data = replace(template.data, unseen_speaker=speaker)
            one = replace(template, data=data, run=run.path / "models" / speaker)

            def row(one: Train = one, speaker: str = speaker) -> dict[str, Any]:
                without = load_corpus(one)
                with run_of(one, without) as inner:
                    outcome = train_one(inner, one, without)
                    seconds = inner.seconds()
                alone, in_rows = held_out_sounds(one, without.held_out, 5, one.joining.held_out)
                scored = score_sounds(outcome.transcriber, steps(one, alone))
                single = likeliest_single(outcome.transcriber, scored)
                digits = [sound.text for sound in alone]
                found = {
                    "speaker": speaker,
                    "recordings": len(alone),
                    "alone": 1
                    - error_rates(digits, texts_of(one, outcome, alone, None, {})[BEAM])["wrong"],
                    "one_of_all": 1 - error_rates(digits, single)["wrong"],
                    LOGISTIC: pooled_accuracy(without),
                    TEMPLATES: 1
                    - error_rates(
                        digits, baseline_texts(one, without, alone, [])["alone"][TEMPLATES]
                    )["wrong"],
                    "step": outcome.step,
                    "seconds": seconds,
                }
                if in_rows:
                    written = texts_of(one, outcome, in_rows, None, {})[BEAM]
                    found["joined"] = error_rates([sound.text for sound in in_rows], written)
                return found

            rows.append(_kept(run.path / f"row_{speaker}.json", row))
        summary = run.start | {"seconds": run.seconds(), "rows": rows}
        replace_text(run.path / "report.json", json.dumps(summary, indent=1, ensure_ascii=False))
        replace_text(run.path / "report.md", speakers_page(summary))
        print(speakers_page(summary))
        print(f"In {run.path}: report.md, models/")
        return summary


class Trained(NamedTuple):
    """The best model of a run, and what else it takes to use it."""

    config: Train
    transcriber: Transcriber
    longest: float  # seconds of the longest utterance it learned from
    language_model: LanguageModel | None
    tuned: Mapping[str, float]


def load_trained(run: Path) -> Trained:
    """The best model of a run, or its last one if it was never evaluated.

    Raises:
        FileNotFoundError: There is no run of `train` in the folder, or no checkpoint in the run.
    """
    if not all((run / name).exists() for name in ("config.json", "task.json")):
        raise FileNotFoundError(
            f"run: got {run}, expected the folder of a run of `speech_recognition train`"
        )
    config = read_config(run, Train)
    task = json.loads((run / "task.json").read_text("utf-8"))
    model = model_config(config, task["characters"])
    metadata = checkpoint_metadata(config, model, task["characters"])
    state = best_state(run, new_state(config, model), metadata, METRIC)
    scale = Scale(np.asarray(task["mean"]), np.asarray(task["deviation"]))
    transcriber = Transcriber(
        model,
        config.model.plan,
        params_to_use(config, state),
        config.features,
        scale,
        task["characters"],
    )
    language_model, tuned = None, {}
    if (run / "beam.json").exists():
        language_model = load_language_model(run / "language_model")
        tuned = json.loads((run / "beam.json").read_text("utf-8"))
    return Trained(config, transcriber, task["longest"], language_model, tuned)


def transcribe(config: Transcribe) -> list[str]:
    """Print what is said in each file, or each letter as it is written while the sound plays."""
    if not config.files:
        raise ValueError("files: got none, expected at least one WAV file")
    if not config.chunk > 0:
        raise ValueError(f"chunk: got {config.chunk}, expected above 0 seconds")
    trained = load_trained(config.run)
    transcriber, tail = trained.transcriber, trained.config.joining.tail
    texts = []
    for file in config.files:
        sound = read_wav(file, shortest=2 * trained.config.features.step_seconds)
        recording = Recording(file.name, "", "?", as_int16(sound.samples))
        heard = join([recording], np.random.default_rng(0), tail=tail)
        seconds = len(sound.samples) / RATE
        notes = [f"{seconds:.1f} s", *sound.conversions]
        if seconds > 2 * trained.longest:
            notes.append(f"more than twice the {trained.longest:.1f} s that it learned from")
        print(f"{file} ({'; '.join(notes)})")
        if config.streaming:
            text = ""
            for emission in stream(transcriber, in_chunks(heard.samples, config.chunk)):
                print(f"  {emission.seconds:6.2f} s  {emission.character!r}", flush=True)
                text += emission.character
        else:
            scored = score_sounds(transcriber, [steps_of(transcriber.features, heard.samples)])
            (text,) = write_by_beam(
                transcriber,
                scored,
                trained.config.beam_width,
                trained.language_model,
                trained.tuned.get("weight", 0.0),
                trained.tuned.get("bonus", 0.0),
            )
        print(f"  {text}" if text else "  (nothing is said)")
        texts.append(text)
    return texts


def _kept(path: Path, compute: Callable[[], Any]) -> Any:
    """The JSON value of a file, computed and written if there is none."""
    if not path.exists():
        replace_text(path, json.dumps(compute(), indent=1, ensure_ascii=False))
    return json.loads(path.read_text("utf-8"))


def parse(arguments: list[str]) -> Train | Transcribe | Latency | Speakers:
    """The command line as a record; `--preset` says which defaults the other flags have."""

    def named(default: str) -> Train:
        return preset_named(arguments, PRESETS, default)

    commands = (
        Annotated[Train, tyro.conf.subcommand("train", default=named("demo"))]
        | Annotated[Transcribe, tyro.conf.subcommand("transcribe")]
        | Annotated[Latency, tyro.conf.subcommand("latency", default=Latency(named("latency")))]
        | Annotated[Speakers, tyro.conf.subcommand("speakers", default=Speakers(named("speakers")))]
    )
    return tyro.cli(commands, args=arguments, description=(__doc__ or "").split("\n\n")[0])


def main(arguments: list[str] | None = None) -> None:
    """Run a command line."""
    with one_line_errors():
        config = parse(sys.argv[1:] if arguments is None else arguments)
        if isinstance(config, Train):
            train(config)
        elif isinstance(config, Transcribe):
            transcribe(config)
        elif isinstance(config, Latency):
            latency(config)
        else:
            speakers(config)


if __name__ == "__main__":
    main()
