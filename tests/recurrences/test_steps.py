"""One step is the equation of its docstring, and its gradients are its finite differences."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from recurrences.gated_equations import EQUATIONS as GATED_EQUATIONS
from recurrences.linear_equations import EQUATIONS as LINEAR_EQUATIONS
from support.contract import normal
from support.tolerances import assert_close

import rnnjax

I, H = 3, 2  # noqa: E741 - the letters of the documentation
RECURRENCES = pytest.mark.parametrize("name", rnnjax.recurrences.REGISTRY)
COMPILED_FAST = {"xla_backend_optimization_level": 0}


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def by_gate(array: np.ndarray, gates: int) -> list[np.ndarray]:
    """The block of each gate, cut out by hand: gates are stacked on the last axis."""
    return [array[..., gate * H : (gate + 1) * H] for gate in range(gates)]


def elman(p: Any, h: Any, x: Any) -> Any:
    new = np.tanh(x @ p.w_x + h @ p.w_h + p.b)
    return new, new


def elman_relu(p: Any, h: Any, x: Any) -> Any:
    new = np.maximum(0, x @ p.w_x + h @ p.w_h + p.b)
    return new, new


def minimal_gru(p: Any, c: Any, x: Any) -> Any:
    u, candidate = by_gate(x @ p.w_x + c @ p.w_h + p.b, 2)
    new = sigmoid(u) * np.tanh(candidate) + (1 - sigmoid(u)) * c
    return new, new


def gru(p: Any, h: Any, x: Any) -> Any:
    of_x, of_h = by_gate(x @ p.w_x + p.b_x, 3), by_gate(h @ p.w_h + p.b_h, 3)
    r, z = sigmoid(of_x[0] + of_h[0]), sigmoid(of_x[1] + of_h[1])
    new = (1 - z) * np.tanh(of_x[2] + r * of_h[2]) + z * h
    return new, new


def gru_reset_before(p: Any, h: Any, x: Any) -> Any:
    of_x, w_h = by_gate(x @ p.w_x + p.b, 3), by_gate(p.w_h, 3)
    r, z = sigmoid(of_x[0] + h @ w_h[0]), sigmoid(of_x[1] + h @ w_h[1])
    new = (1 - z) * np.tanh(of_x[2] + (r * h) @ w_h[2]) + z * h
    return new, new


def lstm(p: Any, carry: Any, x: Any) -> Any:
    h, c = carry
    i, f, g, o = by_gate(x @ p.w_x + h @ p.w_h + p.b, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return (h, c), h


EQUATIONS = {
    equation.__name__: equation
    for equation in (elman, elman_relu, minimal_gru, gru, gru_reset_before, lstm)
}
OF_TORCH = tuple(EQUATIONS)
EQUATIONS |= LINEAR_EQUATIONS | GATED_EQUATIONS


def random_case(name: str, leading: tuple[int, ...], seed: int = 3) -> tuple[Any, Any, Any]:
    """Float64 parameters, a carry `(*leading, H)` and an input `(*leading, I)`."""
    recurrence = rnnjax.recurrences.REGISTRY[name]
    rng = np.random.default_rng(seed)
    drawn = jax.eval_shape(lambda: recurrence.init(jax.random.key(0), I, H, dtype="float64"))
    params = normal(rng, drawn)
    carry = normal(rng, recurrence.initial_carry(params, leading))
    x = jnp.asarray(rng.normal(size=(*leading, *recurrence.input_shape(params))))
    return params, carry, x


@RECURRENCES
@pytest.mark.parametrize("leading", [(), (4,), (2, 3)])
def test_one_step_is_the_equation(name, leading):
    params, carry, x = random_case(name, leading)
    one_step = partial(rnnjax.one_step, rnnjax.recurrences.REGISTRY[name])
    actual = jax.jit(one_step, compiler_options=COMPILED_FAST)(params, carry, x)
    in_numpy = jax.tree.map(np.asarray, (params, carry, x))
    assert_close(actual, EQUATIONS[name](*in_numpy), "float64")


WITH_MIX = [
    name for name, recurrence in rnnjax.recurrences.REGISTRY.items() if recurrence.mix is not None
]


@pytest.mark.parametrize("name", WITH_MIX)
def test_step_is_gate_of_mix_and_mix_is_linear_in_the_parameters(name):
    recurrence = rnnjax.recurrences.REGISTRY[name]
    mix, gate = recurrence.mix, recurrence.gate
    assert mix is not None
    assert gate is not None
    params, carry, x = random_case(name, (4,))
    z = recurrence.project(params, x)
    step = recurrence.step(params, carry, z)
    assert_close(gate(z, mix(params, carry), carry), step, "float64")

    others, _, _ = random_case(name, (4,), seed=4)
    combined = jax.tree.map(lambda a, b: 2.0 * a - 3.0 * b, params, others)
    expected = 2.0 * mix(params, carry) - 3.0 * mix(others, carry)
    assert_close(mix(combined, carry), expected, "float64")


def sequence_case(name: str) -> tuple[Any, Any, Any]:
    """Parameters, a carry and three inputs of two rows."""
    params, carry, x = random_case(name, (2,))
    xs = np.random.default_rng(5).normal(size=(3, *x.shape))
    return params, carry, jnp.asarray(xs)


@RECURRENCES
def test_the_derivative_along_a_line_is_the_central_difference(name):
    """Of the fused plan, whose backward pass is written by hand."""
    recurrence, rng = rnnjax.recurrences.REGISTRY[name], np.random.default_rng(6)
    here = sequence_case(name)
    direction = normal(rng, here)
    weights = normal(
        rng,
        jax.eval_shape(lambda p, c, xs: rnnjax.scan(recurrence, p, xs, c, plan="fused"), *here),
    )

    def loss(step: Any) -> Any:
        params, carry, xs = jax.tree.map(lambda a, d: a + step.astype(a.dtype) * d, here, direction)
        out = rnnjax.scan(recurrence, params, xs, carry, plan="fused")
        terms = jax.tree.map(lambda w, a: jnp.sum(jnp.real(w * a)), weights, out)
        return sum(jax.tree.leaves(terms), jnp.zeros(()))

    losses = jax.jit(jax.value_and_grad(loss), compiler_options=COMPILED_FAST)
    eps = 1e-5
    difference = (losses(jnp.array(eps))[0] - losses(jnp.array(-eps))[0]) / (2 * eps)
    derivative = losses(jnp.array(0.0))[1]
    np.testing.assert_allclose(derivative, difference, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in OF_TORCH else pytest.mark.slow)
        for name in rnnjax.recurrences.REGISTRY
    ],
)
def test_derivatives_are_central_finite_differences(name, order):
    """In both modes, of the plan that JAX differentiates."""
    recurrence = rnnjax.recurrences.REGISTRY[name]

    def run(params: Any, carry: Any, xs: Any) -> Any:
        return rnnjax.scan(recurrence, params, xs, carry, plan="reference")

    check_grads(run, sequence_case(name), order=order, atol=1e-6, rtol=1e-6, eps=1e-5)
