"""The independently recurrent neural network."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from rnnjax.recurrences.initializers import (
    DEFAULT_INITIALIZERS,
    Initializers,
    draw_input_weights,
    drawing_dtype,
)
from rnnjax.recurrences.products import product
from rnnjax.recurrences.protocol import Recurrence
from rnnjax.recurrences.sizes import drawn_sizes, input_shape, zero_state


class IndRNNParams(NamedTuple):
    """Each unit has one recurrent weight, to itself."""

    w_x: Array  # (I, H)
    w_h: Array  # (H,)  the paper's u
    b: Array  # (H,)


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    smallest_recurrent: float = 0.0,
    largest_recurrent: float = 1.0,
    dtype: DTypeLike = jnp.float32,
    initializers: Initializers = DEFAULT_INITIALIZERS,
) -> IndRNNParams:
    """Draw parameters; by default Glorot and zero bias, and recurrent weights uniform in [0, 1].

    Args:
        key: A random key.
        input_size: I.
        hidden_size: H.
        smallest_recurrent: The recurrent weights begin uniformly above this …
        largest_recurrent: … and below this. The paper bounds |u| by γ^(1/T), with 2 as its γ, so
            that a gradient over T steps grows γ-fold at most; 1 is its limit for long sequences. A
            layer that is to remember to the end begins with both bounds near 1. Nothing here holds
            the weights within the bounds while they are trained.
        dtype: Floating.
        initializers: What the weights are drawn from; there is no recurrent matrix.

    Raises:
        ValueError: A size is not an integer or below one, or not smallest <= largest.
        TypeError: The dtype is not floating.
    """
    if not smallest_recurrent <= largest_recurrent:
        raise ValueError(
            f"smallest_recurrent, largest_recurrent: got {smallest_recurrent}, "
            f"{largest_recurrent}, expected smallest_recurrent <= largest_recurrent"
        )
    key_x, key_h = jax.random.split(key)
    w_x, b = draw_input_weights(key_x, 1, input_size, hidden_size, dtype, initializers)
    drawn = drawing_dtype(dtype)
    w_h = jax.random.uniform(key_h, b.shape, drawn, smallest_recurrent, largest_recurrent)
    return IndRNNParams(w_x, w_h.astype(dtype), b)


def project(params: IndRNNParams, xs: Array) -> Array:
    """`(..., I) -> (..., H)`. All that does not depend on the carry."""
    return product(xs, params.w_x) + params.b


def mix(params: IndRNNParams, h: Array) -> Array:
    """`(..., H) -> (..., H)`. The only use of the recurrent weights."""
    return params.w_h * h


def gate(z: Array, m: Array, h: Array) -> tuple[Array, Array]:
    """`(..., H), (..., H), (..., H) -> (h', y)`. Elementwise."""
    del h  # nothing of the state stays but through the weights
    h = jax.nn.relu(z + m)
    return h, h


def step(params: IndRNNParams, h: Array, z: Array) -> tuple[Array, Array]:
    """One step of the IndRNN; not linear in the carry, for its relu.

    h' = relu(x W_x + u h + b),  y = h'

    Shapes: h, h', y, u and z `(..., H)`. The carry is `h`. The product u h is elementwise: units of
    a layer see each other only through the next layer.

    References:
        Li, Li, Cook, Zhu and Gao (2018), arXiv:1803.04831, section 3, with relu as its σ.
    """
    return gate(z, mix(params, h), h)


indrnn = Recurrence(
    name="indrnn",
    summary="relu with one recurrent weight a unit, Li et al. (2018); not linear in the carry",
    init=init,
    initial_carry=zero_state,
    project=project,
    step=step,
    input_shape=input_shape,
    mix=mix,
    gate=gate,
    sizes=drawn_sizes,
)
