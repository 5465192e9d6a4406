"""The simple recurrent unit as first proposed, with gates of the input alone."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from rnnjax.recurrences.highway import (
    draw_highway_weights,
    highway_sizes,
    project_with_highway,
    zero_cell,
)
from rnnjax.recurrences.initializers import DEFAULT_INITIALIZERS, Initializers
from rnnjax.recurrences.linear import LinearForm, Stage, linear_step
from rnnjax.recurrences.protocol import Recurrence
from rnnjax.recurrences.sizes import input_shape


class SRULinearParams(NamedTuple):
    """Stacked on the last axis in the order (candidate, f, r) and, where I ≠ H, the highway."""

    w_x: Array  # (I, 3H) where I = H, else (I, 4H)
    b: Array  # (2H,)  of f and r


class Projected(NamedTuple):
    """What does not depend on the carry, `(..., H)` each."""

    forget: Array  # f
    drive: Array  # (1 − f) (x W)
    reset: Array  # r
    highway: Array  # (1 − r) x


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    initializers: Initializers = DEFAULT_INITIALIZERS,
) -> SRULinearParams:
    """Draw parameters; by default Glorot and zero bias.

    Args:
        key: A random key.
        input_size: I.
        hidden_size: H.
        dtype: Floating.
        initializers: What each block of weights is drawn from; there are no recurrent ones.

    Raises:
        ValueError: A size is not an integer or below one.
        TypeError: The dtype is not floating.
    """
    return SRULinearParams(*draw_highway_weights(key, input_size, hidden_size, dtype, initializers))


def project(params: SRULinearParams, xs: Array) -> Projected:
    """`(..., I) -> ` four times `(..., H)`. All that does not depend on the carry."""
    candidate, gates, highway = project_with_highway(params.w_x, params.b, xs)
    forget, reset = jnp.split(jax.nn.sigmoid(gates), 2, axis=-1)
    return Projected(forget, (1 - forget) * candidate, reset, (1 - reset) * highway)


def _cell(params: SRULinearParams, z: Projected, entered: tuple[Array, ...]) -> tuple[Array, Array]:
    del params, entered
    return z.forget, z.drive


def _read(params: SRULinearParams, z: Projected, entered: Array, c: Array) -> Array:
    del params, entered
    return z.reset * jnp.tanh(c) + z.highway


LINEAR = LinearForm((Stage(_cell),), _read)
"""c' = f c + drive, y = r tanh(c') + highway."""


def step(params: SRULinearParams, c: Array, z: Projected) -> tuple[Array, Array]:
    """One step of the first SRU; linear in the carry.

    f = σ(x W_f + b_f),  r = σ(x W_r + b_r)
    c' = f c + (1 − f) (x W)
    y = r tanh(c') + (1 − r) x,  with x W_y for x where I ≠ H

    Shapes: c, c', y and the parts of z `(..., H)`. The carry is `c`. The paper leaves the
    activation before the output open; it is tanh here.

    References:
        Lei and Zhang (2017), "Training RNNs as Fast as CNNs", arXiv:1709.02755v1 and v2, section 2.
        What was published later under the same number is `sru`.
    """
    return linear_step(LINEAR, params, c, z)


sru_linear = Recurrence(
    name="sru_linear",
    summary="the first SRU, Lei and Zhang (2017): gates of the input; linear in the carry",
    init=init,
    initial_carry=zero_cell,
    project=project,
    step=step,
    input_shape=input_shape,
    sizes=highway_sizes,
    linear=LINEAR,
)
