"""The real-gated linear recurrent unit of Griffin."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from rnnjax.recurrences.diagonal import DIAGONAL, Coefficients
from rnnjax.recurrences.initializers import (
    DEFAULT_INITIALIZERS,
    Initializers,
    draw_input_weights,
    drawing_dtype,
)
from rnnjax.recurrences.linear import linear_step
from rnnjax.recurrences.products import product
from rnnjax.recurrences.protocol import Recurrence
from rnnjax.recurrences.sizes import input_shape

SHARPNESS = 8.0
"""The paper's c."""


class RGLRUParams(NamedTuple):
    """Gates are stacked on the last axis in the order (r, i): recurrence, input."""

    w_x: Array  # (I, H)  into the width of the state
    b_x: Array  # (H,)
    w_gates: Array  # (H, 2H)
    b_gates: Array  # (2H,)
    decay_logit: Array  # (H,)  Λ


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    slowest: float = 0.999,
    fastest: float = 0.9,
    dtype: DTypeLike = jnp.float32,
    initializers: Initializers = DEFAULT_INITIALIZERS,
) -> RGLRUParams:
    """Draw parameters; by default Glorot, zero bias and decays as in the paper.

    Args:
        key: A random key.
        input_size: I.
        hidden_size: H.
        slowest: The decays σ(Λ)^c of an open recurrence gate begin uniformly below this …
        fastest: … and above this; the paper's section 2.4. (The authors' code puts σ(Λ) itself
            there, uniformly on the ring.)
        dtype: Floating.
        initializers: What each block of weights is drawn from; there are no recurrent ones.

    Raises:
        ValueError: A size is not an integer or below one, or not 0 < fastest <= slowest < 1.
        TypeError: The dtype is not floating.
    """
    if not 0 < fastest <= slowest < 1:
        raise ValueError(
            f"fastest, slowest: got {fastest}, {slowest}, expected 0 < fastest <= slowest < 1"
        )
    key_x, key_gates, key_decay = jax.random.split(key, 3)
    w_x, b_x = draw_input_weights(key_x, 1, input_size, hidden_size, dtype, initializers)
    gates = draw_input_weights(key_gates, 2, hidden_size, hidden_size, dtype, initializers)
    drawn = drawing_dtype(dtype)
    power = jax.random.uniform(key_decay, b_x.shape, drawn, fastest, slowest)
    log_decay = jnp.log(power) / SHARPNESS
    decay_logit = log_decay - jnp.log(-jnp.expm1(log_decay))  # the inverse of σ
    return RGLRUParams(w_x, b_x, *gates, decay_logit.astype(dtype))


def sizes(params: RGLRUParams) -> dict[str, Any]:
    """I and H."""
    return {"input_size": params.w_x.shape[0], "hidden_size": params.b_x.shape[0]}


def initial_carry(params: RGLRUParams, batch_shape: tuple[int, ...]) -> Array:
    """h^<0> = 0, `(*B, H)`."""
    return jnp.zeros((*batch_shape, params.b_x.shape[0]), params.b_x.dtype)


def project(params: RGLRUParams, xs: Array) -> Coefficients:
    """`(..., I) -> (a, √(1 − a²) i u)`, `(..., H)` each."""
    u = product(xs, params.w_x) + params.b_x
    gates = jax.nn.sigmoid(product(u, params.w_gates) + params.b_gates)
    recurrence_gate, input_gate = jnp.split(gates, 2, axis=-1)
    log_decay = SHARPNESS * recurrence_gate * jax.nn.log_sigmoid(params.decay_logit)
    scale = _square_root(-jnp.expm1(2 * log_decay))
    return Coefficients(jnp.exp(log_decay), scale * input_gate * u)


def _square_root(x: Array) -> Array:
    """√x with a derivative of 0, not ∞, at 0: there a gate is shut for good, and ∞ · 0 is NaN."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def step(params: RGLRUParams, h: Array, z: Coefficients) -> tuple[Array, Array]:
    """One step of the RG-LRU; linear in the carry.

    u = x W_x + b_x
    r = σ(u W_r + b_r),  i = σ(u W_i + b_i)
    a = σ(Λ)^(c r),  c = 8
    h' = a h + √(1 − a²) i u,  y = h'

    Shapes: h, h', y and both parts of z `(..., H)`. The carry is `h`.

    The paper's unit begins at u; its block has a linear layer and a short convolution before it,
    of which the linear layer is here, to get from I to H. The gates' matrices are full, as in the
    paper's equations; the authors' code has block-diagonal ones. The code also puts 1 for √(1 − a²)
    at the first step of a sequence and bounds the derivative of the root; here the paper's
    equation holds at every step, with its own derivative. a is computed in log space.

    References:
        De et al. (2024), "Griffin", arXiv:2402.19427, section 2.4, equations 1–4, and appendix A.
    """
    return linear_step(DIAGONAL, params, h, z)


rg_lru = Recurrence(
    name="rg_lru",
    summary="the RG-LRU of Griffin, De et al. (2024); linear in the carry",
    init=init,
    initial_carry=initial_carry,
    project=project,
    step=step,
    input_shape=input_shape,
    sizes=sizes,
    linear=DIAGONAL,
)
