"""What the usual parameters, `w_x` `(I, ...)` and `w_h` `(H, ...)`, say of sizes."""

from typing import Any

import jax.numpy as jnp
from jax import Array


def input_shape(params: Any) -> tuple[int, ...]:
    """`(I,)`."""
    return (params.w_x.shape[0],)


def drawn_sizes(params: Any) -> dict[str, int]:
    """The sizes that `initializers.draw_weights` was given."""
    return {"input_size": params.w_x.shape[0], "hidden_size": params.w_h.shape[0]}


def zero_state(params: Any, batch_shape: tuple[int, ...]) -> Array:
    """A state of zeros, `(*B, H)`, in the parameters' dtype."""
    return jnp.zeros((*batch_shape, params.w_h.shape[0]), params.w_h.dtype)
