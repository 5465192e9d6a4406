"""An encoder and a decoder, many-to-many with Tx ≠ Ty: one sequence read, another one written."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, Literal, NamedTuple, cast, get_args

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from rnnjax.decoding.beam_search import Hypotheses, beam_search
from rnnjax.decoding.sampling import sample_token
from rnnjax.layers.attention import (
    AdditiveAttentionParams,
    Attention,
    GeneralAttentionParams,
    Memory,
    additive,
    attend,
    dot,
    general,
    init_additive_attention,
    init_general_attention,
    lengths_to_mask,
    prepare_memory,
)
from rnnjax.layers.bidirectional import BidirectionalParams
from rnnjax.layers.checks import check_size, checked_ids
from rnnjax.layers.deep import Layer, init_deep, initial_deep_carry, scan_deep, step_deep
from rnnjax.layers.dense import DenseParams, apply_dense, init_dense
from rnnjax.layers.dropout import check_rate, dropout_mask
from rnnjax.layers.embedding import EmbeddingParams, embed, init_embedding
from rnnjax.layers.pooling import both_ends, last_step
from rnnjax.losses.cross_entropy import (
    cross_entropy_per_step,
    mean_over_counted,
    perplexity,
    weights_of_lengths,
)
from rnnjax.models.checks import check_dtypes, check_recurrence, dtype_and_drawing_dtype
from rnnjax.plans.masking import zero_unless
from rnnjax.plans.protocol import Plan
from rnnjax.recurrences import REGISTRY
from rnnjax.recurrences.protocol import Carry, Params, Recurrence

AttentionName = Literal["none", "additive", "dot", "general"]
ATTENTIONS: tuple[AttentionName, ...] = get_args(AttentionName)

NOT_BRIDGED = ("mlstm", "slstm")
"""Their carries are a memory, its weight and its scale: no three arrays of just any numbers."""

DecoderState = tuple[Carry, ...]
"""The carry of each layer of the decoder, bottom first; leaves `(*B, ...)`."""

_OF_NAME: dict[str, Attention] = {"additive": additive, "dot": dot, "general": general}


@dataclass(frozen=True)
class EncoderDecoderConfig:
    """What an encoder and a decoder are made of; hashable, a static argument of `jax.jit`.

    Attributes:
        source_vocabulary_size: V of what is read.
        target_vocabulary_size: V of what is written.
        begin_id: The token before the first one of a target, y^<0>.
        end_id: The token that ends a target; it may be `begin_id`.
        recurrence: A name in `rnnjax.recurrences.REGISTRY` of what reads vectors, for all layers
            of both; none of `NOT_BRIDGED`.
        encoder_hidden_sizes: H of each layer, bottom first; of a bidirectional one that of one
            direction.
        decoder_hidden_sizes: H of each layer, bottom first.
        embedding_size: E of both vocabularies.
        bidirectional: Whether each layer of the encoder also runs from the future.
        attention: How well a step of the decoder fits a step of the source, one of `ATTENTIONS`;
            "none" leaves the decoder with what its first carry holds. "dot" asks for outputs of
            one size of both.
        attention_size: A, the hidden units of attention="additive"; the others have none.
        dtype: Of parameters, and of all that is not said otherwise, one of `DTYPES` of
            `rnnjax.models.checks`.
        compute_dtype: Of the factors of products and of activations; None is `dtype`.
        output_dtype: Of logits; None is `compute_dtype`.
        accumulation_dtype: Of sums, gates and carries, as in `rnnjax.scan`.

    Raises:
        ValueError: A field is out of range or unknown.
    """

    source_vocabulary_size: int
    target_vocabulary_size: int
    begin_id: int
    end_id: int
    recurrence: str = "gru"
    encoder_hidden_sizes: tuple[int, ...] = (64,)
    decoder_hidden_sizes: tuple[int, ...] = (64,)
    embedding_size: int = 64
    bidirectional: bool = True
    attention: AttentionName = "general"
    attention_size: int = 64
    dtype: str = "float32"
    compute_dtype: str | None = None
    output_dtype: str | None = None
    accumulation_dtype: str | None = None

    def __post_init__(self) -> None:
        for name in (
            "source_vocabulary_size", "target_vocabulary_size", "embedding_size", "attention_size",
        ):  # fmt: skip
            check_size(name, getattr(self, name))
        for name in ("begin_id", "end_id"):
            id_ = getattr(self, name)
            if not isinstance(id_, int) or not 0 <= id_ < self.target_vocabulary_size:
                raise ValueError(
                    f"{name}: got {id_!r}, expected 0 … {self.target_vocabulary_size - 1}"
                )
        check_recurrence(self.recurrence)
        if self.recurrence in NOT_BRIDGED:
            raise ValueError(
                f"recurrence: got {self.recurrence!r}, whose carry no dense layer can make, "
                f"expected another than {', '.join(NOT_BRIDGED)}"
            )
        if self.attention not in ATTENTIONS:
            raise ValueError(f"attention: got {self.attention!r}, expected one of {ATTENTIONS}")
        for name in ("encoder_hidden_sizes", "decoder_hidden_sizes"):
            sizes = getattr(self, name)
            if not isinstance(sizes, tuple) or not sizes:
                raise ValueError(f"{name}: got {sizes!r}, expected a tuple of at least one size")
            for layer, size in enumerate(sizes):
                check_size(f"{name}[{layer}]", size)
        check_dtypes(self)


class EncoderDecoderParams(NamedTuple):
    """The parameters of each part; a pytree. D and Q are the sizes of both networks' outputs."""

    source_embedding: EmbeddingParams  # table (V, E)
    encoder: tuple[Params, ...]  # bottom first
    bridge: tuple[DenseParams, ...]  # (D, ·), one a leaf of the decoder's carry
    target_embedding: EmbeddingParams  # table (V, E)
    decoder: tuple[Params, ...]  # bottom first
    attention: AdditiveAttentionParams | GeneralAttentionParams | None
    combine: DenseParams | None  # (D + Q, Q); None without attention
    head: DenseParams  # (Q, V), (V,)


class TranslationBatch(NamedTuple):
    """B sources side by side and what each of them is in the other language."""

    sources: ArrayLike  # (Tx, B) integer
    source_lengths: ArrayLike  # (B,) integer, Tx of each
    targets: ArrayLike  # (Ty, B) integer, with the end token, without the begin token
    target_lengths: ArrayLike  # (B,) integer, Ty of each, the end token counted
    weights: ArrayLike  # (B,) float32, 1 for an example, 0 for a missing one


class DropoutMasks(NamedTuple):
    """What is multiplied in while training, see `rnnjax.layers.dropout.dropout_mask`."""

    sources: Array  # (Tx, *B, E)
    encoder: tuple[Array, ...]  # between two layers, (Tx, *B, outputs of the lower)
    targets: Array  # (Ty, *B, E)
    decoder: tuple[Array, ...]  # between two layers, (Ty, *B, outputs of the lower)
    outputs: Array  # (Ty, *B, Q), before the head


def init_encoder_decoder(key: Array, config: EncoderDecoderConfig) -> EncoderDecoderParams:
    """Draw the parameters.

    Args:
        key: A random key.
        config: What is to be made.

    Raises:
        ValueError: The dtype is float64 while `jax_enable_x64` is off, or attention="dot" of
            outputs of two sizes.
    """
    dtype, drawn = dtype_and_drawing_dtype(config.dtype)
    keys = jax.random.split(key, 8)
    recurrence, layer = _recurrence(config), _encoder_layer(config)
    size = config.embedding_size
    encoder = init_deep(keys[0], layer, size, config.encoder_hidden_sizes, dtype=drawn)
    decoder = init_deep(keys[1], recurrence, size, config.decoder_hidden_sizes, dtype=drawn)
    x = jnp.zeros((size,), drawn)
    # Not H of every recurrence: lstm_projected and lru have outputs of another size.
    _, of_encoder = jax.eval_shape(lambda: scan_deep(layer, encoder, x[None], plan="reference"))
    state = initial_deep_carry(recurrence, decoder, ())
    _, of_decoder = jax.eval_shape(lambda: step_deep(recurrence, decoder, state, x))
    source_size, query_size = of_encoder.shape[-1], of_decoder.shape[-1]

    attention, combine = None, None
    if config.attention == "additive":
        attention = init_additive_attention(
            keys[2], query_size, source_size, config.attention_size, dtype=drawn
        )
    elif config.attention == "general":
        attention = init_general_attention(keys[2], query_size, source_size, dtype=drawn)
    elif config.attention == "dot" and source_size != query_size:
        raise ValueError(
            f"attention: got 'dot' of the decoder's outputs of size {query_size} and the "
            f"encoder's of size {source_size}, expected one size, or 'general'"
        )
    if config.attention != "none":
        combine = init_dense(keys[3], source_size + query_size, query_size, dtype=drawn)
    leaves = jax.tree.leaves(state)
    params = EncoderDecoderParams(
        init_embedding(keys[4], config.source_vocabulary_size, size, dtype=drawn),
        encoder,
        tuple(
            init_dense(one, source_size, _numbers_in(leaf), dtype=drawn)
            for one, leaf in zip(jax.random.split(keys[5], len(leaves)), leaves, strict=True)
        ),
        init_embedding(keys[6], config.target_vocabulary_size, size, dtype=drawn),
        decoder,
        attention,
        combine,
        init_dense(keys[7], query_size, config.target_vocabulary_size, dtype=drawn),
    )
    return jax.tree.map(lambda array: array.astype(dtype), params)


def draw_dropout_masks(
    key: Array,
    config: EncoderDecoderConfig,
    params: EncoderDecoderParams,
    rate: float,
    source_shape: tuple[int, ...],
    target_shape: tuple[int, ...],
) -> DropoutMasks:
    """Dropout of word vectors, of what goes from layer to layer, and of what the head reads.

    Never of what goes from step to step (Zaremba et al. 2014, arXiv:1409.2329).

    Args:
        key: A random key.
        config: What the model is made of.
        params: Its parameters, of which only shapes are read.
        rate: The probability that a unit is dropped, 0 ≤ rate < 1.
        source_shape: `(Tx, *B)`.
        target_shape: `(Ty, *B)`.

    Raises:
        ValueError: The rate is outside 0 ≤ rate < 1.
        TypeError: The rate is not a number.
    """
    dtype, recurrence = _compute_dtype(config), _recurrence(config)

    def drawn(key: Array, shape: tuple[int, ...], layers: tuple[Params, ...]) -> list[Array]:
        """One before each layer."""
        lowest = [of.forward if isinstance(of, BidirectionalParams) else of for of in layers]
        return [
            dropout_mask(one, rate, (*shape, *recurrence.input_shape(of)), dtype=dtype)
            for one, of in zip(jax.random.split(key, len(layers)), lowest, strict=True)
        ]

    key_encoder, key_decoder, key_outputs = jax.random.split(key, 3)
    sources, *encoder = drawn(key_encoder, source_shape, params.encoder)
    targets, *decoder = drawn(key_decoder, target_shape, params.decoder)
    outputs = dropout_mask(key_outputs, rate, (*target_shape, params.head.w.shape[0]), dtype=dtype)
    return DropoutMasks(sources, tuple(encoder), targets, tuple(decoder), outputs)


def encode(
    config: EncoderDecoderConfig,
    params: EncoderDecoderParams,
    sources: ArrayLike,
    lengths: ArrayLike | None = None,
    masks: DropoutMasks | None = None,
    *,
    plan: str | Plan = "auto",
) -> tuple[DecoderState, Memory | None]:
    """Read whole sources: what the decoder begins with, and what it attends to.

    (a^<1>, …, a^<Tx>) = encoder(x^<1>, …, x^<Tx>),  s^<0> = tanh(last W_s + b_s)

    where last is a^<Tx> or, of two directions, [a→^<Tx>, a←^<1>], and W_s is another one for each
    array of the decoder's carry. Of an empty source last is zero, and so is all that attention
    finds.

    Args:
        config: What the model is made of.
        params: Its parameters.
        sources: `(Tx, *B)` integer, 0 … V−1 within each length; what follows is not read.
        lengths: `(*B,)` integer, 0 … Tx; None is Tx of all.
        masks: Of dropout, in training; None is none.
        plan: How each layer is run, as in `rnnjax.scan`.

    Returns:
        state: Leaves `(*B, ...)`, before the first token of a target.
        annotations: a^<1> … a^<Tx>, prepared for the attention; None where there is none.

    Raises:
        TypeError: An argument is of the wrong kind or dtype.
        ValueError: A shape is wrong, or a known token or length is out of range.

    References:
        Cho et al. (2014), arXiv:1406.1078, appendix A.1.2, tanh(V c); Bahdanau, Cho and Bengio
        (2015), arXiv:1409.0473, appendix A.2.2, where last is a←^<1> alone.
    """
    sources, mask = _checked_tokens("sources", sources, lengths, config.source_vocabulary_size)
    xs = embed(params.source_embedding, sources).astype(_compute_dtype(config))
    if masks is not None:
        xs = xs * masks.sources
    _, ys = scan_deep(
        _encoder_layer(config),
        params.encoder,
        xs,
        lengths=lengths,
        dropout_masks=None if masks is None else masks.encoder,
        accumulation_dtype=config.accumulation_dtype,
        plan=plan,
    )
    last = both_ends(ys, lengths) if config.bidirectional else last_step(ys, lengths)
    before, treedef = jax.tree.flatten(initial_deep_carry(_recurrence(config), params.decoder, ()))
    if len(params.bridge) != len(before):
        raise ValueError(f"params.bridge: got {len(params.bridge)}, expected {len(before)}")
    leaves = [
        _bridged(dense, last, leaf) for dense, leaf in zip(params.bridge, before, strict=True)
    ]
    annotations = None
    if config.attention != "none":
        annotations = prepare_memory(_OF_NAME[config.attention], params.attention, ys, mask=mask)
    return jax.tree.unflatten(treedef, leaves), annotations


def decode(
    config: EncoderDecoderConfig,
    params: EncoderDecoderParams,
    state: DecoderState,
    annotations: Memory | None,
    inputs: ArrayLike,
    lengths: ArrayLike | None = None,
    masks: DropoutMasks | None = None,
    *,
    plan: str | Plan = "auto",
) -> tuple[DecoderState, Array, Array | None]:
    """Read the tokens that were written so far, and predict after each one the next.

    (s^<1>, …, s^<Ty>) = decoder(s^<0>; y^<0>, …, y^<Ty-1>)
    α^<t,t'> = softmax_t'(score(s^<t>, a^<t'>)),  c^<t> = Σ_t' α^<t,t'> a^<t'>
    s̃^<t> = tanh([c^<t>; s^<t>] W_c + b_c),  logits^<t> = s̃^<t> W + b

    Without attention s̃ is s. There is no input feeding: the context is found after the recurrence
    and does not go back into it, so the decoder's recurrence is a plain scan over inputs that are
    all known, any plan runs it, and the attention of all steps is one product. With input feeding
    (Luong et al., section 3.3), or in the network of Bahdanau et al., each step would wait for the
    context of the one before.

    Args:
        config: What the model is made of.
        params: Its parameters.
        state: Leaves `(*B, ...)`, from `encode` or from the window before.
        annotations: From `encode`.
        inputs: `(Ty, *B)` integer, 0 … V−1 within each length: y^<0>, …, y^<Ty-1>.
        lengths: `(*B,)` integer, 0 … Ty; None is Ty of all. What follows a row's length is not
            read, and predictions there mean nothing.
        masks: Of dropout, in training; None is none.
        plan: How each layer is run, as in `rnnjax.scan`.

    Returns:
        state: Leaves `(*B, ...)`, after the last token of each row.
        logits: `(Ty, *B, V)`.
        weights: `(Ty, Tx, *B)`, the α; None without attention.

    Raises:
        TypeError: An argument is of the wrong kind or dtype, or the annotations are not those of
            the config's attention.
        ValueError: A shape is wrong, or a known token or length is out of range.

    References:
        Luong, Pham and Manning (2015), arXiv:1508.04025, section 3.1, global attention, equations
        5 to 8; Sutskever, Vinyals and Le (2014), arXiv:1409.3215, for a decoder without.
    """
    inputs, _ = _checked_tokens("inputs", inputs, lengths, config.target_vocabulary_size)
    xs = embed(params.target_embedding, inputs).astype(_compute_dtype(config))
    if masks is not None:
        xs = xs * masks.targets
    state, ys = scan_deep(
        _recurrence(config),
        params.decoder,
        xs,
        state,
        lengths=lengths,
        dropout_masks=None if masks is None else masks.decoder,
        accumulation_dtype=config.accumulation_dtype,
        plan=plan,
    )
    logits, weights = _predicted(
        config, params, annotations, ys, None if masks is None else masks.outputs
    )
    return state, logits, weights


def step_decoder(
    config: EncoderDecoderConfig,
    params: EncoderDecoderParams,
    state: DecoderState,
    annotations: Memory | None,
    token: ArrayLike,
) -> tuple[DecoderState, Array]:
    """Read one token, and predict the next: one step of `decode`.

    Args:
        config: What the model is made of.
        params: Its parameters.
        state: Leaves `(*B, ...)`.
        annotations: From `encode`.
        token: `(*B,)` integer, 0 … V−1.

    Returns:
        state: Leaves `(*B, ...)`.
        logits: `(*B, V)`.

    Raises:
        TypeError: The token is not integer, or as `decode`.
        ValueError: A known token is outside 0 … V−1.
    """
    state, y = _step_of_recurrence(config, params, state, token)
    return state, _predicted(config, params, annotations, y)[0]


def apply_encoder_decoder(
    config: EncoderDecoderConfig,
    params: EncoderDecoderParams,
    sources: ArrayLike,
    targets: ArrayLike,
    source_lengths: ArrayLike | None = None,
    target_lengths: ArrayLike | None = None,
    masks: DropoutMasks | None = None,
    *,
    plan: str | Plan = "auto",
) -> tuple[Array, Array | None]:
    """Predict each token of known targets from those before it: teacher forcing.

    P(y^<t> | x, y^<1>, …, y^<t-1>) = softmax(logits^<t>); the inputs are y^<0> = begin, then
    y^<1>, …, y^<Ty-1>.

    Args:
        config: What the model is made of.
        params: Its parameters.
        sources: `(Tx, *B)` integer, as in `encode`.
        targets: `(Ty, *B)` integer, 0 … V−1 within each length; what follows is not read.
        source_lengths: `(*B,)` integer, 0 … Tx; None is Tx of all.
        target_lengths: `(*B,)` integer, 0 … Ty; None is Ty of all.
        masks: Of dropout, in training; None is none.
        plan: How each layer is run, as in `rnnjax.scan`.

    Returns:
        logits: `(Ty, *B, V)`; past a target's length they mean nothing.
        weights: `(Ty, Tx, *B)`, the α of attention; None without.

    Raises:
        TypeError: An argument is of the wrong kind or dtype.
        ValueError: A shape is wrong, or a known token or length is out of range.
    """
    inputs = _inputs_of(config, sources, targets, target_lengths)
    state, annotations = encode(config, params, sources, source_lengths, masks, plan=plan)
    _, logits, weights = decode(
        config, params, state, annotations, inputs, target_lengths, masks, plan=plan
    )
    return logits, weights


def encoder_decoder_loss(
    config: EncoderDecoderConfig,
    params: EncoderDecoderParams,
    memory: Any,
    batch: TranslationBatch,
    key: Array,
    *,
    dropout: float = 0.0,
    plan: str | Plan = "auto",
) -> tuple[Array, tuple[Any, Mapping[str, Array]]]:
    """How surprised the model is by the targets, with teacher forcing.

    loss = (1/B) Σ_b w_b Σ_t L^<t>,  L^<t> = −log P(y^<t> | x, y^<1>, …, y^<t-1>)

    Thus each token of a corpus weighs the same, in whatever batch it stands.
    `functools.partial(encoder_decoder_loss, config)` is the loss function of `rnnjax.training`.

    Args:
        config: What the model is made of.
        params: Its parameters.
        memory: Returned as it is: nothing goes from one batch to the next.
        batch: B examples.
        key: A random key, of the dropout; not read without.
        dropout: The rate of `draw_dropout_masks`.
        plan: How each layer is run.

    Returns:
        loss: `()`, nats per target.
        memory: As given.
        metrics: `()` each: `cross_entropy` (mean, nats per token), `perplexity` of that mean,
            `accuracy` (of the likeliest tokens, the ones before being given), and to be added up
            over batches `nats`, `correct` and `tokens`.

    Raises:
        TypeError: As `apply_encoder_decoder`, or the rate is not a number.
        ValueError: As `apply_encoder_decoder`, or the weights' shape or the rate is wrong.
    """
    masks = _masks_of(config, params, batch, key, dropout)
    logits, _ = apply_encoder_decoder(
        config, params, batch.sources, batch.targets, batch.source_lengths, batch.target_lengths,
        masks, plan=plan,
    )  # fmt: skip
    loss, metrics = _loss_of(logits, batch)
    return loss, (memory, metrics)


def scheduled_sampling_loss(
    config: EncoderDecoderConfig,
    params: EncoderDecoderParams,
    memory: Any,
    batch: TranslationBatch,
    key: Array,
    *,
    truth_probability: ArrayLike,
    dropout: float = 0.0,
    plan: str | Plan = "auto",
) -> tuple[Array, tuple[Any, Mapping[str, Array]]]:
    """The loss of a decoder that reads some of its own tokens, as it will have to in use.

    input^<t> = y^<t-1> with probability ε, else a draw from the model's own prediction of it

    Targets stay the true ones, and, as in the paper, no gradient goes through the draws. So the
    tokens are drawn first, step by step and without the decoder's dropout, and the loss is then
    that of teacher forcing with these inputs, by any plan. ε = 1 is `encoder_decoder_loss`.

    Args:
        config: What the model is made of.
        params: Its parameters.
        memory: Returned as it is.
        batch: B examples.
        key: A random key.
        truth_probability: `()`, ε within 0 … 1; it may be traced, to decay with the training step.
        dropout: The rate of `draw_dropout_masks`.
        plan: How each layer is run.

    Returns:
        As `encoder_decoder_loss`.

    Raises:
        TypeError: As `encoder_decoder_loss`.
        ValueError: As `encoder_decoder_loss`, or a known ε is outside 0 … 1.

    References:
        Bengio et al. (2015), arXiv:1506.03099, section 2.4.
    """
    is_known = not isinstance(truth_probability, jax.core.Tracer)
    if is_known and not 0 <= np.asarray(truth_probability) <= 1:
        raise ValueError(f"truth_probability: got {truth_probability}, expected 0 … 1")
    key_masks, key_truth, key_tokens = jax.random.split(key, 3)
    masks = _masks_of(config, params, batch, key_masks, dropout)
    inputs = _inputs_of(config, batch.sources, batch.targets, batch.target_lengths)
    state, annotations = encode(
        config, params, batch.sources, batch.source_lengths, masks, plan=plan
    )
    frozen, before, attended = lax.stop_gradient((params, state, annotations))
    is_true = jax.random.uniform(key_truth, inputs.shape, jnp.float32) < jnp.asarray(
        truth_probability, jnp.float32
    )
    is_true = is_true.at[0].set(True)  # the begin token

    def write(
        carry: tuple[DecoderState, Array], x: tuple[Array, Array, Array]
    ) -> tuple[tuple[DecoderState, Array], Array]:
        (state, own), (time, true, is_true) = carry, x
        token = jnp.where(is_true, true, own)
        state, logits = step_decoder(config, frozen, state, attended, token)
        own = sample_token(jax.random.fold_in(key_tokens, time), logits)
        return (state, own.astype(true.dtype)), token

    times = jnp.arange(inputs.shape[0], dtype=jnp.uint32)
    _, inputs = lax.scan(write, (before, inputs[0]), (times, inputs, is_true))
    _, logits, _ = decode(
        config, params, state, annotations, inputs, batch.target_lengths, masks, plan=plan
    )
    loss, metrics = _loss_of(logits, batch)
    return loss, (memory, metrics)


def translation_log_probability(
    config: EncoderDecoderConfig,
    params: EncoderDecoderParams,
    sources: ArrayLike,
    targets: ArrayLike,
    source_lengths: ArrayLike | None = None,
    target_lengths: ArrayLike | None = None,
    *,
    plan: str | Plan = "auto",
) -> Array:
    """How probable the model holds translations, token by token.

    log P(y^<t> | x, y^<1>, …, y^<t-1>); their sum over t is log P(y | x)

    Args:
        config: What the model is made of.
        params: Its parameters.
        sources: `(Tx, *B)` integer, as in `encode`.
        targets: `(Ty, *B)` integer, the end token being one of them.
        source_lengths: `(*B,)` integer, 0 … Tx; None is Tx of all.
        target_lengths: `(*B,)` integer, 0 … Ty; past it the result is 0. None is Ty of all.
        plan: How each layer is run.

    Returns:
        `(Ty, *B)`, nats, at most 0.

    Raises:
        TypeError: As `apply_encoder_decoder`.
        ValueError: As `apply_encoder_decoder`.
    """
    logits, _ = apply_encoder_decoder(
        config, params, sources, targets, source_lengths, target_lengths, plan=plan
    )
    weights = None
    if target_lengths is not None:
        weights = weights_of_lengths(target_lengths, logits.shape[0])
    return -cross_entropy_per_step(logits, targets, weights)


def attention_weights(
    config: EncoderDecoderConfig,
    params: EncoderDecoderParams,
    sources: ArrayLike,
    targets: ArrayLike,
    source_lengths: ArrayLike | None = None,
    target_lengths: ArrayLike | None = None,
    *,
    plan: str | Plan = "auto",
) -> Array:
    """Where in the source the decoder looks for each token of a target: the course's α^<t,t'>.

    Args:
        config: What the model is made of.
        params: Its parameters.
        sources: `(Tx, *B)` integer, as in `encode`.
        targets: `(Ty, *B)` integer: true ones, or those of `translate`.
        source_lengths: `(*B,)` integer, 0 … Tx; None is Tx of all.
        target_lengths: `(*B,)` integer, 0 … Ty; None is Ty of all.
        plan: How each layer is run.

    Returns:
        `(Ty, *B, Tx)`, at least 0, of sum 1 over Tx; zero past both lengths.

    Raises:
        TypeError: As `apply_encoder_decoder`.
        ValueError: As `apply_encoder_decoder`, or the model has no attention.

    References:
        Bahdanau, Cho and Bengio (2015), arXiv:1409.0473, section 5.2.1, figure 3.
    """
    if config.attention == "none":
        raise ValueError("attention: got 'none', expected one of additive, dot, general")
    _, weights = apply_encoder_decoder(
        config, params, sources, targets, source_lengths, target_lengths, plan=plan
    )
    weights = jnp.moveaxis(cast(Array, weights), 1, -1)
    if target_lengths is None:
        return weights
    return zero_unless(lengths_to_mask(target_lengths, weights.shape[0]), weights)


def translate_greedily(
    config: EncoderDecoderConfig,
    params: EncoderDecoderParams,
    sources: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    length: int,
    plan: str | Plan = "auto",
) -> tuple[Array, Array]:
    """Write a translation, always the likeliest token next: y^<t> = argmax_v logits^<t>_v.

    Compiled once for each shape. The loop ends when all rows have.

    Args:
        config: What the model is made of.
        params: Its parameters.
        sources: `(Tx, *B)` integer, as in `encode`.
        lengths: `(*B,)` integer, 0 … Tx; None is Tx of all.
        length: The most tokens of a translation, the end token counted.
        plan: How each layer of the encoder is run.

    Returns:
        tokens: `(length, *B)` int32; the end token, and after it.
        lengths: `(*B,)` int32, Ty, the end token counted.

    Raises:
        TypeError: As `encode`.
        ValueError: As `encode`, or `length` is below 1.
    """
    check_size("length", length)
    sources, _ = _checked_tokens("sources", sources, lengths, config.source_vocabulary_size)
    return _translate_greedily(config, length, plan, params, sources, lengths)


def translate(
    config: EncoderDecoderConfig,
    params: EncoderDecoderParams,
    sources: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    length: int,
    beam_width: int = 5,
    length_exponent: float = 0.7,
    count: int = 1,
    plan: str | Plan = "auto",
) -> Hypotheses:
    """The best translations of a beam: argmax_y log P(y | x) ÷ Ty^α, approximately.

    Compiled once for each shape. The annotations are held once, whatever K: the K queries of a
    row are attended to together.

    Args:
        config: What the model is made of.
        params: Its parameters.
        sources: `(Tx, N)` integer, as in `encode`.
        lengths: `(N,)` integer, 0 … Tx; None is Tx of all.
        length: The most tokens of a translation, the end token counted.
        beam_width: K. With 1 it is `translate_greedily`, but for what scores higher by ending
            sooner or later.
        length_exponent: α, as in `beam_search`.
        count: M, how many translations to return.
        plan: How each layer of the encoder is run.

    Returns:
        Best first; tokens `(length, N, M)`, the rest `(N, M)`.

    Raises:
        TypeError: As `encode`.
        ValueError: As `encode`, or as `beam_search`, or the sources have not two axes.
    """
    for name, size in (("length", length), ("beam_width", beam_width), ("count", count)):
        check_size(name, size)
    sources, _ = _checked_tokens("sources", sources, lengths, config.source_vocabulary_size)
    if sources.ndim != 2:
        raise ValueError(f"sources: got shape {sources.shape}, expected (Tx, N)")
    return _translate(
        config, length, beam_width, float(length_exponent), count, plan, params, sources, lengths
    )


_Loop = tuple[Array, DecoderState, Array, Array, Array]
"""Time, state, last token, all tokens, and how many of a row are written."""


@partial(jax.jit, static_argnums=(0, 1, 2))
def _translate_greedily(
    config: EncoderDecoderConfig,
    length: int,
    plan: str | Plan,
    params: EncoderDecoderParams,
    sources: Array,
    lengths: ArrayLike | None,
) -> tuple[Array, Array]:
    state, annotations = encode(config, params, sources, lengths, plan=plan)
    rows = sources.shape[1:]

    def is_open_still(time: Array, token: Array) -> Array:
        return (time == 0) | (token != config.end_id)  # the begin token may be the end token

    def goes_on(loop: _Loop) -> Array:
        time, _, token, _, _ = loop
        return (time < length) & jnp.any(is_open_still(time, token))

    def write(loop: _Loop) -> _Loop:
        time, state, token, tokens, written = loop
        is_open = is_open_still(time, token)
        state, logits = step_decoder(config, params, state, annotations, token)
        token = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        token = jnp.where(is_open, token, jnp.full_like(token, config.end_id))
        return (
            time + 1,
            state,
            token,
            tokens.at[time].set(token),
            written + is_open.astype(jnp.int32),
        )

    _, _, _, tokens, written = lax.while_loop(
        goes_on,
        write,
        (
            jnp.zeros((), jnp.int32),
            state,
            jnp.full(rows, config.begin_id, jnp.int32),
            jnp.full((length, *rows), config.end_id, jnp.int32),
            jnp.zeros(rows, jnp.int32),
        ),
    )
    return tokens, written


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5))
def _translate(
    config: EncoderDecoderConfig,
    length: int,
    beam_width: int,
    length_exponent: float,
    count: int,
    plan: str | Plan,
    params: EncoderDecoderParams,
    sources: Array,
    lengths: ArrayLike | None,
) -> Hypotheses:
    state, annotations = encode(config, params, sources, lengths, plan=plan)

    def step(state: DecoderState, token: Array) -> tuple[DecoderState, Array]:
        state, y = _step_of_recurrence(config, params, state, token)  # (N, K, Q)
        # To the attention K is an axis of many queries, as time is in training.
        logits, _ = _predicted(config, params, annotations, jnp.moveaxis(y, 1, 0))
        return state, jnp.moveaxis(logits, 0, 1)

    return beam_search(
        step,
        state,
        jnp.full(sources.shape[1], config.begin_id, jnp.int32),
        length,
        beam_width=beam_width,
        end_token=config.end_id,
        length_exponent=length_exponent,
        count=count,
    )


def _recurrence(config: EncoderDecoderConfig) -> Recurrence:
    return REGISTRY[config.recurrence]


def _encoder_layer(config: EncoderDecoderConfig) -> Layer:
    recurrence = _recurrence(config)
    return Layer(recurrence, recurrence if config.bidirectional else None)


def _compute_dtype(config: EncoderDecoderConfig) -> jnp.dtype:
    return jnp.dtype(config.compute_dtype or config.dtype)


def _checked_tokens(
    name: str, tokens: ArrayLike, lengths: ArrayLike | None, vocabulary_size: int
) -> tuple[Array, Array | None]:
    """The tokens, 0 in place of what follows a row's length, and where they count."""
    tokens = jnp.asarray(tokens)
    if tokens.ndim < 1 or tokens.shape[0] < 1:
        raise ValueError(f"{name}: got shape {tokens.shape}, expected (T, *B) with T of at least 1")
    mask = None
    if lengths is not None:
        try:
            mask = lengths_to_mask(lengths, tokens.shape[0])
        except (TypeError, ValueError) as error:
            error.add_note(f"In the lengths of the {name}.")
            raise
        if mask.shape != tokens.shape:
            raise ValueError(
                f"lengths: got shape {mask.shape[1:]}, expected {tokens.shape[1:]} (*B), "
                f"that of the {name}"
            )
        tokens = jnp.where(mask, tokens, jnp.zeros_like(tokens))
    return checked_ids(name, tokens, vocabulary_size), mask


def _inputs_of(
    config: EncoderDecoderConfig,
    sources: ArrayLike,
    targets: ArrayLike,
    target_lengths: ArrayLike | None,
) -> Array:
    """y^<0>, …, y^<Ty-1>."""
    targets, _ = _checked_tokens("targets", targets, target_lengths, config.target_vocabulary_size)
    rows = jnp.shape(sources)[1:]
    if targets.shape[1:] != rows:
        raise ValueError(
            f"targets: got shape {targets.shape}, expected (Ty, *B) with {rows} (*B), "
            "that of the sources"
        )
    return jnp.concatenate([jnp.full_like(targets[:1], config.begin_id), targets[:-1]])


def _numbers_in(leaf: Array) -> int:
    """How many real numbers an array of a carry holds."""
    return prod(leaf.shape) * (2 if jnp.iscomplexobj(leaf) else 1)


def _bridged(dense: DenseParams, last: Array, leaf: Array) -> Array:
    """`(*B, D) -> (*B, *leaf)`, in the dtype of the leaf."""
    values = jnp.tanh(apply_dense(dense, last)).astype(jnp.real(leaf).dtype)
    if jnp.iscomplexobj(leaf):
        values = lax.complex(*jnp.split(values, 2, axis=-1))
    return values.reshape(*last.shape[:-1], *leaf.shape)


def _step_of_recurrence(
    config: EncoderDecoderConfig,
    params: EncoderDecoderParams,
    state: DecoderState,
    token: ArrayLike,
) -> tuple[DecoderState, Array]:
    token = checked_ids("token", token, config.target_vocabulary_size)
    x = embed(params.target_embedding, token).astype(_compute_dtype(config))
    return step_deep(_recurrence(config), params.decoder, state, x)


def _predicted(
    config: EncoderDecoderConfig,
    params: EncoderDecoderParams,
    annotations: Memory | None,
    ys: Array,
    mask: Array | None = None,
) -> tuple[Array, Array | None]:
    """All that follows the recurrence, `(*N, *B, Q) -> (*N, *B, V), (*N, Tx, *B)`."""
    weights = None
    if (annotations is None) != (config.attention == "none"):
        got, expected = ("none", "those") if annotations is None else ("some", "none")
        raise TypeError(
            f"annotations: got {got}, expected {expected} of attention={config.attention!r}"
        )
    if annotations is not None:
        if params.combine is None:
            raise TypeError("params: got none of the attention, expected those of one")
        context, weights = attend(_OF_NAME[config.attention], params.attention, ys, annotations)
        ys = jnp.tanh(apply_dense(params.combine, jnp.concatenate([context, ys], axis=-1)))
    if mask is not None:
        ys = ys * mask
    return apply_dense(params.head, ys, output_dtype=config.output_dtype), weights


def _masks_of(
    config: EncoderDecoderConfig,
    params: EncoderDecoderParams,
    batch: TranslationBatch,
    key: Array,
    rate: float,
) -> DropoutMasks | None:
    check_rate("dropout", rate)
    if rate == 0:
        return None
    shapes = jnp.shape(batch.sources), jnp.shape(batch.targets)
    return draw_dropout_masks(key, config, params, rate, *shapes)


def _loss_of(logits: Array, batch: TranslationBatch) -> tuple[Array, Mapping[str, Array]]:
    targets = jnp.asarray(batch.targets)
    rows = jnp.asarray(batch.weights, jnp.float32)
    if rows.shape != targets.shape[1:]:
        raise ValueError(f"weights: got shape {rows.shape}, expected {targets.shape[1:]} (B,)")
    weights = weights_of_lengths(batch.target_lengths, targets.shape[0]) * rows
    losses = cross_entropy_per_step(logits, targets, weights)
    weights = weights.astype(losses.dtype)
    is_right = lax.argmax(logits, logits.ndim - 1, jnp.int32) == targets.astype(jnp.int32)
    nats, tokens = jnp.sum(losses), jnp.sum(weights)
    correct = jnp.sum(jnp.where(is_right, weights, jnp.zeros_like(weights)))
    mean = mean_over_counted(nats, tokens)
    metrics = {
        "cross_entropy": mean,
        "perplexity": perplexity(mean),
        "accuracy": mean_over_counted(correct, tokens),
        "nats": nats,
        "correct": correct,
        "tokens": tokens,
    }
    return nats / rows.size, metrics
