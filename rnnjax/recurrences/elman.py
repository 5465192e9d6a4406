"""The Elman (simple, vanilla) recurrent network."""

from collections.abc import Callable
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


class ElmanParams(NamedTuple):
    """The course's W_ax, W_aa and b_a, transposed: rows are inputs."""

    w_x: Array  # (I, H)
    w_h: Array  # (H, H)
    b: Array  # (H,)


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    initializers: Initializers = DEFAULT_INITIALIZERS,
) -> ElmanParams:
    """Draw parameters; by default Glorot, orthogonal and zero bias.

    Args:
        key: A random key.
        input_size: I.
        hidden_size: H.
        dtype: Floating.
        initializers: What the weights are drawn from.

    Raises:
        ValueError: A size is not an integer or below one.
        TypeError: The dtype is not floating.
    """
    w_x, w_h, b = draw_weights(key, 1, input_size, hidden_size, dtype, initializers)
    return ElmanParams(w_x, w_h, b)


def project(params: ElmanParams, xs: Array) -> Array:
    """`(..., I) -> (..., H)`. All that does not depend on the carry."""
    return product(xs, params.w_x) + params.b


def mix(params: ElmanParams, h: Array) -> Array:
    """`(..., H) -> (..., H)`. The only use of the recurrent weights."""
    return product(h, params.w_h)


def with_activation(name: str, activation: Callable[[Array], Array]) -> Recurrence:
    """An Elman network of the given activation.

    h' = g(x W_x + b + h W_h),  y = h'

    Shapes: x `(..., I)`, h, h' and y `(..., H)`. The carry is `h`.

    Args:
        name: What to call it.
        activation: g, elementwise.

    References:
        Elman (1990), Finding structure in time, Cognitive Science 14(2).
    """

    def gate(z: Array, m: Array, h: Array) -> tuple[Array, Array]:
        del h  # an Elman network keeps nothing of its state but through the weights
        h = activation(z + m)
        return h, h

    def step(params: ElmanParams, h: Array, z: Array) -> tuple[Array, Array]:
        return gate(z, mix(params, h), h)

    return Recurrence(
        name=name,
        summary=f"Elman (1990), {getattr(activation, '__name__', name)} of input and state",
        init=init,
        initial_carry=zero_state,
        project=project,
        step=step,
        input_shape=input_shape,
        mix=mix,
        gate=gate,
        sizes=drawn_sizes,
    )


elman = with_activation("elman", jnp.tanh)
elman_relu = with_activation("elman_relu", jax.nn.relu)
