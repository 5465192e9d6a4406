"""The course's first, simplified GRU: one update gate."""

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


class MinimalGRUParams(NamedTuple):
    """Gates are stacked on the last axis in the order (u, c): update, candidate."""

    w_x: Array  # (I, 2H)
    w_h: Array  # (H, 2H)
    b: Array  # (2H,)


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    initializers: Initializers = DEFAULT_INITIALIZERS,
) -> MinimalGRUParams:
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
    w_x, w_h, b = draw_weights(key, 2, input_size, hidden_size, dtype, initializers)
    return MinimalGRUParams(w_x, w_h, b)


def project(params: MinimalGRUParams, xs: Array) -> Array:
    """`(..., I) -> (..., 2H)`. All that does not depend on the carry."""
    return product(xs, params.w_x) + params.b


def mix(params: MinimalGRUParams, c: Array) -> Array:
    """`(..., H) -> (..., 2H)`. The only use of the recurrent weights."""
    return product(c, params.w_h)


def gate(z: Array, m: Array, c: Array) -> tuple[Array, Array]:
    """`(..., 2H), (..., 2H), (..., H) -> (c', y)`. Elementwise."""
    update, candidate = jnp.split(z + m, 2, axis=-1)
    update = jax.nn.sigmoid(update)
    c = update * jnp.tanh(candidate) + (1 - update) * c
    return c, c


def step(params: MinimalGRUParams, c: Array, z: Array) -> tuple[Array, Array]:
    """One step of the simplified GRU.

    Γu = σ(W_u [c, x] + b_u),  c̃ = tanh(W_c [c, x] + b_c),  c' = Γu c̃ + (1 − Γu) c,  y = c'

    Shapes: c, c' and y `(..., H)`, z `(..., 2H)`. The carry is `c`.

    References:
        The course's "GRU (simplified)"; Cho et al. (2014), arXiv:1406.1078, section 2.3, without
        the reset gate. Γu multiplies the candidate here; in Cho's paper it multiplies the state.
    """
    return gate(z, mix(params, c), c)


minimal_gru = Recurrence(
    name="minimal_gru",
    summary="the course's simplified GRU: an update gate and no reset gate",
    init=init,
    initial_carry=zero_state,
    project=project,
    step=step,
    input_shape=input_shape,
    mix=mix,
    gate=gate,
    sizes=drawn_sizes,
)
