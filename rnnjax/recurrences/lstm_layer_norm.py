"""Long short-term memory with layer normalisation."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from rnnjax.recurrences import lstm
from rnnjax.recurrences.initializers import DEFAULT_INITIALIZERS, Initializers, per_gate
from rnnjax.recurrences.normalisation import layer_norm
from rnnjax.recurrences.products import product
from rnnjax.recurrences.protocol import Recurrence
from rnnjax.recurrences.sizes import drawn_sizes, input_shape, zero_state


class LSTMLayerNormParams(NamedTuple):
    """Gates are stacked on the last axis in the order (i, f, g, o)."""

    w_x: Array  # (I, 4H)
    w_h: Array  # (H, 4H)
    b: Array  # (4H,)  the sum of the paper's β_1, β_2 and b
    gain_x: Array  # (4H,)
    gain_h: Array  # (4H,)
    gain_c: Array  # (H,)
    b_c: Array  # (H,)


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    forget_bias: float = 1.0,
    dtype: DTypeLike = jnp.float32,
    initializers: Initializers = DEFAULT_INITIALIZERS,
) -> LSTMLayerNormParams:
    """Draw the parameters of an LSTM; gains begin at one.

    Args:
        key: A random key.
        input_size: I.
        hidden_size: H.
        forget_bias: Added to the forget gate's bias at the start.
        dtype: Floating.
        initializers: What each gate's block is drawn from.

    Raises:
        ValueError: A size is not an integer or below one.
        TypeError: The dtype is not floating.
    """
    key, key_c = jax.random.split(key)
    w_x, w_h, b = lstm.init(
        key,
        input_size,
        hidden_size,
        forget_bias=forget_bias,
        dtype=dtype,
        initializers=initializers,
    )
    size = w_h.shape[0]
    return LSTMLayerNormParams(
        w_x,
        w_h,
        b,
        gain_x=jnp.ones(4 * size, dtype),
        gain_h=jnp.ones(4 * size, dtype),
        gain_c=jnp.ones(size, dtype),
        b_c=per_gate(initializers.bias, key_c, 1, (size,), dtype),
    )


def initial_carry(params: LSTMLayerNormParams, batch_shape: tuple[int, ...]) -> tuple[Array, Array]:
    """(h^<0>, c^<0>) = 0, `(*B, H)` each."""
    return zero_state(params, batch_shape), zero_state(params, batch_shape)


def project(params: LSTMLayerNormParams, xs: Array) -> Array:
    """`(..., I) -> (..., 4H)`. All that does not depend on the carry."""
    return layer_norm(product(xs, params.w_x), params.gain_x) + params.b


def step(
    params: LSTMLayerNormParams, carry: tuple[Array, Array], z: Array
) -> tuple[tuple[Array, Array], Array]:
    """One step of the LSTM with layer normalisation; not linear in the carry.

    (i, f, g, o) = LN(x W_x; α_x) + LN(h W_h; α_h) + b
    c' = σ(f) c + σ(i) tanh(g)
    h' = σ(o) tanh(LN(c'; α_c) + b_c),  y = h'

    LN is `normalisation.layer_norm`, over all four gates together. Shapes: h, c and y `(..., H)`,
    z `(..., 4H)`. The carry is `(h, c)`. What is kept of c is not normalised. The gates need
    parameters, so there is no `mix`.

    References:
        Ba, Kiros and Hinton (2016), arXiv:1607.06450, supplementary material, equations 20–22. Both
        normalised sums have a bias there, and a third is added; here these are one.
    """
    h, c = carry
    sums = z + layer_norm(product(h, params.w_h), params.gain_h)
    input_, forget, candidate, output = jnp.split(sums, 4, axis=-1)
    c = jax.nn.sigmoid(forget) * c + jax.nn.sigmoid(input_) * jnp.tanh(candidate)
    h = jax.nn.sigmoid(output) * jnp.tanh(layer_norm(c, params.gain_c) + params.b_c)
    return (h, c), h


lstm_layer_norm = Recurrence(
    name="lstm_layer_norm",
    summary="LSTM with layer normalisation, Ba et al. (2016); not linear in the carry",
    init=init,
    initial_carry=initial_carry,
    project=project,
    step=step,
    input_shape=input_shape,
    sizes=drawn_sizes,
)
