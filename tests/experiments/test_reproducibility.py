"""Two processes that train with the same seed leave the same run, bit by bit."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.character_language_model import load_trained

TIMES = ("train/steps_per_second", "train/waiting_for_data")
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_runs_of_one_seed_are_bit_equal(tmp_path):
    rng = random.Random(0)
    words = ("the cat", "a dog", "sees", "hears", "the bird", "and", "then")
    text = "".join(rng.choice(words) + rng.choice(" .\n") for _ in range(4000))

    def left_by(name, seed):
        """The run in a folder of its own, from a file of its own with the same text."""
        folder = tmp_path / name
        folder.mkdir()
        (folder / "text.txt").write_text(text)
        command = [sys.executable, "-m", "experiments.character_language_model", "train"]
        command += ["--preset=smoke", "--data.source=path", f"--data.path={folder / 'text.txt'}"]
        command += [f"--run={folder / 'run'}", f"--seed={seed}"]
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "0"}
        subprocess.run(command, check=True, cwd=ROOT, env=environment, capture_output=True)
        run = folder / "run"
        report = json.loads((run / "report.json").read_text())
        records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        log = [{k: v for k, v in r.items() if k not in TIMES} for r in records]
        params = [np.asarray(leaf) for leaf in jax.tree.leaves(load_trained(run).params)]
        return report, log, params

    (report, log, params), (again, log_again, params_again), (other, other_log, _) = (
        left_by("one", 0), left_by("two", 0), left_by("three", 1)
    )  # fmt: skip
    for a, b in zip(params, params_again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert log == log_again != other_log
    for part in ("test", "baselines", "sample"):
        assert report[part] == again[part]
    # Not the code's digest, which follows whoever edits while this runs.
    for part, is_same in (("data", True), ("config", False)):
        assert report["fingerprint"][part] == again["fingerprint"][part]
        assert (report["fingerprint"][part] == other["fingerprint"][part]) is is_same
    assert report["test"] != other["test"]
