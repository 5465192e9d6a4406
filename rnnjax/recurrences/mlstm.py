"""The mLSTM of xLSTM: a matrix for a memory."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from rnnjax.recurrences.initializers import (
    DEFAULT_INITIALIZERS,
    Initializers,
    check_sizes,
    draw_input_weights,
    drawing_dtype,
)
from rnnjax.recurrences.linear import MAX_PLUS, LinearForm, Stage, linear_step
from rnnjax.recurrences.products import product
from rnnjax.recurrences.protocol import Recurrence
from rnnjax.recurrences.sizes import input_shape


class MLSTMParams(NamedTuple):
    """`w_x` is stacked in the order (q, k, v, o), `w_gates` in the order (i, f); L heads."""

    w_x: Array  # (I, 4H)
    b: Array  # (4H,)
    w_gates: Array  # (I, 2L)
    b_gates: Array  # (2L,)


class Carry(NamedTuple):
    """The memory is exp(m) C and exp(m) n; d = H / L."""

    m: Array  # (*B, L)  the stabiliser
    c: Array  # (*B, L, d, d)  values × keys
    n: Array  # (*B, L, d)


class Projected(NamedTuple):
    """What does not depend on the carry."""

    query: Array  # (..., L, d)
    key: Array  # (..., L, d)
    value: Array  # (..., L, d)
    output: Array  # (..., H)  in (0, 1)
    log_input: Array  # (..., L)
    log_forget: Array  # (..., L)


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    heads: int = 1,
    dtype: DTypeLike = jnp.float32,
    initializers: Initializers = DEFAULT_INITIALIZERS,
) -> MLSTMParams:
    """Draw parameters; by default Glorot and zero bias, and input and forget gates as in the code.

    Those begin with no weight; the forget gates' biases are spread over 3 … 6, so that heads
    remember for different times, the input gates' are normal of deviation 0.1.

    Args:
        key: A random key.
        input_size: I.
        hidden_size: H.
        heads: L, a divisor of H.
        dtype: Floating.
        initializers: What each block of `w_x` and `b` is drawn from.

    Raises:
        ValueError: A size is not an integer or below one, or the heads do not divide H.
        TypeError: The dtype is not floating.
    """
    input_size, hidden_size, heads = check_sizes(
        dtype, input_size=input_size, hidden_size=hidden_size, heads=heads
    )
    if hidden_size % heads:
        raise ValueError(f"heads: got {heads}, expected a divisor of hidden_size, {hidden_size}")
    key, key_gates = jax.random.split(key)
    w_x, b = draw_input_weights(key, 4, input_size, hidden_size, dtype, initializers)
    drawn = drawing_dtype(dtype)
    input_bias = 0.1 * jax.random.normal(key_gates, (heads,), drawn)
    forget_bias = jnp.linspace(3.0, 6.0, heads, dtype=drawn)
    return MLSTMParams(
        w_x,
        b,
        jnp.zeros((input_size, 2 * heads), dtype),
        jnp.concatenate([input_bias, forget_bias]).astype(dtype),
    )


def sizes(params: MLSTMParams) -> dict[str, Any]:
    """I, H and L."""
    hidden_size, heads = params.b.shape[0] // 4, params.b_gates.shape[0] // 2
    return {"input_size": params.w_x.shape[0], "hidden_size": hidden_size, "heads": heads}


def initial_carry(params: MLSTMParams, batch_shape: tuple[int, ...]) -> Carry:
    """m^<0> = 0, C^<0> = 0, n^<0> = 0."""
    heads = params.b_gates.shape[0] // 2
    size = params.b.shape[0] // 4 // heads

    def zeros(*shape: int) -> Array:
        return jnp.zeros((*batch_shape, heads, *shape), params.b.dtype)

    return Carry(zeros(), zeros(size, size), zeros(size))


def project(params: MLSTMParams, xs: Array) -> Projected:
    """`(..., I) ->` query, key, value and all gates. All that does not depend on the carry."""
    heads = params.b_gates.shape[0] // 2
    *by_head, output = jnp.split(product(xs, params.w_x) + params.b, 4, axis=-1)
    query, key, value = (a.reshape(*a.shape[:-1], heads, a.shape[-1] // heads) for a in by_head)
    log_input, forget = jnp.split(product(xs, params.w_gates) + params.b_gates, 2, axis=-1)
    return Projected(
        query,
        key * key.shape[-1] ** -0.5,
        value,
        jax.nn.sigmoid(output),
        log_input,
        jax.nn.log_sigmoid(forget),
    )


def _stabiliser(
    params: MLSTMParams, z: Projected, entered: tuple[Array, ...]
) -> tuple[Array, Array]:
    del params, entered
    return z.log_forget, z.log_input


def _stable_gates(z: Projected, m: Array) -> tuple[Array, Array]:
    """The gates f' and i', `(..., L)`, at most 1, from the stabiliser that the step saw."""
    after = MAX_PLUS.apply(m, z.log_forget, z.log_input)
    return jnp.exp(z.log_forget + m - after), jnp.exp(z.log_input - after)


def _memory(params: MLSTMParams, z: Projected, entered: tuple[Array, ...]) -> tuple[Array, Array]:
    del params
    forget, input_ = _stable_gates(z, entered[0])
    value = input_[..., None] * z.value
    return forget[..., None, None], value[..., :, None] * z.key[..., None, :]


def _normaliser(
    params: MLSTMParams, z: Projected, entered: tuple[Array, ...]
) -> tuple[Array, Array]:
    del params
    forget, input_ = _stable_gates(z, entered[0])
    return forget[..., None], input_[..., None] * z.key


def _read(params: MLSTMParams, z: Projected, entered: Carry, new: Carry) -> Array:
    """The quotient is expanded by exp(min(m, 0)), so that no exp(−m) is ever too large."""
    del params, entered
    scaled = jnp.exp(jnp.minimum(new.m, 0))[..., None] * z.query
    retrieved = jnp.einsum("...vk,...k->...v", new.c, scaled)
    weight = jnp.abs(jnp.sum(new.n * scaled, axis=-1))
    # A floor keeps 0 / 0 away where a query meets nothing and m is beyond the range of exp.
    log_tiny = jnp.log(jnp.finfo(new.m.dtype).tiny)
    least = jnp.exp(jnp.clip(-new.m, log_tiny, 0))
    heads = retrieved / jnp.maximum(weight, least)[..., None]
    return z.output * heads.reshape(z.output.shape)


LINEAR = LinearForm((Stage(_stabiliser, MAX_PLUS), Stage(_memory), Stage(_normaliser)), _read)
"""m, C and n, in this order: what C and n are multiplied by comes from m."""


def step(params: MLSTMParams, carry: Carry, z: Projected) -> tuple[Carry, Array]:
    """One step of the mLSTM; linear in the carry, the stabiliser in (max, +).

    q = x W_q + b_q,  k = (x W_k + b_k) / √d,  v = x W_v + b_v,  o = σ(x W_o + b_o)
    ĩ = x w_i + b_i,  f̃ = x w_f + b_f,  and f = σ(f̃), one of each a head
    m' = max(log f + m, ĩ),  f' = exp(log f + m − m'),  i' = exp(ĩ − m')
    C' = f' C + i' v kᵀ,  n' = f' n + i' k
    y = o C' q / max(|n'ᵀ q|, exp(−m'))

    Shapes: of one head C `(d, d)`, q, k, v and n `(d,)`, m `()`, with d = H / L; o and y
    `(..., H)`. The carry is `(m, C, n)`.

    The stabiliser m is only a way of writing: exp(m) C and exp(m) n go on as with i = exp(ĩ), f and
    max(|nᵀ q|, 1), the equations of the paper's section 2.3, and outputs do not depend on m. With
    the state at zero it may begin at anything; it begins at 0. The paper allows σ or exp for f; the
    authors' code has σ, adds 10⁻⁶ to the denominator, and normalises each head's output after it,
    which is a layer's work.

    References:
        Beck et al. (2024), "xLSTM: Extended Long Short-Term Memory", arXiv:2405.04517, section 2.3,
        equations 19–27, and the appendix on mLSTM for the stabilised form.
    """
    return linear_step(LINEAR, params, carry, z)


mlstm = Recurrence(
    name="mlstm",
    summary="the mLSTM of xLSTM, Beck et al. (2024): a matrix memory; linear in the carry",
    init=init,
    initial_carry=initial_carry,
    project=project,
    step=step,
    input_shape=input_shape,
    sizes=sizes,
    linear=LINEAR,
)
