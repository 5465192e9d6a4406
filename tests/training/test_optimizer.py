import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnnjax.training.optimizer import (
    SCHEDULES,
    ClipState,
    OptimizerConfig,
    build_optimizer,
    learning_rate_at,
)


def expected_rate(config, step):
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    span = config.total_steps - config.warmup_steps
    progress = min(1.0, (step - config.warmup_steps) / span)
    floor = config.final_fraction
    if config.schedule == "cosine":
        return config.learning_rate * (floor + (1 - floor) * (1 + np.cos(np.pi * progress)) / 2)
    if config.schedule == "linear":
        return config.learning_rate * (1 - (1 - floor) * progress)
    return config.learning_rate


@pytest.mark.parametrize("warmup_steps", [0, 1, 5])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_learning_rate_follows_its_equation(schedule, warmup_steps):
    config = OptimizerConfig(0.3, schedule, warmup_steps, total_steps=20, final_fraction=0.1)
    steps = np.arange(25)
    rates = learning_rate_at(config, jnp.asarray(steps))
    assert rates.dtype == jnp.float32
    np.testing.assert_allclose(rates, [expected_rate(config, t) for t in steps], rtol=1e-5)


def test_learning_rate_takes_python_integers():
    config = OptimizerConfig(0.3, "linear", 2, total_steps=10)
    assert float(learning_rate_at(config, 0)) == pytest.approx(0.15)
    assert float(learning_rate_at(config, 10)) == pytest.approx(0.03)


def test_warmup_as_long_as_training_never_decays():
    config = OptimizerConfig(0.4, "cosine", 4, total_steps=4)
    assert float(learning_rate_at(config, 3)) == pytest.approx(0.4)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_chain_equals_optax_adamw_with_clipping(weight_decay):
    config = OptimizerConfig(
        0.1, "cosine", 2, 6, 0.1, 0.5, b1=0.8, b2=0.9, weight_decay=weight_decay
    )
    ours = build_optimizer(config)
    theirs = optax.chain(
        optax.clip_by_global_norm(0.5),
        optax.adamw(
            lambda t: learning_rate_at(config, jnp.asarray(t)),
            b1=0.8,
            b2=0.9,
            weight_decay=weight_decay,
        ),
    )

    def run(optimizer):
        @jax.jit
        def step(params, state):
            gradient = jax.tree.map(lambda p: 3.0 * p, params)
            with jax.numpy_dtype_promotion("standard"):
                updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state

        params = {"a": jnp.arange(3.0), "b": jnp.asarray([-1.0, 0.001])}
        state = optimizer.init(params)
        for _ in range(4):
            params, state = step(params, state)
        return params

    for mine, reference in zip(
        jax.tree.leaves(run(ours)), jax.tree.leaves(run(theirs)), strict=True
    ):
        np.testing.assert_allclose(mine, reference, rtol=1e-6)


def test_clipping_records_the_norms_before_and_after():
    optimizer = build_optimizer(OptimizerConfig(clip_norm=1.0))
    params: Any = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
    for scale in (1.0, 0.1):
        gradient = {"a": jnp.asarray([3.0, 0.0]) * scale, "b": jnp.asarray([4.0]) * scale}
        _, state = optimizer.update(gradient, optimizer.init(params), params)
        assert isinstance(state, tuple)
        clip = state[0]
        assert isinstance(clip, ClipState)
        assert float(clip.gradient_norm) == pytest.approx(5 * scale)
        assert float(clip.clipped_gradient_norm) == pytest.approx(min(1.0, 5 * scale))


def test_no_clipping_means_no_clipping():
    # Adam is invariant to the scale of the gradient, eps breaks that: a clipped update is smaller.
    params = jnp.zeros(1)
    gradient = jnp.full(1, 1000.0)

    def first_update(clip_norm):
        optimizer = build_optimizer(OptimizerConfig(0.1, "constant", clip_norm=clip_norm, eps=1.0))
        updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        return np.asarray(updates).item()

    assert first_update(None) == pytest.approx(-0.1 * 1000 / 1001)
    assert first_update(1.0) == pytest.approx(-0.1 * 1 / 2)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_updates_keep_the_dtype_of_the_parameters(dtype):
    optimizer = build_optimizer(OptimizerConfig(weight_decay=0.1, warmup_steps=1))
    params = jnp.ones(3, dtype)
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert jax.tree.leaves(updates)[0].dtype == dtype


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", "fast"),
        ("schedule", "exponential"),
        ("warmup_steps", -1),
        ("warmup_steps", 1.5),
        ("warmup_steps", 1001),
        ("total_steps", 0),
        ("total_steps", True),
        ("final_fraction", 1.5),
        ("clip_norm", 0.0),
        ("clip_norm", float("inf")),
        ("b1", 1.0),
        ("b2", -0.1),
        ("eps", 0.0),
        ("weight_decay", -1e-3),
    ],
)
def test_a_bad_field_is_named(field, value):
    with pytest.raises(ValueError, match=f"^{field}: got .*, expected .*$"):
        dataclasses.replace(OptimizerConfig(), **{field: value})
