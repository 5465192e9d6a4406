"""The experiment as its user runs it: train, resume, sample, score, and what it refuses."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from experiments import character_language_model as experiment

pytestmark = pytest.mark.xdist_group("character_language_model")  # they share one run

SMALL = [
    "--preset=smoke", "--data.source=path", "--model.hidden-sizes", "16", "16",
    "--batch-size=4", "--window=8", "--evaluate-every=20", "--checkpoint-every=20",
    "--log-every=10", "--sample-length=20", "--xz",
]  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Sentences of a few words, which a small model learns in no time."""
    rng = random.Random(0)
    words = ("the cat", "a dog", "sees", "hears", "the bird", "and", "then")
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("".join(rng.choice(words) + rng.choice(" .\n") for _ in range(4000)))
    return path


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A finished run of 60 steps."""
    folder = tmp_path_factory.mktemp("run")
    experiment.main(
        ["train", *SMALL, f"--run={folder}", f"--data.path={corpus}", "--optimizer.total-steps=60"]
    )
    return folder


def test_a_run_learns_and_leaves_its_record(run):
    report = json.loads((run / "report.json").read_text())
    test, baselines = report["test"]["bits_per_character"], report["baselines"]["test"]
    assert len(baselines) == 4
    assert test < baselines[experiment.UNIGRAM]
    page = (run / "report.md").read_text()
    assert f"| this model | {test:.3f} |" in page
    assert f"{report['machine']['cores']} cores" in page
    assert (run / "training.png").read_bytes().startswith(b"\x89PNG")
    assert len((run / "sample.txt").read_text()) == 20
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    held_out = [r["held_out/bits_per_character"] for r in records if "held_out/loss" not in r
                and "held_out/bits_per_character" in r]  # fmt: skip
    assert len(held_out) == 3
    assert held_out[-1] < held_out[0]
    assert any((run / "tensorboard").iterdir())


def test_the_finished_run_is_reported_again_not_trained_again(run, corpus, capsys):
    before = (run / "metrics.jsonl").read_text()
    experiment.main(
        ["train", *SMALL, f"--run={run}", f"--data.path={corpus}", "--optimizer.total-steps=60"]
    )
    printed = capsys.readouterr()
    assert "resuming from step 60" in printed.err
    assert "this model" in printed.out
    assert (run / "metrics.jsonl").read_text() == before


def test_samples_begin_with_the_prime_and_depend_on_the_seed_alone(run, capsys):
    def sample(*flags):
        experiment.main(["sample", f"--run={run}", "--length=30", "--prime=the c", *flags])
        return capsys.readouterr().out

    assert sample("--seed=1") == sample("--seed=1") != sample("--seed=2")
    assert sample().startswith("the c")
    assert len(sample("--temperature=0").rstrip("\n")) == len("the c") + 30


def test_score_ranks_what_was_seen_above_what_was_not(run, capsys):
    experiment.main(["score", "tac eht", "the cat", "the qat", f"--run={run}"])
    lines = capsys.readouterr().out.splitlines()
    assert "'the cat'" in lines[1]
    assert lines[-1] == "unknown to the model, scored as <unk>: 'q'"
    log_probability, bits = map(float, lines[1].split()[:2])
    assert bits == pytest.approx(-log_probability / len("the cat"), abs=1e-2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "--run=nowhere"], "error: run: got nowhere, expected the folder of a run"),
        (["score", "--run={run}"], "error: texts: got an empty text or none, expected at least"),
        (["sample", "--run={run}", "--temperature=-1"], "error: temperature: got -1.0, expected"),
        (["sample", "--run={run}", "--top-p=2"], "error: top_p: got 2.0, expected within (0, 1]"),
        (
            ["train", "--data.source=path", "--run={tmp}"],
            "error: path: got None with source='path'",
        ),
        (
            ["train", *SMALL, "--data.path={empty}", "--run={tmp}"],
            "error: text: got 0 characters in 'empty', expected at least",
        ),
        (
            ["train", *SMALL, "--data.path={corpus}", "--run={run}", "--batch-size=5"],
            "error: config: the run in {run} was made with another one: batch_size was 4, now 5",
        ),
        (
            ["train", *SMALL, "--data.path={corpus}", "--run={tmp}", "--model.recurrence=lstn"],
            "error: recurrence: got 'lstn', expected one of elman",
        ),
        (
            ["train", *SMALL, "--data.path={corpus}", "--run={tmp}", "--window=0"],
            "error: window: got 0, expected an integer of at least 1",
        ),
        (
            ["train", *SMALL, "--data.path={corpus}", "--run={tmp}", "--log-every=0"],
            "error: log_every: got 0, expected an integer of at least 1",
        ),
        (
            ["train", *SMALL, "--data.path={corpus}", "--run={tmp}", "--model.plan=fast"],
            "error: plan: got 'fast', expected one of auto, reference",
        ),
    ],
)
def test_bad_input_is_one_line(arguments, message, run, corpus, tmp_path, capsys):
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    places = {"run": run, "corpus": corpus, "tmp": tmp_path / "new", "empty": empty}
    with pytest.raises(SystemExit) as stopped:
        experiment.main([argument.format(**places) for argument in arguments])
    assert stopped.value.code == 2
    assert not places["tmp"].exists()  # nothing of a run that never began is kept
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(message.format(**places))


def test_unknown_flags_and_presets_are_refused(capsys):
    for arguments in (
        ["train", "--hiden-size=3"],
        ["train", "--preset=fast"],
        ["walk"],
        ["train", "--optimizer.clip-norm=0"],
    ):
        with pytest.raises(SystemExit) as stopped:
            experiment.main(arguments)
        assert stopped.value.code == 2
    errors = capsys.readouterr().err
    assert "fast" in errors
    assert "clip_norm: got 0.0" in errors


def test_help_shows_every_flag(capsys):
    with pytest.raises(SystemExit) as stopped:
        experiment.main(["train", "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for flag in (
        "--optimizer.clip-norm",
        "--data.source",
        "--model.plan",
        "--window",
        "--seed",
        "--patience",
        "--precision.compute",
    ):
        assert flag in text


def test_interrupted_by_ctrl_c_the_same_command_goes_on(corpus, tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "experiments.character_language_model", "train", *SMALL]
    command += [f"--run={folder}", f"--data.path={corpus}", "--no-xz"]
    command.append("--optimizer.total-steps=100000000")  # it ends by the signal, not by itself
    metrics = folder / "metrics.jsonl"
    with _started(command) as process:
        # The first lines are logged from within the loop, where signals are noted.
        while not (metrics.exists() and metrics.read_text().count("\n") > 3):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130
    step = re.search(r"interrupted by SIGINT after step (\d+); saved .*", errors)
    assert step, errors
    assert "run the same command to go on" in step[0]

    with _started(command) as process:
        assert process.stderr is not None
        told = iter(process.stderr.readline, "")
        resuming = next((line for line in told if "resuming from step" in line), "")
    assert f"resuming from step {int(step[1]):,} " in resuming


@contextmanager
def _started(command):
    """A process that is ended whatever becomes of the test, and by itself if that waits forever."""
    environment = os.environ | {"JAX_ENABLE_X64": "0"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        watch = threading.Timer(900, process.kill)
        watch.start()
        try:
            yield process
        finally:
            watch.cancel()
            process.kill()
