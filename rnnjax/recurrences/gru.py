"""The gated recurrent unit with the reset applied after the matrix product."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from rnnjax.recurrences.initializers import (
    DEFAULT_INITIALIZERS,
    Initializers,
    draw_weights,
    per_gate,
)
from rnnjax.recurrences.products import product
from rnnjax.recurrences.protocol import Recurrence
from rnnjax.recurrences.sizes import drawn_sizes, input_shape, zero_state


class GRUParams(NamedTuple):
    """Gates are stacked on the last axis in the order (r, z, n), as in `torch.nn.GRU` and cuDNN."""

    w_x: Array  # (I, 3H)
    w_h: Array  # (H, 3H)
    b_x: Array  # (3H,)
    b_h: Array  # (3H,)  b_h[2H:] sits inside the reset gate, so it is not redundant


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    initializers: Initializers = DEFAULT_INITIALIZERS,
) -> GRUParams:
    """Draw parameters, gate by gate; by default Glorot, orthogonal and zero bias.

    Args:
        key: A random key.
        input_size: I.
        hidden_size: H.
        dtype: Floating.
        initializers: What each gate's block is drawn from.

    Raises:
        ValueError: A size is not an integer or below one.
        TypeError: The dtype is not floating.
    """
    key, key_b = jax.random.split(key)
    w_x, w_h, b_x = draw_weights(key, 3, input_size, hidden_size, dtype, initializers)
    b_h = per_gate(initializers.bias, key_b, 3, (hidden_size,), dtype)
    return GRUParams(w_x, w_h, b_x, b_h)


def project(params: GRUParams, xs: Array) -> Array:
    """`(..., I) -> (..., 3H)`. All that does not depend on the carry."""
    return product(xs, params.w_x) + params.b_x


def mix(params: GRUParams, h: Array) -> Array:
    """`(..., H) -> (..., 3H)`. The only use of the recurrent weights."""
    return product(h, params.w_h) + params.b_h


def gate(z: Array, m: Array, h: Array) -> tuple[Array, Array]:
    """`(..., 3H), (..., 3H), (..., H) -> (h', y)`. Elementwise."""
    z_reset, z_update, z_new = jnp.split(z, 3, axis=-1)
    m_reset, m_update, m_new = jnp.split(m, 3, axis=-1)
    reset = jax.nn.sigmoid(z_reset + m_reset)
    update = jax.nn.sigmoid(z_update + m_update)
    new = jnp.tanh(z_new + reset * m_new)
    h = (1 - update) * new + update * h
    return h, h


def step(params: GRUParams, h: Array, z: Array) -> tuple[Array, Array]:
    """One step of the GRU, reset after the matrix product.

    r = σ(x W_xr + b_xr + h W_hr + b_hr)
    z = σ(x W_xz + b_xz + h W_hz + b_hz)
    n = tanh(x W_xn + b_xn + r (h W_hn + b_hn))
    h' = (1 − z) n + z h,  y = h'

    Shapes: h, h' and y `(..., H)`, z `(..., 3H)`. The carry is `h`.

    References:
        `torch.nn.GRU` and cuDNN's `CUDNN_GRU`; Cho et al. (2014), arXiv:1406.1078, equations 5–8,
        with the reset moved behind the product. The course's Γr is r, its Γu is 1 − z.
    """
    return gate(z, mix(params, h), h)


gru = Recurrence(
    name="gru",
    summary="Cho et al. (2014), reset after the matrix product, as in PyTorch and cuDNN",
    init=init,
    initial_carry=zero_state,
    project=project,
    step=step,
    input_shape=input_shape,
    mix=mix,
    gate=gate,
    sizes=drawn_sizes,
)
