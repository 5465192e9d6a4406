"""How the weights of a recurrence begin."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

Initializer = Callable[..., Array]
"""`(key, shape, dtype) -> array`, as in `jax.nn.initializers`."""


class Initializers(NamedTuple):
    """What each gate's block is drawn from; fans and orthogonality are those of the block."""

    input: Initializer = jax.nn.initializers.glorot_uniform()  # (I, H)
    recurrent: Initializer = jax.nn.initializers.orthogonal()  # (H, H)
    bias: Initializer = jax.nn.initializers.zeros  # (H,)


DEFAULT_INITIALIZERS = Initializers()


def per_gate(
    initializer: Initializer, key: Array, gates: int, shape: tuple[int, ...], dtype: DTypeLike
) -> Array:
    """Draw each gate's block by itself and stack the gates on the last axis.

    Args:
        initializer: `(key, shape, dtype) -> array`.
        key: A random key.
        gates: How many.
        shape: Of one gate, `(..., H)`.
        dtype: Of the result.

    Returns:
        `(..., gates * H)`.
    """
    drawn = drawing_dtype(dtype)
    blocks = [initializer(k, shape, drawn) for k in jax.random.split(key, gates)]
    return jnp.concatenate(blocks, axis=-1).astype(dtype)


def drawing_dtype(dtype: DTypeLike) -> DTypeLike:
    """In which to draw parameters of a dtype: itself, or float32 for one of 16 bits.

    Orthogonal blocks come of a QR decomposition, which there is only from float32 on.
    """
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32


def add_forget_bias(b: Array, forget_bias: float) -> Array:
    """The bias of four gates `(4H,)`, the second of which is the forget gate, with that added."""
    return b.reshape(4, -1).at[1].add(forget_bias).reshape(-1)


def draw_weights(
    key: Array,
    gates: int,
    input_size: int,
    hidden_size: int,
    dtype: DTypeLike,
    initializers: Initializers,
) -> tuple[Array, Array, Array]:
    """Draw the usual three: input weights, recurrent weights and a bias.

    Args:
        key: A random key.
        gates: How many are stacked on the last axis.
        input_size: I.
        hidden_size: H.
        dtype: Floating.
        initializers: What each gate's block is drawn from.

    Returns:
        `(I, gates * H)`, `(H, gates * H)` and `(gates * H,)`.

    Raises:
        ValueError: A size is not an integer or below one.
        TypeError: The dtype is not floating.
    """
    input_size, hidden_size = check_sizes(dtype, input_size=input_size, hidden_size=hidden_size)
    key_x, key_h, key_b = jax.random.split(key, 3)
    return (
        per_gate(initializers.input, key_x, gates, (input_size, hidden_size), dtype),
        per_gate(initializers.recurrent, key_h, gates, (hidden_size, hidden_size), dtype),
        per_gate(initializers.bias, key_b, gates, (hidden_size,), dtype),
    )


def draw_input_weights(
    key: Array,
    gates: int,
    input_size: int,
    hidden_size: int,
    dtype: DTypeLike,
    initializers: Initializers,
) -> tuple[Array, Array]:
    """Draw input weights and a bias, for a recurrence without a recurrent matrix.

    Args:
        key: A random key.
        gates: How many are stacked on the last axis.
        input_size: I.
        hidden_size: H.
        dtype: Floating.
        initializers: What each gate's block is drawn from.

    Returns:
        `(I, gates * H)` and `(gates * H,)`.

    Raises:
        ValueError: A size is not an integer or below one.
        TypeError: The dtype is not floating.
    """
    input_size, hidden_size = check_sizes(dtype, input_size=input_size, hidden_size=hidden_size)
    key_x, key_b = jax.random.split(key)
    return (
        per_gate(initializers.input, key_x, gates, (input_size, hidden_size), dtype),
        per_gate(initializers.bias, key_b, gates, (hidden_size,), dtype),
    )


def check_sizes(dtype: DTypeLike, **sizes: int) -> tuple[int, ...]:
    """Sizes as Python's integers.

    Args:
        dtype: Of the parameters.
        sizes: By the names of the arguments.

    Raises:
        ValueError: A size is not an integer or below one.
        TypeError: The dtype is not floating.
    """
    for name, size in sizes.items():
        if not isinstance(size, (int, np.integer)) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name}: got {size!r}, expected an integer of at least 1")
    try:
        known = jnp.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype: got {dtype!r}, expected a floating dtype") from None
    if not jnp.issubdtype(known, jnp.floating):
        raise TypeError(f"dtype: got {known.name}, expected a floating dtype")
    return tuple(int(size) for size in sizes.values())  # a product in int8 overflows
