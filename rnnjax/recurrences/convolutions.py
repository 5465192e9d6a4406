"""The convolution with a kernel, in whatever precision `scan` was asked for."""

from itertools import product as combinations
from math import prod

import jax
import jax.numpy as jnp
from jax import Array, lax

from rnnjax.recurrences.products import product

LAYOUTS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}
"""By the number of spatial axes: of the input, of the kernel, of the output."""


def convolution(x: Array, kernel: Array) -> Array:
    """The convolution W * x, `(..., *S, I) -> (..., *S, O)`, with zeros around the image.

    It is the correlation that deep learning calls so. As `product`, it is computed in the kernel's
    dtype, summed and returned in x's. On a CPU it is `product_of_patches`, elsewhere the compiler's
    own convolution.

    Args:
        x: `(..., *S, I)`, one or two spatial axes, in the accumulation dtype.
        kernel: `(*K, I, O)` in the compute dtype, one width for each spatial axis.
    """
    return (product_of_patches if jax.default_backend() == "cpu" else compiled)(x, kernel)


def product_of_patches(x: Array, kernel: Array) -> Array:
    """The convolution as one matrix product, with all that a kernel sees side by side in a row.

    XLA's CPU compiler has no fast code for the derivative of a convolution inside a loop: there it
    is 7 times (16 rows) to 28 times (1024 rows) slower than the derivative of this product.
    """
    spatial_axes = kernel.ndim - 2
    widths, image = kernel.shape[:spatial_axes], x.shape[-1 - spatial_axes : -1]
    around = [((width - 1) // 2, width // 2) for width in widths]
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1 - spatial_axes) + [*around, (0, 0)])
    patches = [
        padded[
            (
                ...,
                *(slice(o, o + size) for o, size in zip(offsets, image, strict=True)),
                slice(None),
            )
        ]
        for offsets in combinations(*map(range, widths))
    ]
    rows = jnp.concatenate(patches, axis=-1).reshape(-1, prod(kernel.shape[:-1]))
    y = product(rows, kernel.reshape(-1, kernel.shape[-1]))
    return y.reshape(*x.shape[:-1], kernel.shape[-1])


def compiled(x: Array, kernel: Array) -> Array:
    """The convolution by the compiler's own."""
    spatial_axes = kernel.ndim - 2
    leading, image = x.shape[: -1 - spatial_axes], x.shape[-1 - spatial_axes :]
    y = lax.conv_general_dilated(
        x.astype(kernel.dtype).reshape(prod(leading), *image),
        kernel,
        window_strides=(1,) * spatial_axes,
        padding="SAME",
        dimension_numbers=LAYOUTS[spatial_axes],
        preferred_element_type=x.dtype,
    )
    return y.reshape(*leading, *image[:-1], kernel.shape[-1])
