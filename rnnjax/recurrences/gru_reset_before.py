"""The gated recurrent unit as first published: reset before the matrix product."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from rnnjax.recurrences.initializers import (
    DEFAULT_INITIALIZERS,
    Initializers,
    draw_weights,
)
from rnnjax.recurrences.products import product
from rnnjax.recurrences.protocol import Recurrence
from rnnjax.recurrences.sizes import drawn_sizes, input_shape, zero_state


class GRUResetBeforeParams(NamedTuple):
    """Gates are stacked on the last axis in the order (r, z, n)."""

    w_x: Array  # (I, 3H)
    w_h: Array  # (H, 3H)
    b: Array  # (3H,)


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    initializers: Initializers = DEFAULT_INITIALIZERS,
) -> GRUResetBeforeParams:
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
    w_x, w_h, b = draw_weights(key, 3, input_size, hidden_size, dtype, initializers)
    return GRUResetBeforeParams(w_x, w_h, b)


def project(params: GRUResetBeforeParams, xs: Array) -> Array:
    """`(..., I) -> (..., 3H)`. All that does not depend on the carry."""
    return product(xs, params.w_x) + params.b


def step(params: GRUResetBeforeParams, h: Array, z: Array) -> tuple[Array, Array]:
    """One step of the GRU, reset before the matrix product.

    r = σ(x W_xr + b_r + h W_hr)
    z = σ(x W_xz + b_z + h W_hz)
    n = tanh(x W_xn + b_n + (r h) W_hn)
    h' = (1 − z) n + z h,  y = h'

    Shapes: h, h' and y `(..., H)`, z `(..., 3H)`. The carry is `h`. The second product needs the
    first one's gate, so there is no `mix`.

    References:
        Cho et al. (2014), arXiv:1406.1078, equations 5–8; the course's full GRU, whose Γr is r and
        whose Γu is 1 − z; Keras `GRU(reset_after=False)`, ONNX `linear_before_reset=0`.
    """
    size = h.shape[-1]
    z_gates, z_new = jnp.split(z, [2 * size], axis=-1)
    w_gates, w_new = jnp.split(params.w_h, [2 * size], axis=-1)
    reset, update = jnp.split(jax.nn.sigmoid(z_gates + product(h, w_gates)), 2, axis=-1)
    new = jnp.tanh(z_new + product(reset * h, w_new))
    h = (1 - update) * new + update * h
    return h, h


gru_reset_before = Recurrence(
    name="gru_reset_before",
    summary="Cho et al. (2014) as published, reset before the matrix product; the course's GRU",
    init=init,
    initial_carry=zero_state,
    project=project,
    step=step,
    input_shape=input_shape,
    sizes=drawn_sizes,
)
