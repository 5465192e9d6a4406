"""A convolutional network of images: what it sees in a frame, before time comes in."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from rnnjax.layers.checks import check_floating, check_size
from rnnjax.precision import default_accumulation_dtype, product_of_inputs

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
    convolution = product_of_patches if jax.default_backend() == "cpu" else compiled
    for layer in params:
        found = convolution(maps, layer.w.astype(maps.dtype)).astype(sums)
        maps = jax.nn.relu(found + layer.b.astype(sums)).astype(images.dtype)
    return maps.reshape(*leading, *maps.shape[1:])


def product_of_patches(images: Array, kernel: Array) -> Array:
    """W * x at every second place, as one matrix product of all that the kernel sees in a row.

    XLA's CPU compiler has no fast code for the derivative of a convolution: of three layers on
    32 × 32 pixels it takes five times as long as that of these products, measured on two cores.

    Args:
        images: `(N, H, W, I)`.
        kernel: `(K, K, I, O)`, of the dtype of the images.

    Returns:
        `(N, H', W', O)`.
    """
    size, (height, width) = kernel.shape[0], images.shape[1:3]
    rows, columns = map_shape((height, width), 1)
    around = [_padding(rows, height, size), _padding(columns, width, size)]
    padded = jnp.pad(images, [(0, 0), *around, (0, 0)])
    patches = [
        padded[:, row : row + STRIDE * rows : STRIDE, column : column + STRIDE * columns : STRIDE]
        for row in range(size)
        for column in range(size)
    ]
    seen = jnp.concatenate(patches, axis=-1)
    return product_of_inputs(seen, kernel.reshape(-1, kernel.shape[-1]))


def compiled(images: Array, kernel: Array) -> Array:
    """The same by the compiler's own convolution."""
    return lax.conv_general_dilated(
        images,
        kernel,
        window_strides=(STRIDE, STRIDE),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        preferred_element_type=default_accumulation_dtype(images.dtype),
    )


def _padding(places: int, size: int, kernel_size: int) -> tuple[int, int]:
    """Zeros before and behind one axis of an image; the odd one is behind."""
    missing = max(0, STRIDE * (places - 1) + kernel_size - size)
    # What is sliced reaches one further than what is seen, where a stride ends.
    return missing // 2, missing - missing // 2 + STRIDE - 1
