"""An affine layer, such as the head that turns hidden states into logits."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from rnnjax.layers.checks import check_floating, check_size
from rnnjax.precision import default_accumulation_dtype, product_of_inputs


class DenseParams(NamedTuple):
    """The course's W_ya and b_y, transposed: rows are inputs."""

    w: Array  # (I, O)
    b: Array  # (O,)


def init_dense(
    key: Array, input_size: int, output_size: int, *, dtype: DTypeLike = jnp.float32
) -> DenseParams:
    """Draw weights from Glorot's uniform distribution; the bias is zero.

    Args:
        key: A random key.
        input_size: I.
        output_size: O.
        dtype: Floating.

    Raises:
        ValueError: A size is not an integer or below one.
        TypeError: The dtype is not floating.

    References:
        Glorot and Bengio (2010), equation 16.
    """
    check_size("input_size", input_size)
    check_size("output_size", output_size)
    check_floating("dtype", dtype)
    w = jax.nn.initializers.glorot_uniform()(key, (input_size, output_size), dtype)
    return DenseParams(w, jnp.zeros(output_size, dtype))


def apply_dense(params: DenseParams, xs: Array, *, output_dtype: DTypeLike | None = None) -> Array:
    """The affine map x W + b, `(..., I) -> (..., O)`.

    Computed in the dtype of xs, which may be narrower than that of the parameters, summed as
    `rnnjax.scan` sums, and returned in `output_dtype`, or in the dtype of xs if that is None.

    Raises:
        ValueError: The last axis of xs is not I.
        TypeError: xs or the output dtype is not floating.
    """
    check_floating("xs", xs.dtype)
    input_size = params.w.shape[0]
    if xs.ndim < 1 or xs.shape[-1] != input_size:
        raise ValueError(f"xs: got shape {xs.shape}, expected (..., {input_size})")
    sums = default_accumulation_dtype(xs.dtype)
    if output_dtype is None:
        output_dtype = xs.dtype
    check_floating("output_dtype", output_dtype)
    return (product_of_inputs(xs, params.w) + params.b.astype(sums)).astype(output_dtype)
