"""A convolutional network of images: what it sees in a frame, before time comes in."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from rnnjax.layers.checks import check_floating, check_size
from rnnjax.precision import default_accumulation_dtype

STRIDE = 2
"""How many times fewer places each layer has along height and width."""


class ConvolutionParams(NamedTuple):
    """A kernel K×K and a bias of each of O output channels."""

    w: Array  # (K, K, I, O)
    b: Array  # (O,)


def init_convolutions(
    key: Array,
    input_channels: int,
    channels: Sequence[int],
    *,
    kernel_size: int = 3,
    dtype: DTypeLike = jnp.float32,
) -> tuple[ConvolutionParams, ...]:
    """Draw kernels from He's normal distribution; the biases are zero.

    Args:
        key: A random key.
        input_channels: I of the bottom layer, 3 for colours.
        channels: O of each layer, bottom first.
        kernel_size: K, odd.
        dtype: Floating.

    Raises:
        ValueError: There is no layer, a size is not an integer or below one, or the kernel's even.
        TypeError: The dtype is not floating.

    References:
        He et al. (2015), arXiv:1502.01852, equation 10.
    """
    check_size("input_channels", input_channels)
    check_size("kernel_size", kernel_size)
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size: got {kernel_size}, expected an odd number")
    check_floating("dtype", dtype)
    channels = tuple(channels)
    if not channels:
        raise ValueError("channels: got none, expected at least one layer")
    for layer, size in enumerate(channels):
        check_size(f"channels[{layer}]", size)
    he = jax.nn.initializers.he_normal()
    below = (input_channels, *channels[:-1])
    return tuple(
        ConvolutionParams(
            he(layer_key, (kernel_size, kernel_size, inputs, outputs), dtype),
            jnp.zeros(outputs, dtype),
        )
        for layer_key, inputs, outputs in zip(
            jax.random.split(key, len(channels)), below, channels, strict=True
        )
    )


def map_shape(image: tuple[int, int], layers: int) -> tuple[int, int]:
    """Height and width of what so many layers make of an image: each halves both, rounded up."""
    height, width = image
    for _ in range(layers):
        height, width = -(-height // STRIDE), -(-width // STRIDE)
    return height, width


def apply_convolutions(params: Sequence[ConvolutionParams], images: Array) -> Array:
    """What the same network sees in each image, `(..., H, W, I) -> (..., H', W', O)`.

    a^[0] = x,  a^[l] = max(0, W^[l] * a^[l-1] + b^[l]) at every second place along both sides

    `*` is the correlation that deep learning calls convolution, with zeros around the image. H' and
    W' are `map_shape`. All leading axes, such as time and batch, are alike. Computed in the dtype
    of the images, summed as `rnnjax.scan` sums.

    Args:
        params: L records, from `init_convolutions`.
        images: `(..., H, W, I)`, floating.

    Raises:
        ValueError: There is no layer, or the last axis of the images is not I.
        TypeError: The images are not floating.
    """
    check_floating("images", images.dtype)
    if not params:
        raise ValueError("params: got no layers, expected at least one")
    input_channels = params[0].w.shape[-2]
    if images.ndim < 3 or images.shape[-1] != input_channels:
        raise ValueError(
            f"images: got shape {images.shape}, expected (..., H, W, {input_channels})"
        )
    leading, sums = images.shape[:-3], default_accumulation_dtype(images.dtype)
    maps = images.reshape(-1, *images.shape[-3:])
    for layer in params:
        found = lax.conv_general_dilated(
            maps,
            layer.w.astype(maps.dtype),
            window_strides=(STRIDE, STRIDE),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            preferred_element_type=sums,
        )
        maps = jax.nn.relu(found + layer.b.astype(sums)).astype(images.dtype)
    return maps.reshape(*leading, *maps.shape[1:])
