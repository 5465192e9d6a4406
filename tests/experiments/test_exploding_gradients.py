"""Theorems of the parts, and the experiment as its user runs it."""

import json
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import exploding_gradients as experiment
from rnnjax.diagnostics.spectral_radius import spectral_radius
from rnnjax.training.norms import global_norm

CONFIG = replace(experiment.PRESETS["smoke"], steps=10, checkpoint_every=5)


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """What is learned does not depend on how hard XLA tries; how long these tests take does."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def test_networks_begin_with_the_radius_asked_for():
    params = experiment.initial_params(CONFIG)
    radii = spectral_radius(params.layer.w_h).reshape(len(CONFIG.radii), CONFIG.seeds)
    np.testing.assert_allclose(radii, np.repeat([[0.8], [3.0]], 2, axis=1), rtol=1e-5)
    # A seed draws one matrix, scaled.
    w_h = np.asarray(params.layer.w_h).reshape(2, 2, 6, 6)
    np.testing.assert_allclose(w_h[1] / w_h[0], 3.0 / 0.8, rtol=1e-5)


def test_targets_are_the_bits_of_d_steps_ago():
    config = replace(CONFIG, delay=3)
    xs, targets, weights = experiment.echo_batch(config, 4)
    bits = np.asarray(xs[..., 0])
    np.testing.assert_array_equal(2 * np.asarray(targets)[3:] - 1, bits[:-3])
    np.testing.assert_array_equal(weights, np.repeat([[0]] * 3 + [[1]] * 9, 4, axis=1))
    assert set(np.unique(bits)) == {-1, 1}
    again, other = (experiment.echo_batch(config, step)[0] for step in (4, 5))
    np.testing.assert_array_equal(again, xs)
    assert not np.array_equal(other, xs)


def test_clipping_keeps_to_its_limit_and_infinity_is_none():
    gradient = {"w": jnp.asarray([3.0, -4.0], jnp.float32), "b": jnp.asarray([0.5], jnp.float32)}
    norm = float(global_norm(gradient))
    infinity = jnp.asarray(jnp.inf, jnp.float32)
    one = jnp.asarray(1.0, jnp.float32)
    same, norms = experiment.clipped(gradient, infinity, infinity)
    jax.tree.map(np.testing.assert_array_equal, same, gradient)
    assert norms.gradient_norm == norms.clipped_gradient_norm == pytest.approx(norm)
    by_norm, norms = experiment.clipped(gradient, one, infinity)
    assert float(norms.clipped_gradient_norm) == pytest.approx(1)
    np.testing.assert_allclose(by_norm["w"], np.asarray(gradient["w"]) / norm, rtol=1e-6)
    by_value, _ = experiment.clipped(gradient, infinity, one)
    np.testing.assert_array_equal(by_value["w"], [1, -1])
    np.testing.assert_array_equal(by_value["b"], gradient["b"])


def test_the_area_is_the_share_of_pairs_in_the_right_order():
    rng = np.random.default_rng(0)
    scores, happened = rng.integers(0, 6, 30).astype(float), rng.random(30) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[happened] for b in scores[~happened]]
    assert experiment.area_under_curve(scores, happened) == pytest.approx(np.mean(pairs))
    assert experiment.area_under_curve(scores, np.ones(30, bool)) is None
    assert experiment.area_under_curve(scores, np.zeros(30, bool)) is None


def test_the_one_unit_network_without_weight_is_its_bias():
    b = np.linspace(-2, 2, 5)
    expected = (1 / (1 + np.exp(-b)) - 0.7) ** 2
    np.testing.assert_allclose(experiment.one_unit_loss(np.zeros(5), b), expected, rtol=1e-12)
    # With a weight of 6 it has two ends to run to: between them is the wall.
    high, low = experiment.one_unit_loss(np.asarray([6.0, 6.0]), np.asarray([-2.5, -3.5]))
    assert high < 0.1 < 0.3 < low


@pytest.mark.slow
def test_along_the_gradient_the_loss_falls_at_its_rate():
    params = experiment.init_of_radius(jax.random.key(0), 6, 0.8)
    losses, norm = experiment.loss_along_gradient(CONFIG, params, np.asarray([0.0, 1e-2]))
    assert (losses[0] - losses[1]) / 1e-2 == pytest.approx(norm, rel=0.05)
    batch = experiment.echo_batch(CONFIG, CONFIG.steps)
    assert losses[0] == pytest.approx(float(experiment.echo_loss(params, batch)), rel=1e-5)


def test_runs_end_as_their_last_losses_say():
    losses = np.full((20, 3 * 2 * 2), 0.5)
    losses[-2:, 0] = np.nan
    losses[-2:, 1] = 40.0
    losses[-2:, 2] = 0.01
    losses[:5, 3] = 1e6  # what happened on the way does not count
    curves = experiment.Curves(*[jnp.asarray(losses)] * 3)
    diverged, learned = experiment.outcomes(replace(CONFIG, steps=20), curves)
    assert diverged.shape == (3, 2, 2)
    assert diverged.ravel().tolist() == [True, True] + [False] * 10
    assert learned.ravel().tolist() == [False, False, True] + [False] * 9


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exploding")
    with jax.numpy_dtype_promotion("strict"):
        experiment.train(replace(CONFIG, run=folder))
    return folder


@pytest.mark.slow
def test_a_run_leaves_its_record(run):
    report = json.loads((run / "report.json").read_text())
    assert report["radii"] == [0.8, 3.0]
    assert report["largest_exponent"][0] < report["largest_exponent"][1]
    for method in report["methods"].values():
        for share in method["diverged"] + method["learned"]:
            assert 0 <= share <= 1
    assert report["methods"]["no clipping"]["clipped"] == [0, 0]
    page = (run / "report.md").read_text()
    assert experiment.outcome_table(report) in page
    for name in ("outcomes.png", "loss.png", "norms.png", "cliffs.png"):
        assert (run / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_run_does_not_depend_on_where_it_was_stopped(run):
    """In two parts, as between two checkpoints, it is what it is in one; methods begin alike."""
    whole = experiment.train_some(CONFIG, 10, experiment.new_state(CONFIG))
    parts = experiment.train_some(CONFIG, 5, experiment.new_state(CONFIG))
    assert np.isnan(np.asarray(parts.memory.loss)[5:]).all()
    parts = experiment.train_some(CONFIG, 5, parts)
    for one, other in zip(whole.memory, parts.memory, strict=True):
        np.testing.assert_allclose(one[:6], other[:6], rtol=1e-4)
    losses = np.asarray(whole.memory.loss)[0].reshape(3, -1)
    np.testing.assert_allclose(losses[1:], np.repeat(losses[:1], 2, axis=0), rtol=1e-6)
    assert losses[0] == pytest.approx(math.log(2), rel=1.5)


@pytest.mark.slow
def test_the_finished_run_is_reported_again_not_trained_again(run, capsys):
    before = json.loads((run / "report.json").read_text())
    experiment.train(replace(CONFIG, run=run))
    assert "resuming from step 10" in capsys.readouterr().err
    after = json.loads((run / "report.json").read_text())
    assert {**before, "command": 0, "started": 0} == {**after, "command": 0, "started": 0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--delay=60"], "error: delay: got 60, expected below window = 50"),
        (["--radii", "1.0", "-2.0"], "error: radii: got [1.0, -2.0], expected some finite"),
        (["--radii", "1.0", "1.0"], "error: radii: got [1.0, 1.0], expected none twice"),
        (["--learning-rate=nan"], "error: learning_rate: got nan, expected a finite number above"),
        (["--seeds=0"], "error: seeds: got 0, expected an integer of at least 1"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        experiment.main([*arguments, f"--run={tmp_path / 'new'}"])
    assert stopped.value.code == 2
    assert not (tmp_path / "new").exists()
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith(message)
