"""A transcriber: from frames of sound to letters, many to many with Ty < Tx and no alignment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rnnjax.layers.checks import check_floating, check_size
from rnnjax.layers.deep import Layer, init_deep, initial_deep_carry, scan_deep
from rnnjax.layers.dense import DenseParams, apply_dense, init_dense
from rnnjax.layers.dropout import check_rate, dropout_mask
from rnnjax.losses.cross_entropy import mean_over_counted
from rnnjax.losses.ctc import LabelWindows, ctc_loss
from rnnjax.models.checks import check_dtypes, check_recurrence, dtype_and_drawing_dtype
from rnnjax.plans.protocol import Plan
from rnnjax.recurrences import REGISTRY
from rnnjax.recurrences.protocol import Carry, Params


@dataclass(frozen=True)
class TranscriberConfig:
    """What a transcriber is made of; hashable, so it can be a static argument of `jax.jit`.

    Attributes:
        input_size: I, numbers of a frame.
        label_count: V, the blank counted.
        recurrence: A name in `rnnjax.recurrences.REGISTRY` of what reads vectors, for all layers.
        hidden_sizes: H of each layer and direction, bottom first.
        bidirectional: Whether each layer runs from the end too; then there is no transcribing
            while the sound plays.
        dropout: The rate at which outputs of the layers are dropped in training.
        dtype: Of parameters, and of all that is not said otherwise.
        compute_dtype: Of the factors of products and of activations; None is `dtype`.
        output_dtype: Of logits; None is `compute_dtype`.
        accumulation_dtype: Of sums, gates and carries, as in `rnnjax.scan`.

    Raises:
        ValueError: A field is out of range or unknown.
    """

    input_size: int
    label_count: int
    recurrence: str = "lstm"
    hidden_sizes: tuple[int, ...] = (128, 128)
    bidirectional: bool = True
    dropout: float = 0.2
    dtype: str = "float32"
    compute_dtype: str | None = None
    output_dtype: str | None = None
    accumulation_dtype: str | None = None

    def __post_init__(self) -> None:
        check_size("input_size", self.input_size)
        if self.label_count < 2:
            raise ValueError(
                f"label_count: got {self.label_count}, expected at least 2, the blank among them"
            )
        check_recurrence(self.recurrence)
        if not isinstance(self.hidden_sizes, tuple) or not self.hidden_sizes:
            raise ValueError(
                f"hidden_sizes: got {self.hidden_sizes!r}, expected a tuple of at least one size"
            )
        for layer, size in enumerate(self.hidden_sizes):
            check_size(f"hidden_sizes[{layer}]", size)
        check_rate("dropout", self.dropout)
        check_dtypes(self)


class TranscriberParams(NamedTuple):
    """The parameters of each part; a pytree."""

    layers: tuple[Params, ...]  # L records, bottom first
    head: DenseParams  # (2H, V) or (H, V), (V,)


class TranscribedBatch(NamedTuple):
    """B utterances and what is said in them; missing ones have both lengths 0."""

    frames: ArrayLike  # (T, B, I)
    lengths: ArrayLike  # (B,) integer, Tx
    labels: ArrayLike  # (Ty, B) integer, 1 … V−1 within a length
    label_lengths: ArrayLike  # (B,) integer
    windows: LabelWindows | None = None  # leaves (Ty, B): when each may be said


def init_transcriber(key: Array, config: TranscriberConfig) -> TranscriberParams:
    """Draw the parameters.

    Args:
        key: A random key.
        config: What the transcriber is made of.

    Raises:
        ValueError: The dtype is float64 while `jax_enable_x64` is off.
    """
    dtype, drawn = dtype_and_drawing_dtype(config.dtype)
    key_layers, key_head = jax.random.split(key)
    layers = init_deep(
        key_layers, _layer(config), config.input_size, config.hidden_sizes, dtype=drawn
    )
    # Not H of every recurrence: lstm_projected and lru have outputs of another size.
    _, ys = jax.eval_shape(
        lambda layers: scan_deep(
            _layer(config), layers, jnp.zeros((1, config.input_size), drawn), plan="reference"
        ),
        layers,
    )
    head = init_dense(key_head, ys.shape[-1], config.label_count, dtype=drawn)
    params = TranscriberParams(layers, head)
    return jax.tree.map(lambda array: array.astype(dtype), params)


def initial_transcriber_carry(
    config: TranscriberConfig, params: TranscriberParams, batch_shape: tuple[int, ...]
) -> tuple[Carry, ...]:
    """What `apply_transcriber` begins a sound with: the carry of each layer, leaves `(*B, H)`."""
    return initial_deep_carry(_layer(config), params.layers, batch_shape)


def apply_transcriber(
    config: TranscriberConfig,
    params: TranscriberParams,
    frames: ArrayLike,
    carry: tuple[Carry, ...] | None = None,
    *,
    lengths: ArrayLike | None = None,
    dropout_key: Array | None = None,
    plan: str | Plan = "auto",
) -> tuple[tuple[Carry, ...], Array]:
    """Score each label, and the blank, at each step.

    logits^<t> = a^<t> W + b,  a^<t> = [a→^<t>, a←^<t>] of the top layer, or a→^<t> alone

    In one direction logits^<t> is known as soon as frame t is: give the carry that a call returns
    to the next one, and the stretches of a sound give what the whole of it gives.

    Args:
        config: What the transcriber is made of.
        params: Its parameters.
        frames: `(T, *B, I)`, floating.
        carry: Of each layer, from the stretch before; None is the beginning.
        lengths: `(*B,)` integer, 0 … T; past it logits are b, which means nothing.
        dropout_key: A random key to drop outputs of layers by, in training; None drops nothing.
        plan: How each layer is run, as in `rnnjax.scan`.

    Returns:
        carry: Of each layer, after the last frame.
        logits: `(T, *B, V)`.

    Raises:
        TypeError: An argument is of the wrong kind or dtype.
        ValueError: A shape is wrong or a known length out of range, or a carry is given to layers
            in both directions.
    """
    frames = jnp.asarray(frames)
    check_floating("frames", frames.dtype)
    if frames.ndim < 2 or frames.shape[-1] != config.input_size:
        raise ValueError(f"frames: got shape {frames.shape}, expected (T, *B, {config.input_size})")
    if carry is not None and config.bidirectional:
        raise ValueError(
            "carry: got one, expected None: in both directions a sound is read from its end"
        )
    xs = frames.astype(jnp.dtype(config.compute_dtype or config.dtype))
    between, above = None, None
    if dropout_key is not None and config.dropout > 0:
        *between, above = _draw_masks(config, params, dropout_key, xs)
    carry, ys = scan_deep(
        _layer(config),
        params.layers,
        xs,
        carry,
        lengths=lengths,
        dropout_masks=between,
        accumulation_dtype=config.accumulation_dtype,
        plan=plan,
    )
    if above is not None:
        ys = ys * above
    return carry, apply_dense(params.head, ys, output_dtype=config.output_dtype)


def transcriber_loss(
    config: TranscriberConfig,
    params: TranscriberParams,
    memory: tuple[()],
    batch: TranscribedBatch,
    key: Array,
    *,
    plan: str | Plan = "auto",
) -> tuple[Array, tuple[tuple[()], Mapping[str, Array]]]:
    """How surprised the transcriber is by what is said, averaged over the batch.

    loss = (1/B) Σ_b −log P(y^<1>, …, y^<Ty> | x^<1>, …, x^<Tx>), as `rnnjax.losses.ctc` has it

    `functools.partial(transcriber_loss, config)` is the loss function of `rnnjax.training`.

    Args:
        config: What the transcriber is made of.
        params: Its parameters.
        memory: `()`: nothing goes from batch to batch.
        batch: B utterances; missing ones do not count.
        key: Of dropout.
        plan: How each layer is run.

    Returns:
        loss: `()`, nats per utterance.
        memory: `()`.
        metrics: `()` each: `nats_per_label` (mean), and to be added up over batches `nats` and
            `labels`.

    Raises:
        TypeError: As `apply_transcriber` or `ctc_loss`.
        ValueError: As `apply_transcriber` or `ctc_loss`.
    """
    lengths = jnp.asarray(batch.lengths)
    _, logits = apply_transcriber(
        config, params, batch.frames, lengths=lengths, dropout_key=key, plan=plan
    )
    losses = ctc_loss(
        logits,
        batch.labels,
        lengths=lengths,
        label_lengths=batch.label_lengths,
        windows=batch.windows,
    )
    nats = jnp.sum(losses)
    labels = jnp.sum(jnp.asarray(batch.label_lengths)).astype(losses.dtype)
    utterances = jnp.sum(lengths > 0).astype(losses.dtype)
    metrics = {"nats_per_label": mean_over_counted(nats, labels), "nats": nats, "labels": labels}
    return mean_over_counted(nats, utterances), (memory, metrics)


def _layer(config: TranscriberConfig) -> Layer:
    recurrence = REGISTRY[config.recurrence]
    return Layer(recurrence, recurrence if config.bidirectional else None)


def _draw_masks(
    config: TranscriberConfig, params: TranscriberParams, key: Array, xs: Array
) -> list[Array]:
    """Of the outputs of each layer, others at each step."""
    recurrence = REGISTRY[config.recurrence]
    above = [of_one.forward if config.bidirectional else of_one for of_one in params.layers[1:]]
    sizes = [recurrence.input_shape(of_one)[0] for of_one in above] + [params.head.w.shape[0]]
    return [
        dropout_mask(one, config.dropout, (*xs.shape[:-1], size), dtype=xs.dtype)
        for one, size in zip(jax.random.split(key, len(sizes)), sizes, strict=True)
    ]
