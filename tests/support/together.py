"""One of several processes that train a small network together: `python together.py JSON`."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax
from rnnjax.plans.data_parallel import data_parallel
from rnnjax.training.checkpoints import Checkpoints
from rnnjax.training.devices import (
    make_mesh,
    make_train_step_over,
    place_batch,
    place_state,
    rows_of_process,
    state_shardings,
)
from rnnjax.training.loop import Interrupted, train
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.processes import is_first_process, start_processes
from rnnjax.training.step import initial_train_state

TIME, BATCH, INPUT, HIDDEN = 3, 8, 3, 4
OPTIMIZER = build_optimizer(OptimizerConfig(0.05, total_steps=20))


def loss_with(plan: Any) -> Any:
    def loss(params: Any, memory: Any, batch: Any, key: Any) -> Any:
        h, ys = rnnjax.scan(rnnjax.elman, params, batch["xs"], memory, plan=plan)
        noise = jax.random.normal(key, ys.shape, ys.dtype)
        loss = jnp.mean(jnp.square(ys - batch["ys"] + jnp.float32(0.1) * noise))
        return loss, (h, {"rows": jnp.float32(ys.shape[1])})

    return loss


def new_state(seed: int = 0) -> Any:
    params = rnnjax.elman.init(jax.random.key(seed), INPUT, HIDDEN)
    memory = jnp.zeros((BATCH, HIDDEN), jnp.float32)
    return initial_train_state(params, OPTIMIZER, memory, jax.random.key(1))


def rows_at(step: int, rows: Any) -> dict[str, np.ndarray]:
    """Of a batch, made row by row, so that no row depends on who asks for it."""
    of_rows = [np.random.default_rng((step, row)).normal(size=(TIME, 7)) for row in rows]
    both = np.stack(of_rows, axis=1).astype(np.float32)
    return {"xs": both[..., :INPUT], "ys": both[..., INPUT:]}


def run(
    folder: str,
    steps: int,
    hidden: int = 1,
    dies_at: int = -1,
    stops_at: int = -1,
    fails_at: int = -1,
    seed: int = 0,
) -> str:
    """Restore what is there, train on, save; the last parameters go into a file."""
    mesh = make_mesh(hidden=hidden)
    rows = rows_of_process(mesh, BATCH)

    def batch_at(step: int) -> Any:
        if step == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == fails_at:
            raise ValueError("no such row")
        if step == stops_at:
            signal.raise_signal(signal.SIGTERM)
        return place_batch(mesh, rows_at(step, rows))

    state = new_state(seed)
    shardings = state_shardings(mesh, state)
    state = place_state(state, shardings)
    checkpoints = Checkpoints(Path(folder) / "checkpoints")
    restored = checkpoints.restore_latest(state)
    begun = 0
    if restored is not None:
        state, begun = restored.state, restored.step
    loss = loss_with(data_parallel(mesh))
    train_step = make_train_step_over(mesh, shardings, loss, OPTIMIZER)
    try:
        train(
            state,
            train_step,
            batch_at,
            total_steps=steps,
            evaluate=lambda state: {"step": float(state.step)},
            evaluate_every=3,
            checkpoint_every=2,
            batches_ahead=0,
            checkpoints=checkpoints,
        )
    except Interrupted as interruption:
        return f"interrupted after {interruption.step}"
    return f"{len(rows)} rows of {jax.process_count()} processes, from step {begun}"


if __name__ == "__main__":
    told: dict[str, Any] = json.loads(sys.argv[1])
    start_processes(*told["start"], start_seconds=60, heartbeat_seconds=10, end_seconds=5)
    print(run(**told["run"]), is_first_process())
