"""What is compared is comparable, and the experiment as its user runs it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import memory_probes as experiment
from experiments.agreement import hidden_size_of
from rnnjax.models.checks import reads_vectors
from rnnjax.recurrences import REGISTRY

pytestmark = pytest.mark.xdist_group("memory_probes")  # they share one run

SMALL = ["--preset=smoke", "--tasks", "adding", "--workers=1", "--lengths", "4", "5", "6", "7"]


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """What is learned does not depend on how hard XLA tries; how long these tests take does."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def test_every_recurrence_that_reads_vectors_takes_part():
    names = {name for name in REGISTRY if reads_vectors(name)}
    assert names <= set(experiment.NETWORKS)
    assert {network.recurrence.name for network in experiment.NETWORKS.values()} == names
    for name in names:
        assert experiment.NETWORKS[name].recurrence is REGISTRY[name]


SOME = ("mlstm",)
EVERY = [
    pytest.param(name, marks=[] if name in SOME else [pytest.mark.slow])
    for name in experiment.NETWORKS
]


@pytest.mark.parametrize("name", EVERY)
def test_networks_are_of_equal_size_and_their_heads_fit(name):
    config, task = experiment.PRESETS["demo"], experiment.TASKS["copy"]
    network = experiment.NETWORKS[name]
    params = jax.eval_shape(lambda: experiment.init_params(config, task, name, 32))
    size = sum(leaf.size for leaf in jax.tree.leaves(params.layer))
    assert abs(size / config.parameters - 1) < 0.04
    found = experiment.hidden_size(network.recurrence, params.layer)
    asked = hidden_size_of(network, config.encoded_size, config.parameters)
    assert found == asked * (experiment.HEADS if name == "mlstm" else 1)
    xs = jax.ShapeDtypeStruct((5, 2, task.input_size), jnp.float32)
    outputs = jax.eval_shape(
        lambda params, xs: experiment.outputs_of(network.recurrence, task, params, xs), params, xs
    )
    assert outputs.shape == (5, 2, task.output_size)


@pytest.mark.slow
def test_the_ring_leaves_half_of_a_state_or_more():
    network = experiment.NETWORKS["lru_ring"]
    params = network.init(jax.random.key(0), 2, 50, 20)
    left = np.exp(-np.exp(np.asarray(params.nu_log))) ** 20
    assert left.min() >= 0.5 - 1e-4
    assert left.max() <= 0.5**0.01 + 1e-4


@pytest.mark.slow
def test_the_identity_keeps_what_is_not_negative():
    network = experiment.NETWORKS["elman_relu_identity"]
    params = network.init(jax.random.key(0), 2, 4, 9)
    h = jnp.asarray([0.0, 1.0, 2.0, 3.0], jnp.float32)
    z = network.recurrence.project(params, jnp.zeros(2, jnp.float32))
    np.testing.assert_array_equal(network.recurrence.step(params, h, z)[0], h)


@pytest.mark.parametrize("name", ["adding", pytest.param("copy", marks=pytest.mark.slow)])
def test_tasks_begin_where_their_batches_say(name):
    """Who knows the answer loses nothing; the baseline is that of no answer."""
    task = experiment.TASKS[name]
    xs, answers = task.draw(jax.random.key(0), 4, 6)
    assert xs.shape[1:] == (6, task.input_size)
    if name == "adding":
        perfect = answers[:, None]
        nothing = jnp.ones_like(perfect)
        assert task.read(xs).shape == (6, 2)
        assert float(task.loss(nothing, answers)) > 0
    else:
        perfect = 1e3 * jax.nn.one_hot(answers, task.output_size, dtype=jnp.float32)
        assert task.read(xs).shape == xs.shape == (24, 6, 10)
    assert float(task.loss(perfect, answers)) == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_a_run_trains(tmp_path):
    config = ["--preset=smoke", "--steps=60", "--networks", "lstm", "lru", f"--run={tmp_path}"]
    experiment.main(config)
    points = json.loads((tmp_path / "report.json").read_text())["points"]
    assert {(p["task"], p["network"]) for p in points} == {
        (task, name) for task in experiment.TASKS for name in ("lstm", "lru")
    }
    for point in points:
        assert np.shape(point["curves"]) == (2, point["steps"] // 20)
        for curve in point["curves"]:
            assert all(0 < loss < 10 for loss in curve)
        last = [curve[-1] for curve in point["curves"]]
        assert point["loss"] == min(last)
        best = experiment.PRESETS["smoke"].learning_rates[int(np.argmin(last))]
        assert point["learning_rate"] == best
        assert point["skipped"] == [0, 0]


@pytest.fixture
def made(monkeypatch):
    """Which points are trained, when each length below 6 is solved at once."""
    made = []

    def pretend(config, name, task, length):
        made.append((name, length))
        found = {"solved": length < 6, "steps": 40, "loss": 0.01, "learning_rate": 1e-3}
        return found | {"curves": [[0.1, 0.01]] * 2, "skipped": [0, 1], "hidden_size": 3}

    monkeypatch.setattr(experiment, "train_point", pretend)
    return made


def test_a_length_is_tried_by_those_that_solved_the_one_before(made, monkeypatch, tmp_path, capsys):
    """Points that are there are not made again; what follows from them is made."""
    with monkeypatch.context() as without_pictures:
        for name in ("draw_solved", "draw_curves"):
            without_pictures.setattr(experiment, name, lambda *_: None)
        experiment.main([*SMALL, f"--run={tmp_path}"])
    expected = [(name, length) for name in ("elman", "min_gru") for length in (4, 5, 6)]
    assert made == expected
    path = tmp_path / experiment.POINTS
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2]) + lines[2][:10])
    made.clear()
    experiment.main([*SMALL, f"--run={tmp_path}"])
    assert made == expected[2:]
    assert path.read_text() == "".join(lines)

    report = json.loads((tmp_path / "report.json").read_text())
    assert [(p["network"], p["length"]) for p in report["points"]] == expected
    page = (tmp_path / "report.md").read_text()
    assert report["command"] in page
    assert experiment.table(report, "adding") in page
    assert "not finite: elman, min_gru." in page
    for name in ("solved.png", "curves.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        experiment.main([*SMALL, f"--run={tmp_path}", "--batch-size=5"])
    assert capsys.readouterr().err.endswith("another one: batch_size was 8, now 5\n")


def test_the_table_ranks_by_how_far_and_how_soon():
    def point(network, length, solved, steps, loss):
        return {
            "task": "adding", "network": network, "length": length, "solved": solved,
            "steps": steps, "loss": loss, "hidden_size": 3,
        }  # fmt: skip

    summary = {
        "config": {"lengths": [4, 6]},
        "tasks": {
            "adding": {
                "baseline": {"4": 1 / 6, "6": 1 / 6},
                "published": {"length": 600, "loss": {"gru": 5.3e-5}},
            }
        },
        "networks": {"elman": "", "gru": "", "lstm": "", "lru": ""},
        "points": [
            point("elman", 4, False, 40, None),
            point("gru", 4, True, 20, 0.01),
            point("gru", 6, False, 40, 0.12),
            point("lstm", 4, True, 40, 0.01),
            point("lstm", 6, True, 20, 0.01),
            point("lru", 4, False, 40, 0.3),
        ],
    }
    lines = experiment.table(summary, "adding").splitlines()
    assert lines[2:] == [
        "| `lstm` | 3 | **40** | **20** |  |",
        "| `gru` | 3 | **20** | 0.12 | 5.3e-05 |",
        "| `lru` | 3 | 0.3 | – |  |",
        "| `elman` | 3 | not finite | – |  |",
        "| who remembers nothing |  | 0.167 | 0.167 | 0.167 |",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--networks", "conv_lstm_1d"], "error: networks: got 'conv_lstm_1d', expected some of"),
        (["--networks", "gru", "gru"], "error: networks: got gru, gru, expected at least one"),
        (["--tasks", "adding", "adding"], "error: tasks: got adding, adding, expected at least"),
        (["--lengths", "64", "32"], "error: lengths: got [64, 32], expected some of at least 4, a"),
        (["--lengths", "3"], "error: lengths: got [3], expected some of at least 4, ascending"),
        (["--learning-rates", "0"], "error: learning_rates: got [0.0], expected finite numbers"),
        (["--clip-norm=inf"], "error: clip_norm: got [inf], expected finite numbers above 0"),
        (["--score-every=400"], "error: score_every: got 400, expected a divisor of steps = 1500"),
        (["--workers=0"], "error: workers: got 0, expected an integer of at least 1"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        experiment.main([*arguments, f"--run={tmp_path / 'new'}"])
    assert stopped.value.code == 2
    assert not (tmp_path / "new").exists()
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith(message)
