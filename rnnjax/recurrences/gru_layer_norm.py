"""The gated recurrent unit with layer normalisation."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from rnnjax.recurrences import gru
from rnnjax.recurrences.initializers import DEFAULT_INITIALIZERS, Initializers
from rnnjax.recurrences.normalisation import layer_norm
from rnnjax.recurrences.products import product
from rnnjax.recurrences.protocol import Recurrence
from rnnjax.recurrences.sizes import drawn_sizes, input_shape, zero_state


class GRULayerNormParams(NamedTuple):
    """Gates are stacked on the last axis in the order (r, z, n)."""

    w_x: Array  # (I, 3H)
    w_h: Array  # (H, 3H)
    b_x: Array  # (3H,)
    b_h: Array  # (3H,)  b_h[2H:] sits inside the reset gate, so it is not redundant
    gain_x: Array  # (3H,)
    gain_h: Array  # (3H,)


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    initializers: Initializers = DEFAULT_INITIALIZERS,
) -> GRULayerNormParams:
    """Draw the parameters of a GRU; gains begin at one.

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
    of_gru = gru.init(key, input_size, hidden_size, dtype=dtype, initializers=initializers)
    gain = jnp.ones_like(of_gru.b_x)
    return GRULayerNormParams(*of_gru, gain_x=gain, gain_h=gain)


def project(params: GRULayerNormParams, xs: Array) -> Array:
    """`(..., I) -> (..., 3H)`. All that does not depend on the carry."""
    return _normalised(product(xs, params.w_x), params.gain_x) + params.b_x


def _normalised(sums: Array, gain: Array) -> Array:
    """LN of both gates together and of the candidate by itself, `(..., 3H)`."""
    gates, new = jnp.split(sums, [2 * (sums.shape[-1] // 3)], axis=-1)
    gain_gates, gain_new = jnp.split(gain, [gates.shape[-1]])
    return jnp.concatenate([layer_norm(gates, gain_gates), layer_norm(new, gain_new)], axis=-1)


def step(params: GRULayerNormParams, h: Array, z: Array) -> tuple[Array, Array]:
    """One step of the GRU with layer normalisation; not linear in the carry.

    (r, z) = σ(LN(x W_x,rz; α_x,rz) + b_x,rz + LN(h W_h,rz; α_h,rz) + b_h,rz)
    n = tanh(LN(x W_xn; α_xn) + b_xn + r (LN(h W_hn; α_hn) + b_hn))
    h' = (1 − z) n + z h,  y = h'

    LN is `normalisation.layer_norm`: over both gates together, and over n by itself. Shapes: h, h'
    and y `(..., H)`, z `(..., 3H)`. The carry is `h`. The gates need parameters, so there is no
    `mix`.

    References:
        Ba, Kiros and Hinton (2016), arXiv:1607.06450, supplementary material, the GRU,
        with `gru`'s update gate: the paper's σ(z) is 1 − z here.
    """
    of_h = _normalised(product(h, params.w_h), params.gain_h) + params.b_h
    z_reset, z_update, z_new = jnp.split(z, 3, axis=-1)
    h_reset, h_update, h_new = jnp.split(of_h, 3, axis=-1)
    reset = jax.nn.sigmoid(z_reset + h_reset)
    update = jax.nn.sigmoid(z_update + h_update)
    new = jnp.tanh(z_new + reset * h_new)
    h = (1 - update) * new + update * h
    return h, h


gru_layer_norm = Recurrence(
    name="gru_layer_norm",
    summary="GRU with layer normalisation, Ba et al. (2016); not linear in the carry",
    init=init,
    initial_carry=zero_state,
    project=project,
    step=step,
    input_shape=input_shape,
    sizes=drawn_sizes,
)
