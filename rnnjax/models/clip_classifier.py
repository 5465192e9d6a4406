"""What happens in a clip: a convolutional network sees each frame, a recurrent one reads them.

Without a recurrence the frames are a bag, whose order nothing depends on: the baseline that shows
what the order is worth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rnnjax.layers.checks import check_floating, check_size
from rnnjax.layers.convolution import (
    ConvolutionParams,
    apply_convolutions,
    init_convolutions,
    map_shape,
)
from rnnjax.layers.dense import DenseParams, apply_dense, init_dense
from rnnjax.layers.dropout import check_rate, dropout_mask
from rnnjax.layers.frame_augmentation import (
    augment_frames,
    check_augmentation,
    draw_frame_augmentation,
)
from rnnjax.losses.classification import classification_loss
from rnnjax.models.checks import reads_vectors
from rnnjax.plans.protocol import Plan
from rnnjax.recurrences import REGISTRY
from rnnjax.recurrences.protocol import Params
from rnnjax.scanning import scan

IMAGES = "conv_lstm_2d"
"""The recurrence that reads what the convolutions make of a frame as it is, place by place."""


@dataclass(frozen=True)
class ClipClassifierConfig:
    """What a classifier is made of; hashable, so it can be a static argument of `jax.jit`.

    Attributes:
        frame_shape: Height, width and channels of a frame.
        class_count: K.
        channels: Of each convolution, bottom first; each halves height and width.
        recurrence: A name in `rnnjax.recurrences.REGISTRY` of what reads vectors, or
            "conv_lstm_2d", which reads maps. None is a bag of frames.
        feature_size: F, of the vector that a frame becomes; "conv_lstm_2d" has none.
        hidden_size: H, of "conv_lstm_2d" channels; a bag has none.
        pixel_mean: What is subtracted from pixels of 0 … 1; the mean of those to learn from.
        pixel_deviation: And what they are divided by then.

    Raises:
        ValueError: A field is out of range or unknown.
    """

    frame_shape: tuple[int, int, int]
    class_count: int
    channels: tuple[int, ...] = (16, 32, 64)
    recurrence: str | None = "lstm"
    feature_size: int = 64
    hidden_size: int = 64
    pixel_mean: float = 0.5
    pixel_deviation: float = 0.25

    def __post_init__(self) -> None:
        for name in ("class_count", "feature_size", "hidden_size"):
            check_size(name, getattr(self, name))
        if self.class_count < 2:
            raise ValueError(f"class_count: got {self.class_count}, expected at least 2")
        if len(self.frame_shape) != 3:
            raise ValueError(
                f"frame_shape: got {self.frame_shape}, expected height, width and channels"
            )
        for axis, size in enumerate(self.frame_shape):
            check_size(f"frame_shape[{axis}]", size)
        if not isinstance(self.channels, tuple) or not self.channels:
            raise ValueError(
                f"channels: got {self.channels!r}, expected a tuple of at least one number"
            )
        for layer, size in enumerate(self.channels):
            check_size(f"channels[{layer}]", size)
        if not self.pixel_deviation > 0:
            raise ValueError(f"pixel_deviation: got {self.pixel_deviation}, expected above 0")
        if self.recurrence in (None, IMAGES):
            return
        if self.recurrence not in REGISTRY:
            known = ", ".join(REGISTRY)
            raise ValueError(f"recurrence: got {self.recurrence!r}, expected one of {known}")
        if not reads_vectors(self.recurrence):
            raise ValueError(
                f"recurrence: got {self.recurrence!r}, expected one that reads vectors or {IMAGES}"
            )


class ClipClassifierParams(NamedTuple):
    """The parameters of each part; a pytree."""

    convolutions: tuple[ConvolutionParams, ...]
    features: DenseParams | None  # (H' W' C', F), (F,); None of conv_lstm_2d
    layer: Params | None  # None of a bag
    head: DenseParams


class ClipBatch(NamedTuple):
    """B clips side by side and what happens in each."""

    frames: ArrayLike  # (T, B, H, W, C) uint8
    labels: ArrayLike  # (B,) integer, 0 … K−1
    weights: ArrayLike  # (B,) float32, 1 for an example, 0 for a missing one


def init_clip_classifier(key: Array, config: ClipClassifierConfig) -> ClipClassifierParams:
    """Draw the parameters, float32.

    Args:
        key: A random key.
        config: What the classifier is made of.
    """
    key_convolutions, key_features, key_layer, key_head = jax.random.split(key, 4)
    *image, input_channels = config.frame_shape
    places = map_shape((image[0], image[1]), len(config.channels))
    seen = places[0] * places[1] * config.channels[-1]
    features = layer = None
    if config.recurrence == IMAGES:
        layer = REGISTRY[IMAGES].init(
            key_layer, config.channels[-1], config.hidden_size, spatial_shape=places
        )
        size = places[0] * places[1] * config.hidden_size
    else:
        features = init_dense(key_features, seen, config.feature_size)
        size = config.feature_size
        if config.recurrence is not None:
            layer = REGISTRY[config.recurrence].init(key_layer, size, config.hidden_size)
            size = _output_size(config.recurrence, layer)
    return ClipClassifierParams(
        init_convolutions(key_convolutions, input_channels, config.channels),
        features,
        layer,
        init_dense(key_head, size, config.class_count),
    )


def unit_frames(frames: ArrayLike) -> Array:
    """Pixels of 0 … 255 as float32 of 0 … 1.

    Raises:
        TypeError: They are not uint8.
    """
    frames = jnp.asarray(frames)
    if frames.dtype != jnp.uint8:
        raise TypeError(f"frames: got dtype {frames.dtype.name}, expected uint8")
    return frames.astype(jnp.float32) / 255


def clip_logits(
    config: ClipClassifierConfig,
    params: ClipClassifierParams,
    frames: Array,
    mask: Array | None = None,
    *,
    plan: str | Plan = "auto",
) -> Array:
    """Watch clips, and say after each frame what happens in them.

    v^<t> = max(0, CNN((x^<t> − mean) / deviation) W_v + b_v),
    P(y | x^<1>, …, x^<t>) = softmax(s^<t> W + b),
    s^<t> = a^<t>, the output of the recurrence that reads v;  of a bag (v^<1> + … + v^<t>) / t

    "conv_lstm_2d" reads CNN(x^<t>) itself, and s^<t> is all of its map a^<t>. The verdict on a
    clip is the last one.

    Args:
        config: What the classifier is made of.
        params: Its parameters.
        frames: `(T, *B, H, W, C)`, floating, 0 … 1.
        mask: Multiplies s, in training; of the last axis of s, with batch axes before it.
        plan: How the recurrence is run, as in `rnnjax.scan`.

    Returns:
        `(T, *B, K)`.

    Raises:
        TypeError: The frames are not floating.
        ValueError: They are not of the config's shape.
    """
    check_floating("frames", frames.dtype)
    if frames.ndim < 4 or frames.shape[0] < 1 or frames.shape[-3:] != config.frame_shape:
        raise ValueError(
            f"frames: got shape {frames.shape}, expected (T, *B, H, W, C) with T of at least 1 and "
            f"frames of {config.frame_shape}"
        )
    scaled = (frames - config.pixel_mean) / config.pixel_deviation
    maps = apply_convolutions(params.convolutions, scaled)
    if params.features is None:
        _, outputs = scan(REGISTRY[IMAGES], params.layer, maps, plan=plan)
        states = _flat(outputs)
    else:
        vectors = jax.nn.relu(apply_dense(params.features, _flat(maps)))
        if config.recurrence is None:
            seen = jnp.arange(1, frames.shape[0] + 1, dtype=jnp.int32).astype(vectors.dtype)
            seen = seen.reshape(-1, *(1,) * (vectors.ndim - 1))
            states = jnp.cumsum(vectors, axis=0) / seen
        else:
            _, states = scan(REGISTRY[config.recurrence], params.layer, vectors, plan=plan)
    if mask is not None:
        states = states * mask
    return apply_dense(params.head, states)


def clip_classifier_loss(
    config: ClipClassifierConfig,
    params: ClipClassifierParams,
    memory: Any,
    batch: ClipBatch,
    key: Array,
    *,
    dropout: float = 0.0,
    shift: int = 0,
    brightness: float = 0.0,
    plan: str | Plan = "auto",
) -> tuple[Array, tuple[Any, Mapping[str, Array]]]:
    """The cross-entropy of what happens in a clip, averaged over the batch.

    loss = (1/B) Σ_b w_b L_b,  L = −log P(y | x^<1>, …, x^<T>)

    The clips are augmented first: flipped, moved, made darker or brighter, see
    `rnnjax.layers.frame_augmentation`. `functools.partial(clip_classifier_loss, config)` is the
    loss function of `rnnjax.training`.

    Args:
        config: What the classifier is made of.
        params: Its parameters.
        memory: Returned as it is: nothing goes from one batch to the next.
        batch: B clips.
        key: Of what is drawn.
        dropout: How often a unit of s^<T> is dropped.
        shift: Of `draw_frame_augmentation`.
        brightness: Of `draw_frame_augmentation`.
        plan: How the recurrence is run.

    Returns:
        loss: `()`, nats per clip.
        memory: As given.
        metrics: Those of `classification_loss`.

    Raises:
        TypeError: As `clip_logits`, or the frames are not uint8, or the rate is not a number.
        ValueError: As `clip_logits`, or a rate or a label that counts is out of range.
    """
    check_rate("dropout", dropout)
    check_augmentation(shift, brightness)
    frames = unit_frames(batch.frames)
    key_frames, key_units = jax.random.split(key)
    batch_shape = frames.shape[1:-3]
    drawn = draw_frame_augmentation(key_frames, batch_shape, shift=shift, brightness=brightness)
    mask = None
    if dropout > 0:
        size = params.head.w.shape[0]
        mask = dropout_mask(key_units, dropout, (*batch_shape, size), dtype=frames.dtype)
    logits = clip_logits(config, params, augment_frames(drawn, frames), mask, plan=plan)[-1]
    loss, metrics = classification_loss(logits, batch.labels, batch.weights)
    return loss, (memory, metrics)


def clip_log_probabilities(
    config: ClipClassifierConfig,
    params: ClipClassifierParams,
    frames: ArrayLike,
    *,
    plan: str | Plan = "auto",
) -> Array:
    """How probable each class is after each frame, log P(y = k | x^<1>, …, x^<t>).

    Args:
        config: What the classifier is made of.
        params: Its parameters.
        frames: `(T, *B, H, W, C)` uint8.
        plan: How the recurrence is run.

    Returns:
        `(T, *B, K)`, nats, at most 0.

    Raises:
        TypeError: As `clip_logits`, or the frames are not uint8.
        ValueError: As `clip_logits`.
    """
    return jax.nn.log_softmax(clip_logits(config, params, unit_frames(frames), plan=plan))


def _flat(maps: Array) -> Array:
    """`(..., H, W, C) -> (..., H W C)`."""
    return maps.reshape(*maps.shape[:-3], -1)


def _output_size(recurrence: str, layer: Params) -> int:
    """How many outputs a recurrence has a step; H where it has no projection of its own."""
    of_name = REGISTRY[recurrence]

    def outputs(layer: Params) -> Array:
        xs = jnp.zeros((1, *of_name.input_shape(layer)), jnp.float32)
        return scan(of_name, layer, xs, plan="reference")[1]

    return jax.eval_shape(outputs, layer).shape[-1]
