"""Long short-term memory with a recurrent projection."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from rnnjax.recurrences.initializers import (
    DEFAULT_INITIALIZERS,
    Initializers,
    add_forget_bias,
    check_sizes,
    draw_input_weights,
    per_gate,
)
from rnnjax.recurrences.products import product
from rnnjax.recurrences.protocol import Recurrence
from rnnjax.recurrences.sizes import input_shape


class LSTMProjectedParams(NamedTuple):
    """Gates are stacked on the last axis in the order (i, f, g, o), as in `torch.nn.LSTM`."""

    w_x: Array  # (I, 4H)
    w_h: Array  # (P, 4H)
    w_projection: Array  # (H, P)
    b: Array  # (4H,)  the sum of PyTorch's two biases


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    projection_size: int | None = None,
    forget_bias: float = 1.0,
    dtype: DTypeLike = jnp.float32,
    initializers: Initializers = DEFAULT_INITIALIZERS,
) -> LSTMProjectedParams:
    """Draw parameters, gate by gate; by default Glorot, orthogonal and zero bias.

    Args:
        key: A random key.
        input_size: I.
        hidden_size: H, of the cell.
        projection_size: P, of the state that recurs and is the output; None is H // 2, or 1.
        forget_bias: Added to the forget gate's bias at the start.
        dtype: Floating.
        initializers: What each block is drawn from; the projection is drawn as input weights are.

    Raises:
        ValueError: A size is not an integer or below one.
        TypeError: The dtype is not floating.
    """
    key_x, key_h, key_projection = jax.random.split(key, 3)
    w_x, b = draw_input_weights(key_x, 4, input_size, hidden_size, dtype, initializers)
    hidden_size = b.shape[0] // 4
    if projection_size is None:
        projection_size = max(1, hidden_size // 2)
    (projection_size,) = check_sizes(dtype, projection_size=projection_size)
    shape = (hidden_size, projection_size)
    return LSTMProjectedParams(
        w_x,
        per_gate(initializers.recurrent, key_h, 4, shape[::-1], dtype),
        per_gate(initializers.input, key_projection, 1, shape, dtype),
        add_forget_bias(b, forget_bias),
    )


def sizes(params: LSTMProjectedParams) -> dict[str, int]:
    """I, H and P."""
    hidden_size, projection_size = params.w_projection.shape
    return {
        "input_size": params.w_x.shape[0],
        "hidden_size": hidden_size,
        "projection_size": projection_size,
    }


def initial_carry(params: LSTMProjectedParams, batch_shape: tuple[int, ...]) -> tuple[Array, Array]:
    """(h^<0>, c^<0>) = 0, `(*B, P)` and `(*B, H)`."""
    hidden_size, projection_size = params.w_projection.shape
    h = jnp.zeros((*batch_shape, projection_size), params.b.dtype)
    return h, jnp.zeros((*batch_shape, hidden_size), params.b.dtype)


def project(params: LSTMProjectedParams, xs: Array) -> Array:
    """`(..., I) -> (..., 4H)`. All that does not depend on the carry."""
    return product(xs, params.w_x) + params.b


def step(
    params: LSTMProjectedParams, carry: tuple[Array, Array], z: Array
) -> tuple[tuple[Array, Array], Array]:
    """One step of the LSTM with a recurrent projection; not linear in the carry.

    i, f, o = σ(x W_x + h W_h + b),  g = tanh(x W_x + h W_h + b)
    c' = f c + i g
    h' = (o tanh(c')) W_r,  y = h'

    Shapes: h and y `(..., P)`, c `(..., H)`, z `(..., 4H)`; W_r, the projection, `(H, P)`. The
    carry is `(h, c)`. There is a product on either side of the gates, so there is no `mix`.

    References:
        Sak, Senior and Beaufays (2014), arXiv:1402.1128, the LSTMP of section 2, whose r is h and
        whose m is o tanh(c'), without its peepholes and its second, non-recurrent projection:
        `torch.nn.LSTM(proj_size=P)`.
    """
    h, c = carry
    sums = z + product(h, params.w_h)
    input_, forget, candidate, output = jnp.split(sums, 4, axis=-1)
    c = jax.nn.sigmoid(forget) * c + jax.nn.sigmoid(input_) * jnp.tanh(candidate)
    h = product(jax.nn.sigmoid(output) * jnp.tanh(c), params.w_projection)
    return (h, c), h


lstm_projected = Recurrence(
    name="lstm_projected",
    summary="LSTM with a recurrent projection, Sak et al. (2014), as in PyTorch; "
    "not linear in the carry",
    init=init,
    initial_carry=initial_carry,
    project=project,
    step=step,
    input_shape=input_shape,
    sizes=sizes,
)
