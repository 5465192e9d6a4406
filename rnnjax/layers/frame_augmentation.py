"""Clips changed at random in training, all frames of a clip alike, so that a few go further.

What is drawn is apart from what is done with it: the same draws change a clip the same way.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rnnjax.layers.checks import check_floating
from rnnjax.layers.dropout import bernoulli


class FrameAugmentation(NamedTuple):
    """What happens to each clip; leaves `(*B,)`."""

    flipped: Array  # bool: left and right change places
    down: Array  # int32, pixels; negative is up
    right: Array  # int32, pixels; negative is left
    brightness: Array  # floating: what every pixel is multiplied by


def draw_frame_augmentation(
    key: Array, batch_shape: tuple[int, ...], *, shift: int = 3, brightness: float = 0.3
) -> FrameAugmentation:
    """Draw for each clip whether it is flipped, how far it is moved, and how bright it is.

    flipped ~ Bernoulli(1/2),  down, right ~ U{−shift, …, shift},
    brightness ~ U(1 − brightness, 1 + brightness)

    Args:
        key: A random key.
        batch_shape: `*B`.
        shift: How far at most, in pixels; 0 moves nothing.
        brightness: How much darker or brighter at most, 0 ≤ brightness < 1.

    Raises:
        ValueError: The shift is negative, or the brightness outside 0 ≤ brightness < 1.
    """
    check_augmentation(shift, brightness)
    key_flip, key_down, key_right, key_light = jax.random.split(key, 4)

    def pixels(one: Array) -> Array:
        return jax.random.randint(one, batch_shape, -shift, shift + 1, jnp.int32)

    light = jax.random.uniform(
        key_light, batch_shape, jnp.float32, 1.0 - brightness, 1.0 + brightness
    )
    return FrameAugmentation(
        bernoulli(key_flip, 0.5, batch_shape), pixels(key_down), pixels(key_right), light
    )


def check_augmentation(shift: int, brightness: float) -> None:
    """Raise ValueError unless clips can be changed by so much."""
    if shift < 0:
        raise ValueError(f"shift: got {shift}, expected at least 0")
    if not 0 <= brightness < 1:
        raise ValueError(f"brightness: got {brightness}, expected 0 ≤ brightness < 1")


def augment_frames(drawn: FrameAugmentation, frames: Array) -> Array:
    """Clips as they were drawn to be: flipped, then moved, then made darker or brighter.

    y_h,w = min(1, brightness · x_{h − down, w − right}),  the nearest pixel where there is none

    Args:
        drawn: Leaves `(*B,)`.
        frames: `(T, *B, H, W, C)`, 0 … 1.

    Returns:
        As the frames, 0 … 1.

    Raises:
        ValueError: The batch axes differ.
        TypeError: The frames are not floating.
    """
    check_floating("frames", frames.dtype)
    if frames.ndim < 4 or frames.shape[1:-3] != drawn.flipped.shape:
        raise ValueError(
            f"frames: got shape {frames.shape}, expected (T, {drawn.flipped.shape} of what was "
            "drawn, H, W, C)"
        )
    height, width = frames.shape[-3:-1]
    rows = _moved(height, drawn.down)
    columns = _moved(width, drawn.right)
    columns = jnp.where(drawn.flipped[..., None], width - 1 - columns, columns)

    def moved(clip: Array, rows: Array, columns: Array) -> Array:
        return clip[:, rows][:, :, columns]

    for _ in drawn.flipped.shape:
        moved = jax.vmap(moved, (1, 0, 0), 1)
    frames = moved(frames, rows, columns)
    light = drawn.brightness.astype(frames.dtype)[..., None, None, None]
    return jnp.minimum(frames * light, jnp.ones((), frames.dtype))


def _moved(size: int, by: Array) -> Array:
    """The places `(*B, size)` that pixels come from, int32."""
    places = jnp.arange(size, dtype=jnp.int32) - by[..., None]
    return jnp.clip(places, 0, size - 1)
