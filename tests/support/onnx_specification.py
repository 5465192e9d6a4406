"""The operators RNN, GRU and LSTM of ONNX as their text has them, step by step, row by row.

Written for one row at a time, with W, R, B and P as a file has them, of NumPy or of another array
module that has its functions, so that another one can differentiate it.
"""

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np


class Weights(NamedTuple):
    """Of all directions: `(D, G, I)`, `(D, G, H)`, `(D, 2G)`, `(D, 3H)`."""

    W: Any
    R: Any
    B: Any
    P: Any = None


class Attributes(NamedTuple):
    """Those of the operators, `activations` with their alpha and beta, in order of directions."""

    activations: tuple[tuple[Any, ...], ...]
    direction: str = "forward"
    clip: float | None = None
    linear_before_reset: int = 0
    input_forget: int = 0


def activation(xp: ModuleType, x: Any, name: str, alpha: float = 0.0, beta: float = 0.0) -> Any:
    """The operators' list."""
    zero = x * 0
    match name:
        case "Relu":
            return xp.where(x > 0, x, zero)
        case "Tanh":
            return xp.tanh(x)
        case "Sigmoid":
            return 1 / (1 + xp.exp(-x))
        case "Affine":
            return alpha * x + beta
        case "LeakyRelu":
            return xp.where(x >= 0, x, alpha * x)
        case "ThresholdedRelu":
            return xp.where(x >= alpha, x, zero)
        case "ScaledTanh":
            return alpha * xp.tanh(beta * x)
        case "HardSigmoid":
            line = alpha * x + beta
            return xp.where(line > 1, zero + 1, xp.where(line < 0, zero, line))
        case "Elu":
            return xp.where(x >= 0, x, alpha * (xp.exp(x) - 1))
        case "Softsign":
            return x / (1 + abs(x))
        case "Softplus":
            return xp.log(1 + xp.exp(x))
    raise ValueError(name)


def run(
    operator: str,
    attributes: Attributes,
    weights: Weights,
    X: Any,
    sequence_lens: Any,
    initial_h: Any,
    initial_c: Any,
    xp: ModuleType = np,
) -> list[Any]:
    """Y `(T, D, B, H)`, Y_h `(D, B, H)` and, of an LSTM, Y_c, with layout 0."""
    reverses = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
    each = len(attributes.activations) // len(reverses[attributes.direction])
    ys, states = [], []
    for index, reverse in enumerate(reverses[attributes.direction]):
        activations = attributes.activations[index * each : (index + 1) * each]
        of_direction = Weights(*(None if part is None else part[index] for part in weights))
        rows, last = [], []
        for row, length in enumerate(sequence_lens):
            state = initial_h[index, row], initial_c[index, row]
            outputs = [xp.zeros_like(state[0])] * len(X)
            for t in reversed(range(length)) if reverse else range(length):
                state = _step(operator, attributes, activations, of_direction, X[t, row], state, xp)
                outputs[t] = state[0]
            rows.append(xp.stack(outputs))
            last.append(state)
        ys.append(xp.stack(rows, 1))
        states.append([xp.stack(parts) for parts in zip(*last, strict=True)])
    kept = 2 if operator == "LSTM" else 1
    return [xp.stack(ys, 1), *(xp.stack([state[i] for state in states]) for i in range(kept))]


def _step(
    operator: str,
    attributes: Attributes,
    activations: tuple[tuple[Any, ...], ...],
    weights: Weights,
    x: Any,
    state: tuple[Any, Any],
    xp: ModuleType,
) -> tuple[Any, Any]:
    h, c = state
    size = len(h)

    def gate(index: int) -> slice:
        return slice(index * size, (index + 1) * size)

    def activated(index: int, sums: Any) -> Any:
        clip = attributes.clip
        if clip is not None and index < 2:
            bound = sums * 0 + clip
            sums = xp.where(sums > clip, bound, xp.where(sums < -clip, -bound, sums))
        return activation(xp, sums, *activations[index])

    W, R, _, P = weights
    Wb, Rb = weights.B[: len(W)], weights.B[len(W) :]

    def sums(index: int) -> Any:
        of_gate = gate(index)
        return W[of_gate] @ x + R[of_gate] @ h + Wb[of_gate] + Rb[of_gate]

    if operator == "RNN":
        return activated(0, sums(0)), c
    if operator == "GRU":
        z, r = activated(0, sums(0)), activated(0, sums(1))
        of_gate = gate(2)
        if attributes.linear_before_reset:
            mixed = r * (R[of_gate] @ h + Rb[of_gate])
        else:
            mixed = R[of_gate] @ (r * h) + Rb[of_gate]
        return (1 - z) * activated(1, W[of_gate] @ x + mixed + Wb[of_gate]) + z * h, c
    p_i, p_o, p_f = (0, 0, 0) if P is None else (P[gate(index)] for index in range(3))
    i = activated(0, sums(0) + p_i * c)
    f = 1 - i if attributes.input_forget else activated(0, sums(2) + p_f * c)
    c = f * c + i * activated(1, sums(3))
    o = activated(0, sums(1) + p_o * c)
    return o * activated(2, c), c
