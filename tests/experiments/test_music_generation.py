"""The experiment as its user runs it: train, report again, generate, and what it refuses."""

import json

import jax
import mido
import numpy as np
import pytest
from scipy.io import wavfile
from support.made_up_music import write_chorales, write_piano_rolls, write_tunes

from experiments import music_generation as experiment
from experiments.music import frames, tokens
from experiments.music.config import Data, Train
from experiments.music.tokens import Written

pytestmark = pytest.mark.xdist_group("music_generation")  # they share runs

FLAGS = ["--preset=smoke", "--data.source=path", "--model.hidden-sizes", "12"]


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A path for each corpus."""
    folder = tmp_path_factory.mktemp("data")
    return {
        "chorales": write_chorales(folder / "scores"),
        "tunes": write_tunes(folder / "tunes.abc"),
        "piano_rolls": write_piano_rolls(folder / "rolls.mat"),
    }


@pytest.fixture(scope="module")
def commands(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {
        corpus: [
            "train", *FLAGS, f"--data.corpus={corpus}", f"--data.path={path}",
            f"--run={folder / corpus}", "--optimizer.total-steps=60", "--evaluate-every=30",
        ]
        for corpus, path in data.items()
    }  # fmt: skip


@pytest.fixture(scope="module")
def chorales_run(commands):
    experiment.main(commands["chorales"])
    return experiment.parse(commands["chorales"]).run


@pytest.fixture(scope="module")
def rolls_run(commands):
    experiment.main(commands["piano_rolls"])
    return experiment.parse(commands["piano_rolls"]).run


def report_of(run):
    return json.loads((run / "report.json").read_text())


def test_a_run_of_chorales_learns_and_leaves_music(chorales_run):
    report = report_of(chorales_run)
    score = report["test"]["bits_per_token"]
    assert score < report["baselines"]["test"][tokens.UNIGRAM]
    assert f"| **this model** | {score:.3f} |" in (chorales_run / "report.md").read_text()
    for counts in report["counts"].values():
        assert all(0 <= counts[name] <= 1 for name in ("valid_bars", "in_key", "longest_share"))
        assert counts["median_run"] <= counts["longest_run"]
    assert report["counts"]["held-out pieces"]["valid_bars"] == 1
    assert report["counts"]["held-out pieces"]["ends_on_tonic"] == 1
    for picture in ("training.png", "piano_roll.png"):
        assert (chorales_run / picture).read_bytes().startswith(b"\x89PNG")
    assert mido.MidiFile(chorales_run / "sample_1.mid").type == 1
    assert wavfile.read(chorales_run / "sample_1.wav")[0] == 16_000


@pytest.mark.slow
def test_a_run_of_piano_rolls_learns_and_says_what_it_was_selected_on(rolls_run):
    """The made-up pieces repeat four chords in turn, which a frame tells and frequency does not."""
    report = report_of(rolls_run)
    score = report["test"][frames.METRIC]
    assert score < report["baselines"]["test"][frames.FREQUENCY]
    assert report["pieces"] == {"train": 18, "selection": 2, "validation": 6, "test": 5}
    page = (rolls_run / "report.md").read_text()
    assert "The best step was chosen by the part `selection`" in page
    assert f"| **this model** | {score:.3f} |" in page
    assert (rolls_run / "piano_roll.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_another_split_is_reported_without_training_again(rolls_run, commands, capsys):
    log, before = (rolls_run / "metrics.jsonl").read_text(), report_of(rolls_run)
    experiment.main([*commands["piano_rolls"], "--split=validation"])
    assert "resuming from step 60" in capsys.readouterr().err
    assert (rolls_run / "metrics.jsonl").read_text() == log
    after = report_of(rolls_run)
    assert after["split"] == "validation"
    assert "test" not in after
    assert after["validation"] != before["test"]
    experiment.main(commands["piano_rolls"])
    assert report_of(rolls_run)["test"] == before["test"]


@pytest.mark.slow
def test_a_run_of_tunes_learns(commands):
    experiment.main(commands["tunes"])
    report = report_of(experiment.parse(commands["tunes"]).run)
    assert report["test"]["bits_per_token"] < report["baselines"]["test"][tokens.UNIGRAM]
    assert report["sample"].startswith("X:1\nM:6/8\nL:1/8\nK:G\n")


def generate(run, folder, *flags):
    command = ["generate", f"--run={run}", f"--output={folder}", "--count=2", "--length=40"]
    experiment.main([*command, *flags])
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_generated_music_depends_on_the_seed_alone(chorales_run, tmp_path, capsys):
    first, again, other = (
        generate(chorales_run, tmp_path / str(number), f"--seed={seed}")
        for number, seed in enumerate((1, 1, 2))
    )
    assert first == again
    assert first["piece_1.mid"] != other["piece_1.mid"]
    assert {"piece_1.mid", "piece_1.txt", "piece_2.wav", "piano_roll.png"} == set(first) - {
        "piece_1.wav", "piece_2.mid", "piece_2.txt",
    }  # fmt: skip
    assert "bars valid" in capsys.readouterr().out


@pytest.mark.slow
def test_piano_rolls_are_generated_and_have_no_groups(rolls_run, tmp_path, capsys):
    assert {"piece_1.mid", "piece_2.wav"} <= set(generate(rolls_run, tmp_path / "rolls"))
    for flag, message in (
        ("--group=major 4/4", "error: group: got 'major 4/4' with a model of frames"),
        ("--temperature=-1", "error: temperature: got -1.0"),
    ):
        with pytest.raises(SystemExit):
            experiment.main(["generate", f"--run={rolls_run}", flag])
        assert message in capsys.readouterr().err


def test_the_group_is_read_first_and_the_end_is_predicted(data):
    pieces = tokens.load_parts(Data("chorales", "path", data["chorales"]))["train"]
    vocabulary = tokens.vocabulary_of(pieces)
    steps = tokens.as_steps(pieces[:2], vocabulary)
    first = steps.lengths[0]
    read = vocabulary.decode(steps.inputs[:first])
    assert read == [f"<{pieces[0].group}>", *pieces[0].tokens]
    assert vocabulary.decode(steps.targets[:first]) == [*pieces[0].tokens, vocabulary.end]
    assert tokens.groups_of(vocabulary)[0] in {piece.group for piece in pieces}
    # A tune may hold the characters that groups are spelled with.
    odd = tokens.vocabulary_of([Written("C", ["<", ">", "|"])])
    assert tokens.groups_of(odd) == ["C"]


def test_frames_are_scored_as_they_are_published(data):
    """The mean over all frames but the first of each piece, whole pieces in windows or not."""
    rolls = frames.load_rolls(data["piano_rolls"])
    held_out, train = rolls.parts["validation"], rolls.parts["train"]
    scores = frames.baseline_scores(train, held_out)[frames.FREQUENCY]
    shares = (np.concatenate(train).sum(0) + 0.5) / (sum(map(len, train)) + 1)
    nats = [-np.log(np.where(piece == 1, shares, 1 - shares)).sum(1) for piece in held_out]
    assert scores[frames.METRIC] == pytest.approx(np.mean(np.concatenate([n[1:] for n in nats])))
    assert scores[frames.WITH_FIRST] == pytest.approx(np.mean(np.concatenate(nats)))


def test_a_key_that_sounds_on_is_one_note():
    piece = np.zeros((4, 88), bool)
    piece[1:3, 39] = piece[3, 39 + 12] = True
    notes = frames.notes_of_frames(piece, frames.QUARTERS_A_FRAME["Nottingham"])
    assert [(n.onset, n.duration, n.pitch) for n in notes] == [(0.5, 1, 60), (1.5, 0.5, 72)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "--run=nowhere"], "error: run: got nowhere, expected the folder of a run"),
        (["generate", "--run={chorales}", "--group=lydian 4/4"], "error: group: got 'lydian 4/4'"),
        (["generate", "--run={chorales}", "--count=0"], "error: count: got 0, expected an integer"),
        (["generate", "--quarters-per-minute=0"], "error: quarters_per_minute: got 0.0, expected"),
        (["generate", "--run={chorales}", "--length=0"], "error: length: got 0, expected an"),
        (["generate", "--run={chorales}", "--top-p=2"], "error: top_p: got 2.0, expected within"),
        (
            ["train", "--data.corpus=piano_rolls", "--run={tmp}"],
            "error: source: got 'package' with corpus='piano_rolls', expected 'path'",
        ),
        (["train", "--preset=jsb_chorales", "--run={tmp}"], "error: path: got None with corpus="),
        (["train", "--data.source=path", "--run={tmp}"], "error: path: got None with source="),
        (["train", *FLAGS, "--data.path={tmp}", "--run={tmp}"], "error: path: got "),
        (["train", "--model.dropout=1", "--run={tmp}"], "error: dropout: got 1.0, expected 0 ≤"),
        (["train", "--transpose=13", "--run={tmp}"], "error: transpose: got 13, expected 0 … 12"),
        (
            ["train", "--transpose=2", "--run={tmp}"],
            "error: transpose: got 2 with corpus='chorales'",
        ),
        (["train", "--window=0", "--run={tmp}"], "error: window: got 0, expected an integer"),
        (["train", "--model.plan=fast", "--run={tmp}"], "error: plan: got 'fast', expected one"),
        (
            [
                "train",
                "--preset=jsb_chorales",
                "--data.path={narrow}",
                "--split=test",
                "--run={tmp}",
            ],
            "error: split: got 'test', expected one that the file has: train, selection, valid",
        ),
    ],
)
def test_bad_input_is_one_line(arguments, message, chorales_run, tmp_path, capsys):
    places = {"chorales": chorales_run, "tmp": tmp_path / "new"}
    places["narrow"] = write_piano_rolls(tmp_path / "narrow.mat", with_test=False)
    with pytest.raises(SystemExit) as stopped:
        experiment.main([argument.format(**places) for argument in arguments])
    assert stopped.value.code == 2
    assert not places["tmp"].exists()
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(message)


def test_without_a_command_it_trains_on_chorales():
    config = experiment.parse(["train"])
    assert isinstance(config, Train)
    assert config.data == Data("chorales", "package", None)


def test_a_checkpoint_of_another_corpus_is_refused(chorales_run, tmp_path, capsys):
    config = json.loads((chorales_run / "config.json").read_text())
    config["data"]["corpus"] = "tunes"
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "vocabulary.json").write_text((chorales_run / "vocabulary.json").read_text())
    (tmp_path / "checkpoints").symlink_to(chorales_run / "checkpoints")
    with pytest.raises(SystemExit):
        experiment.main(["generate", f"--run={tmp_path}"])
    assert "got metadata of = 'chorales', expected 'tunes'" in capsys.readouterr().err
