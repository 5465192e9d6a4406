"""Affine layers with an activation between: a deep network on top of a recurrent one."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from rnnjax.layers.checks import check_size
from rnnjax.layers.dense import DenseParams, apply_dense, init_dense


def init_feed_forward(
    key: Array, input_size: int, sizes: Sequence[int], *, dtype: DTypeLike = jnp.float32
) -> tuple[DenseParams, ...]:
    """Draw the parameters of each layer as `init_dense` does.

    Args:
        key: A random key.
        input_size: I.
        sizes: Of each layer's outputs, bottom first; the last one is that of the network's, O.
        dtype: Floating.

    Returns:
        The parameters of each layer, bottom first.

    Raises:
        ValueError: There is no layer, or a size is not an integer or below one.
        TypeError: The dtype is not floating.
    """
    sizes = tuple(sizes)
    if not sizes:
        raise ValueError("sizes: got none, expected at least one layer")
    for layer, size in enumerate(sizes):
        check_size(f"sizes[{layer}]", size)
    keys = jax.random.split(key, len(sizes))
    below = (input_size, *sizes[:-1])
    return tuple(
        init_dense(layer_key, inputs, outputs, dtype=dtype)
        for layer_key, inputs, outputs in zip(keys, below, sizes, strict=True)
    )


def apply_feed_forward(
    params: Sequence[DenseParams], xs: Array, activation: Callable[[Array], Array] = jnp.tanh
) -> Array:
    """Apply the same layers to every step, `(..., I) -> (..., O)`.

    a^[0] = x,  a^[l] = g(a^[l-1] W^[l] + b^[l]),  y = a^[L-1] W^[L] + b^[L]

    On top of `scan_deep` it is what the course draws above the last recurrent layer: layers not
    connected in time. What it makes of the zeros past a row's length means nothing.

    Args:
        params: L records, from `init_feed_forward`.
        xs: `(..., I)`, such as the outputs `(T, *B, H)` of a scan.
        activation: g, elementwise; not applied to the last layer's outputs.

    Raises:
        ValueError: There is no layer, or the last axis of xs is not I.
    """
    if not params:
        raise ValueError("params: got no layers, expected at least one")
    *hidden, last = params
    for layer in hidden:
        xs = activation(apply_dense(layer, xs))
    return apply_dense(last, xs)
