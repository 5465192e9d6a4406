"""The simple recurrent unit, as published."""

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
from rnnjax.recurrences.initializers import Initializers, drawing_dtype
from rnnjax.recurrences.protocol import Recurrence
from rnnjax.recurrences.sizes import input_shape

HIGHWAY_SCALE = 3**0.5
"""The paper's α for gates that begin with zero bias: outputs then begin as wide as inputs."""

SRU_INITIALIZERS = Initializers(
    input=jax.nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
)
"""Uniform of variance 1/I, the paper's section 3.2, and zero bias."""


class SRUParams(NamedTuple):
    """Stacked on the last axis in the order (candidate, f, r) and, where I ≠ H, the highway."""

    w_x: Array  # (I, 3H) where I = H, else (I, 4H)
    v: Array  # (2H,)  of f and r, times the state
    b: Array  # (2H,)  of f and r


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    initializers: Initializers = SRU_INITIALIZERS,
) -> SRUParams:
    """Draw parameters; by default as in the paper, and v uniform of variance ½ as in its code.

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
    key, key_v = jax.random.split(key)
    w_x, b = draw_highway_weights(key, input_size, hidden_size, dtype, initializers)
    drawn = drawing_dtype(dtype)
    bound = 1.5**0.5
    v = jax.random.uniform(key_v, b.shape, drawn, -bound, bound).astype(dtype)
    return SRUParams(w_x, v, b)


def project(params: SRUParams, xs: Array) -> Array:
    """`(..., I) -> (..., 4H)`: candidate, f and r before the state is added, scaled highway."""
    candidate, gates, highway = project_with_highway(params.w_x, params.b, xs)
    return jnp.concatenate([candidate, gates, HIGHWAY_SCALE * highway], axis=-1)


def step(params: SRUParams, c: Array, z: Array) -> tuple[Array, Array]:
    """One step of the SRU; not linear in the carry, whose old value is in the gates.

    f = σ(x W_f + v_f c + b_f),  r = σ(x W_r + v_r c + b_r)
    c' = f c + (1 − f) (x W)
    y = r c' + (1 − r) α x,  with x W_y for x where I ≠ H

    Shapes: c, c' and y `(..., H)`, z `(..., 4H)`. The carry is `c`. v is elementwise, so there is
    no product worth setting apart as `mix`. α = √3.

    The authors' code has α within W_y, where it is here beside it.

    References:
        Lei et al. (2018), "Simple Recurrent Units for Highly Parallelizable Recurrence", EMNLP,
        arXiv:1709.02755v5, section 3, equations 1–4, and section 3.2 for α.
    """
    candidate, gates, highway = jnp.split(z, [c.shape[-1], 3 * c.shape[-1]], axis=-1)
    gates = jax.nn.sigmoid(gates + params.v * jnp.concatenate([c, c], axis=-1))
    forget, reset = jnp.split(gates, 2, axis=-1)
    c = forget * c + (1 - forget) * candidate
    return c, reset * c + (1 - reset) * highway


sru = Recurrence(
    name="sru",
    summary="Lei et al. (2018) as published: gates see the state elementwise, highway to the input",
    init=init,
    initial_carry=zero_cell,
    project=project,
    step=step,
    input_shape=input_shape,
    sizes=highway_sizes,
)
