"""A run with all that a run has, to be killed: `python tests/support/killed_run.py FOLDER STEPS`.

It prints the SHA-256 of its last state, which is also in FOLDER/digest.
"""

import hashlib
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.text.batches import padded_batches
from rnnjax.training.checkpoints import BackgroundSaves, Checkpoints
from rnnjax.training.early_stopping import EarlyStopping
from rnnjax.training.files import replace_text
from rnnjax.training.loop import Interrupted, train
from rnnjax.training.metrics import MetricLogger
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.progress import make_progress
from rnnjax.training.run_folder import open_run_folder
from rnnjax.training.step import initial_train_state, make_train_step


class Rows:
    """30 sequences of 1 to 8 frames, which know no library."""

    def __len__(self):
        return 30

    def __getitem__(self, places):
        rows = [np.random.default_rng(p).normal(size=(1 + p % 8, 8)) for p in places]
        return {"frames": rows}


def loss_function(params, memory, batch, key):
    """The memory goes from batch to batch, the noise comes from the key."""
    frames = batch.columns["frames"]
    h = jnp.tanh(memory @ params["w"] + frames.mean(0))
    noise = jnp.float32(0.01) * jax.random.normal(key, h.shape, jnp.float32)
    return jnp.mean(jnp.square(h - jnp.float32(0.5) + noise)), (h, {})


def evaluate(state):
    return {"loss": float(np.sum(np.square(state.params["w"])))}


def main(folder: Path, steps: int) -> str:
    """Train in a folder, from where the last process left it, to the end."""
    config = OptimizerConfig(
        1e-2, "plateau", 20, steps, plateau_window=40, accumulation_steps=2, average_decay=0.9
    )
    optimizer = build_optimizer(config)
    params, memory = {"w": jnp.full((8, 8), 0.1, jnp.float32)}, jnp.zeros((4, 8), jnp.float32)
    state = initial_train_state(params, optimizer, memory, jax.random.key(0))
    with open_run_folder(folder, config) as run:
        checkpoints = Checkpoints(run.checkpoints, 2, 1, "loss")
        restored = checkpoints.restore_latest(state)
        start = 0
        if restored is not None:
            assert not restored.damaged, restored.damaged
            state, start = restored.state, restored.step
        with MetricLogger(run.path, start) as logger, make_progress(steps) as progress:
            result = train(
                state,
                make_train_step(loss_function, optimizer),
                padded_batches(Rows(), ["frames"], batch_size=4, growth=10.0),
                total_steps=steps,
                evaluate=evaluate,
                evaluate_every=25,
                early_stopping=EarlyStopping("loss", 1000),
                checkpoint_every=10,
                log_every=5,
                checkpoints=BackgroundSaves(checkpoints),
                logger=logger,
                progress=progress,
            )
        leaves = jax.tree.leaves(result.state._replace(key=jax.random.key_data(result.state.key)))
        digest = hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest()
        replace_text(folder / "digest", digest)
    return digest


if __name__ == "__main__":
    try:
        print(main(Path(sys.argv[1]), int(sys.argv[2])))
    except Interrupted as interruption:
        print(interruption)
        sys.exit(interruption.exit_status)
