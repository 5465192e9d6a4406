"""Questions that the past answers and questions it does not, and the experiment as it is run."""

import json
from dataclasses import replace
from random import Random

import jax
import numpy as np
import pytest

from experiments import depth_and_direction as experiment
from experiments.data.agreement_sentences import NUMBER_OF, WORDS

pytestmark = pytest.mark.xdist_group("depth_and_direction")  # they share one run

CONFIG = experiment.PRESETS["smoke"]
SMALL = ["--preset=smoke", "--tasks", "adding", "--workers=1"]


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """What is learned does not depend on how hard XLA tries; how long these tests take does."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def test_a_gap_is_as_far_from_its_subject_as_was_asked():
    tokens, verbs = experiment.sentences_with_gaps(Random(0), 6, 10)
    assert tokens.shape == (8, 20)
    np.testing.assert_array_equal(tokens[7], experiment.GAP)
    assert (tokens[:7] < experiment.GAP).all()
    assert [NUMBER_OF[WORDS[token]] for token in tokens[1]] == verbs.tolist() == [0, 1] * 10
    np.testing.assert_array_equal(tokens[2:, ::2], tokens[2:, 1::2])


def test_the_first_half_of_the_sentences_is_turned_around():
    questions = experiment.TASKS["agreement"].questions(CONFIG, "train")(jax.random.key(0), 8)
    xs, asked, verbs = map(np.asarray, questions)
    words = xs.argmax(-1)
    np.testing.assert_array_equal(xs.sum(-1), 1)
    np.testing.assert_array_equal(asked, [0] * 4 + [4] * 4)
    np.testing.assert_array_equal(words[asked, np.arange(8)], experiment.GAP)
    subjects = [*words[3, :4], *words[1, 4:]]
    assert [NUMBER_OF[WORDS[token]] for token in subjects] == verbs.tolist()


def test_sentences_of_the_test_are_others():
    config = replace(CONFIG, distance=20)
    drawn = [
        np.asarray(experiment.TASKS["agreement"].questions(config, part)(jax.random.key(0), 8).xs)
        for part in ("train", "test", "test")
    ]
    assert not np.array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[1], drawn[2])


@pytest.mark.parametrize("name", experiment.TASKS)
def test_the_past_does_not_answer_the_first_half(name):
    """There the inputs up to the question say nothing of the answer, or of one number only."""
    task, config = experiment.TASKS[name], replace(CONFIG, length=8)
    xs, asked, answers = map(np.asarray, task.questions(config, "train")(jax.random.key(0), 4000))
    half = 2000
    if name == "agreement":
        assert (asked[:half] == 0).all()
        assert answers.mean() == pytest.approx(0.5, abs=0.05)
        np.testing.assert_array_equal(xs[0, :half].argmax(-1), experiment.GAP)
    else:
        seen = np.arange(8)[:, None] <= asked
        known = (xs[..., 0] * xs[..., 1] * seen).sum(0)
        np.testing.assert_allclose(known[half:], answers[half:], rtol=1e-5)
        rest = answers[:half] - known[:half]
        assert rest.var() == pytest.approx(task.past_only, rel=0.1)
        assert abs(np.corrcoef(rest, known[:half])[0, 1]) < 5 / np.sqrt(half)


SOME = (experiment.Shape(2, True, True),)
EVERY = [
    pytest.param(shape, marks=[] if shape in SOME else [pytest.mark.slow])
    for shape in experiment.shapes_of(experiment.PRESETS["demo"])
]


@pytest.mark.parametrize("shape", EVERY, ids=lambda shape: shape.name)
def test_networks_are_of_equal_size(shape):
    config, task = experiment.PRESETS["demo"], experiment.TASKS["agreement"]
    size = experiment.hidden_size_of(config, task, shape)
    layers, head = jax.eval_shape(
        lambda: experiment.init_layers_and_head(jax.random.key(0), config, task, shape, size)
    )
    count = sum(leaf.size for leaf in jax.tree.leaves((layers, head)))
    assert abs(count / config.parameters - 1) < 0.06
    assert len(layers) == shape.depth
    assert len(head) == (3 if shape.deep_head else 1)
    assert head[0].w.shape[0] == size * (2 if shape.bidirectional else 1)


@pytest.mark.slow
@pytest.mark.parametrize("bidirectional", [False, True])
def test_one_direction_knows_the_past_alone(bidirectional):
    """What is said at a question depends on what follows it in a bidirectional network only."""
    shape, task = experiment.Shape(1, bidirectional, False), experiment.TASKS["adding"]
    params = experiment.init_params(jax.random.key(1), CONFIG, task, shape, 3)
    questions = task.questions(CONFIG, "train")(jax.random.key(0), 2)
    assert questions.asked.tolist() == [3, 5]

    def of_number(xs):
        """What is said of the first sequence, asked at step 3 of 6."""
        return experiment.outputs_of(CONFIG, shape, params, questions._replace(xs=xs))[0, 0]

    slopes = np.abs(np.asarray(jax.grad(of_number)(questions.xs)))
    assert (slopes[:4, 0] > 0).all()
    assert (slopes[4:, 0] > 0).all() == bidirectional
    assert (slopes[4:, 0] == 0).all() == (not bidirectional)
    assert (slopes[:, 1] == 0).all()


@pytest.mark.slow
def test_a_run_trains(tmp_path):
    experiment.main([*SMALL[:1], "--depths", "1", "--steps=60", f"--run={tmp_path}"])
    points = json.loads((tmp_path / "report.json").read_text())["points"]
    assert len(points) == 2 * 4
    for point in points:
        assert abs(point["parameters"] / CONFIG.parameters - 1) < 0.2
        assert point["skipped"] == [0, 0]
        for half in experiment.HALVES:
            assert np.shape(point["curves"][half]) == (2, point["steps"] // 20)
            assert np.max(point["curves"][half]) <= 1


def test_a_killed_run_goes_on_at_the_point_it_was_at(monkeypatch, tmp_path, capsys):
    """Points that are there are not made again, and all are in the report."""
    made = []

    def pretend(config, task, shape):
        made.append(shape)
        curves = {"past": [[0.1, 0.01], [0.2, 0.1]], "both": [[0.2, 0.09], [0.2, None]]}
        found = {"hidden_size": 3, "parameters": 99, "steps": 40, "skipped": [0, 1]}
        return found | {"curves": curves}

    monkeypatch.setattr(experiment, "train_point", pretend)
    with monkeypatch.context() as without_pictures:
        without_pictures.setattr(experiment, "draw", lambda *_: None)
        experiment.main([*SMALL, f"--run={tmp_path}"])
    expected = experiment.shapes_of(CONFIG)
    assert made == expected
    assert len(expected) == len(set(expected)) == 8
    path = tmp_path / experiment.POINTS
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]) + lines[3][:20])
    made.clear()
    experiment.main([*SMALL, f"--run={tmp_path}"])
    assert made == expected[3:]
    assert path.read_text() == "".join(lines)

    report = json.loads((tmp_path / "report.json").read_text())
    assert [point["network"] for point in report["points"]] == [shape.name for shape in expected]
    page = (tmp_path / "report.md").read_text()
    assert report["command"] in page
    table = experiment.table(report, "adding")
    assert table in page
    assert table.splitlines()[2] == (
        "| 1 layer, one direction, dense head | 3 | 99 | 0.055 | 1 of 2 | 40 | inf | 0 of 2 | – |"
    )
    assert (tmp_path / "errors.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        experiment.main([*SMALL, f"--run={tmp_path}", "--batch-size=6"])
    assert capsys.readouterr().err.endswith("another one: batch_size was 8, now 6\n")


def test_what_a_curve_says_of_when_it_was_solved():
    point = {
        "task": "adding",
        "curves": {"past": [[0.1, 0.01, 0.2], [0.2, None, 0.15]], "both": [[0.001], [None]]},
    }
    assert experiment.steps_to_solve(point, "past", 50) == [100, None]
    assert experiment.steps_to_solve(point, "both", 50) == [50, None]
    assert experiment.last_errors(point, "both") == [0.001, np.inf]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "copy"], "error: tasks: got 'copy', expected some of agreement, adding"),
        (
            ["--depths", "1", "1"],
            "error: depths: got [1, 1], expected at least one, and none twice",
        ),
        (["--depths", "0"], "error: depths: got 0, expected an integer of at least 1"),
        (
            ["--recurrence=conv_lstm_1d"],
            "error: recurrence: got 'conv_lstm_1d', which reads images",
        ),
        (["--head-sizes"], "error: head_sizes: got none, expected at least one hidden layer"),
        (["--batch-size=5"], "error: batch_size: got 5, expected an even number"),
        (["--length=3"], "error: length: got 3, expected at least 4"),
        (["--learning-rate=0"], "error: learning_rate: got 0.0, expected a finite number above 0"),
        (["--score-every=400"], "error: score_every: got 400, expected a divisor of steps = 600"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        experiment.main([*arguments, f"--run={tmp_path / 'new'}"])
    assert stopped.value.code == 2
    assert not (tmp_path / "new").exists()
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith(message)
