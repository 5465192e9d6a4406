import math

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.image import imread

from rnnjax.training.metrics import JsonLines
from rnnjax.training.plots import plot_training


def write_run(path, steps=20, broken_at=()):
    lines = JsonLines(path)
    for step in range(1, steps + 1):
        loss = math.nan if step in broken_at else 1.5 + 3 * math.exp(-step / 6)
        lines.log(
            50 * step,
            {
                "train/bits_per_character": loss,
                "train/learning_rate": 2e-3 * (1 - step / (steps + 1)),
                "train/gradient_norm": 0.4 + 1 / step,
                "train/skipped": float(step in broken_at),
            },
        )
        if step % 5 == 0:
            lines.log(50 * step, {"held_out/bits_per_character": loss + 0.2})
    lines.close()


def drawn(path, name, **options):
    png = path.with_name(f"{name}.png")
    plot_training(path, png, quantity="bits_per_character", **options)
    return imread(png)


def test_each_part_of_the_picture_is_drawn_from_its_data(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_run(path)
    backend = mpl.rcParams._get("backend")
    baselines = {"unigram": 4.6, "order 3": 2.2, "xz": 2.25}
    whole = drawn(path, "whole", baselines=baselines, clip_norm=1.0)
    assert whole.shape[1:] == (1350, 4)
    assert mpl.rcParams._get("backend") == backend, "no global state is touched"
    for color in ("#4477aa", "#cc6633", "#aa3377", "#555555"):
        rgb = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        assert np.all(np.abs(whole[..., :3] - rgb) < 0.02, axis=-1).sum() > 100, color
    bare = drawn(path, "bare", baselines={})
    assert not np.array_equal(whole, bare)
    np.testing.assert_array_equal(bare, drawn(path, "bare", baselines={}))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bare.png", "metrics.jsonl", "whole.png"]


def test_gaps_and_one_line_logs_can_be_drawn(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for steps, broken_at in ((20, (3, 4, 20)), (1, ()), (1, (1,))):
        write_run(path, steps, broken_at)
        drawn(path, "gaps", baselines={"unigram": 4.6}, clip_norm=0.5)


def test_an_unknown_quantity_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_run(path)
    with pytest.raises(ValueError, match=r"^quantity: got 'perplexity', expected a metric logged"):
        plot_training(path, tmp_path / "x.png", {}, quantity="perplexity")
