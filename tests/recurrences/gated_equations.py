"""The equations in plain NumPy of the gated recurrences that are not linear in their carry."""

from itertools import product
from typing import Any

import numpy as np
from recurrences.linear_equations import cut, sigmoid


def peephole_gates(sums: Any, c: Any, peepholes: Any) -> Any:
    i, f, g, o = cut(sums, 4)
    p_i, p_f, p_o = cut(peepholes, 3)
    c_new = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * np.tanh(g)
    h = sigmoid(o + p_o * c_new) * np.tanh(c_new)
    return (h, c_new), h


def lstm_peephole(p: Any, carry: Any, x: Any) -> Any:
    h, c = carry
    return peephole_gates(x @ p.w_x + h @ p.w_h + p.b, c, p.peepholes)


def lstm_projected(p: Any, carry: Any, x: Any) -> Any:
    h, c = carry
    i, f, g, o = cut(x @ p.w_x + h @ p.w_h + p.b, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = (sigmoid(o) * np.tanh(c)) @ p.w_projection
    return (h, c), h


def normalised(a: Any) -> Any:
    return (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + 1e-5)


def lstm_layer_norm(p: Any, carry: Any, x: Any) -> Any:
    h, c = carry
    of_x, of_h = normalised(x @ p.w_x) * p.gain_x, normalised(h @ p.w_h) * p.gain_h
    i, f, g, o = cut(of_x + of_h + p.b, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(normalised(c) * p.gain_c + p.b_c)
    return (h, c), h


def gru_layer_norm(p: Any, h: Any, x: Any) -> Any:
    def sums(a: Any, w: Any, gain: Any, b: Any) -> Any:
        r, z, n = cut(a @ w, 3)
        gates = normalised(np.concatenate([r, z], axis=-1))
        return cut(np.concatenate([gates, normalised(n)], axis=-1) * gain + b, 3)

    of_x, of_h = sums(x, p.w_x, p.gain_x, p.b_x), sums(h, p.w_h, p.gain_h, p.b_h)
    r, z = sigmoid(of_x[0] + of_h[0]), sigmoid(of_x[1] + of_h[1])
    new = (1 - z) * np.tanh(of_x[2] + r * of_h[2]) + z * h
    return new, new


def indrnn(p: Any, h: Any, x: Any) -> Any:
    new = np.maximum(0, x @ p.w_x + p.w_h * h + p.b)
    return new, new


def convolution(a: Any, kernel: Any) -> Any:
    """Place by place: what each place of the kernel sees of an image shifted beneath it."""
    widths, leading = kernel.shape[:-2], a.ndim - kernel.ndim + 1
    shape = a.shape[leading:-1]
    padded = np.pad(a, [(0, 0)] * leading + [(k // 2, k // 2) for k in widths] + [(0, 0)])
    total = 0.0
    for place in product(*map(range, widths)):
        window = tuple(slice(at, at + size) for at, size in zip(place, shape, strict=True))
        total = total + padded[(..., *window, slice(None))] @ kernel[place]
    return total


def conv_lstm(p: Any, carry: Any, x: Any) -> Any:
    h, c = carry
    return peephole_gates(convolution(x, p.w_x) + convolution(h, p.w_h) + p.b, c, p.peepholes)


def slstm(p: Any, carry: Any, x: Any) -> Any:
    """Without a stabiliser: exp(m) c and exp(m) n are taken one step on."""
    blocks = [cut(block, 4) for block in p.w_h]
    of_heads = [
        [a @ of_gate for of_gate in gates]
        for a, gates in zip(cut(carry.h, len(blocks)), blocks, strict=True)
    ]
    of_h = [np.concatenate(of_gate, axis=-1) for of_gate in zip(*of_heads, strict=True)]
    i, f, g, o = (a + b for a, b in zip(cut(x @ p.w_x + p.b, 4), of_h, strict=True))
    c = sigmoid(f) * np.exp(carry.m) * carry.c + np.exp(i) * np.tanh(g)
    n = sigmoid(f) * np.exp(carry.m) * carry.n + np.exp(i)
    h = sigmoid(o) * c / n
    m = np.maximum(np.log(sigmoid(f)) + carry.m, i)
    return type(carry)(h, c * np.exp(-m), n * np.exp(-m), m), h


EQUATIONS = {
    "lstm_peephole": lstm_peephole,
    "lstm_projected": lstm_projected,
    "lstm_layer_norm": lstm_layer_norm,
    "gru_layer_norm": gru_layer_norm,
    "indrnn": indrnn,
    "conv_lstm_1d": conv_lstm,
    "conv_lstm_2d": conv_lstm,
    "slstm": slstm,
}
