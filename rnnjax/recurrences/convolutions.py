"""The convolution with a kernel, in whatever precision `scan` was asked for."""

from math import prod

from jax import Array, lax

LAYOUTS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}
"""By the number of spatial axes: of the input, of the kernel, of the output."""


def convolution(x: Array, kernel: Array) -> Array:
    """The convolution W * x, `(..., *S, I) -> (..., *S, O)`, with zeros around the image.

    It is the correlation that deep learning calls so. As `product`, it is computed in the kernel's
    dtype, summed and returned in x's.

    Args:
        x: `(..., *S, I)`, one or two spatial axes, in the accumulation dtype.
        kernel: `(*K, I, O)` in the compute dtype, one width for each spatial axis.
    """
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
