"""A recurrent classifier of whole recordings, many-to-one: vectors come in, one verdict goes out.

It is `rnnjax.models.sequence_classifier` for what is measured and not looked up in a vocabulary.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rnnjax.layers.checks import check_floating, check_size
from rnnjax.layers.deep import Layer, init_deep, scan_deep
from rnnjax.layers.dense import DenseParams, apply_dense, init_dense
from rnnjax.layers.dropout import check_rate, dropout_mask
from rnnjax.layers.pooling import both_ends, last_step, max_over_time, mean_over_time
from rnnjax.losses.classification import classification_loss
from rnnjax.models.checks import check_recurrence
from rnnjax.plans.protocol import Plan
from rnnjax.recurrences import REGISTRY
from rnnjax.recurrences.protocol import Params

Pooling = Literal["last", "mean", "max"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


@dataclass(frozen=True)
class SignalClassifierConfig:
    """What a classifier is made of; hashable, so it can be a static argument of `jax.jit`.

    Attributes:
        input_size: I, the axes of a sensor.
        class_count: K.
        recurrence: A name in `rnnjax.recurrences.REGISTRY` of what reads vectors, for all layers
            and directions.
        hidden_sizes: H of each layer, bottom first; of a bidirectional one that of one direction.
        bidirectional: Whether each layer also runs from the future, its outputs being [a→, a←].
        pooling: How the outputs of all steps become one vector, one of `POOLINGS`: "last" is
            `last_step`, and of a bidirectional network `both_ends`.

    Raises:
        ValueError: A field is out of range or unknown.
    """

    input_size: int
    class_count: int
    recurrence: str = "lstm"
    hidden_sizes: tuple[int, ...] = (64,)
    bidirectional: bool = True
    pooling: Pooling = "mean"

    def __post_init__(self) -> None:
        for name in ("input_size", "class_count"):
            check_size(name, getattr(self, name))
        if self.class_count < 2:
            raise ValueError(f"class_count: got {self.class_count}, expected at least 2")
        check_recurrence(self.recurrence)
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling: got {self.pooling!r}, expected one of {POOLINGS}")
        if not isinstance(self.hidden_sizes, tuple) or not self.hidden_sizes:
            raise ValueError(
                f"hidden_sizes: got {self.hidden_sizes!r}, expected a tuple of at least one size"
            )
        for layer, size in enumerate(self.hidden_sizes):
            check_size(f"hidden_sizes[{layer}]", size)


class SignalClassifierParams(NamedTuple):
    """The parameters of each part; a pytree."""

    layers: tuple[Params, ...]  # L records, bottom first
    head: DenseParams  # (P, K), (K,); P is the last of `output_sizes`


class SignalBatch(NamedTuple):
    """B recordings side by side and what each of them is."""

    signals: ArrayLike  # (T, B, I) floating
    lengths: ArrayLike  # (B,) integer, Tx of each
    labels: ArrayLike  # (B,) integer, 0 … K−1
    weights: ArrayLike  # (B,) float32, 1 for an example, 0 for a missing one


@cache
def output_sizes(config: SignalClassifierConfig) -> tuple[int, ...]:
    """How many outputs each layer has a step, of both directions together; nothing is computed."""
    layer = _layer(config)

    def outputs(key: Array) -> list[Array]:
        ys, of_each = jnp.zeros((1, config.input_size), jnp.float32), []
        for params in init_deep(key, layer, config.input_size, config.hidden_sizes):
            _, ys = scan_deep(layer, (params,), ys, plan="reference")
            of_each.append(ys)
        return of_each

    return tuple(ys.shape[-1] for ys in jax.eval_shape(outputs, jax.random.key(0)))


def init_signal_classifier(key: Array, config: SignalClassifierConfig) -> SignalClassifierParams:
    """Draw the parameters, float32.

    Args:
        key: A random key.
        config: What the classifier is made of.
    """
    key_layers, key_head = jax.random.split(key)
    return SignalClassifierParams(
        init_deep(key_layers, _layer(config), config.input_size, config.hidden_sizes),
        init_dense(key_head, output_sizes(config)[-1], config.class_count),
    )


def signal_logits(
    config: SignalClassifierConfig,
    params: SignalClassifierParams,
    signals: Array,
    lengths: ArrayLike | None = None,
    masks: tuple[Array, ...] | None = None,
    *,
    plan: str | Plan = "auto",
) -> Array:
    """Read whole recordings, and say what each of them is.

    P(y | x^<1>, …, x^<Tx>) = softmax(s W + b),  s = pool(a^<1>, …, a^<Tx>)

    Args:
        config: What the classifier is made of.
        params: Its parameters.
        signals: `(T, *B, I)`, floating.
        lengths: `(*B,)` integer, 0 … T; None is T of all. What follows a row's length is not read.
        masks: Of dropout, in training: `(T, *B, outputs)` between two layers each, and `(*B, P)` of
            s; None is none.
        plan: How each layer is run, as in `rnnjax.scan`.

    Returns:
        `(*B, K)`.

    Raises:
        TypeError: The signals are not floating, or the lengths are not integers.
        ValueError: A shape is wrong, or a known length is out of range.
    """
    check_floating("signals", signals.dtype)
    if signals.ndim < 2 or signals.shape[-1] != config.input_size:
        raise ValueError(
            f"signals: got shape {signals.shape}, expected (T, *B, {config.input_size})"
        )
    _, ys = scan_deep(
        _layer(config),
        params.layers,
        signals,
        lengths=lengths,
        dropout_masks=None if masks is None else masks[:-1],
        plan=plan,
    )
    pooled = _pool(config)(ys, lengths)
    if masks is not None:
        pooled = pooled * masks[-1]
    return apply_dense(params.head, pooled)


def signal_classifier_loss(
    config: SignalClassifierConfig,
    params: SignalClassifierParams,
    memory: Any,
    batch: SignalBatch,
    key: Array,
    *,
    dropout: float = 0.0,
    plan: str | Plan = "auto",
) -> tuple[Array, tuple[Any, Mapping[str, Array]]]:
    """The cross-entropy of what a recording is, averaged over the batch.

    loss = (1/B) Σ_b w_b L_b,  L = −log P(y | x^<1>, …, x^<Tx>)

    `functools.partial(signal_classifier_loss, config)` is the loss function of `rnnjax.training`.

    Args:
        config: What the classifier is made of.
        params: Its parameters.
        memory: Returned as it is: nothing goes from one batch to the next.
        batch: B examples.
        key: Of what is dropped.
        dropout: How often a unit is dropped between layers, and of the pooled vector.
        plan: How each layer is run.

    Returns:
        loss: `()`, nats per recording.
        memory: As given.
        metrics: Those of `classification_loss`.

    Raises:
        TypeError: As `signal_logits`, or the rate is not a number.
        ValueError: As `signal_logits`, or the rate, or a label that counts, is out of range.
    """
    check_rate("dropout", dropout)
    signals, masks = jnp.asarray(batch.signals), None
    if dropout > 0:
        *between, pooled = output_sizes(config)
        shapes = [(*signals.shape[:-1], size) for size in between]
        shapes.append((*signals.shape[1:-1], pooled))
        keys = jax.random.split(key, len(shapes))
        masks = tuple(
            dropout_mask(one, dropout, shape, dtype=signals.dtype)
            for one, shape in zip(keys, shapes, strict=True)
        )
    logits = signal_logits(config, params, signals, batch.lengths, masks, plan=plan)
    loss, metrics = classification_loss(logits, batch.labels, batch.weights)
    return loss, (memory, metrics)


def signal_log_probabilities(
    config: SignalClassifierConfig,
    params: SignalClassifierParams,
    signals: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    plan: str | Plan = "auto",
) -> Array:
    """How probable each class is, log P(y = k | x^<1>, …, x^<Tx>).

    Args:
        config: What the classifier is made of.
        params: Its parameters.
        signals: `(T, *B, I)`, floating.
        lengths: `(*B,)` integer, 0 … T.
        plan: How each layer is run.

    Returns:
        `(*B, K)`, nats, at most 0.

    Raises:
        TypeError: As `signal_logits`.
        ValueError: As `signal_logits`.
    """
    logits = signal_logits(config, params, jnp.asarray(signals), lengths, plan=plan)
    return jax.nn.log_softmax(logits)


def _layer(config: SignalClassifierConfig) -> Layer:
    recurrence = REGISTRY[config.recurrence]
    return Layer(recurrence, recurrence if config.bidirectional else None)


def _pool(config: SignalClassifierConfig) -> Callable[[Array, ArrayLike | None], Array]:
    if config.pooling == "last":
        return both_ends if config.bidirectional else last_step
    return {"mean": mean_over_time, "max": max_over_time}[config.pooling]
