"""Layer normalisation of vectors."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from rnnjax.layers.checks import check_floating, check_size
from rnnjax.precision import default_accumulation_dtype
from rnnjax.recurrences.normalisation import EPSILON, layer_norm


class LayerNormParams(NamedTuple):
    """The paper's gain g and bias b."""

    scale: Array  # (H,)
    shift: Array  # (H,)


def init_layer_norm(size: int, *, dtype: DTypeLike = jnp.float32) -> LayerNormParams:
    """A scale of one and a shift of zero.

    Args:
        size: H.
        dtype: Floating.

    Raises:
        ValueError: The size is not an integer or below one.
        TypeError: The dtype is not floating.
    """
    check_size("size", size)
    check_floating("dtype", dtype)
    return LayerNormParams(jnp.ones(size, dtype), jnp.zeros(size, dtype))


def apply_layer_norm(params: LayerNormParams, xs: Array, *, epsilon: float = EPSILON) -> Array:
    """Give each vector mean zero and variance one, then scale and shift each unit.

    y = scale (x − μ) / √(σ² + ε) + shift,  μ = mean(x),  σ² = mean((x − μ)²) over the last axis

    Args:
        params: Scale and shift, `(H,)`.
        xs: `(..., H)`, floating. All is computed in float32 where it has 16 bits.
        epsilon: ε > 0; a vector of equal entries becomes the shift.

    Returns:
        `(..., H)` in the dtype of xs.

    Raises:
        ValueError: The last axis of xs is not H, or epsilon is not above zero.
        TypeError: xs are not floating.

    References:
        Ba, Kiros and Hinton (2016), arXiv:1607.06450, equations 3 and 4.
    """
    size = params.scale.shape[0]
    if xs.ndim < 1 or xs.shape[-1] != size:
        raise ValueError(f"xs: got shape {xs.shape}, expected (..., {size})")
    check_floating("xs", xs.dtype)
    if not epsilon > 0:
        raise ValueError(f"epsilon: got {epsilon!r}, expected a number above 0")
    dtype = default_accumulation_dtype(xs.dtype)
    scaled = layer_norm(xs.astype(dtype), params.scale.astype(dtype), epsilon)
    return (scaled + params.shift.astype(dtype)).astype(xs.dtype)
