"""The LSTM with scalar memory and exponential gates, of xLSTM."""

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

EMPTY = -1e4
"""The stabiliser of a memory with nothing in it: below any logarithm of a gate, and finite, so that
no difference of two is NaN."""


class SLSTMParams(NamedTuple):
    """Gates are stacked on the last axis in the order (i, f, g, o), in w_h head by head."""

    w_x: Array  # (I, 4H)
    w_h: Array  # (K, H/K, 4H/K)  the blocks of a block-diagonal matrix, K heads
    b: Array  # (4H,)


class SLSTMCarry(NamedTuple):
    """The memory is c exp(m) and its weight n exp(m): m keeps both of moderate size."""

    h: Array  # (..., H)  the output
    c: Array  # (..., H)  the cell
    n: Array  # (..., H)  the normaliser
    m: Array  # (..., H)  the stabiliser, a logarithm


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    heads: int = 1,
    forget_bias: float = 1.0,
    dtype: DTypeLike = jnp.float32,
    initializers: Initializers = DEFAULT_INITIALIZERS,
) -> SLSTMParams:
    """Draw parameters, gate by gate; by default Glorot, orthogonal and zero bias.

    Args:
        key: A random key.
        input_size: I.
        hidden_size: H.
        heads: K, a divisor of H: the state of one head is not seen by the gates of another. The
            paper's networks have 4.
        forget_bias: Added to the forget gate's bias at the start.
        dtype: Floating.
        initializers: What each gate's block is drawn from, the recurrent one for each head.

    Raises:
        ValueError: A size is not an integer or below one, or heads do not divide H.
        TypeError: The dtype is not floating.
    """
    key_x, key_h = jax.random.split(key)
    w_x, b = draw_input_weights(key_x, 4, input_size, hidden_size, dtype, initializers)
    hidden_size = b.shape[0] // 4
    (heads,) = check_sizes(dtype, heads=heads)
    if hidden_size % heads:
        raise ValueError(f"heads: got {heads}, expected a divisor of hidden_size, {hidden_size}")
    width = hidden_size // heads
    blocks = [
        per_gate(initializers.recurrent, key_head, 4, (width, width), dtype)
        for key_head in jax.random.split(key_h, heads)
    ]
    b = add_forget_bias(b, forget_bias)
    return SLSTMParams(w_x, jnp.stack(blocks), b)


def sizes(params: SLSTMParams) -> dict[str, int]:
    """I, H and K."""
    heads, width, _ = params.w_h.shape
    return {"input_size": params.w_x.shape[0], "hidden_size": heads * width, "heads": heads}


def initial_carry(params: SLSTMParams, batch_shape: tuple[int, ...]) -> SLSTMCarry:
    """Zeros `(*B, H)`, but for the stabiliser, which is `EMPTY`."""
    zeros = jnp.zeros((*batch_shape, params.b.shape[0] // 4), params.b.dtype)
    return SLSTMCarry(h=zeros, c=zeros, n=zeros, m=jnp.full_like(zeros, EMPTY))


def project(params: SLSTMParams, xs: Array) -> Array:
    """`(..., I) -> (..., 4H)`. All that does not depend on the carry."""
    return product(xs, params.w_x) + params.b


def mix(params: SLSTMParams, carry: SLSTMCarry) -> Array:
    """`(..., H) -> (..., 4H)`. The only use of the recurrent weights."""
    heads, width, _ = params.w_h.shape
    leading = carry.h.shape[:-1]
    of_heads = product(carry.h.reshape(*leading, heads, 1, width), params.w_h)
    gates_first = jnp.swapaxes(of_heads.reshape(*leading, heads, 4, width), -2, -3)
    return gates_first.reshape(*leading, 4 * heads * width)


def gate(z: Array, m: Array, carry: SLSTMCarry) -> tuple[SLSTMCarry, Array]:
    """`(..., 4H), (..., 4H), carry -> (carry', y)`. Elementwise."""
    log_input, forget, candidate, output = jnp.split(z + m, 4, axis=-1)
    log_kept = jax.nn.log_sigmoid(forget) + carry.m
    stabiliser = jnp.maximum(log_kept, log_input)
    kept, added = jnp.exp(log_kept - stabiliser), jnp.exp(log_input - stabiliser)
    c = kept * carry.c + added * jnp.tanh(candidate)
    n = kept * carry.n + added
    h = jax.nn.sigmoid(output) * (c / n)
    return SLSTMCarry(h, c, n, stabiliser), h


def step(params: SLSTMParams, carry: SLSTMCarry, z: Array) -> tuple[SLSTMCarry, Array]:
    """One step of the sLSTM; not linear in the carry.

    (ĩ, f̃, g̃, õ) = x W_x + h W_h + b
    m' = max(log σ(f̃) + m, ĩ)
    i = exp(ĩ − m'),  f = exp(log σ(f̃) + m − m')
    c' = f c + i tanh(g̃),  n' = f n + i
    h' = σ(õ) c' / n',  y = h'

    Shapes: h, c, n, m and y `(..., H)`, z `(..., 4H)`. The carry is `SLSTMCarry(h, c, n, m)`.

    The input gate is exp(ĩ); of the two forget gates of the paper, exp and σ, this is σ, the one of
    the authors' code. Outputs do not depend on the stabiliser m, as (c, n, m) stands for a memory
    c exp(m) of weight n exp(m): adding a number to m and dividing c and n by its exponential
    changes nothing. So it may begin anywhere while c and n are zero; it begins at `EMPTY`, so that
    the first step takes it from its own input gate and n' is 1 there and never below after it. (The
    authors' code begins at zero and asks in each step whether n is still zero.)

    References:
        Beck et al. (2024), xLSTM, arXiv:2405.04517, section 2.2, equations 8–17, whose cell input z
        is tanh(g̃), and appendix A for the heads.
    """
    return gate(z, mix(params, carry), carry)


slstm = Recurrence(
    name="slstm",
    summary="the sLSTM of xLSTM, Beck et al. (2024), exponential input gate; "
    "not linear in the carry",
    init=init,
    initial_carry=initial_carry,
    project=project,
    step=step,
    input_shape=input_shape,
    mix=mix,
    gate=gate,
    sizes=sizes,
)
