"""One step is the equation of its docstring, and its gradients are its finite differences."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from support.tolerances import assert_close

import rnnjax

I, H = 3, 2  # noqa: E741 - the letters of the documentation
RECURRENCES = pytest.mark.parametrize("name", rnnjax.recurrences.REGISTRY)


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


def random_case(name: str, leading: tuple[int, ...], seed: int = 3) -> tuple[Any, Any, Any]:
    """Float64 parameters, a carry `(*leading, H)` and an input `(*leading, I)`."""
    recurrence = rnnjax.recurrences.REGISTRY[name]
    rng = np.random.default_rng(seed)

    def like(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), tree)

    params = like(jax.eval_shape(lambda: recurrence.init(jax.random.key(0), I, H)))
    carry = like(recurrence.initial_carry(params, leading))
    return params, carry, jnp.asarray(rng.normal(size=(*leading, I)))


@RECURRENCES
@pytest.mark.parametrize("leading", [(), (4,), (2, 3)])
def test_one_step_is_the_equation(name, leading):
    params, carry, x = random_case(name, leading)
    actual = rnnjax.one_step(rnnjax.recurrences.REGISTRY[name], params, carry, x)
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


@RECURRENCES
@pytest.mark.parametrize(
    ("plan", "order", "modes"),
    [
        ("fused", 1, ("rev",)),
        ("reference", 1, ("fwd", "rev")),
        pytest.param("reference", 2, ("fwd", "rev"), marks=pytest.mark.slow),
    ],
)
def test_derivatives_are_central_finite_differences(name, plan, order, modes):
    recurrence = rnnjax.recurrences.REGISTRY[name]
    params, carry, _ = random_case(name, (2,))
    xs = jnp.asarray(np.random.default_rng(5).normal(size=(3, 2, I)))

    def run(params: Any, xs: Any, carry: Any) -> Any:
        return rnnjax.scan(recurrence, params, xs, carry, plan=plan)

    check_grads(run, (params, xs, carry), order=order, modes=modes, atol=1e-6, rtol=1e-6, eps=1e-5)
