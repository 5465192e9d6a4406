"""A classifier of whole sequences of vectors, many-to-one, of residual blocks around a recurrence.

What recurrences that are linear in their inputs need between each other, the others get too: so one
network serves to compare all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from rnnjax.layers.checks import check_floating, check_size
from rnnjax.layers.dense import DenseParams, apply_dense, init_dense
from rnnjax.layers.pooling import last_step, mean_over_time
from rnnjax.losses.classification import classification_loss
from rnnjax.models.checks import check_recurrence
from rnnjax.plans.masking import within_lengths, zero_unless
from rnnjax.plans.protocol import Plan
from rnnjax.recurrences import REGISTRY
from rnnjax.recurrences.protocol import Params
from rnnjax.scanning import scan

Pooling = Literal["last", "mean"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


@dataclass(frozen=True)
class ResidualClassifierConfig:
    """What a classifier is made of; hashable, so it can be a static argument of `jax.jit`.

    Attributes:
        input_size: I.
        class_count: K.
        recurrence: A name in `rnnjax.recurrences.REGISTRY` of what reads vectors, for all blocks.
        hidden_size: H of each block.
        width: E, the numbers that go from block to block each step.
        blocks: L.
        pooling: How the outputs of all steps become one vector: "last" or "mean".

    Raises:
        ValueError: A field is out of range or unknown.
    """

    input_size: int
    class_count: int
    recurrence: str = "lru"
    hidden_size: int = 64
    width: int = 64
    blocks: int = 2
    pooling: Pooling = "mean"

    def __post_init__(self) -> None:
        for name in ("input_size", "class_count", "hidden_size", "width", "blocks"):
            check_size(name, getattr(self, name))
        if self.class_count < 2:
            raise ValueError(f"class_count: got {self.class_count}, expected at least 2")
        check_recurrence(self.recurrence)
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling: got {self.pooling!r}, expected one of {POOLINGS}")


class ResidualBlockParams(NamedTuple):
    """The parameters of a block; a pytree."""

    recurrent: Params
    dense: DenseParams  # (outputs of the recurrence, E), (E,)


class ResidualClassifierParams(NamedTuple):
    """The parameters of each part; a pytree."""

    encoder: DenseParams  # (I, E), (E,)
    blocks: tuple[ResidualBlockParams, ...]  # L of them, bottom first
    head: DenseParams  # (E, K), (K,)


class VectorBatch(NamedTuple):
    """B sequences of vectors side by side and what each of them is."""

    inputs: ArrayLike  # (T, B, I) floating
    lengths: ArrayLike | None  # (B,) integer, Tx of each; None is T of all
    labels: ArrayLike  # (B,) integer, 0 … K−1
    weights: ArrayLike  # (B,) floating, 1 for an example, 0 for a missing one


def init_residual_classifier(
    key: Array, config: ResidualClassifierConfig, *, dtype: DTypeLike = jnp.float32
) -> ResidualClassifierParams:
    """Draw the parameters.

    Args:
        key: A random key.
        config: What the classifier is made of.
        dtype: Floating.

    Raises:
        TypeError: The dtype is not floating.
    """
    recurrence, width = REGISTRY[config.recurrence], config.width
    key_encoder, key_head, *keys = jax.random.split(key, 2 + config.blocks)
    blocks = []
    for key_block in keys:
        key_recurrent, key_dense = jax.random.split(key_block)
        recurrent = recurrence.init(key_recurrent, width, config.hidden_size, dtype=dtype)
        outputs = _outputs_of(config, recurrent, dtype)
        dense = init_dense(key_dense, outputs, width, dtype=dtype)
        blocks.append(ResidualBlockParams(recurrent, dense))
    return ResidualClassifierParams(
        init_dense(key_encoder, config.input_size, width, dtype=dtype),
        tuple(blocks),
        init_dense(key_head, width, config.class_count, dtype=dtype),
    )


def residual_classifier_logits(
    config: ResidualClassifierConfig,
    params: ResidualClassifierParams,
    inputs: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    plan: str | Plan = "auto",
) -> Array:
    """Read whole sequences, and say what each of them is.

    a^[0]<t> = x^<t> W_in + b_in,  u^[l] = the outputs of the recurrence over a^[l-1]
    a^[l]<t> = a^[l-1]<t> + gelu(u^[l]<t>) W^[l] + b^[l]
    P(y | x^<1>, …, x^<Tx>) = softmax(s W_y + b_y),  s = pool(a^[L]<1>, …, a^[L]<Tx>)

    An empty sequence is legal: its s is zero.

    Args:
        config: What the classifier is made of.
        params: Its parameters.
        inputs: `(T, *B, I)`, floating.
        lengths: `(*B,)` integer, 0 … T; None is T of all. What follows a row's length is not read.
        plan: How each block is run, as in `rnnjax.scan`.

    Returns:
        `(*B, K)`.

    Raises:
        TypeError: The inputs are not floating, or the lengths are not integers.
        ValueError: A shape is wrong, or a known length is out of range.

    References:
        Orvieto et al. (2023), arXiv:2303.06349, appendix D: such blocks around the LRU, there with
        normalisation and a gated linear unit in place of the GELU.
    """
    pool = {"last": last_step, "mean": mean_over_time}[config.pooling]
    ys = _outputs(config, params, inputs, lengths, plan)
    return apply_dense(params.head, pool(ys, lengths))


def residual_classifier_loss(
    config: ResidualClassifierConfig,
    params: ResidualClassifierParams,
    memory: Any,
    batch: VectorBatch,
    key: Array,
    *,
    plan: str | Plan = "auto",
) -> tuple[Array, tuple[Any, Mapping[str, Array]]]:
    """The cross-entropy of what a sequence is, averaged over the batch.

    loss = (1/B) Σ_b w_b L_b,  L = −log P(y | x^<1>, …, x^<Tx>)

    `functools.partial(residual_classifier_loss, config)` is the loss function of
    `rnnjax.training`.

    Args:
        config: What the classifier is made of.
        params: Its parameters.
        memory: Returned as it is: nothing goes from one batch to the next.
        batch: B examples.
        key: Not used: nothing is drawn.
        plan: How each block is run.

    Returns:
        loss: `()`, nats per sequence.
        memory: As given.
        metrics: Those of `classification_loss`.

    Raises:
        TypeError: As `residual_classifier_logits`.
        ValueError: As `residual_classifier_logits`, or a label that counts is out of range.
    """
    del key
    logits = residual_classifier_logits(config, params, batch.inputs, batch.lengths, plan=plan)
    loss, metrics = classification_loss(logits, batch.labels, batch.weights)
    return loss, (memory, metrics)


def log_probabilities_so_far(
    config: ResidualClassifierConfig,
    params: ResidualClassifierParams,
    inputs: ArrayLike,
    *,
    plan: str | Plan = "auto",
) -> Array:
    """What is said after each step, log P(y = k | x^<1>, …, x^<t>): if the sequence ended there.

    Args:
        config: What the classifier is made of.
        params: Its parameters.
        inputs: `(T, *B, I)`, floating.
        plan: How each block is run.

    Returns:
        `(T, *B, K)`, nats.

    Raises:
        TypeError: As `residual_classifier_logits`.
        ValueError: As `residual_classifier_logits`.
    """
    ys = _outputs(config, params, inputs, None, plan)
    if config.pooling == "mean":
        count = jnp.arange(1, len(ys) + 1, dtype=ys.dtype).reshape(-1, *(1,) * (ys.ndim - 1))
        ys = jnp.cumsum(ys, axis=0) / count
    return jax.nn.log_softmax(apply_dense(params.head, ys))


def _outputs(
    config: ResidualClassifierConfig,
    params: ResidualClassifierParams,
    inputs: ArrayLike,
    lengths: ArrayLike | None,
    plan: str | Plan,
) -> Array:
    """What the top block says at each step, `(T, *B, E)`; past a row's length it means nothing."""
    xs = jnp.asarray(inputs)
    check_floating("inputs", xs.dtype)
    if xs.ndim < 2 or xs.shape[-1] != config.input_size:
        raise ValueError(f"inputs: got shape {xs.shape}, expected (T, *B, {config.input_size})")
    if lengths is not None:
        # A NaN in padding that is multiplied by a gradient of 0 is still a NaN.
        xs = zero_unless(within_lengths(jnp.asarray(lengths), len(xs)), xs)
    a = apply_dense(params.encoder, xs)
    for block in params.blocks:
        _, u = scan(REGISTRY[config.recurrence], block.recurrent, a, lengths=lengths, plan=plan)
        a = a + apply_dense(block.dense, jax.nn.gelu(u))
    return a


def _outputs_of(config: ResidualClassifierConfig, recurrent: Params, dtype: DTypeLike) -> int:
    """How many outputs the recurrence has a step; nothing is computed."""

    def outputs(recurrent: Params, xs: Array) -> Array:
        return scan(REGISTRY[config.recurrence], recurrent, xs, plan="reference")[1]

    xs = jax.ShapeDtypeStruct((1, config.width), dtype)
    return jax.eval_shape(outputs, recurrent, xs).shape[-1]
