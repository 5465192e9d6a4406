"""The whole package in one real process, killed in every way and started again."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

RUN = """
import hashlib, sys
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
from rnnjax.training.checkpoints import Checkpoints
from rnnjax.training.loop import Interrupted, train
from rnnjax.training.metrics import MetricLogger
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.progress import make_progress
from rnnjax.training.run_folder import open_run_folder
from rnnjax.training.step import initial_train_state, make_train_step

STEPS = 400

def loss_function(params, memory, batch, key):
    h = jnp.tanh(memory @ params["w"] + batch)
    noise = 0.01 * jax.random.normal(key, h.shape)
    return jnp.mean(jnp.square(h - 0.5 + noise)), (h, {})

def batch_at(step):
    return np.random.default_rng(step).normal(size=(4, 8)).astype(np.float32)

def evaluate(state):
    return {"loss": float(jnp.sum(jnp.square(state.params["w"])))}

config = OptimizerConfig(1e-2, "cosine", 20, STEPS)
optimizer = build_optimizer(config)
state = initial_train_state(
    {"w": 0.1 * jnp.ones((8, 8))}, optimizer, jnp.zeros((4, 8)), jax.random.key(0)
)
with open_run_folder(Path(sys.argv[1]), config) as run:
    checkpoints = Checkpoints(run.checkpoints, 2, 1, "loss")
    restored = checkpoints.restore_latest(state)
    start = 0
    if restored is not None:
        assert not restored.damaged, restored.damaged
        state, start = restored.state, restored.step
    with MetricLogger(run.path, start) as logger, make_progress(STEPS) as progress:
        try:
            result = train(
                state, make_train_step(loss_function, optimizer), batch_at, total_steps=STEPS,
                evaluate=evaluate, evaluate_every=25, checkpoint_every=10, log_every=5,
                checkpoints=checkpoints, logger=logger, progress=progress,
            )
        except Interrupted as interruption:
            print(interruption)
            sys.exit(interruption.exit_status)
leaves = jax.tree.leaves(result.state._replace(key=jax.random.key_data(result.state.key)))
print(hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest())
"""


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", RUN, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )


def lines_in(folder):
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def outcome(process):
    output, errors = process.communicate()
    return process.returncode, output, errors


def without_times(folder):
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [
        {name: value for name, value in record.items() if name != "train/steps_per_second"}
        for record in records
    ]


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_bit_equal(tmp_path):
    status, expected, errors = outcome(start(tmp_path / "whole"))
    assert status == 0, errors
    killed, interrupted_at = tmp_path / "killed", set()
    for lines, number in (
        (3, signal.SIGKILL),
        (11, signal.SIGINT),
        (22, signal.SIGKILL),
        (35, signal.SIGTERM),
        (50, signal.SIGKILL),
        (63, signal.SIGKILL),
    ):
        process = start(killed)
        while process.poll() is None and lines_in(killed) < lines:
            time.sleep(0.005)
        process.send_signal(number)
        status, output, errors = outcome(process)
        if number is signal.SIGKILL:
            assert status == -number, errors
        else:
            assert status == 128 + number, errors
            report = re.fullmatch(r"interrupted by \w+ after step (\d+); saved .*\n", output)
            assert report, output
            interrupted_at.add(int(report[1]))
    status, output, errors = outcome(start(killed))
    assert status == 0, errors
    assert output == expected
    whole, resumed = without_times(tmp_path / "whole"), without_times(killed)
    held_out = [r for r in whole if "held_out/loss" in r and r["step"] not in interrupted_at]
    assert [
        r for r in resumed if "held_out/loss" in r and r["step"] not in interrupted_at
    ] == held_out
    assert {r["step"] for r in whole} <= {r["step"] for r in resumed}
