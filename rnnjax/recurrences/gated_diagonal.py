"""An elementwise linear recurrence whose two coefficients are any function of the input."""

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
)
from rnnjax.recurrences.linear import linear_step
from rnnjax.recurrences.products import product
from rnnjax.recurrences.protocol import Recurrence
from rnnjax.recurrences.sizes import input_shape


class GatedDiagonalParams(NamedTuple):
    """Stacked on the last axis in the order (a, b): decay, drive."""

    w_x: Array  # (I, 2H)
    b: Array  # (2H,)


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    initializers: Initializers = DEFAULT_INITIALIZERS,
) -> GatedDiagonalParams:
    """Draw parameters, block by block; by default Glorot and zero bias.

    Args:
        key: A random key.
        input_size: I.
        hidden_size: H.
        dtype: Floating.
        initializers: What each block is drawn from; there are no recurrent ones.

    Raises:
        ValueError: A size is not an integer or below one.
        TypeError: The dtype is not floating.
    """
    return GatedDiagonalParams(
        *draw_input_weights(key, 2, input_size, hidden_size, dtype, initializers)
    )


def sizes(params: GatedDiagonalParams) -> dict[str, Any]:
    """I and H."""
    return {"input_size": params.w_x.shape[0], "hidden_size": params.b.shape[0] // 2}


def initial_carry(params: GatedDiagonalParams, batch_shape: tuple[int, ...]) -> Array:
    """h^<0> = 0, `(*B, H)`."""
    return jnp.zeros((*batch_shape, params.b.shape[0] // 2), params.b.dtype)


def project(params: GatedDiagonalParams, xs: Array) -> Coefficients:
    """`(..., I) -> (a, b)`, `(..., H)` each. All but the one product with the state."""
    decay, drive = jnp.split(product(xs, params.w_x) + params.b, 2, axis=-1)
    return Coefficients(jax.nn.sigmoid(decay), drive)


def step(params: GatedDiagonalParams, h: Array, z: Coefficients) -> tuple[Array, Array]:
    """One step; linear in the carry.

    a = σ(x W_a + b_a),  b = x W_b + b_b
    h' = a h + b,  y = h'

    Shapes: h, h', y and both parts of z `(..., H)`. The carry is `h`.

    References:
        Martin and Cundy (2018), arXiv:1709.04057, section 2: its λ_t is a, its x_t is b. `min_gru`,
        `min_lstm` and `rg_lru` are of this form too, and tie b to a.
    """
    return linear_step(DIAGONAL, params, h, z)


gated_diagonal = Recurrence(
    name="gated_diagonal",
    summary="a(x) h + b(x), elementwise, as in Martin and Cundy (2018); linear in the carry",
    init=init,
    initial_carry=initial_carry,
    project=project,
    step=step,
    input_shape=input_shape,
    sizes=sizes,
    linear=DIAGONAL,
)
