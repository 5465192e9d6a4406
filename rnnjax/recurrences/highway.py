"""What the simple recurrent units share: three blocks of input weights and a highway connection."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from rnnjax.recurrences.initializers import Initializers, check_sizes, per_gate
from rnnjax.recurrences.products import product


def draw_highway_weights(
    key: Array,
    input_size: int,
    hidden_size: int,
    dtype: DTypeLike,
    initializers: Initializers,
) -> tuple[Array, Array]:
    """Draw the weights of candidate, forget and reset gate, and of the highway if it needs them.

    Args:
        key: A random key.
        input_size: I.
        hidden_size: H.
        dtype: Floating.
        initializers: What each block is drawn from.

    Returns:
        `(I, 3H)` where I = H, else `(I, 4H)`; and `(2H,)`, the bias of the two gates.

    Raises:
        ValueError: A size is not an integer or below one.
        TypeError: The dtype is not floating.
    """
    input_size, hidden_size = check_sizes(dtype, input_size=input_size, hidden_size=hidden_size)
    key_x, key_b = jax.random.split(key)
    blocks = 3 if input_size == hidden_size else 4
    return (
        per_gate(initializers.input, key_x, blocks, (input_size, hidden_size), dtype),
        per_gate(initializers.bias, key_b, 2, (hidden_size,), dtype),
    )


def highway_sizes(params: Any) -> dict[str, int]:
    """I and H."""
    return {"input_size": params.w_x.shape[0], "hidden_size": params.b.shape[0] // 2}


def zero_cell(params: Any, batch_shape: tuple[int, ...]) -> Array:
    """c^<0> = 0, `(*B, H)`."""
    return jnp.zeros((*batch_shape, params.b.shape[0] // 2), params.b.dtype)


def project_with_highway(w_x: Array, b: Array, xs: Array) -> tuple[Array, Array, Array]:
    """Candidate `(..., H)`, both gates before their sigmoid `(..., 2H)`, highway `(..., H)`.

    Args:
        w_x: `(I, 3H)` or `(I, 4H)`.
        b: `(2H,)`.
        xs: `(..., I)`: the highway itself if there are three blocks of weights.
    """
    size = b.shape[0] // 2
    projected = product(xs, w_x)
    highway = xs if projected.shape[-1] == 3 * size else projected[..., 3 * size :]
    return projected[..., :size], projected[..., size : 3 * size] + b, highway
