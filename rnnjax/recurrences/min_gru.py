"""A GRU whose gate and candidate see the input alone: minGRU."""

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


class MinGRUParams(NamedTuple):
    """Stacked on the last axis in the order (z, h): update, candidate."""

    w_x: Array  # (I, 2H)
    b: Array  # (2H,)


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    initializers: Initializers = DEFAULT_INITIALIZERS,
) -> MinGRUParams:
    """Draw parameters, gate by gate; by default Glorot and zero bias.

    Args:
        key: A random key.
        input_size: I.
        hidden_size: H.
        dtype: Floating.
        initializers: What each gate's block is drawn from; there are no recurrent ones.

    Raises:
        ValueError: A size is not an integer or below one.
        TypeError: The dtype is not floating.
    """
    return MinGRUParams(*draw_input_weights(key, 2, input_size, hidden_size, dtype, initializers))


def sizes(params: MinGRUParams) -> dict[str, Any]:
    """I and H."""
    return {"input_size": params.w_x.shape[0], "hidden_size": params.b.shape[0] // 2}


def initial_carry(params: MinGRUParams, batch_shape: tuple[int, ...]) -> Array:
    """h^<0> = 0, `(*B, H)`."""
    return jnp.zeros((*batch_shape, params.b.shape[0] // 2), params.b.dtype)


def project(params: MinGRUParams, xs: Array) -> Coefficients:
    """`(..., I) -> (1 − z, z h̃)`, `(..., H)` each."""
    update, candidate = jnp.split(product(xs, params.w_x) + params.b, 2, axis=-1)
    return Coefficients(jax.nn.sigmoid(-update), jax.nn.sigmoid(update) * candidate)


def step(params: MinGRUParams, h: Array, z: Coefficients) -> tuple[Array, Array]:
    """One step of the minGRU; linear in the carry.

    z = σ(x W_z + b_z),  h̃ = x W_h + b_h
    h' = (1 − z) h + z h̃,  y = h'

    Shapes: h, h', y and both parts of z `(..., H)`. The carry is `h`.

    This is the paper's first form, in which h̃ may have any sign. The form that the paper computes
    in log space needs h̃ > 0 and therefore has g(x W_h + b_h) for it, with g(x) = x + ½ for x ≥ 0
    and σ(x) below; as a recurrence it is another. To work in log space gains nothing here: no
    plan forms a quotient of products of decays.

    `minimal_gru` is another simplified GRU, whose gate sees the state.

    References:
        Feng et al. (2024), "Were RNNs All We Needed?", arXiv:2410.01201, section 3.1.
    """
    return linear_step(DIAGONAL, params, h, z)


min_gru = Recurrence(
    name="min_gru",
    summary="minGRU of Feng et al. (2024), a gate of the input alone; linear in the carry",
    init=init,
    initial_carry=initial_carry,
    project=project,
    step=step,
    input_shape=input_shape,
    sizes=sizes,
    linear=DIAGONAL,
)
