"""A recurrent language model: what comes next, given all that came before."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rnnjax.decoding.sampling import check_sampling, sample_tokens
from rnnjax.layers.checks import check_size, checked_ids
from rnnjax.layers.deep import init_deep, initial_deep_carry, scan_deep, step_deep
from rnnjax.layers.dense import DenseParams, apply_dense, init_dense
from rnnjax.layers.dropout import check_rate, dropout_mask
from rnnjax.layers.embedding import EmbeddingParams, embed, init_embedding
from rnnjax.layers.step_inputs import broadcast_mask
from rnnjax.losses.cross_entropy import (
    bits_per_character,
    cross_entropy_per_step,
    mean_over_counted,
    perplexity,
    weights_of_lengths,
)
from rnnjax.models.checks import check_dtypes, check_recurrence, dtype_and_drawing_dtype
from rnnjax.plans.protocol import Plan
from rnnjax.recurrences import REGISTRY
from rnnjax.recurrences.protocol import Carry, Params, Recurrence
from rnnjax.scanning import one_step_of_projected, project_inputs
from rnnjax.text.encoding import one_hot
from rnnjax.text.streams import TextBatch

MOST_PROJECTED_TOKENS = 1024
"""V up to which all tokens are projected before a sample: milliseconds, which each step repays."""

LanguageModelState = tuple[Carry, ...]
"""The carry of each layer, bottom first; leaves `(*B, H)`."""


@dataclass(frozen=True)
class LanguageModelConfig:
    """What a language model is made of; hashable, so it can be a static argument of `jax.jit`.

    Attributes:
        vocabulary_size: V.
        recurrence: A name in `rnnjax.recurrences.REGISTRY` of what reads vectors, for all layers.
        hidden_sizes: H of each layer, bottom first.
        embedding_size: E of a learned embedding; None is to read one-hot vectors, as the course
            does: then the input weights of the bottom layer are the embedding.
        dtype: Of parameters, and of all that is not said otherwise, one of `DTYPES` of
            `rnnjax.models.checks`.
        compute_dtype: Of the factors of products and of activations; None is `dtype`.
        output_dtype: Of logits; None is `compute_dtype`.
        accumulation_dtype: Of sums, gates and carries, as in `rnnjax.scan`.

    Raises:
        ValueError: A field is out of range or unknown.
    """

    vocabulary_size: int
    recurrence: str = "lstm"
    hidden_sizes: tuple[int, ...] = (256, 256)
    embedding_size: int | None = None
    dtype: str = "float32"
    compute_dtype: str | None = None
    output_dtype: str | None = None
    accumulation_dtype: str | None = None

    def __post_init__(self) -> None:
        check_size("vocabulary_size", self.vocabulary_size)
        check_recurrence(self.recurrence)
        if not isinstance(self.hidden_sizes, tuple) or not self.hidden_sizes:
            raise ValueError(
                f"hidden_sizes: got {self.hidden_sizes!r}, expected a tuple of at least one size"
            )
        for layer, size in enumerate(self.hidden_sizes):
            check_size(f"hidden_sizes[{layer}]", size)
        if self.embedding_size is not None:
            check_size("embedding_size", self.embedding_size)
        check_dtypes(self)


class TiedHeadParams(NamedTuple):
    """What is left of a head that shares the embedding's vectors: W is the table's transpose."""

    b: Array  # (V,)


class LanguageModelParams(NamedTuple):
    """The parameters of each part; a pytree."""

    embedding: EmbeddingParams | None  # table (V, E); None with one-hot inputs
    layers: tuple[Params, ...]  # L records, bottom first
    head: DenseParams | TiedHeadParams  # (H, V), (V,); H is the size of the top layer's outputs


def init_language_model(key: Array, config: LanguageModelConfig) -> LanguageModelParams:
    """Draw the parameters.

    Args:
        key: A random key.
        config: What the model is made of.

    Raises:
        ValueError: The dtype is float64 while `jax_enable_x64` is off.
    """
    dtype, drawn = dtype_and_drawing_dtype(config.dtype)
    key_embedding, key_layers, key_head = jax.random.split(key, 3)
    embedding, input_size = None, config.vocabulary_size
    if config.embedding_size is not None:
        input_size = config.embedding_size
        embedding = init_embedding(key_embedding, config.vocabulary_size, input_size, dtype=drawn)
    layers = init_deep(
        key_layers, _recurrence(config), input_size, config.hidden_sizes, dtype=drawn
    )
    # Not H of every recurrence: lstm_projected and lru have outputs of another size.
    _, y = jax.eval_shape(
        lambda layers: step_deep(
            _recurrence(config),
            layers,
            initial_deep_carry(_recurrence(config), layers, ()),
            jnp.zeros((input_size,), drawn),
        ),
        layers,
    )
    head = init_dense(key_head, y.shape[-1], config.vocabulary_size, dtype=drawn)
    params = LanguageModelParams(embedding, layers, head)
    return jax.tree.map(lambda array: array.astype(dtype), params)


def init_tied_language_model(key: Array, config: LanguageModelConfig) -> LanguageModelParams:
    """Draw the parameters of a model whose embedding is also the weights of its softmax.

    logits^<t> = a^<t> Eᵀ + b: a word is likely where the output is near the word's own vector.
    The gradient of E is the sum of that of the vectors read and that of the weights; all functions
    here take these parameters as they take the others.

    Args:
        key: A random key.
        config: What the model is made of; its embedding is as wide as the outputs of its top layer.

    Raises:
        ValueError: The embedding has another size, or there is none; or as `init_language_model`.

    References:
        Press and Wolf (2017), arXiv:1608.05859; Inan et al. (2017), arXiv:1611.01462.
    """
    shapes = jax.eval_shape(partial(init_language_model, config=config), key)
    size = shapes.head.w.shape[0]
    if config.embedding_size != size:
        raise ValueError(
            f"embedding_size: got {config.embedding_size}, expected {size}, the size of the top "
            "layer's outputs, for tied weights"
        )
    params = init_language_model(key, config)
    return params._replace(head=TiedHeadParams(params.head.b))


def initial_state(
    config: LanguageModelConfig, params: LanguageModelParams, batch_shape: tuple[int, ...]
) -> LanguageModelState:
    """The state before a text begins: zero carries, leaves `(*B, H)`."""
    return initial_deep_carry(_recurrence(config), params.layers, batch_shape)


def apply_language_model(
    config: LanguageModelConfig,
    params: LanguageModelParams,
    state: LanguageModelState,
    inputs: ArrayLike,
    resets: ArrayLike | None = None,
    *,
    lengths: ArrayLike | None = None,
    dropout_masks: Sequence[ArrayLike | None] | None = None,
    plan: str | Plan = "auto",
) -> tuple[LanguageModelState, Array]:
    """Read tokens, and predict after each one what comes next.

    P(y^<t> | x^<1>, …, x^<t>) = softmax(logits^<t>),  logits^<t> = a^<t> W + b

    One-hot inputs are made as vectors and multiplied, though their product with W_x is but a
    gather of its rows; with an embedding it is done as one.

    Args:
        config: What the model is made of.
        params: Its parameters.
        state: Leaves `(*B, H)`, from `initial_state` or from the window before.
        inputs: `(T, *B)` integer, 0 … V−1.
        resets: `(T, *B)` bool: the state is cleared before step t.
        lengths: `(*B,)` integer, 0 … T: what follows a row's length is read as padding; its logits
            are b and mean nothing.
        dropout_masks: L + 1 of them, as `scan_deep` takes those between layers: the first
            multiplies the vectors read, the last the outputs of the top layer on their way to the
            head.
        plan: How each layer is run, as in `rnnjax.scan`.

    Returns:
        state: Leaves `(*B, H)`, after the last token of each row.
        logits: `(T, *B, V)`.

    Raises:
        TypeError: An argument is of the wrong kind or dtype.
        ValueError: A shape is wrong, or a known token or length is out of range.
    """
    xs = _vectors(config, params, checked_ids("inputs", inputs, config.vocabulary_size))
    below, between, above = None, None, None
    if dropout_masks is not None:
        count = len(params.layers) + 1
        if len(dropout_masks) != count:
            raise ValueError(f"dropout_masks: got {len(dropout_masks)}, expected {count}")
        below, *between, above = dropout_masks
    xs = _dropped("dropout_masks[0]", xs, below)
    state, ys = scan_deep(
        _recurrence(config),
        params.layers,
        xs,
        state,
        lengths=lengths,
        resets=resets,
        dropout_masks=between,
        accumulation_dtype=config.accumulation_dtype,
        plan=plan,
    )
    ys = _dropped(f"dropout_masks[{len(params.layers)}]", ys, above)
    return state, apply_dense(_head(params), ys, output_dtype=config.output_dtype)


def step_language_model(
    config: LanguageModelConfig,
    params: LanguageModelParams,
    state: LanguageModelState,
    token: ArrayLike,
) -> tuple[LanguageModelState, Array]:
    """Read one token, and predict the next: one step of `apply_language_model`.

    Args:
        config: What the model is made of.
        params: Its parameters.
        state: Leaves `(*B, H)`.
        token: `(*B,)` integer, 0 … V−1.

    Returns:
        state: Leaves `(*B, H)`.
        logits: `(*B, V)`.

    Raises:
        TypeError: The token is not integer.
        ValueError: A known token is outside 0 … V−1.
    """
    x = _vectors(config, params, checked_ids("token", token, config.vocabulary_size))
    state, y = step_deep(_recurrence(config), params.layers, state, x)
    return state, apply_dense(_head(params), y, output_dtype=config.output_dtype)


def language_model_loss(
    config: LanguageModelConfig,
    params: LanguageModelParams,
    state: LanguageModelState,
    batch: TextBatch,
    key: Array,
    *,
    dropout: float = 0.0,
    plan: str | Plan = "auto",
) -> tuple[Array, tuple[LanguageModelState, Mapping[str, Array]]]:
    """The course's loss of a window, summed over time, and averaged over the batch.

    loss = (1/B) Σ_b Σ_t L^<t>,  L^<t> = −log P(y^<t> | what came before), weighted

    Thus each token of a corpus weighs the same, in whatever window it stands, and the gradient
    does not grow with B; it does grow with T, so a `clip_norm` should be chosen in proportion.
    `functools.partial(language_model_loss, config)` is the loss function of `rnnjax.training`;
    its memory is the state, carried from window to window (truncated BPTT).

    Args:
        config: What the model is made of.
        params: Its parameters.
        state: Leaves `(B, H)`.
        batch: T steps of B streams.
        key: A random key, of the dropout; not read without.
        dropout: The rate at which units are dropped where `apply_language_model` has masks, others
            at each step and in each stream; never from step to step (Zaremba et al. 2014,
            arXiv:1409.2329).
        plan: How each layer is run.

    Returns:
        loss: `()`, nats per stream.
        state: Leaves `(B, H)`.
        metrics: `()` each: `cross_entropy` (mean, nats per token that counts),
            `bits_per_character` and `perplexity` of that mean, and to be added up over windows
            `nats` (Σ L^<t>) and `tokens` (Σ weights).

    Raises:
        TypeError: As `apply_language_model`.
        ValueError: As `apply_language_model`, or the targets' or weights' shape or range is wrong,
            or the rate is outside 0 ≤ dropout < 1.
    """
    check_rate("dropout", dropout)
    masks = _draw_masks(config, params, key, dropout, batch.inputs.shape) if dropout else None
    state, logits = apply_language_model(
        config, params, state, batch.inputs, batch.resets, dropout_masks=masks, plan=plan
    )
    losses = cross_entropy_per_step(logits, batch.targets, batch.weights)
    nats = jnp.sum(losses)
    tokens = jnp.sum(jnp.asarray(batch.weights, losses.dtype))
    mean = mean_over_counted(nats, tokens)
    metrics = {
        "cross_entropy": mean,
        "bits_per_character": bits_per_character(mean),
        "perplexity": perplexity(mean),
        "nats": nats,
        "tokens": tokens,
    }
    rows = losses.size // losses.shape[0]
    return nats / rows, (state, metrics)


def text_log_probability(
    config: LanguageModelConfig,
    params: LanguageModelParams,
    tokens: ArrayLike,
    begin_id: int,
    *,
    lengths: ArrayLike | None = None,
    plan: str | Plan = "auto",
) -> Array:
    """How probable the model holds a text, token by token.

    log P(y^<t> | y^<1>, …, y^<t-1>); their sum over t is log P(y^<1>, …, y^<Ty>)

    The text stands by itself: the state is zero and the first token is predicted from `begin_id`,
    x^<1> = begin, x^<t> = y^<t-1>.

    Args:
        config: What the model is made of.
        params: Its parameters.
        tokens: `(Ty, *B)` integer, 0 … V−1 within each text's length.
        begin_id: The token before the first one of a document.
        lengths: `(*B,)` integer, Ty of each text; past it the result is 0 and tokens are not read.
        plan: How each layer is run.

    Returns:
        `(Ty, *B)`, nats, at most 0.

    Raises:
        TypeError: An argument is of the wrong kind or dtype.
        ValueError: The text is empty, a shape is wrong, or a known value is out of range.
    """
    tokens = jnp.asarray(tokens)
    if tokens.ndim < 1 or tokens.shape[0] < 1:
        raise ValueError(f"tokens: got shape {tokens.shape}, expected at least one token, (Ty, *B)")
    checked_ids("begin_id", begin_id, config.vocabulary_size)
    begin = jnp.full_like(tokens[:1], begin_id)
    weights = None
    if lengths is not None:
        weights = weights_of_lengths(lengths, tokens.shape[0])
        tokens = jnp.where(weights != 0, tokens, begin)
    inputs = jnp.concatenate([begin, tokens[:-1]])
    state = initial_state(config, params, tokens.shape[1:])
    _, logits = apply_language_model(config, params, state, inputs, lengths=lengths, plan=plan)
    return -cross_entropy_per_step(logits, tokens, weights)


def sample_language_model(
    config: LanguageModelConfig,
    params: LanguageModelParams,
    key: Array,
    prime: ArrayLike,
    length: int,
    *,
    temperature: ArrayLike = 1.0,
    top_k: int | None = None,
    top_p: ArrayLike | None = None,
    forbidden: ArrayLike | None = None,
) -> Array:
    """Write a novel text: read the prime text from the zero state, then draw token after token.

    y^<t> ~ P(y | prime, y^<1>, …, y^<t-1>), filtered as in `rnnjax.decoding.sampling`

    Compiled once for each shape of the prime, `length` and `top_k`. The same key writes the same
    text.

    Args:
        config: What the model is made of.
        params: Its parameters.
        key: A random key.
        prime: `(P,)` or `(P, *B)` integer, at least one token. A new document begins from the
            begin token alone; several texts at once from a prime of several equal rows.
        length: How many tokens to write.
        temperature: As in `sample_tokens`.
        top_k: As in `sample_tokens`.
        top_p: As in `sample_tokens`.
        forbidden: `(V,)` bool, tokens never written.

    Returns:
        `(length, *B)` int32, without the prime.

    Raises:
        TypeError: As `sample_tokens`, or the prime is not integer.
        ValueError: As `sample_tokens`, or the prime is empty, or has a token outside 0 … V−1.
    """
    prime = jnp.asarray(prime)
    if prime.ndim < 1 or prime.shape[0] < 1:
        raise ValueError(f"prime: got shape {prime.shape}, expected at least one token")
    prime = checked_ids("prime", prime, config.vocabulary_size)
    check_size("length", length)
    check_sampling(temperature, top_k, top_p, forbidden)
    return _sample(
        config, length, top_k, params, key, prime.astype(jnp.int32), temperature, top_p, forbidden
    )


@partial(jax.jit, static_argnums=(0, 1, 2))
def _sample(
    config: LanguageModelConfig,
    length: int,
    top_k: int | None,
    params: LanguageModelParams,
    key: Array,
    prime: Array,
    temperature: ArrayLike,
    top_p: ArrayLike | None,
    forbidden: ArrayLike | None,
) -> Array:
    state = initial_state(config, params, prime.shape[1:])
    if prime.shape[0] > 1:
        state, _ = apply_language_model(config, params, state, prime[:-1])
    _, tokens = sample_tokens(
        key,
        _step_of_a_sample(config, params),
        state,
        prime[-1],
        length,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        forbidden=forbidden,
    )
    return tokens


def _step_of_a_sample(
    config: LanguageModelConfig, params: LanguageModelParams
) -> Callable[[LanguageModelState, Array], tuple[LanguageModelState, Array]]:
    """`step_language_model`; where tokens are few, all are projected once and then looked up."""
    if config.vocabulary_size > MOST_PROJECTED_TOKENS:
        return partial(step_language_model, config, params)
    recurrence, dtype = _recurrence(config), _compute_dtype(config)
    lowest, *above = params.layers
    tokens = _vectors(config, params, jnp.arange(config.vocabulary_size))
    table = project_inputs(recurrence, lowest, tokens)

    def step(state: LanguageModelState, token: Array) -> tuple[LanguageModelState, Array]:
        z = jax.tree.map(lambda leaf: leaf[token], table)
        first, y = one_step_of_projected(recurrence, lowest, state[0], z, dtype)
        rest: LanguageModelState = ()
        if above:
            rest, y = step_deep(recurrence, above, state[1:], y)
        return (first, *rest), apply_dense(_head(params), y, output_dtype=config.output_dtype)

    return step


def _recurrence(config: LanguageModelConfig) -> Recurrence:
    return REGISTRY[config.recurrence]


def _head(params: LanguageModelParams) -> DenseParams:
    if isinstance(params.head, DenseParams):
        return params.head
    if params.embedding is None:
        raise ValueError("params: got a tied head without an embedding, expected both")
    return DenseParams(params.embedding.table.T, params.head.b)


def _dropped(name: str, values: Array, mask: ArrayLike | None) -> Array:
    if mask is None:
        return values
    return values * broadcast_mask(name, jnp.asarray(mask), values.shape, values.dtype)


def _draw_masks(
    config: LanguageModelConfig,
    params: LanguageModelParams,
    key: Array,
    rate: float,
    shape: tuple[int, ...],
) -> list[Array]:
    dtype, recurrence = _compute_dtype(config), _recurrence(config)
    of_layers = [recurrence.input_shape(of_layer)[0] for of_layer in params.layers]
    sizes = [*of_layers, _head(params).w.shape[0]]
    keys = jax.random.split(key, len(sizes))
    return [
        dropout_mask(one, rate, (*shape, size), dtype=dtype)
        for one, size in zip(keys, sizes, strict=True)
    ]


def _compute_dtype(config: LanguageModelConfig) -> jnp.dtype:
    return jnp.dtype(config.compute_dtype or config.dtype)


def _vectors(config: LanguageModelConfig, params: LanguageModelParams, ids: Array) -> Array:
    dtype = _compute_dtype(config)
    if params.embedding is None:
        return one_hot(ids, config.vocabulary_size, dtype)
    return embed(params.embedding, ids).astype(dtype)
