"""A tiny model that trains in milliseconds: a linear map with a memory leak."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.step import initial_train_state, make_train_step

CONFIG = OptimizerConfig(0.05, "cosine", 2, total_steps=20, clip_norm=0.5, weight_decay=0.01)


def leaky_loss(params, memory, batch, key):
    """A linear map with a memory leak: h = tanh(a·h + x·w), the loss is the error of h·v."""
    h = jnp.tanh(params["a"] * memory["h"] + batch["x"] @ params["w"])
    error = h @ params["v"] - batch["y"]
    noise = 1e-3 * jax.random.normal(key, error.shape, error.dtype)
    loss = jnp.mean(jnp.square(error + noise))
    new_memory = {"h": h, "batches": memory["batches"] + jnp.int32(1)}
    return loss, (new_memory, {"mean_error": jnp.mean(error)})


def leaky_batch(t, scale=1.0):
    rng = np.random.default_rng(t)
    x = rng.normal(size=(4, 3)).astype(np.float32)
    return {"x": x, "y": np.float32(scale) * x.sum(-1)}


def leaky_state(seed=0):
    w, v, key = jax.random.split(jax.random.key(seed), 3)
    params = {
        "a": jnp.float32(0.5),
        "w": jax.random.normal(w, (3, 5), jnp.float32),
        "v": jax.random.normal(v, (5,), jnp.float32),
    }
    memory = {"h": jnp.zeros((4, 5), jnp.float32), "batches": jnp.int32(0)}
    return initial_train_state(params, build_optimizer(CONFIG), memory, key)


def numpy_tree(tree):
    return [
        np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        for x in jax.tree.leaves(tree)
    ]


def assert_equal(left, right):
    for a, b in zip(numpy_tree(left), numpy_tree(right), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="session")
def leaky():
    return SimpleNamespace(
        config=CONFIG,
        loss=leaky_loss,
        batch=leaky_batch,
        state=leaky_state,
        step=make_train_step(leaky_loss, build_optimizer(CONFIG)),
        assert_equal=assert_equal,
        numpy_tree=numpy_tree,
    )
