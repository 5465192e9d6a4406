"""Long short-term memory."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from rnnjax.recurrences.initializers import (
    DEFAULT_INITIALIZERS,
    Initializers,
    add_forget_bias,
    draw_weights,
)
from rnnjax.recurrences.products import product
from rnnjax.recurrences.protocol import Recurrence
from rnnjax.recurrences.sizes import drawn_sizes, input_shape, zero_state


class LSTMParams(NamedTuple):
    """Gates are stacked on the last axis in the order (i, f, g, o), as in `torch.nn.LSTM`."""

    w_x: Array  # (I, 4H)
    w_h: Array  # (H, 4H)
    b: Array  # (4H,)  the sum of PyTorch's two biases


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    forget_bias: float = 1.0,
    dtype: DTypeLike = jnp.float32,
    initializers: Initializers = DEFAULT_INITIALIZERS,
) -> LSTMParams:
    """Draw parameters, gate by gate; by default Glorot, orthogonal and zero bias.

    Args:
        key: A random key.
        input_size: I.
        hidden_size: H.
        forget_bias: Added to the forget gate's bias at the start, so that the cell remembers
            before it has learned to (Jozefowicz et al. 2015, section 2.2; PyTorch has 0).
        dtype: Floating.
        initializers: What each gate's block is drawn from.

    Raises:
        ValueError: A size is not an integer or below one.
        TypeError: The dtype is not floating.
    """
    w_x, w_h, b = draw_weights(key, 4, input_size, hidden_size, dtype, initializers)
    b = add_forget_bias(b, forget_bias)
    return LSTMParams(w_x, w_h, b)


def initial_carry(params: LSTMParams, batch_shape: tuple[int, ...]) -> tuple[Array, Array]:
    """(h^<0>, c^<0>) = 0, `(*B, H)` each."""
    return zero_state(params, batch_shape), zero_state(params, batch_shape)


def project(params: LSTMParams, xs: Array) -> Array:
    """`(..., I) -> (..., 4H)`. All that does not depend on the carry."""
    return product(xs, params.w_x) + params.b


def mix(params: LSTMParams, carry: tuple[Array, Array]) -> Array:
    """`(..., H) -> (..., 4H)`. The only use of the recurrent weights."""
    h, _ = carry
    return product(h, params.w_h)


def gate(z: Array, m: Array, carry: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
    """`(..., 4H), (..., 4H), ((..., H), (..., H)) -> ((h', c'), y)`. Elementwise."""
    _, c = carry
    input_, forget, candidate, output = jnp.split(z + m, 4, axis=-1)
    c = jax.nn.sigmoid(forget) * c + jax.nn.sigmoid(input_) * jnp.tanh(candidate)
    h = jax.nn.sigmoid(output) * jnp.tanh(c)
    return (h, c), h


def step(
    params: LSTMParams, carry: tuple[Array, Array], z: Array
) -> tuple[tuple[Array, Array], Array]:
    """One step of the LSTM.

    i, f, o = σ(x W_x + h W_h + b),  g = tanh(x W_x + h W_h + b)
    c' = f c + i g,  h' = o tanh(c'),  y = h'

    Shapes: h, c and y `(..., H)`, z `(..., 4H)`. The carry is `(h, c)`.

    References:
        Hochreiter and Schmidhuber (1997), Neural Computation 9(8), with the forget gate of Gers et
        al. (2000); the course's Γi (Γu), Γf, Γo and c̃ are i, f, o and g, its a^<t> is h.
    """
    return gate(z, mix(params, carry), carry)


lstm = Recurrence(
    name="lstm",
    summary="Hochreiter and Schmidhuber (1997) with the forget gate of Gers et al. (2000)",
    init=init,
    initial_carry=initial_carry,
    project=project,
    step=step,
    input_shape=input_shape,
    mix=mix,
    gate=gate,
    sizes=drawn_sizes,
)
