import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnnjax.diagnostics.clip_statistics import clip_statistics, logged_clip_statistics
from rnnjax.training.metrics import JsonLines, read_metrics
from rnnjax.training.optimizer_links import optimizer_metrics, record_clipping

NORMS, LIMIT = np.asarray([0.5, 2.0, 1.0, 8.0, 0.25, 3.0]), 1.0


def test_clipping_by_norm_leaves_the_minimum_of_norm_and_limit():
    found = clip_statistics(NORMS, np.minimum(NORMS, LIMIT))
    np.testing.assert_allclose(found.share_clipped, 3 / 6)
    np.testing.assert_allclose(found.mean_before, NORMS.mean())
    np.testing.assert_allclose(found.mean_after, np.minimum(NORMS, LIMIT).mean())


def test_a_log_says_of_the_optimiser_what_its_steps_say(tmp_path):
    """Whatever the intervals of the log, which holds their means; a skipped step does not count."""
    clip = record_clipping(optax.clip_by_global_norm(LIMIT))
    state = clip.init(jnp.zeros(1))
    steps = []
    for norm in NORMS:
        _, state = clip.update(jnp.asarray([norm], jnp.float32), state)
        seen = optimizer_metrics(state)
        steps.append((norm, float(seen["clipped_gradient_norm"]), float(seen["clipped"])))
    expected = clip_statistics(*np.asarray(steps)[:, :2].T)
    np.testing.assert_allclose(expected.mean_after, np.minimum(NORMS, LIMIT).mean(), rtol=1e-6)

    lines = JsonLines(tmp_path / "metrics.jsonl")
    names = ("train/gradient_norm", "train/clipped_gradient_norm", "train/clipped")
    lines.log(1, {"held_out/loss": 1.0})
    for begin, end, skipped in ((0, 1, 0), (1, 3, 1), (3, 6, 0)):
        means = np.mean(steps[begin:end], axis=0)
        values = dict(zip(names, means, strict=True)) | {"train/skipped": skipped}
        lines.log(end + (skipped if end == 3 else 1) if end > 1 else 1, values)
    lines.close()
    found = logged_clip_statistics(read_metrics(tmp_path / "metrics.jsonl"))
    for name, value in expected._asdict().items():
        np.testing.assert_allclose(getattr(found, name), value, rtol=1e-6, err_msg=name)


def test_runs_side_by_side_and_what_is_not_finite():
    before = np.stack([NORMS, [1, np.inf, 4, np.nan, 2, 2], np.full(6, np.nan)], axis=1)
    found = clip_statistics(before, np.minimum(before, LIMIT))
    np.testing.assert_allclose(found.share_clipped, [3 / 6, 3 / 4, np.nan])
    np.testing.assert_allclose(found.mean_before, [NORMS.mean(), 9 / 4, np.nan])


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"^norms_after: got shape \(2,\), expected \(3,\)"):
        clip_statistics(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match=r"^norms_before: got shape \(0,\)"):
        clip_statistics(np.ones(0), np.ones(0))
    with pytest.raises(ValueError, match=r"^records: got none with train/gradient_norm"):
        logged_clip_statistics([{"step": 1, "train/loss": 1.0}])
