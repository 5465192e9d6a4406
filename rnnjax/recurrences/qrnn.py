"""The quasi-recurrent network: a convolution over the last inputs, and fo-pooling."""

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from rnnjax.recurrences.initializers import (
    DEFAULT_INITIALIZERS,
    Initializers,
    check_sizes,
    per_gate,
)
from rnnjax.recurrences.linear import LinearForm, Stage, linear_step
from rnnjax.recurrences.products import product
from rnnjax.recurrences.protocol import Recurrence

Carry = tuple[Array, ...]
"""(s_{k-1}, …, s_1, c): the partial sums, of the taps that are still to come, and the cell."""


class QRNNParams(NamedTuple):
    """Gates are stacked on the last axis in the order (z, f, o), as in the paper.

    Tap 0 is of the present input, tap j of that j steps before.
    """

    w_x: Array  # (I, k, 3H)
    b: Array  # (3H,)


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    window: int,
    dtype: DTypeLike = jnp.float32,
    initializers: Initializers = DEFAULT_INITIALIZERS,
) -> QRNNParams:
    """Draw parameters, gate by gate; by default Glorot and zero bias.

    Args:
        key: A random key.
        input_size: I.
        hidden_size: H.
        window: k; a recurrence made by `qrnn_by` has it set.
        dtype: Floating.
        initializers: What each gate's block, `(k I, H)`, is drawn from; none is recurrent.

    Raises:
        ValueError: A size is not an integer or below one.
        TypeError: The dtype is not floating.
    """
    input_size, hidden_size = check_sizes(dtype, input_size=input_size, hidden_size=hidden_size)
    key_x, key_b = jax.random.split(key)
    w_x = per_gate(initializers.input, key_x, 3, (input_size * window, hidden_size), dtype)
    return QRNNParams(
        w_x.reshape(input_size, window, 3 * hidden_size),
        per_gate(initializers.bias, key_b, 3, (hidden_size,), dtype),
    )


def input_shape(params: QRNNParams) -> tuple[int, ...]:
    """`(I,)`."""
    return (params.w_x.shape[0],)


def sizes(params: QRNNParams) -> dict[str, Any]:
    """I and H."""
    return {"input_size": params.w_x.shape[0], "hidden_size": params.b.shape[0] // 3}


def initial_carry(params: QRNNParams, batch_shape: tuple[int, ...]) -> Carry:
    """Zeros, as if inputs of zero came before: k − 1 times `(*B, 3H)`, then `(*B, H)`."""
    _, window, stacked = params.w_x.shape
    sums = [jnp.zeros((*batch_shape, stacked), params.b.dtype) for _ in range(window - 1)]
    return (*sums, jnp.zeros((*batch_shape, stacked // 3), params.b.dtype))


def project(params: QRNNParams, xs: Array) -> tuple[Array, ...]:
    """`(..., I) ->` k times `(..., 3H)`: what each input adds now, one step later, and so on."""
    size, window, stacked = params.w_x.shape
    taps = jnp.split(product(xs, params.w_x.reshape(size, window * stacked)), window, axis=-1)
    return (taps[0] + params.b, *taps[1:])


def _sum(
    tap: int, params: QRNNParams, z: tuple[Array, ...], entered: tuple[Array, ...]
) -> tuple[None, Array]:
    """s_j' = z_j + s_{j+1}; of the last tap just z_j."""
    del params
    return None, z[tap] + entered[-1] if entered else z[tap]


def _gates(z: tuple[Array, ...], sums: tuple[Array, ...]) -> list[Array]:
    """z, f and o before their activations."""
    return jnp.split(z[0] + sums[-1] if sums else z[0], 3, axis=-1)


def _cell(
    params: QRNNParams, z: tuple[Array, ...], entered: tuple[Array, ...]
) -> tuple[Array, Array]:
    del params
    candidate, forget, _ = _gates(z, entered)
    forget = jax.nn.sigmoid(forget)
    return forget, (1 - forget) * jnp.tanh(candidate)


def _read(params: QRNNParams, z: tuple[Array, ...], entered: Carry, new: Carry) -> Array:
    del params
    _, _, output = _gates(z, entered[:-1])
    return jax.nn.sigmoid(output) * new[-1]


def step(
    form: LinearForm, params: QRNNParams, carry: Carry, z: tuple[Array, ...]
) -> tuple[Carry, Array]:
    """One step of the QRNN; linear in the carry.

    a^<t> = Σ_j x^<t-j> W_j + b,  j = 0 … k − 1;  z, f, o = tanh, σ, σ of a's three parts
    c' = f c + (1 − f) z,  y = o c'

    The convolution is kept in the carry as what earlier inputs have added to sums still to come, so
    that resets, lengths and streaming are exact: with z_j = x W_j,

    a = z_0 + b + s_1,  s_j' = z_j + s_{j+1},  s_{k-1}' = z_{k-1}

    Shapes: c and y `(..., H)`, s_j and z_j `(..., 3H)`. The carry is `(s_{k-1}, …, s_1, c)`, zero
    at first, which is the paper's padding of the input. Given the sums, c' is linear in c. Dropout
    of the forget gate (zoneout) and dense connections between layers are not part of it.

    References:
        Bradbury et al. (2017), "Quasi-Recurrent Neural Networks", arXiv:1611.01576, section 2,
        equations 1 and 4 (fo-pooling).
    """
    return linear_step(form, params, carry, z)


@lru_cache
def qrnn_by(window: int) -> Recurrence:
    """The quasi-recurrent network with filters over the last `window` inputs.

    Args:
        window: The paper's k, the present input included; with 1 there is no convolution.

    Raises:
        ValueError: `window` is not an integer or below one.
    """
    check_sizes(jnp.float32, window=window)
    sums = [Stage(partial(_sum, tap)) for tap in reversed(range(1, window))]
    form = LinearForm((*sums, Stage(_cell)), _read)
    return Recurrence(
        name=f"qrnn_by({window})",
        summary=f"Bradbury et al. (2017), fo-pooling, {window} inputs wide; linear in the carry",
        init=partial(init, window=window),
        initial_carry=initial_carry,
        project=project,
        step=partial(step, form),
        input_shape=input_shape,
        sizes=sizes,
        linear=form,
    )


DEFAULT_WINDOW = 2
"""The paper's, of its language models."""

qrnn = replace(qrnn_by(DEFAULT_WINDOW), name="qrnn")
