"""The experiment as its user runs it: train, resume, transcribe, compare, and what it refuses."""

import json
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.io import wavfile

from experiments import speech_recognition as experiment
from experiments.data.audio_files import RATE
from experiments.speech_decoding import (
    LanguageModel,
    in_chunks,
    label_scorer,
    score_sounds,
    stream,
    write_greedily,
)
from experiments.speech_features import steps_of
from experiments.speech_pages import BEAM, BEAM_WITH_LANGUAGE_MODEL, GREEDY, LOGISTIC, TEMPLATES
from experiments.speech_training import PRESETS, load_corpus
from rnnjax.models.language_model import (
    LanguageModelConfig,
    init_language_model,
    text_log_probability,
)
from rnnjax.text.vocabulary import BEGIN, from_tokens

pytestmark = pytest.mark.xdist_group("speech_recognition")  # they share one run

SMALL = [
    "--preset=smoke", "--language-steps=0", "--optimizer.total-steps=60",
    "--model.no-bidirectional", "--evaluate-every=30", "--checkpoint-every=30",
    "--optimizer.learning-rate=0.03",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """What is computed does not depend on how hard XLA tries; how long compilation takes does."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def tone(digit, high, rng):
    """A digit is a tone; a speaker says it a little higher, and each time of another length."""
    count = int(rng.uniform(0.15, 0.22) * RATE)
    hertz = (400, 900, 2000)[digit] * (1.1 if high else 1.0)
    return (8000 * np.sin(2 * np.pi * hertz * np.arange(count) / RATE)).astype(np.int16)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("digits"), np.random.default_rng(0)
    for digit in range(3):
        for speaker in ("ann", "ben"):
            for index in (5, 6, *range(10, 26)):
                sound = tone(digit, speaker == "ann", rng)
                wavfile.write(folder / f"{digit}_{speaker}_{index}.wav", RATE, sound)
    return folder


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory, quick_compilation):
    """A finished run of 60 steps, of a network of one direction."""
    folder = tmp_path_factory.mktemp("run")
    experiment.main(["train", *SMALL, f"--run={folder}", f"--data.path={corpus}"])
    return folder


def test_a_run_learns_and_leaves_its_record(run):
    report = json.loads((run / "report.json").read_text())
    alone, joined = report["scores"]["alone"], report["scores"]["joined"]
    assert set(alone) == set(joined) == {GREEDY, BEAM, TEMPLATES}
    assert alone[BEAM]["wrong"] < 0.2
    assert joined[GREEDY]["character_error_rate"] < 0.3
    assert alone[TEMPLATES]["wrong"] == 0  # tones are easy to tell
    assert report["one_of_all"]["this model"] > 0.9
    assert report["one_of_all"][LOGISTIC] == 1
    assert report["split"] == "validation"
    assert report["recordings"]["train"] + report["recordings"]["development"] == 96
    assert report["seconds"] > 0
    page = (run / "report.md").read_text()
    assert f"| {BEAM} | {100 * (1 - alone[BEAM]['wrong']):.1f} |" in page
    assert f"{report['machine']['cores']} cores" in page
    for picture in ("training.png", "writing.png"):
        assert (run / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_finished_run_is_reported_again_not_trained_again(run, corpus, capsys):
    before = (run / "metrics.jsonl").read_text()
    experiment.main(["train", *SMALL, f"--run={run}", f"--data.path={corpus}", "--beam-width=2"])
    printed = capsys.readouterr()
    assert "resuming from step 60" in printed.err
    assert f"| {GREEDY} |" in printed.out
    assert (run / "metrics.jsonl").read_text() == before


def test_the_test_part_is_reported_where_there_is_one_and_never_learned_from(corpus, tmp_path):
    for file in corpus.iterdir():
        (tmp_path / file.name).symlink_to(file)
    for digit in range(3):
        (tmp_path / f"{digit}_ann_4.wav").symlink_to(corpus / f"{digit}_ann_10.wav")
    config = PRESETS["smoke"]
    config = replace(config, data=replace(config.data, path=tmp_path))

    def indices(recordings):
        return {int(one.name.rpartition("_")[2].removesuffix(".wav")) for one in recordings}

    for split in (None, "test"):
        found = load_corpus(replace(config, split=split))
        assert found.split == "test"
        assert indices(found.held_out) == {4}
        assert indices(found.development) == {5, 6}
        assert indices(found.train) == set(range(10, 26))
    found = load_corpus(replace(config, split="validation"))
    assert indices(found.held_out) == {5, 6}
    assert len(found.train) + len(found.development) == 96
    assert not {one.name for one in found.train} & {one.name for one in found.development}
    unseen = load_corpus(replace(config, data=replace(config.data, unseen_speaker="ann")))
    assert {one.speaker for one in (*unseen.train, *unseen.development)} == {"ben"}
    assert {one.speaker for one in unseen.held_out} == {"ann"}


def test_writing_while_the_sound_plays_is_writing_all_of_it(run):
    """In pieces of any length; and what is said later does not change what is written."""
    transcriber = experiment.load_trained(run).transcriber
    rng = np.random.default_rng(5)
    quiet = rng.normal(0, 3, 2400)
    parts = [part for digit in (0, 2, 1) for part in (tone(digit, True, rng), quiet)]
    samples = (np.concatenate(parts) / 32768).astype(np.float32)
    steps = steps_of(transcriber.features, samples)
    (whole,) = write_greedily(transcriber, score_sounds(transcriber, [steps]))
    assert whole.text == "021"
    for seconds in (0.01, 0.1, 10.0):
        emissions = list(stream(transcriber, in_chunks(samples, seconds)))
        assert "".join(one.character for one in emissions) == whole.text
        for emission, step in zip(emissions, whole.steps, strict=True):
            known = float(transcriber.features.known_at(step))
            late = min(seconds, len(samples) / RATE)
            assert known - 1e-6 <= emission.seconds < known + late + 1e-6


def test_files_of_any_rate_and_number_of_channels_are_transcribed(run, tmp_path, capsys):
    rng = np.random.default_rng(7)
    plain, other = tmp_path / "plain.wav", tmp_path / "other.wav"
    sound = np.concatenate([tone(1, False, rng), rng.normal(0, 3, 1600).astype(np.int16)])
    wavfile.write(plain, RATE, sound)
    wavfile.write(other, 2 * RATE, np.stack([np.repeat(sound, 2)] * 2, axis=1))
    arguments = ["transcribe", str(plain), str(other), f"--run={run}"]
    experiment.main(arguments)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{plain} (0.")
    assert "2 channels to their mean; 16,000 Hz to 8,000 Hz" in lines[2]
    assert lines[1] == "  1"
    experiment.main([*arguments, "--streaming"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith(" s  '1'")
    assert lines[2] == "  1"
    long = tmp_path / "long.wav"
    wavfile.write(long, RATE, np.concatenate([sound, np.zeros(3 * RATE, np.int16)]))
    experiment.main(["transcribe", str(long), f"--run={run}"])
    assert "more than twice the" in capsys.readouterr().out


def test_a_language_model_scores_labels_as_it_scores_the_text():
    vocabulary = from_tokens(["\n", "a", "b"], begin=BEGIN)
    config = LanguageModelConfig(len(vocabulary), "elman", (5,), 3, dtype="float64")

    @partial(jax.jit, static_argnums=1)
    def both(params, labels):
        scorer = label_scorer(LanguageModel(config, params, vocabulary), "ab")
        state, scores = jax.tree.map(lambda leaf: leaf[None], (scorer.state, scorer.first))
        total = jnp.zeros(1)
        for label in labels:
            total += scores[:, label]
            state, scores = scorer.step(state, jnp.full((1,), label))
        text = vocabulary.encode("\n" + "".join(" ab"[label] for label in labels) + "\n")
        by_text = text_log_probability(config, params, text, vocabulary.begin_id, plan="reference")
        return total[0] + scores[0, 0], by_text[1:].sum()

    params = jax.jit(init_language_model, static_argnums=1)(jax.random.key(0), config)
    np.testing.assert_allclose(*both(params, (1, 2, 2, 1)), rtol=1e-9)


@pytest.mark.slow
def test_the_beam_takes_a_language_model_of_the_transcripts(corpus, tmp_path, capsys):
    arguments = [f"--data.path={corpus}", f"--run={tmp_path / 'run'}", "--language-steps=20"]
    experiment.main(["train", *SMALL, *arguments])
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert BEAM_WITH_LANGUAGE_MODEL in report["scores"]["alone"]
    assert report["beam"]["weight"] in (0.0, *experiment.WEIGHTS)
    capsys.readouterr()
    file = next(corpus.glob("2_ann_*.wav"))
    experiment.main(["transcribe", str(file), f"--run={tmp_path / 'run'}"])
    assert capsys.readouterr().out.splitlines()[1] == "  2"


@pytest.mark.slow
def test_latencies_are_compared_and_what_is_done_is_kept(corpus, tmp_path, capsys):
    arguments = ["latency", "--preset=smoke", "--optimizer.total-steps=60", "--deadlines", "0.1",
                 f"--data.path={corpus}", f"--run={tmp_path / 'run'}"]  # fmt: skip
    experiment.main(arguments)
    first = capsys.readouterr()
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    both, one, in_time = report["rows"]
    assert both["bidirectional"]
    assert both["real_time_factor"] is None
    assert not one["bidirectional"]
    assert one["deadline"] is None
    assert in_time["deadline"] == 0.1
    assert in_time["real_time_factor"] > 0
    assert in_time["delay"] < 0.2
    assert (tmp_path / "run" / "latency.png").read_bytes().startswith(b"\x89PNG")
    experiment.main(arguments)
    again = capsys.readouterr()
    assert "recordings to learn from" not in again.err
    assert again.out.splitlines()[5:] == first.out.splitlines()[5:]


@pytest.mark.slow
def test_each_speaker_is_left_out_in_turn(corpus, tmp_path, capsys):
    experiment.main(["speakers", "--preset=smoke", "--optimizer.total-steps=60",
                     f"--data.path={corpus}", f"--run={tmp_path / 'run'}"])  # fmt: skip
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [row["speaker"] for row in report["rows"]] == ["ann", "ben"]
    assert all(row["recordings"] == 54 for row in report["rows"])
    assert "| mean | " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["transcribe", "x.wav", "--run=nowhere"], "error: run: got nowhere, expected the folder"),
        (["transcribe", "x.wav", "--run={foreign}"], "error: run: got {foreign}, expected the"),
        (["transcribe", "{text}", "--run={run}"], "error: {text}: is no WAV file"),
        (["transcribe", "{short}", "--run={run}"], "error: {short}: got 25 ms of sound, expected"),
        (["transcribe", "nothing.wav", "--run={run}"], "error: [Errno 2] No such file"),
        (["transcribe", "{text}", "--run={run}", "--chunk=0"], "error: chunk: got 0.0, expected"),
        (
            ["train", "--data.source=path", "--run={tmp}"],
            "error: path: got None with source='path'",
        ),
        (["train", *SMALL, "--run={tmp}", "--data.path={text}"], "error: path: got '{text}', exp"),
        (
            ["train", *SMALL, "--run={tmp}", "--data.path={corpus}", "--split=test"],
            "error: split: got 'test', expected 'validation'",
        ),
        (
            ["train", *SMALL, "--run={tmp}", "--data.path={corpus}", "--data.unseen-speaker=eve"],
            "error: data.unseen_speaker: got 'eve', expected one of several: ann, ben",
        ),
        (
            ["train", *SMALL, "--run={tmp}", "--data.path={corpus}", "--data.longest=0.1"],
            "error: data: got no recording of at most 0.1 s for train",
        ),
        (
            ["train", *SMALL, "--run={run}", "--data.path={corpus}", "--batch-size=5"],
            "error: config: the run in {run} was made with another one: batch_size was 8, now 5",
        ),
        (
            ["train", *SMALL, "--run={tmp}", "--data.path={corpus}", "--joining.most=1"],
            "error: joining.most: got 1, expected at least 2 to join",
        ),
        (
            ["train", *SMALL, "--run={tmp}", "--data.path={corpus}", "--joining.gap=-1"],
            "error: joining.gap: got -1.0, expected at least 0",
        ),
        (
            ["train", *SMALL, "--run={tmp}", "--data.path={corpus}", "--speeds", "3"],
            "error: speeds: got (3.0,), expected some within 0.5 … 2",
        ),
        (
            ["train", *SMALL, "--run={tmp}", "--data.path={corpus}", "--model.plan=fast"],
            "error: plan: got 'fast', expected one of auto, reference",
        ),
        (
            ["latency", "--preset=smoke", "--run={tmp}", "--data.path={corpus}", "--deadlines"],
            "error: deadlines: got none, or no strings held out",
        ),
        (
            ["latency", "--preset=smoke", "--run={tmp}", "--data.path={corpus}"],
            "error: deadline: got 0.2, expected at least -1, and at most joining.tail, 0.1",
        ),
    ],
)
def test_bad_input_is_one_line(arguments, message, run, corpus, tmp_path, capsys):
    places = {"run": run, "corpus": corpus, "tmp": tmp_path / "new"}
    places |= {name: tmp_path / name for name in ("text", "short", "foreign")}
    places["text"].write_text("This is no sound, whatever it is called.")
    wavfile.write(places["short"], RATE, np.ones(200, np.int16))
    places["foreign"].mkdir()
    (places["foreign"] / "config.json").write_text("{}")
    with pytest.raises(SystemExit) as stopped:
        experiment.main([argument.format(**places) for argument in arguments])
    assert stopped.value.code == 2
    assert not places["tmp"].exists()  # nothing of a run that never began is kept
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(message.format(**places))


def test_whole_texts_have_no_deadlines_and_both_directions_no_stream(corpus, run, tmp_path, capsys):
    folder = tmp_path / "texts"
    folder.mkdir()
    table = []
    for number, file in enumerate(sorted(corpus.glob("*.wav"))[:60]):
        (folder / f"{number}.wav").write_bytes(file.read_bytes())
        table.append(f"{number}: {'one two three four five'[: 3 + number % 20]}")
    (folder / "transcripts.txt").write_text("\n".join(table))
    with pytest.raises(SystemExit):
        experiment.main(["train", *SMALL, f"--run={tmp_path / 'run'}", f"--data.path={folder}",
                         "--deadline=0.1"])  # fmt: skip
    assert "error: deadline: got 0.1, expected None" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        experiment.main(["speakers", "--preset=smoke", f"--run={tmp_path / 'run'}",
                         f"--data.path={folder}"])  # fmt: skip
    assert "error: data: got recordings of whole texts" in capsys.readouterr().err
    transcriber = experiment.load_trained(run).transcriber
    both = replace(transcriber, model=replace(transcriber.model, bidirectional=True))
    with pytest.raises(ValueError, match="streaming: got a model of both directions"):
        list(stream(both, iter([])))


def test_help_shows_the_flags(capsys):
    for command, flags in (
        ("train", ("--data.unseen-speaker", "--features.kind", "--joining.most", "--split")),
        ("transcribe", ("--streaming", "--chunk")),
        ("latency", ("--deadlines", "--run")),
        ("speakers", ("--joining.held-out",)),
    ):
        with pytest.raises(SystemExit) as stopped:
            experiment.main([command, "--help"])
        assert stopped.value.code == 0
        text = capsys.readouterr().out
        assert all(flag in text for flag in flags), command
