"""The equations in plain NumPy of `sru` and of the recurrences linear in their carry."""

from typing import Any

import numpy as np


def sigmoid(a: Any) -> Any:
    return 1 / (1 + np.exp(-a))


def cut(array: Any, count: int) -> list[Any]:
    """Equal parts of the last axis, cut by hand."""
    size = array.shape[-1] // count
    return [array[..., i * size : (i + 1) * size] for i in range(count)]


def gated_diagonal(p: Any, h: Any, x: Any) -> Any:
    a, b = cut(x @ p.w_x + p.b, 2)
    new = sigmoid(a) * h + b
    return new, new


def min_gru(p: Any, h: Any, x: Any) -> Any:
    z, candidate = cut(x @ p.w_x + p.b, 2)
    new = (1 - sigmoid(z)) * h + sigmoid(z) * candidate
    return new, new


def min_lstm(p: Any, h: Any, x: Any) -> Any:
    f, i, candidate = cut(x @ p.w_x + p.b, 3)
    f, i = sigmoid(f), sigmoid(i)
    new = f / (f + i) * h + i / (f + i) * candidate
    return new, new


def _highway(p: Any, x: Any) -> tuple[Any, Any, Any, Any]:
    """Candidate, f and r before their sigmoid, and what goes past the cell."""
    size = len(p.b) // 2
    blocks = cut(x @ p.w_x, p.w_x.shape[1] // size)
    b_f, b_r = cut(p.b, 2)
    return blocks[0], blocks[1] + b_f, blocks[2] + b_r, blocks[3] if len(blocks) == 4 else x


def sru(p: Any, c: Any, x: Any) -> Any:
    candidate, f, r, past = _highway(p, x)
    v_f, v_r = cut(p.v, 2)
    f, r = sigmoid(f + v_f * c), sigmoid(r + v_r * c)
    new = f * c + (1 - f) * candidate
    return new, r * new + (1 - r) * np.sqrt(3) * past


def sru_linear(p: Any, c: Any, x: Any) -> Any:
    candidate, f, r, past = _highway(p, x)
    f, r = sigmoid(f), sigmoid(r)
    new = f * c + (1 - f) * candidate
    return new, r * np.tanh(new) + (1 - r) * past


def qrnn(p: Any, carry: Any, x: Any) -> Any:
    s, c = carry
    z, f, o = cut(x @ p.w_x[:, 0] + p.b + s, 3)
    c = sigmoid(f) * c + (1 - sigmoid(f)) * np.tanh(z)
    return (x @ p.w_x[:, 1], c), sigmoid(o) * c


def lru(p: Any, h: Any, x: Any) -> Any:
    eigenvalues = np.exp(-np.exp(p.nu_log) + 1j * np.exp(p.theta_log))
    new = eigenvalues * h + np.exp(p.gamma_log) * (x @ (p.b_re + 1j * p.b_im))
    skip = x * p.d if p.d.ndim == 1 else x @ p.d
    return new, (new @ (p.c_re + 1j * p.c_im)).real + skip


def rg_lru(p: Any, h: Any, x: Any) -> Any:
    u = x @ p.w_x + p.b_x
    r, i = cut(sigmoid(u @ p.w_gates + p.b_gates), 2)
    log_a = 8 * r * np.log(sigmoid(p.decay_logit))
    new = np.exp(log_a) * h + np.sqrt(-np.expm1(2 * log_a)) * (i * u)
    return new, new


def mlstm(p: Any, carry: Any, x: Any) -> Any:
    """Without a stabiliser: exp(m) C and exp(m) n are taken one step on."""
    heads, leading = len(p.b_gates) // 2, x.shape[:-1]
    q, k, v = (a.reshape(*leading, heads, -1) for a in cut(x @ p.w_x + p.b, 4)[:3])
    k, o = k / np.sqrt(k.shape[-1]), sigmoid(cut(x @ p.w_x + p.b, 4)[3])
    i, f = cut(x @ p.w_gates + p.b_gates, 2)
    i, f, scale = np.exp(i), sigmoid(f), np.exp(carry.m)
    c = np.einsum("...l,...lvk->...lvk", f * scale, carry.c)
    c = c + np.einsum("...l,...lv,...lk->...lvk", i, v, k)
    n = (f * scale)[..., None] * carry.n + i[..., None] * k
    weight = np.maximum(np.abs(np.sum(n * q, axis=-1)), 1)
    y = o * (np.einsum("...lvk,...lk->...lv", c, q) / weight[..., None]).reshape(o.shape)
    m = np.maximum(np.log(f) + carry.m, np.log(i))
    return type(carry)(m, c * np.exp(-m)[..., None, None], n * np.exp(-m)[..., None]), y


EQUATIONS = {
    equation.__name__: equation
    for equation in (
        gated_diagonal,
        min_gru,
        min_lstm,
        sru,
        sru_linear,
        qrnn,
        lru,
        rg_lru,
        mlstm,
    )
}
