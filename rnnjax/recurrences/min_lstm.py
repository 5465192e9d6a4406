"""An LSTM whose gates see the input alone and sum to one: minLSTM."""

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


class MinLSTMParams(NamedTuple):
    """Stacked on the last axis in the order (f, i, h): forget, input, candidate."""

    w_x: Array  # (I, 3H)
    b: Array  # (3H,)


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    initializers: Initializers = DEFAULT_INITIALIZERS,
) -> MinLSTMParams:
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
    return MinLSTMParams(*draw_input_weights(key, 3, input_size, hidden_size, dtype, initializers))


def sizes(params: MinLSTMParams) -> dict[str, Any]:
    """I and H."""
    return {"input_size": params.w_x.shape[0], "hidden_size": params.b.shape[0] // 3}


def initial_carry(params: MinLSTMParams, batch_shape: tuple[int, ...]) -> Array:
    """h^<0> = 0, `(*B, H)`."""
    return jnp.zeros((*batch_shape, params.b.shape[0] // 3), params.b.dtype)


def project(params: MinLSTMParams, xs: Array) -> Coefficients:
    """`(..., I) -> (f', i' h̃)`, `(..., H)` each."""
    forget, input_, candidate = jnp.split(product(xs, params.w_x) + params.b, 3, axis=-1)
    # f / (f + i) = σ(log f − log i): right also where both gates are closed and f + i is 0.
    balance = jax.nn.log_sigmoid(forget) - jax.nn.log_sigmoid(input_)
    return Coefficients(jax.nn.sigmoid(balance), jax.nn.sigmoid(-balance) * candidate)


def step(params: MinLSTMParams, h: Array, z: Coefficients) -> tuple[Array, Array]:
    """One step of the minLSTM; linear in the carry.

    f = σ(x W_f + b_f),  i = σ(x W_i + b_i),  h̃ = x W_h + b_h
    f' = f / (f + i),  i' = i / (f + i)
    h' = f' h + i' h̃,  y = h'

    Shapes: h, h', y and both parts of z `(..., H)`. The carry is `h`.

    This is the paper's first form, in which h̃ may have any sign; its form in log space has another
    h̃ (see `min_gru`). The gates' quotient is taken in log space, as there.

    References:
        Feng et al. (2024), "Were RNNs All We Needed?", arXiv:2410.01201, section 3.2.
    """
    return linear_step(DIAGONAL, params, h, z)


min_lstm = Recurrence(
    name="min_lstm",
    summary="minLSTM of Feng et al. (2024), normalised gates of the input; linear in the carry",
    init=init,
    initial_carry=initial_carry,
    project=project,
    step=step,
    input_shape=input_shape,
    sizes=sizes,
    linear=DIAGONAL,
)
