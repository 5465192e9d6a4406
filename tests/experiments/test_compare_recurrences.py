"""Points one by one, equal in parameters, marked by steps and by time."""

import itertools
import json
import random
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments import compare_recurrences as experiment
from experiments.character_language_model import Data, load_corpus, streams_of

pytestmark = pytest.mark.xdist_group("compare_recurrences")  # they share one run

SMALL = [
    "--preset=smoke", "--data.source=path", "--parameters=3000", "--steps=8", "--seconds=0.02",
    "--window=8", "--batch-size=4", "--recurrences", "elman", "gru",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    rng = random.Random(0)
    words = ("the cat", "a dog", "sees", "hears", "the bird", "and", "then")
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("".join(rng.choice(words) + rng.choice(" .\n") for _ in range(2000)))
    return path


@pytest.fixture(scope="module")
def folder(text, tmp_path_factory):
    """A comparison of two recurrences, begun with one of them."""
    folder = tmp_path_factory.mktemp("out")
    arguments = [*SMALL, f"--data.path={text}", f"--out={folder}", "--seeds=1"]
    experiment.main([*arguments, "--recurrences", "elman"])
    files = [folder / experiment.TIMES, folder / experiment.POINTS]
    first = [file.read_text() for file in files]
    for file in files:
        with file.open("a") as opened:
            opened.write('{"recurrence": "gr')  # as a kill may leave it
    experiment.main(arguments)
    for file, before in zip(files, first, strict=True):
        assert file.read_text().startswith(before)
    return folder


def test_a_comparison_goes_on_at_the_point_where_it_was_stopped(folder):
    results = json.loads((folder / "results.json").read_text())
    points = [(point["recurrence"], point["seed"]) for point in results["points"]]
    assert points == [("elman", 0), ("gru", 0)]
    for point in results["points"]:
        assert abs(point["parameters"] / 3000 - 1) < experiment.WITHIN
        assert point["bits_at_equal_steps"] < point["curve"][0]["bits"]
    page = (folder / "table.md").read_text()
    assert f" | {results['points'][0]['bits_at_equal_steps']:.3f} | " in page
    assert "No recurrence was run with several seeds." in page
    assert len((folder / "results.csv").read_text().splitlines()) == 3
    assert (folder / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_the_steps_of_a_time_follow_from_the_time_of_a_step(text):
    corpus = load_corpus(Data("path", path=text))
    streams = [streams_of(part, corpus.vocabulary, 4) for part in (corpus.train, corpus.test)]
    config = experiment.parse([*SMALL, "--seconds=0.85", "--steps=5", "--turns=2"])
    model = experiment.fitting_model(config, len(corpus.vocabulary), "elman")
    ticks = itertools.count()
    models = {"elman": model}
    (found,) = experiment.timed(config, models, *streams, clock=lambda: 0.1 * next(ticks))
    assert found["step_seconds"] == pytest.approx(0.1)
    # Eight steps of ten count; of a step that does not count the clock is asked but once.
    assert next(ticks) == 18

    quick = experiment.trained(config, model, 0, 0.1, *streams)
    assert [mark["step"] for mark in quick["curve"]] == [0, 1, 2, 4, 5, 8]
    assert quick["steps_at_equal_time"] == 8
    assert quick["bits_at_equal_time"] == quick["curve"][-1]["bits"]
    assert quick["bits_at_equal_steps"] == quick["curve"][-2]["bits"]
    slow = experiment.trained(replace(config, longest=1.0), model, 0, 0.4, *streams)
    assert slow["bits_at_equal_steps"] is None  # given up: it would take 2 s
    assert slow["curve"] == quick["curve"][:3]


@pytest.mark.parametrize(
    "names",
    [("gru", "lstm_projected", "lru"), pytest.param(None, marks=pytest.mark.slow, id="all")],
)
def test_all_have_about_as_many_parameters(names):
    config = experiment.PRESETS["demo"]
    for name in names or experiment.check(config):
        model = experiment.fitting_model(config, 86, name)
        assert abs(experiment.parameter_count(model) / config.parameters - 1) < 0.02, name


def test_nearest_is_the_nearest():
    for wanted in (1, 5, 12, 13, 30, 1000):
        found = experiment.nearest(lambda n: n * n + n, wanted)
        best = min(range(1, 100), key=lambda n: abs(n * n + n - wanted))
        assert found == best


def test_what_was_not_reached_is_a_dash_at_the_end_and_has_no_dot(folder):
    results = json.loads((folder / "results.json").read_text())
    results["points"][0]["bits_at_equal_steps"] = None
    lines = experiment.table(results).splitlines()
    assert " | – | " in lines[-1]
    assert lines[-1].startswith("| elman ")
    scores = experiment.plot(results).axes[0]
    assert np.isnan(scores.lines[0].get_ydata()).sum() == 0
    assert np.isnan(scores.lines[0].get_xdata()).sum() == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--recurrences", "lstn"], "recurrences: got 'lstn', expected some of elman, "),
        (["--recurrences", "conv_lstm_1d"], "recurrences: got 'conv_lstm_1d', expected some of"),
        (["--recurrences", "gru", "gru"], "recurrences: got gru, gru, expected each once"),
        (["--repeated=rnn"], "repeated: got 'rnn', expected some of elman, "),
        (["--parameters=20"], "parameters: got 20, which elman meets by "),
        (["--seconds=9"], "seconds, longest: got 9.0, 2.0, expected 0 < seconds <= longest"),
        (["--steps=0"], "steps: got 0, expected an integer of at least 1"),
        (["--window=10000000"], "steps: got 10000000, expected 1.."),
        (["--out={folder}", "--steps=9"], "config: the run in {folder} was made with another one"),
    ],
)
def test_bad_input_is_one_line(flags, message, text, folder, tmp_path, capsys):
    out = tmp_path / "new"
    arguments = [*SMALL, f"--data.path={text}", f"--out={out}", *flags]
    with pytest.raises(SystemExit) as stopped:
        experiment.main([argument.format(folder=folder) for argument in arguments])
    assert stopped.value.code == 2
    assert not out.exists()
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"error: {message.format(folder=folder)}")


def test_several_seeds_tell_what_a_difference_is_worth():
    config = experiment.PRESETS["demo"]
    assert experiment.points_of(config, ("gru", "lstm")) == [
        ("gru", 0), ("lstm", 0), ("lstm", 1), ("lstm", 2),
    ]  # fmt: skip
    assert experiment.points_of(config, ("gru",)) == [("gru", 0)]
    points = [
        {"recurrence": name, "bits_at_equal_steps": bits, "bits_at_equal_time": None}
        for name, bits in (("lstm", 2.5), ("gru", 2.6), ("lstm", 2.4))
    ]
    sentence = experiment.noise("lstm", points)
    assert sentence == "`lstm` with 2 seeds: 2.500, 2.400 at equal steps."


def test_points_of_another_machine_are_not_added_to(folder, text, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    for name in ("config.json", "run.json"):
        (tmp_path / "out" / name).write_text((folder / name).read_text())
    records = (folder / experiment.TIMES).read_text()
    (tmp_path / "out" / experiment.TIMES).write_text(records.replace('"cores": ', '"cores": 9'))
    flags = [f"--data.path={text}", f"--out={tmp_path / 'out'}", "--seeds=1"]
    with pytest.raises(SystemExit):
        experiment.main([*SMALL, *flags])
    assert "with records of machine {" in capsys.readouterr().err
