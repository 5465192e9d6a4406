"""A recurrent classifier of whole sequences, many-to-one: what a text is, given all of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rnnjax.layers.checks import check_size, checked_ids
from rnnjax.layers.deep import Layer, init_deep, scan_deep
from rnnjax.layers.dense import DenseParams, apply_dense, init_dense
from rnnjax.layers.dropout import bernoulli, check_rate, dropout_mask
from rnnjax.layers.embedding import EmbeddingParams, embed, init_embedding
from rnnjax.layers.pooling import (
    AttentionPoolingParams,
    attention_pooling,
    both_ends,
    init_attention_pooling,
    last_step,
    max_over_time,
    mean_over_time,
)
from rnnjax.losses.classification import classification_loss
from rnnjax.models.checks import check_dtypes, check_recurrence, dtype_and_drawing_dtype
from rnnjax.plans.protocol import Plan
from rnnjax.recurrences import REGISTRY
from rnnjax.recurrences.protocol import Params

Pooling = Literal["last", "mean", "max", "attention"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


@dataclass(frozen=True)
class SequenceClassifierConfig:
    """What a classifier is made of; hashable, so it can be a static argument of `jax.jit`.

    Attributes:
        vocabulary_size: V.
        class_count: K.
        recurrence: A name in `rnnjax.recurrences.REGISTRY` of what reads vectors, for all layers
            and directions.
        hidden_sizes: H of each layer, bottom first; of a bidirectional one that of one direction.
        embedding_size: E.
        bidirectional: Whether each layer also runs from the future, its outputs being [a→, a←].
        pooling: How the outputs of all steps become one vector, one of `POOLINGS`: "last" is
            `last_step`, and of a bidirectional network `both_ends`.
        attention_size: A, the hidden units of pooling="attention"; the others have none.
        dtype: Of parameters, and of all that is not said otherwise, one of `DTYPES` of
            `rnnjax.models.checks`.
        compute_dtype: Of the factors of products and of activations; None is `dtype`.
        output_dtype: Of logits; None is `compute_dtype`.
        accumulation_dtype: Of sums, gates and carries, as in `rnnjax.scan`.

    Raises:
        ValueError: A field is out of range or unknown.
    """

    vocabulary_size: int
    class_count: int
    recurrence: str = "lstm"
    hidden_sizes: tuple[int, ...] = (64,)
    embedding_size: int = 64
    bidirectional: bool = False
    pooling: Pooling = "last"
    attention_size: int = 64
    dtype: str = "float32"
    compute_dtype: str | None = None
    output_dtype: str | None = None
    accumulation_dtype: str | None = None

    def __post_init__(self) -> None:
        for name in ("vocabulary_size", "class_count", "embedding_size", "attention_size"):
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
        check_dtypes(self)


class SequenceClassifierParams(NamedTuple):
    """The parameters of each part; a pytree."""

    embedding: EmbeddingParams  # table (V, E)
    layers: tuple[Params, ...]  # L records, bottom first
    pooling: AttentionPoolingParams | None  # of pooling="attention"
    head: DenseParams  # (P, K), (K,); P is the last of `output_sizes`


class LabelledBatch(NamedTuple):
    """B sequences side by side and what each of them is."""

    inputs: ArrayLike  # (T, B) integer
    lengths: ArrayLike  # (B,) integer, Tx of each
    labels: ArrayLike  # (B,) integer, 0 … K−1
    weights: ArrayLike  # (B,) float32, 1 for an example, 0 for a missing one


class DropoutMasks(NamedTuple):
    """What is multiplied in while training, see `rnnjax.layers.dropout.dropout_mask`."""

    inputs: Array  # (T, *B, E)
    layers: tuple[Array, ...]  # L − 1 of (T, *B, outputs of the layer)
    pooled: Array  # (*B, P)


@cache
def output_sizes(config: SequenceClassifierConfig) -> tuple[int, ...]:
    """How many outputs each layer has a step, of both directions together; nothing is computed.

    It is H, of a bidirectional layer 2H, where a recurrence has no projection of its own.
    """
    layer = _layer(config)

    def outputs(key: Array) -> list[Array]:
        ys, of_each = jnp.zeros((1, config.embedding_size), jnp.float32), []
        for params in init_deep(key, layer, config.embedding_size, config.hidden_sizes):
            _, ys = scan_deep(layer, (params,), ys, plan="reference")
            of_each.append(ys)
        return of_each

    return tuple(ys.shape[-1] for ys in jax.eval_shape(outputs, jax.random.key(0)))


def init_sequence_classifier(
    key: Array, config: SequenceClassifierConfig
) -> SequenceClassifierParams:
    """Draw the parameters.

    Args:
        key: A random key.
        config: What the classifier is made of.

    Raises:
        ValueError: The dtype is float64 while `jax_enable_x64` is off.
    """
    dtype, drawn = dtype_and_drawing_dtype(config.dtype)
    key_embedding, key_layers, key_pooling, key_head = jax.random.split(key, 4)
    size = output_sizes(config)[-1]
    pooling = None
    if config.pooling == "attention":
        pooling = init_attention_pooling(key_pooling, size, config.attention_size, dtype=drawn)
    params = SequenceClassifierParams(
        init_embedding(key_embedding, config.vocabulary_size, config.embedding_size, dtype=drawn),
        init_deep(
            key_layers, _layer(config), config.embedding_size, config.hidden_sizes, dtype=drawn
        ),
        pooling,
        init_dense(key_head, size, config.class_count, dtype=drawn),
    )
    return jax.tree.map(lambda array: array.astype(dtype), params)


def draw_dropout_masks(
    key: Array, config: SequenceClassifierConfig, rate: float, shape: tuple[int, ...]
) -> DropoutMasks:
    """Dropout of word vectors, of what goes from layer to layer, and of what is pooled.

    Args:
        key: A random key.
        config: What the classifier is made of.
        rate: The probability that a unit is dropped, 0 ≤ rate < 1.
        shape: `(T, *B)`, that of the tokens.

    Raises:
        ValueError: The rate is outside 0 ≤ rate < 1.
        TypeError: The rate is not a number.
    """
    dtype = config.compute_dtype or config.dtype
    *between, pooled = output_sizes(config)
    key_inputs, key_pooled, *keys = jax.random.split(key, 2 + len(between))
    return DropoutMasks(
        dropout_mask(key_inputs, rate, (*shape, config.embedding_size), dtype=dtype),
        tuple(
            dropout_mask(one, rate, (*shape, size), dtype=dtype)
            for one, size in zip(keys, between, strict=True)
        ),
        dropout_mask(key_pooled, rate, (*shape[1:], pooled), dtype=dtype),
    )


def drop_words(key: Array, rate: float, inputs: Array, unknown_id: int) -> Array:
    """Replace words by UNK at random, so that no single one is relied on, and UNK is learned.

    Args:
        key: A random key.
        rate: The probability that a word is replaced, 0 ≤ rate < 1.
        inputs: `(T, *B)` integer.
        unknown_id: The id of UNK.

    Returns:
        `(T, *B)`, of the dtype of the inputs.

    Raises:
        ValueError: The rate is outside 0 ≤ rate < 1.
        TypeError: The rate is not a number.

    References:
        Iyyer et al. (2015), "Deep unordered composition rivals syntactic methods for text
        classification", ACL, section 3.1, where words are left out instead.
    """
    check_rate("rate", rate)
    kept = bernoulli(key, 1 - rate, inputs.shape)
    return jnp.where(kept, inputs, jnp.full_like(inputs, unknown_id))


def apply_sequence_classifier(
    config: SequenceClassifierConfig,
    params: SequenceClassifierParams,
    inputs: ArrayLike,
    lengths: ArrayLike | None = None,
    masks: DropoutMasks | None = None,
    *,
    plan: str | Plan = "auto",
) -> tuple[Array, Array | None]:
    """Read whole sequences, and say what each of them is.

    P(y | x^<1>, …, x^<Tx>) = softmax(s W + b),  s = pool(a^<1>, …, a^<Tx>)

    An empty sequence is legal: its s is zero.

    Args:
        config: What the classifier is made of.
        params: Its parameters.
        inputs: `(T, *B)` integer, 0 … V−1 also in padding.
        lengths: `(*B,)` integer, 0 … T; None is T of all. What follows a row's length is not read.
        masks: Of dropout, in training; None is none.
        plan: How each layer is run, as in `rnnjax.scan`.

    Returns:
        logits: `(*B, K)`.
        weights: `(T, *B)`, the α of attention pooling; None of the others.

    Raises:
        TypeError: An argument is of the wrong kind or dtype.
        ValueError: A shape is wrong, or a known token or length is out of range.
    """
    xs = embed(params.embedding, checked_ids("inputs", inputs, config.vocabulary_size))
    xs = xs.astype(jnp.dtype(config.compute_dtype or config.dtype))
    if masks is not None:
        xs = xs * masks.inputs
    _, ys = scan_deep(
        _layer(config),
        params.layers,
        xs,
        lengths=lengths,
        dropout_masks=None if masks is None else masks.layers,
        accumulation_dtype=config.accumulation_dtype,
        plan=plan,
    )
    pooled, weights = _pooled(config, params, ys, lengths)
    if masks is not None:
        pooled = pooled * masks.pooled
    return apply_dense(params.head, pooled, output_dtype=config.output_dtype), weights


def sequence_classifier_loss(
    config: SequenceClassifierConfig,
    params: SequenceClassifierParams,
    memory: Any,
    batch: LabelledBatch,
    key: Array,
    *,
    dropout: float = 0.0,
    word_dropout: float = 0.0,
    unknown_id: int = 0,
    plan: str | Plan = "auto",
) -> tuple[Array, tuple[Any, Mapping[str, Array]]]:
    """The cross-entropy of what a sequence is, averaged over the batch.

    loss = (1/B) Σ_b w_b L_b,  L = −log P(y | x^<1>, …, x^<Tx>)

    Thus each example of a corpus weighs the same, in whatever batch it stands.
    `functools.partial(sequence_classifier_loss, config)` is the loss function of
    `rnnjax.training`.

    Args:
        config: What the classifier is made of.
        params: Its parameters.
        memory: Returned as it is: nothing goes from one batch to the next.
        batch: B examples.
        key: Of what is dropped.
        dropout: The rate of `draw_dropout_masks`.
        word_dropout: The rate of `drop_words`.
        unknown_id: What a dropped word is replaced by.
        plan: How each layer is run.

    Returns:
        loss: `()`, nats per sequence.
        memory: As given.
        metrics: `()` each: `cross_entropy` and `accuracy`, means over the examples, and to be
            added up over batches `nats`, `correct` and `examples`.

    Raises:
        TypeError: As `apply_sequence_classifier`, or a rate is not a number.
        ValueError: As `apply_sequence_classifier`, or a rate, or a label that counts, is out of
            range.
    """
    inputs, masks = jnp.asarray(batch.inputs), None
    check_rate("dropout", dropout)
    check_rate("word_dropout", word_dropout)
    key_words, key_units = jax.random.split(key)
    if word_dropout > 0:
        inputs = drop_words(key_words, word_dropout, inputs, unknown_id)
    if dropout > 0:
        masks = draw_dropout_masks(key_units, config, dropout, inputs.shape)
    logits, _ = apply_sequence_classifier(config, params, inputs, batch.lengths, masks, plan=plan)
    loss, metrics = classification_loss(logits, batch.labels, batch.weights)
    return loss, (memory, metrics)


def class_log_probabilities(
    config: SequenceClassifierConfig,
    params: SequenceClassifierParams,
    inputs: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    plan: str | Plan = "auto",
) -> Array:
    """How probable each class is, log P(y = k | x^<1>, …, x^<Tx>).

    Args:
        config: What the classifier is made of.
        params: Its parameters.
        inputs: `(T, *B)` integer, 0 … V−1.
        lengths: `(*B,)` integer, 0 … T.
        plan: How each layer is run.

    Returns:
        `(*B, K)`, nats, at most 0; float32, or float64 for logits in float64.

    Raises:
        TypeError: As `apply_sequence_classifier`.
        ValueError: As `apply_sequence_classifier`.
    """
    logits, _ = apply_sequence_classifier(config, params, inputs, lengths, plan=plan)
    if jnp.finfo(logits.dtype).bits < 32:
        logits = logits.astype(jnp.float32)
    return jax.nn.log_softmax(logits)


def log_probabilities_without_each(
    config: SequenceClassifierConfig,
    params: SequenceClassifierParams,
    tokens: ArrayLike,
    length: ArrayLike | None = None,
    *,
    rows: int = 64,
    plan: str | Plan = "auto",
) -> Array:
    """What a text would be without each one of its words: which of them carry the verdict.

    r_t,k = log P(k | x^<1>, …, x^<t-1>, x^<t+1>, …, x^<Tx>)

    The word t carries log P(k | x) − r_t,k of the verdict k: exactly what the model's mind is
    changed by, and not an approximation of it. The shorter texts are read in batches.

    Args:
        config: What the classifier is made of.
        params: Its parameters.
        tokens: `(T,)` integer, 0 … V−1: one text.
        length: `()` integer, Tx; None is T.
        rows: How many of the shorter texts are read at once: what a long text takes of memory.
        plan: How each layer is run.

    Returns:
        `(T, K)`, nats. Past the text's length, where there is no word to leave out, it is
        log P(k | x) of the whole text.

    Raises:
        TypeError: As `apply_sequence_classifier`.
        ValueError: As `apply_sequence_classifier`, or the tokens are not one text.

    References:
        Li, Monroe and Jurafsky (2016), "Understanding neural networks through representation
        erasure", arXiv:1612.08220, equation 1, not divided by log P(k | x).
    """
    tokens = checked_ids("tokens", tokens, config.vocabulary_size)
    if tokens.ndim != 1 or tokens.shape[0] < 1:
        raise ValueError(f"tokens: got shape {tokens.shape}, expected (T,) with T of at least 1")
    check_size("rows", rows)
    steps = tokens.shape[0]
    length = jnp.asarray(steps if length is None else length, jnp.int32)
    times = jnp.arange(steps, dtype=jnp.int32)[:, None]

    def without(left_out: Array) -> Array:
        """`(R,) -> (R, K)`."""
        # The row that leaves word j out reads the next word from step j on, and is a word shorter;
        # one past the length leaves out padding, and is not.
        places = times + (times >= left_out).astype(jnp.int32)
        inputs = tokens[jnp.minimum(places, steps - 1)]
        lengths = length - (left_out < length).astype(jnp.int32)
        return class_log_probabilities(config, params, inputs, lengths, plan=plan)

    if steps <= rows:
        return without(times[:, 0])
    batches = -(-steps // rows)
    left_out = jnp.arange(batches * rows, dtype=jnp.int32).reshape(batches, rows)
    found = jax.lax.map(without, left_out)
    return found.reshape(batches * rows, -1)[:steps]


def median_class(log_probabilities: ArrayLike) -> Array:
    """Of ordered classes the one in the middle: argmin_k E|y − k|.

    The smallest k with P(y ≤ k) ≥ 1/2. Where the error of a verdict is how far off it is, as with
    stars, this one errs least by the model's own account; the likeliest class errs least often.

    Args:
        log_probabilities: `(*B, K)`.

    Returns:
        `(*B,)` int32.
    """
    below = jnp.cumsum(jnp.exp(jnp.asarray(log_probabilities)), axis=-1)
    return jnp.sum(below[..., :-1] < 0.5, axis=-1, dtype=jnp.int32)


def _layer(config: SequenceClassifierConfig) -> Layer:
    recurrence = REGISTRY[config.recurrence]
    return Layer(recurrence, recurrence if config.bidirectional else None)


def _pooled(
    config: SequenceClassifierConfig,
    params: SequenceClassifierParams,
    ys: Array,
    lengths: ArrayLike | None,
) -> tuple[Array, Array | None]:
    if config.pooling == "attention":
        if params.pooling is None:
            raise TypeError("params: got none of the pooling, expected those of attention")
        return attention_pooling(params.pooling, ys, lengths)
    pool = {"mean": mean_over_time, "max": max_over_time}.get(config.pooling)
    if pool is None:
        pool = both_ends if config.bidirectional else last_step
    return pool(ys, lengths), None
