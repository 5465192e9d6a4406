import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnnjax.training.optimizer import (
    SCHEDULES,
    OptimizerConfig,
    build_optimizer,
    learning_rate_at,
)
from rnnjax.training.optimizer_links import averaged_params, optimizer_metrics


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
    if config.schedule == "step":
        falls = (step - config.warmup_steps) // config.decay_every
        return config.learning_rate * max(floor, config.decay_factor**falls)
    return config.learning_rate  # of plateau, what is found while training comes on top


@pytest.mark.parametrize("warmup_steps", [0, 1, 5])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_learning_rate_follows_its_equation(schedule, warmup_steps):
    config = OptimizerConfig(
        0.3, schedule, warmup_steps, total_steps=20, final_fraction=0.1, decay_every=3
    )
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


PARAMS: Any = {"w": jnp.asarray([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.asarray([0.1, -1.0])}


def gradients(steps, seed=0):
    """Gradients of `PARAMS` at each step, of very different sizes."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-2, 1, size=steps)
    return jax.tree.map(
        lambda p: jnp.asarray(
            rng.normal(size=(steps, *p.shape)) * scale.reshape(-1, *[1] * p.ndim)
        ),
        PARAMS,
    )


def trajectory(optimizer, gradients, values=None) -> tuple[Any, Any, Any]:
    """Parameters and what was recorded after each step, and the last state; to be jitted."""
    optimizer = optax.with_extra_args_support(optimizer)
    steps = len(gradients["b"])
    values = jnp.zeros(steps) if values is None else values

    def step(carry, inputs):
        (params, state), (gradient, value) = carry, inputs
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(gradient, state, params, value=value)
            params = optax.apply_updates(params, updates)
        return (params, state), (params, optimizer_metrics(state))

    with jax.numpy_dtype_promotion("standard"):
        start = (PARAMS, optimizer.init(PARAMS))
    (_, state), (params, metrics) = jax.lax.scan(step, start, (gradients, values))
    return params, metrics, state


def constant(**fields):
    return OptimizerConfig(0.1, "constant", **{"clip_norm": None, **fields})


OPTAX_CHAINS = {
    "sgd": (constant(algorithm="sgd"), optax.sgd(0.1)),
    "momentum": (constant(algorithm="sgd", momentum=0.9), optax.sgd(0.1, 0.9)),
    "nesterov": (
        constant(algorithm="sgd", momentum=0.9, nesterov=True),
        optax.sgd(0.1, 0.9, nesterov=True),
    ),
    "rmsprop": (
        constant(algorithm="rmsprop", momentum=0.5, rms_decay=0.8),
        optax.rmsprop(0.1, 0.8, momentum=0.5, eps_in_sqrt=False),
    ),
    "value": (
        constant(algorithm="sgd", clip_value=0.5),
        optax.chain(optax.clip(0.5), optax.sgd(0.1)),
    ),
    "adaptive": (
        constant(algorithm="sgd", clip_adaptive=0.02),
        optax.chain(optax.adaptive_grad_clip(0.02), optax.sgd(0.1)),
    ),
    "all clips": (
        constant(algorithm="sgd", clip_adaptive=0.2, clip_value=0.3, clip_norm=0.4),
        optax.chain(
            optax.adaptive_grad_clip(0.2),
            optax.clip(0.3),
            optax.clip_by_global_norm(0.4),
            optax.sgd(0.1),
        ),
    ),
    "matrices decay": (
        constant(weight_decay=0.3, weight_decay_of="matrices"),
        optax.adamw(0.1, weight_decay=0.3, mask={"w": True, "b": False}),
    ),
    "accumulation": (
        constant(accumulation_steps=3, clip_norm=0.5),
        optax.MultiSteps(optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1)), 3),
    ),
}


def test_chains_equal_those_of_optax():
    given = gradients(7)

    def both():
        return {
            name: (trajectory(build_optimizer(config), given), trajectory(theirs, given)[0])
            for name, (config, theirs) in OPTAX_CHAINS.items()
        }

    for name, ((params, metrics, _), theirs) in jax.jit(both)().items():
        for leaf in PARAMS:
            np.testing.assert_allclose(
                params[leaf], theirs[leaf], rtol=1e-6, atol=1e-7, err_msg=name
            )
        before = np.sqrt(sum(np.square(g).reshape(7, -1).sum(1) for g in given.values()))
        if name in ("value", "adaptive", "all clips"):
            after = metrics["clipped_gradient_norm"]
            assert 0 < metrics["clipped"].sum() < 7, name
            np.testing.assert_array_equal(metrics["clipped"], after < before.astype(np.float32))
            if name == "all clips":
                assert np.all(after <= 0.4 * (1 + 1e-6))


def test_a_mask_of_ones_own_says_where_weight_decay_acts():
    optimizer = build_optimizer(
        constant(algorithm="sgd", weight_decay=1.0),
        lambda params: {name: name == "b" for name in params},
    )
    params, *_ = trajectory(optimizer, jax.tree.map(jnp.zeros_like, gradients(1)))
    np.testing.assert_allclose(params["w"][0], PARAMS["w"])
    np.testing.assert_allclose(params["b"][0], 0.9 * PARAMS["b"])


def test_the_last_of_the_batches_of_an_update_gives_the_rate():
    config = OptimizerConfig(0.3, "linear", 3, 9, accumulation_steps=2)
    _, metrics, _ = jax.jit(lambda: trajectory(build_optimizer(config), gradients(6)))()
    rates = [float(learning_rate_at(config, step)) for step in (1, 3, 5)]
    np.testing.assert_allclose(metrics["learning_rate"], [0, *np.repeat(rates, 2)[:5]], rtol=1e-6)


def test_the_rate_falls_when_the_loss_does_not():
    config = OptimizerConfig(
        0.1, "plateau", final_fraction=0.2, plateau_window=2, plateau_patience=2
    )
    # Averages of two: 3, 2, then three no better, one better, and the rest no better.
    averages = [3.0, 2.0, 2.5, 2.0, 2.2, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    values = jnp.asarray([average + offset for average in averages for offset in (-0.5, 0.5)])
    _, metrics, _ = jax.jit(lambda: trajectory(build_optimizer(config), gradients(24), values))()
    expected = [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2]
    np.testing.assert_allclose(metrics["learning_rate"][1::2], 0.1 * np.asarray(expected))


def test_the_average_is_that_of_the_parameters_after_each_update():
    decay, steps = 0.7, 5
    config = constant(algorithm="sgd", average_decay=decay)
    optimizer = build_optimizer(config)
    params, _, state = jax.jit(lambda: trajectory(optimizer, gradients(steps)))()
    weights = decay ** np.arange(steps - 1, -1, -1)
    average = averaged_params(decay, PARAMS, state)
    for name in PARAMS:
        expected = np.tensordot(weights / weights.sum(), np.asarray(params[name]), 1)
        np.testing.assert_allclose(average[name], expected, rtol=1e-6)
    low = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    start = optimizer.init(low)
    untouched = averaged_params(decay, low, start)
    for name in PARAMS:
        assert untouched[name].dtype == jnp.bfloat16
        np.testing.assert_array_equal(untouched[name], low[name])
    with pytest.raises(ValueError, match=r"^optimizer_state: got 0 averages"):
        averaged_params(decay, PARAMS, optax.adam(0.1).init(PARAMS))


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
        ("algorithm", "lion"),
        ("momentum", 0.5),  # adam has moments of its own
        ("nesterov", True),
        ("clip_value", -1.0),
        ("clip_adaptive", 0.0),
        ("decay_every", 0),
        ("decay_factor", 1.0),
        ("plateau_tolerance", 0.0),
        ("weight_decay_of", "biases"),
        ("accumulation_steps", 0),
        ("average_decay", 1.0),
    ],
)
def test_a_bad_field_is_named(field, value):
    with pytest.raises(ValueError, match=f"^{field}: got .*, expected .*$"):
        dataclasses.replace(OptimizerConfig(), **{field: value})
