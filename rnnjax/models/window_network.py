"""A recurrent network that reads each step with the steps around it, and answers once or each step.

Many-to-one or many-to-many with Tx = Ty, of vectors such as the one-hot vectors of DNA.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rnnjax.layers.attention import lengths_to_mask
from rnnjax.layers.checks import check_floating, check_size
from rnnjax.layers.deep import Layer, init_deep, scan_deep
from rnnjax.layers.dense import DenseParams, apply_dense, init_dense
from rnnjax.layers.dropout import check_rate, dropout_mask
from rnnjax.layers.pooling import both_ends, last_step, max_over_time, mean_over_time
from rnnjax.losses.classification import classification_loss
from rnnjax.models.checks import check_recurrence
from rnnjax.plans.masking import zero_unless
from rnnjax.plans.protocol import Plan
from rnnjax.recurrences import REGISTRY
from rnnjax.recurrences.protocol import Params

Answer = Literal["middle", "last", "mean", "max", "each"]
ANSWERS: tuple[Answer, ...] = get_args(Answer)


@dataclass(frozen=True)
class WindowNetworkConfig:
    """What a network is made of; hashable, so it can be a static argument of `jax.jit`.

    Attributes:
        class_count: K.
        input_size: I, 4 of DNA.
        window: W, odd: a step is seen with (W − 1) / 2 steps before it and as many after it.
        stride: D: the recurrence takes one step for D of the input, such as 3 for a codon; one of
            its answers is that of all D.
        feature_size: F, of the vector that a window becomes.
        recurrence: A name in `rnnjax.recurrences.REGISTRY` of what reads vectors, for all layers
            and directions.
        hidden_sizes: H of each layer, bottom first; of a bidirectional one that of one direction.
        bidirectional: Whether each layer also runs from the future, its outputs being [a→, a←].
        answer: "each": one a step. "middle", "last", "mean" or "max": one a sequence, from outputs
            pooled so; "middle" is the output at step Tx / 2 (rounded down, counted from 0), "last"
            is `last_step`, and of a bidirectional network `both_ends`.

    Raises:
        ValueError: A field is out of range or unknown.
    """

    class_count: int
    input_size: int = 4
    window: int = 9
    stride: int = 1
    feature_size: int = 32
    recurrence: str = "lstm"
    hidden_sizes: tuple[int, ...] = (32,)
    bidirectional: bool = True
    answer: Answer = "each"

    def __post_init__(self) -> None:
        for name in ("class_count", "input_size", "window", "stride", "feature_size"):
            check_size(name, getattr(self, name))
        if self.class_count < 2:
            raise ValueError(f"class_count: got {self.class_count}, expected at least 2")
        if self.window % 2 == 0:
            raise ValueError(f"window: got {self.window}, expected an odd number")
        check_recurrence(self.recurrence)
        if self.answer not in ANSWERS:
            raise ValueError(f"answer: got {self.answer!r}, expected one of {', '.join(ANSWERS)}")
        if not isinstance(self.hidden_sizes, tuple) or not self.hidden_sizes:
            raise ValueError(
                f"hidden_sizes: got {self.hidden_sizes!r}, expected a tuple of at least one size"
            )
        for layer, size in enumerate(self.hidden_sizes):
            check_size(f"hidden_sizes[{layer}]", size)


class WindowNetworkParams(NamedTuple):
    """The parameters of each part; a pytree."""

    features: DenseParams  # (W I, F), (F,)
    layers: tuple[Params, ...]  # L records, bottom first
    head: DenseParams  # (S, K), (K,); S is H, or 2H of both directions


class WindowBatch(NamedTuple):
    """B sequences side by side and what each of them, or of their steps, is."""

    inputs: ArrayLike  # (T, B, I) floating
    lengths: ArrayLike  # (B,) integer, Tx of each
    labels: ArrayLike  # (B,) integer, 0 … K−1; of answer="each" (T, B)
    weights: ArrayLike  # as the labels, floating: 0 where one does not count


def init_window_network(key: Array, config: WindowNetworkConfig) -> WindowNetworkParams:
    """Draw the parameters, float32.

    Args:
        key: A random key.
        config: What the network is made of.
    """
    key_features, key_layers, key_head = jax.random.split(key, 3)
    layer = _layer(config)
    layers = init_deep(key_layers, layer, config.feature_size, config.hidden_sizes)

    def outputs(layers: tuple[Params, ...]) -> Array:
        xs = jnp.zeros((1, config.feature_size), jnp.float32)
        return scan_deep(layer, layers, xs, plan="reference")[1]

    size = jax.eval_shape(outputs, layers).shape[-1]
    return WindowNetworkParams(
        init_dense(key_features, config.window * config.input_size, config.feature_size),
        layers,
        init_dense(key_head, size, config.class_count),
    )


def windows(xs: Array, width: int, stride: int = 1) -> Array:
    """Steps with those around them, zeros beyond both ends.

    w^<k> = [x^<m-h>, …, x^<m>, …, x^<m+h>],  h = (W − 1) / 2,  m in the middle of the k-th D steps

    Args:
        xs: `(T, *B, I)`.
        width: W, odd.
        stride: D.

    Returns:
        `(⌈T / D⌉, *B, W I)`.
    """
    half, count = (width - 1) // 2, -(-xs.shape[0] // stride)
    padded = jnp.pad(xs, [(half, half + stride)] + [(0, 0)] * (xs.ndim - 1))
    first, span = stride // 2, stride * (count - 1) + 1
    shifted = [padded[first + o : first + o + span : stride] for o in range(width)]
    return jnp.concatenate(shifted, axis=-1)


def apply_window_network(
    config: WindowNetworkConfig,
    params: WindowNetworkParams,
    inputs: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    dropout: float = 0.0,
    key: Array | None = None,
    plan: str | Plan = "auto",
) -> Array:
    """Read sequences, and say what each of them, or each of their steps, is.

    v^<t> = max(0, w^<t> W_v + b_v),  P(y^<t> | x) = softmax(a^<t> W + b),  or of one answer
    P(y | x) = softmax(s W + b),  s = pool(a^<1>, …, a^<Tx>)

    w are the `windows` of x, and a the outputs of the recurrent layers that read v.

    Args:
        config: What the network is made of.
        params: Its parameters.
        inputs: `(T, *B, I)`, floating.
        lengths: `(*B,)` integer, 0 … T; None is T of all. What follows a row's length is not read.
        dropout: How often a unit of v and of a, or of s, is dropped, in training.
        key: A random key of that; without one nothing is dropped.
        plan: How each layer is run, as in `rnnjax.scan`.

    Returns:
        Logits: `(T, *B, K)` of answer="each", of others `(*B, K)`.

    Raises:
        TypeError: The inputs are not floating, or the lengths not integers.
        ValueError: A shape is wrong, or a known length or the rate is out of range.
    """
    check_rate("dropout", dropout)
    xs = jnp.asarray(inputs)
    check_floating("inputs", xs.dtype)
    if xs.ndim < 2 or xs.shape[0] < 1 or xs.shape[-1] != config.input_size:
        raise ValueError(
            f"inputs: got shape {xs.shape}, expected (T, *B, {config.input_size}) with T of at "
            "least 1"
        )
    if lengths is not None:
        mask = lengths_to_mask(lengths, xs.shape[0])
        if mask.shape != xs.shape[:-1]:
            raise ValueError(
                f"lengths: got shape {mask.shape[1:]}, expected {xs.shape[1:-1]} (*B), that of "
                "the inputs"
            )
        xs = zero_unless(mask, xs)
        lengths = -(-jnp.asarray(lengths) // config.stride)
    seen = jax.nn.relu(apply_dense(params.features, windows(xs, config.window, config.stride)))
    keys = None if key is None or dropout == 0 else jax.random.split(key)
    if keys is not None:
        seen = seen * dropout_mask(keys[0], dropout, seen.shape, dtype=seen.dtype)
    _, states = scan_deep(_layer(config), params.layers, seen, lengths=lengths, plan=plan)
    states = _pooled(config, states, lengths)
    if keys is not None:
        states = states * dropout_mask(keys[1], dropout, states.shape, dtype=states.dtype)
    logits = apply_dense(params.head, states)
    if config.answer == "each" and config.stride > 1:
        logits = jnp.repeat(logits, config.stride, axis=0)[: xs.shape[0]]
    return logits


def window_network_loss(
    config: WindowNetworkConfig,
    params: WindowNetworkParams,
    memory: Any,
    batch: WindowBatch,
    key: Array,
    *,
    dropout: float = 0.0,
    plan: str | Plan = "auto",
) -> tuple[Array, tuple[Any, Mapping[str, Array]]]:
    """The cross-entropy of what a sequence, or a step, is, averaged over the batch.

    loss = (1/n) Σ w L over all n labels of the batch,  L = −log P(y | x)

    `functools.partial(window_network_loss, config)` is the loss function of `rnnjax.training`.

    Args:
        config: What the network is made of.
        params: Its parameters.
        memory: Returned as it is: nothing goes from one batch to the next.
        batch: B sequences.
        key: Of what is dropped.
        dropout: As in `apply_window_network`.
        plan: How each layer is run.

    Returns:
        loss: `()`, nats per label.
        memory: As given.
        metrics: Those of `classification_loss`.

    Raises:
        TypeError: As `apply_window_network`.
        ValueError: As `apply_window_network`, or a label that counts is out of range.
    """
    logits = apply_window_network(
        config, params, batch.inputs, batch.lengths, dropout=dropout, key=key, plan=plan
    )
    loss, metrics = classification_loss(logits, batch.labels, batch.weights)
    return loss, (memory, metrics)


def input_gradients(
    config: WindowNetworkConfig,
    params: WindowNetworkParams,
    inputs: ArrayLike,
    classes: ArrayLike,
    *,
    plan: str | Plan = "auto",
) -> Array:
    """What the verdict on each sequence hangs on: the gradient of log P(y | x) by the input.

    g^<t> = ∂ log P(y = c | x) / ∂x^<t>, less its mean over the I entries

    The entries of a one-hot vector always sum to 1, so that only differences between those of a
    gradient mean something: g^<t>_k − g^<t>_j is what, to first order, the k-th in place of the
    j-th would change.

    Args:
        config: What the network is made of; not of answer="each".
        params: Its parameters.
        inputs: `(T, *B, I)`, floating.
        classes: `(*B,)` integer: c of each sequence.
        plan: How each layer is run.

    Returns:
        `(T, *B, I)`, nats.

    Raises:
        TypeError: As `apply_window_network`.
        ValueError: As `apply_window_network`, or the network answers at each step.

    References:
        Simonyan et al. (2013), arXiv:1312.6034, section 3; the mean: Majdandzic et al. (2023),
        Genome Biology 24: 109.
    """
    if config.answer == "each":
        raise ValueError("answer: got 'each', expected a network of one answer a sequence")
    wanted = jnp.asarray(classes)

    def log_probability(xs: Array) -> Array:
        logits = apply_window_network(config, params, xs, plan=plan)
        of_class = jnp.take_along_axis(jax.nn.log_softmax(logits), wanted[..., None], axis=-1)
        return jnp.sum(of_class)

    gradients = jax.grad(log_probability)(jnp.asarray(inputs))
    return gradients - jnp.mean(gradients, axis=-1, keepdims=True)


def _layer(config: WindowNetworkConfig) -> Layer:
    recurrence = REGISTRY[config.recurrence]
    return Layer(recurrence, recurrence if config.bidirectional else None)


def _pooled(config: WindowNetworkConfig, ys: Array, lengths: ArrayLike | None) -> Array:
    if config.answer == "each":
        return ys
    if config.answer == "middle":
        return _middle_step(ys, lengths)
    if config.answer == "last":
        return both_ends(ys, lengths) if config.bidirectional else last_step(ys, lengths)
    return (mean_over_time if config.answer == "mean" else max_over_time)(ys, lengths)


def _middle_step(ys: Array, lengths: ArrayLike | None) -> Array:
    """`(T, *B, H) -> (*B, H)`; of a row of length 0 its first output, which is zero."""
    if lengths is None:
        return ys[ys.shape[0] // 2]
    middle = jnp.asarray(lengths) // 2
    return jnp.take_along_axis(ys, middle[None, ..., None], axis=0)[0]
