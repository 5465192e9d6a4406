"""A sequence tagger: a tag for each word, many to many with Tx = Ty."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rnnjax.decoding.viterbi import viterbi
from rnnjax.layers.bidirectional import (
    BidirectionalParams,
    init_bidirectional,
    scan_bidirectional,
)
from rnnjax.layers.checks import check_size, checked_ids
from rnnjax.layers.deep import Layer, init_deep, scan_deep
from rnnjax.layers.dense import DenseParams, apply_dense, init_dense
from rnnjax.layers.dropout import check_rate, dropout_mask
from rnnjax.layers.embedding import EmbeddingParams, embed, init_embedding
from rnnjax.losses.conditional_random_field import (
    ConditionalRandomFieldParams,
    conditional_random_field_loss,
    forbid,
    init_conditional_random_field,
    marginals,
)
from rnnjax.losses.cross_entropy import (
    cross_entropy_of_sequences,
    mean_over_counted,
    weights_of_lengths,
)
from rnnjax.models.checks import check_dtypes, dtype_and_drawing_dtype
from rnnjax.plans.protocol import Plan
from rnnjax.recurrences import REGISTRY
from rnnjax.recurrences.protocol import Params
from rnnjax.text.bio import AllowedTags
from rnnjax.text.tagged_sentences import Spellings, TaggedBatch, TaggerInputs

Head = Literal["crf", "softmax"]


@dataclass(frozen=True)
class SequenceTaggerConfig:
    """What a tagger is made of; hashable, so it can be a static argument of `jax.jit`.

    Attributes:
        vocabulary_size: V, distinct words.
        tag_count: K.
        character_count: Distinct characters; None is a tagger that does not spell words.
        recurrence: A name in `rnnjax.recurrences.REGISTRY`, for all layers.
        hidden_sizes: H of each layer and direction, bottom first.
        bidirectional: Whether each layer runs from the future too.
        embedding_size: E, of words.
        character_embedding_size: Of characters.
        character_hidden_size: H of each direction along the characters of a word.
        head: "crf" scores the tags of a sentence together, "softmax" each by itself.
        dropout: The rate at which inputs and outputs of the layers are dropped in training.
        dtype: Of parameters, and of all that is not said otherwise.
        compute_dtype: Of the factors of products and of activations; None is `dtype`.
        output_dtype: Of scores; None is `compute_dtype`.
        accumulation_dtype: Of sums, gates and carries, as in `rnnjax.scan`.

    Raises:
        ValueError: A field is out of range or unknown.
    """

    vocabulary_size: int
    tag_count: int
    character_count: int | None = None
    recurrence: str = "lstm"
    hidden_sizes: tuple[int, ...] = (100,)
    bidirectional: bool = True
    embedding_size: int = 100
    character_embedding_size: int = 25
    character_hidden_size: int = 25
    head: Head = "crf"
    dropout: float = 0.5
    dtype: str = "float32"
    compute_dtype: str | None = None
    output_dtype: str | None = None
    accumulation_dtype: str | None = None

    def __post_init__(self) -> None:
        for name in (
            "vocabulary_size",
            "tag_count",
            "embedding_size",
            "character_embedding_size",
            "character_hidden_size",
        ):
            check_size(name, getattr(self, name))
        if self.character_count is not None:
            check_size("character_count", self.character_count)
        if self.recurrence not in REGISTRY:
            raise ValueError(
                f"recurrence: got {self.recurrence!r}, expected one of {', '.join(REGISTRY)}"
            )
        if not isinstance(self.hidden_sizes, tuple) or not self.hidden_sizes:
            raise ValueError(
                f"hidden_sizes: got {self.hidden_sizes!r}, expected a tuple of at least one size"
            )
        for layer, size in enumerate(self.hidden_sizes):
            check_size(f"hidden_sizes[{layer}]", size)
        if self.head not in get_args(Head):
            raise ValueError(
                f"head: got {self.head!r}, expected one of {', '.join(get_args(Head))}"
            )
        check_rate("dropout", self.dropout)
        check_dtypes(self)


class CharacterParams(NamedTuple):
    """What spells words."""

    embedding: EmbeddingParams
    layer: BidirectionalParams


class SequenceTaggerParams(NamedTuple):
    """The parameters of each part; a pytree."""

    embedding: EmbeddingParams  # table (V, E)
    characters: CharacterParams | None
    layers: tuple[Params, ...]  # L records, bottom first
    head: DenseParams  # (2H, K) or (H, K), (K,)
    field: ConditionalRandomFieldParams | None  # None with head="softmax"


def init_sequence_tagger(key: Array, config: SequenceTaggerConfig) -> SequenceTaggerParams:
    """Draw the parameters.

    Args:
        key: A random key.
        config: What the tagger is made of.

    Raises:
        ValueError: The dtype is float64 while `jax_enable_x64` is off.
    """
    dtype, drawn = dtype_and_drawing_dtype(config.dtype)
    keys = jax.random.split(key, 5)
    embedding = init_embedding(keys[0], config.vocabulary_size, config.embedding_size, dtype=drawn)
    characters, input_size = None, config.embedding_size
    if config.character_count is not None:
        characters = CharacterParams(
            init_embedding(
                keys[1], config.character_count, config.character_embedding_size, dtype=drawn
            ),
            init_bidirectional(
                keys[2],
                REGISTRY[config.recurrence],
                config.character_embedding_size,
                config.character_hidden_size,
                dtype=drawn,
            ),
        )
        input_size += 2 * config.character_hidden_size
    layers = init_deep(keys[3], _layer(config), input_size, config.hidden_sizes, dtype=drawn)
    output_size = config.hidden_sizes[-1] * (2 if config.bidirectional else 1)
    head = init_dense(keys[4], output_size, config.tag_count, dtype=drawn)
    field = None
    if config.head == "crf":
        field = init_conditional_random_field(config.tag_count, dtype=drawn)
    params = SequenceTaggerParams(embedding, characters, layers, head, field)
    return jax.tree.map(lambda array: array.astype(dtype), params)


def spell_words(
    config: SequenceTaggerConfig,
    params: CharacterParams,
    characters: ArrayLike,
    lengths: ArrayLike,
    *,
    plan: str | Plan = "auto",
) -> Array:
    """A vector of each word made of its characters: the end of both directions.

    v = [a→^<C>, a←^<1>]: the forward state after the word's last character, and the backward one
    after its first.

    Args:
        config: What the tagger is made of.
        params: Of the characters.
        characters: `(C, W)` integer; past a word's length they are not read.
        lengths: `(W,)` integer, 0 … C.
        plan: How both directions are run.

    Returns:
        `(W, 2 H)` of the characters' H; zero for a word without characters.

    Raises:
        TypeError: An argument is not integer.
        ValueError: A shape is wrong, or a known value out of range.

    References:
        Ling et al. (2015), arXiv:1508.02096; Lample et al. (2016), arXiv:1603.01360, section 4.1.
    """
    ids = checked_ids("characters", characters, params.embedding.table.shape[0])
    lengths = jnp.asarray(lengths)
    xs = embed(params.embedding, ids).astype(_compute_dtype(config))
    _, ys = scan_bidirectional(
        REGISTRY[config.recurrence],
        params.layer,
        xs,
        lengths=lengths,
        accumulation_dtype=config.accumulation_dtype,
        plan=plan,
    )
    size = ys.shape[-1] // 2
    last = jnp.maximum(lengths.astype(jnp.int32) - 1, 0)
    forward = jnp.take_along_axis(ys[..., :size], last[None, :, None], axis=0)[0]
    return jnp.concatenate([forward, ys[0, :, size:]], axis=-1)


def apply_sequence_tagger(
    config: SequenceTaggerConfig,
    params: SequenceTaggerParams,
    inputs: TaggerInputs,
    *,
    dropout_key: Array | None = None,
    plan: str | Plan = "auto",
) -> Array:
    """Score each tag at each word: what the field, or the softmax, is given.

    x^<t> = [e_word^<t>, v^<t>],  s^<t> = [a→^<t>, a←^<t>] W + b

    Args:
        config: What the tagger is made of.
        params: Its parameters.
        inputs: Words, lengths and, if the tagger reads characters, spellings.
        dropout_key: A random key to drop inputs and outputs of the layers by, in training; None
            drops nothing.
        plan: How each layer is run, as in `rnnjax.scan`.

    Returns:
        `(T, *B, K)`; past a length b, which means nothing.

    Raises:
        TypeError: An argument is of the wrong kind or dtype.
        ValueError: A shape is wrong, a known value is out of range, or spellings are missing or
            given to a tagger that reads none.
    """
    if (inputs.spellings is None) != (params.characters is None):
        got = "none" if inputs.spellings is None else "some"
        expected = "none" if params.characters is None else "some"
        raise ValueError(f"spellings: got {got}, expected {expected}, as the tagger was made")
    dtype = _compute_dtype(config)
    words = checked_ids("words", inputs.words, config.vocabulary_size)
    xs = embed(params.embedding, words).astype(dtype)
    if params.characters is not None and inputs.spellings is not None:
        spelled = _spelled(config, params.characters, inputs.spellings, plan)
        xs = jnp.concatenate([xs, spelled], axis=-1)
    keys = None
    if dropout_key is not None and config.dropout > 0:
        keys = jax.random.split(dropout_key)
        xs = xs * dropout_mask(keys[0], config.dropout, xs.shape, dtype=xs.dtype)
    _, ys = scan_deep(
        _layer(config),
        params.layers,
        xs,
        lengths=inputs.lengths,
        accumulation_dtype=config.accumulation_dtype,
        plan=plan,
    )
    if keys is not None:
        ys = ys * dropout_mask(keys[1], config.dropout, ys.shape, dtype=ys.dtype)
    return apply_dense(params.head, ys, output_dtype=config.output_dtype)


def sequence_tagger_loss(
    config: SequenceTaggerConfig,
    params: SequenceTaggerParams,
    memory: tuple[()],
    batch: TaggedBatch,
    key: Array,
    *,
    allowed: AllowedTags | None = None,
    plan: str | Plan = "auto",
) -> tuple[Array, tuple[tuple[()], Mapping[str, Array]]]:
    """How surprised the tagger is by the tags of a sentence, averaged over the batch.

    loss = (1/B) Σ_b −log P(y^<1>, …, y^<Ty> | x^<1>, …, x^<Tx>)

    With head="softmax" the probability of a sentence is the product of those of its tags.
    `functools.partial(sequence_tagger_loss, config)` is the loss function of `rnnjax.training`.

    Args:
        config: What the tagger is made of.
        params: Its parameters.
        memory: `()`: nothing goes from batch to batch.
        batch: B sentences; missing ones have length 0 and do not count.
        key: Of dropout.
        allowed: With head="crf", the tags that may follow each other, see
            `rnnjax.text.bio.allowed_bio`; other sequences have probability 0.
        plan: How each layer is run.

    Returns:
        loss: `()`, nats per sentence.
        memory: `()`.
        metrics: `()` each: `cross_entropy` (mean, nats per word), and to be added up over batches
            `nats` and `words`.

    Raises:
        TypeError: As `apply_sequence_tagger`.
        ValueError: As `apply_sequence_tagger`, or the tags' shape or range is wrong.
    """
    scores = apply_sequence_tagger(config, params, batch.inputs, dropout_key=key, plan=plan)
    lengths = jnp.asarray(batch.inputs.lengths)
    if config.head == "crf":
        field = _field(config, params, allowed)
        losses = conditional_random_field_loss(field, scores, batch.tags, lengths=lengths)
    else:
        weights = weights_of_lengths(lengths, scores.shape[0])
        losses = cross_entropy_of_sequences(scores, batch.tags, weights)
    nats, words = jnp.sum(losses), jnp.sum(lengths).astype(losses.dtype)
    sentences = jnp.sum(lengths > 0).astype(losses.dtype)
    metrics = {"cross_entropy": mean_over_counted(nats, words), "nats": nats, "words": words}
    return mean_over_counted(nats, sentences), (memory, metrics)


def tag_sentences(
    config: SequenceTaggerConfig,
    params: SequenceTaggerParams,
    inputs: TaggerInputs,
    *,
    allowed: AllowedTags | None = None,
    plan: str | Plan = "auto",
) -> Array:
    """The likeliest tags of each sentence, all together.

    ŷ = argmax_y P(y | x), by Viterbi's algorithm; with head="softmax" and everything allowed that
    is the likeliest tag of each word by itself.

    Args:
        config: What the tagger is made of.
        params: Its parameters.
        inputs: B sentences.
        allowed: The tags that may follow each other, with either head; None is all.
        plan: How each layer is run.

    Returns:
        `(T, *B)` int32; 0 past a length.

    Raises:
        TypeError: As `apply_sequence_tagger`.
        ValueError: As `apply_sequence_tagger`.
    """
    scores = apply_sequence_tagger(config, params, inputs, plan=plan)
    return viterbi(_field(config, params, allowed), scores, lengths=inputs.lengths)[0]


def tag_probabilities(
    config: SequenceTaggerConfig,
    params: SequenceTaggerParams,
    inputs: TaggerInputs,
    *,
    allowed: AllowedTags | None = None,
    plan: str | Plan = "auto",
) -> Array:
    """How probable each tag is at each word, whatever the other words' are: P(y^<t> = k | x).

    Args:
        config: What the tagger is made of.
        params: Its parameters.
        inputs: B sentences.
        allowed: As in `tag_sentences`.
        plan: How each layer is run.

    Returns:
        `(T, *B, K)`: sums to 1 over K within a length, 0 past it.

    Raises:
        TypeError: As `apply_sequence_tagger`.
        ValueError: As `apply_sequence_tagger`.
    """
    scores = apply_sequence_tagger(config, params, inputs, plan=plan)
    return marginals(_field(config, params, allowed), scores, lengths=inputs.lengths)


def _field(
    config: SequenceTaggerConfig, params: SequenceTaggerParams, allowed: AllowedTags | None
) -> ConditionalRandomFieldParams:
    """Of a softmax head one without transitions, which is a softmax at each step."""
    field = params.field
    if field is None:
        field = init_conditional_random_field(config.tag_count, dtype=params.head.b.dtype)
    if allowed is None:
        return field
    return forbid(field, transitions=allowed.transitions, start=allowed.start)


def _spelled(
    config: SequenceTaggerConfig, params: CharacterParams, spellings: Spellings, plan: str | Plan
) -> Array:
    """`(T, *B, 2 H)`: the vector of each place, each distinct word being run once."""
    vectors = spell_words(config, params, spellings.characters, spellings.lengths, plan=plan)
    of_words = checked_ids("spellings.of_words", spellings.of_words, vectors.shape[0])
    return vectors[of_words]


def _layer(config: SequenceTaggerConfig) -> Layer:
    recurrence = REGISTRY[config.recurrence]
    return Layer(recurrence, recurrence if config.bidirectional else None)


def _compute_dtype(config: SequenceTaggerConfig) -> jnp.dtype:
    return jnp.dtype(config.compute_dtype or config.dtype)
