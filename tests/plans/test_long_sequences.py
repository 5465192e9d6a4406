"""T = 100,000 in float32: parallel in time is as close to float64 as the loop is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax
from rnnjax.plans import associative_by

T = 100_000
LINEAR = [name for name, r in rnnjax.recurrences.REGISTRY.items() if r.linear is not None]
PLANS = {"associative": "associative", "chunks of 316": associative_by(316)}
BOUNDS = (2e-5, 1e-4)  # of outputs and of gradients, relative to the largest entry


def outputs_and_gradients(recurrence, params, xs, plan):
    weights = jnp.cos(jnp.arange(T))[:, None, None] / T**0.5

    def loss(params, xs):
        _, ys = rnnjax.scan(recurrence, params, xs, plan=plan)
        return jnp.sum(weights.astype(ys.dtype) * ys), ys

    gradient, ys = jax.grad(loss, (0, 1), has_aux=True)(params, xs)
    return ys, gradient


def error(actual, expected):
    return max(
        float(np.max(np.abs(np.asarray(a) - np.asarray(e))) / np.max(np.abs(np.asarray(e))))
        for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
        if np.any(np.asarray(e))
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", LINEAR)
def test_a_hundred_thousand_steps(name):
    recurrence = rnnjax.recurrences.REGISTRY[name]
    run = jax.jit(outputs_and_gradients, static_argnums=(0, 3))
    params = recurrence.init(jax.random.key(0), 3, 4, dtype="float64")
    xs = jax.random.normal(jax.random.key(1), (T, 1, 3), "float64")
    expected = run(recurrence, params, xs, "reference")
    params, xs = jax.tree.map(lambda a: a.astype("float32"), (params, xs))
    for label, plan in PLANS.items():
        actual = run(recurrence, params, xs, plan)
        assert jax.tree.leaves(actual)[0].dtype == "float32"
        for part, bound in zip(range(2), BOUNDS, strict=True):
            assert error(actual[part], expected[part]) < bound, (name, label, part)
