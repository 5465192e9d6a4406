"""Long short-term memory whose gates see the cell."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from rnnjax.recurrences import lstm
from rnnjax.recurrences.initializers import DEFAULT_INITIALIZERS, Initializers
from rnnjax.recurrences.products import product
from rnnjax.recurrences.protocol import Recurrence
from rnnjax.recurrences.sizes import drawn_sizes, input_shape, zero_state


class LSTMPeepholeParams(NamedTuple):
    """Gates are stacked on the last axis in the order (i, f, g, o), peepholes as (i, f, o)."""

    w_x: Array  # (I, 4H)
    w_h: Array  # (H, 4H)
    b: Array  # (4H,)
    peepholes: Array  # (3H,)


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    forget_bias: float = 1.0,
    dtype: DTypeLike = jnp.float32,
    initializers: Initializers = DEFAULT_INITIALIZERS,
) -> LSTMPeepholeParams:
    """Draw the parameters of an LSTM; the peepholes begin at zero.

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
    of_lstm = lstm.init(
        key,
        input_size,
        hidden_size,
        forget_bias=forget_bias,
        dtype=dtype,
        initializers=initializers,
    )
    return LSTMPeepholeParams(*of_lstm, jnp.zeros(3 * of_lstm.w_h.shape[0], dtype))


def initial_carry(params: LSTMPeepholeParams, batch_shape: tuple[int, ...]) -> tuple[Array, Array]:
    """(h^<0>, c^<0>) = 0, `(*B, H)` each."""
    return zero_state(params, batch_shape), zero_state(params, batch_shape)


def project(params: LSTMPeepholeParams, xs: Array) -> Array:
    """`(..., I) -> (..., 4H)`. All that does not depend on the carry."""
    return product(xs, params.w_x) + params.b


def gates_with_peepholes(
    sums: Array, cell: Array, peepholes: Array
) -> tuple[tuple[Array, Array], Array]:
    """The gates of a peephole LSTM, from their sums without peepholes.

    Args:
        sums: `(..., 4H)` in the order (i, f, g, o).
        cell: c, `(..., H)`.
        peepholes: `(..., 3H)` in the order (i, f, o).

    Returns:
        (h', c') and y, all `(..., H)`.
    """
    input_, forget, candidate, output = jnp.split(sums, 4, axis=-1)
    to_input, to_forget, to_output = jnp.split(peepholes, 3, axis=-1)
    kept = jax.nn.sigmoid(forget + to_forget * cell) * cell
    cell = kept + jax.nn.sigmoid(input_ + to_input * cell) * jnp.tanh(candidate)
    h = jax.nn.sigmoid(output + to_output * cell) * jnp.tanh(cell)
    return (h, cell), h


def step(
    params: LSTMPeepholeParams, carry: tuple[Array, Array], z: Array
) -> tuple[tuple[Array, Array], Array]:
    """One step of the LSTM with peepholes; not linear in the carry.

    i = σ(x W_xi + h W_hi + p_i c + b_i)
    f = σ(x W_xf + h W_hf + p_f c + b_f)
    g = tanh(x W_xg + h W_hg + b_g)
    c' = f c + i g
    o = σ(x W_xo + h W_ho + p_o c' + b_o)
    h' = o tanh(c'),  y = h'

    Shapes: h, c, y and each p `(..., H)`, z `(..., 4H)`. The carry is `(h, c)`. The products with p
    are elementwise. The gates need parameters, so there is no `mix`.

    References:
        Gers, Schraudolph and Schmidhuber (2002), Learning precise timing with LSTM recurrent
        networks, JMLR 3, 115–143; with both squashing functions tanh, as in Graves (2013),
        arXiv:1308.0850, equations 7–11, whose W_ci, W_cf and W_co are diagonal too.
    """
    h, c = carry
    return gates_with_peepholes(z + product(h, params.w_h), c, params.peepholes)


lstm_peephole = Recurrence(
    name="lstm_peephole",
    summary="LSTM with peepholes, Gers et al. (2002), as in Graves (2013); not linear in the carry",
    init=init,
    initial_carry=initial_carry,
    project=project,
    step=step,
    input_shape=input_shape,
    sizes=drawn_sizes,
)
