"""A recurrent model of frames: which of I keys sound next, given all frames before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from rnnjax.decoding.sampling import check_sampling, sample_token
from rnnjax.layers.checks import check_size
from rnnjax.layers.deep import init_deep, initial_deep_carry, scan_deep, step_deep
from rnnjax.layers.dense import DenseParams, apply_dense, init_dense
from rnnjax.layers.dropout import check_rate, dropout_mask
from rnnjax.losses.binary_cross_entropy import binary_mixture_cross_entropy_per_step
from rnnjax.losses.cross_entropy import mean_over_counted
from rnnjax.models.checks import check_recurrence, dtype_and_drawing_dtype
from rnnjax.plans.protocol import Plan
from rnnjax.recurrences import REGISTRY
from rnnjax.recurrences.protocol import Carry, Params, Recurrence

FrameModelState = tuple[Carry, ...]
"""The carry of each layer, bottom first; leaves `(*B, H)`."""


@dataclass(frozen=True)
class FrameModelConfig:
    """What a model of frames is made of; hashable, so it can be a static argument of `jax.jit`.

    Attributes:
        keys: I, 88 of a piano.
        recurrence: A name in `rnnjax.recurrences.REGISTRY` of what reads vectors, for all layers.
        hidden_sizes: H of each layer, bottom first.
        components: K: a frame is one of so many kinds, and given its kind keys are independent.
            With 1 they are independent given the past alone, as in most that is published.
        dtype: Of parameters and of all that is computed: "float32" or "float64".

    Raises:
        ValueError: A field is out of range or unknown.
    """

    keys: int = 88
    recurrence: str = "lstm"
    hidden_sizes: tuple[int, ...] = (256,)
    components: int = 1
    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_size("keys", self.keys)
        check_size("components", self.components)
        check_recurrence(self.recurrence)
        if not isinstance(self.hidden_sizes, tuple) or not self.hidden_sizes:
            raise ValueError(
                f"hidden_sizes: got {self.hidden_sizes!r}, expected a tuple of at least one size"
            )
        for layer, size in enumerate(self.hidden_sizes):
            check_size(f"hidden_sizes[{layer}]", size)
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype: got {self.dtype!r}, expected 'float32' or 'float64'")


class FrameModelParams(NamedTuple):
    """The parameters of each part; a pytree."""

    layers: tuple[Params, ...]  # L records, bottom first
    head: DenseParams  # (H + I, K·I), (K·I,)
    mixture: DenseParams  # (H + I, K), (K,)


class FramePrediction(NamedTuple):
    """What is said of the next frame; a pytree."""

    keys: Array  # (*S, K, I): the logit that a key sounds in a frame of a kind
    components: Array  # (*S, K): the logit of each kind


class FrameBatch(NamedTuple):
    """T frames of B pieces side by side; a pytree."""

    inputs: Array  # (T, B, I): the frame before the target, zeros before a piece's first
    targets: Array  # (T, B, I)
    resets: Array  # (T, B) bool: a piece begins with this target
    weights: Array  # (T, B): 1 for a frame, 0 for padding


def init_frame_model(
    key: Array, config: FrameModelConfig, frequencies: ArrayLike | None = None
) -> FrameModelParams:
    """Draw the parameters.

    Args:
        key: A random key.
        config: What the model is made of.
        frequencies: `(I,)`, the share of frames in which each key sounds: the head's bias begins
            as their logits, so that training does not begin with learning that most keys are
            silent. None is zeros.

    Raises:
        ValueError: The dtype is float64 while `jax_enable_x64` is off, or the frequencies are not
            I of them.
    """
    dtype, _ = dtype_and_drawing_dtype(config.dtype)
    key_layers, key_head, key_mixture = jax.random.split(key, 3)
    layers = init_deep(
        key_layers, _recurrence(config), config.keys, config.hidden_sizes, dtype=dtype
    )
    # Not H of every recurrence: lstm_projected and lru have outputs of another size.
    _, y = jax.eval_shape(
        lambda layers: step_deep(
            _recurrence(config),
            layers,
            initial_deep_carry(_recurrence(config), layers, ()),
            jnp.zeros((config.keys,), dtype),
        ),
        layers,
    )
    count = config.components
    read = y.shape[-1] + config.keys
    head = init_dense(key_head, read, count * config.keys, dtype=dtype)
    if frequencies is not None:
        shares = jnp.asarray(frequencies, dtype)
        if shares.shape != (config.keys,):
            raise ValueError(f"frequencies: got shape {shares.shape}, expected ({config.keys},)")
        logits = jax.scipy.special.logit(jnp.clip(shares, 1e-4, 1 - 1e-4))
        head = head._replace(b=jnp.tile(logits, count))
    mixture = init_dense(key_mixture, read, count, dtype=dtype)
    return FrameModelParams(layers, head, mixture)


def initial_frame_state(
    config: FrameModelConfig, params: FrameModelParams, batch_shape: tuple[int, ...]
) -> FrameModelState:
    """The state before a piece begins: zero carries, leaves `(*B, H)`."""
    return initial_deep_carry(_recurrence(config), params.layers, batch_shape)


def apply_frame_model(
    config: FrameModelConfig,
    params: FrameModelParams,
    state: FrameModelState,
    inputs: ArrayLike,
    resets: ArrayLike | None = None,
    *,
    dropout_masks: Sequence[Array] | None = None,
    plan: str | Plan = "auto",
) -> tuple[FrameModelState, FramePrediction]:
    """Read frames, and predict after each one which keys sound in the next.

    P(y^<t> | x^<1>, …, x^<t>) = Σ_k π_k^<t> Π_i P(y_i^<t> | k)
    P(y_i^<t> = 1 | k) = σ([a^<t>, x^<t>] W_ki + b_ki),  π^<t> = softmax([a^<t>, x^<t>] V + c)

    The head sees the last frame too, so that the layers need not carry all of it through.
    With one component keys are independent of each other given the past: that two of them sound
    together is known only as far as the past tells it.

    Args:
        config: What the model is made of.
        params: Its parameters.
        state: Leaves `(*B, H)`, from `initial_frame_state` or from the window before.
        inputs: `(T, *B, I)`, 1 where a key sounds.
        resets: `(T, *B)` bool: the state is cleared before step t.
        dropout_masks: L + 1 of them: the first multiplies the frames read, the last the outputs of
            the top layer, the others are as in `scan_deep`.
        plan: How each layer is run, as in `rnnjax.scan`.

    Returns:
        state: Leaves `(*B, H)`, after the last frame of each row.
        prediction: Logits of keys `(T, *B, K, I)` and of components `(T, *B, K)`.

    Raises:
        TypeError: An argument is of the wrong kind or dtype.
        ValueError: A shape is wrong.
    """
    xs = _checked_frames("inputs", config, inputs)
    below, between, above = None, None, None
    if dropout_masks is not None:
        count = len(params.layers) + 1
        if len(dropout_masks) != count:
            raise ValueError(f"dropout_masks: got {len(dropout_masks)}, expected {count}")
        below, *between, above = dropout_masks
    if below is not None:
        xs = xs * below
    state, ys = scan_deep(
        _recurrence(config),
        params.layers,
        xs,
        state,
        resets=resets,
        dropout_masks=between,
        plan=plan,
    )
    return state, _prediction(config, params, ys if above is None else ys * above, xs)


def frame_model_loss(
    config: FrameModelConfig,
    params: FrameModelParams,
    state: FrameModelState,
    batch: FrameBatch,
    key: Array,
    *,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    plan: str | Plan = "auto",
) -> tuple[Array, tuple[FrameModelState, Mapping[str, Array]]]:
    """The loss of a window, summed over time, and averaged over the batch.

    loss = (1/B) Σ_b Σ_t L^<t>,  L^<t> = −log P(y^<t> | the frames before), weighted

    `functools.partial(frame_model_loss, config)` is the loss function of `rnnjax.training`; its
    memory is the state, carried from window to window (truncated BPTT).

    Args:
        config: What the model is made of.
        params: Its parameters.
        state: Leaves `(B, H)`.
        batch: T frames of B pieces.
        key: A random key, of the dropout; not read without.
        dropout: The rate at which outputs of a layer are dropped on their way up, others at each
            step (Zaremba et al. 2014, arXiv:1409.2329).
        input_dropout: The rate at which keys of the frames read are dropped.
        plan: How each layer is run.

    Returns:
        loss: `()`, nats per row.
        state: Leaves `(B, H)`.
        metrics: `()` each: `nats_per_frame` (mean over frames that count), and to be added up over
            windows `nats` and `frames`.

    Raises:
        TypeError: As `apply_frame_model`.
        ValueError: As `apply_frame_model`, or the targets' or weights' shape is wrong, or a rate is
            outside 0 ≤ rate < 1.
    """
    check_rate("dropout", dropout)
    check_rate("input_dropout", input_dropout)
    masks = None
    if dropout or input_dropout:
        masks = _draw_masks(config, params, key, dropout, input_dropout, batch.resets.shape)
    state, prediction = apply_frame_model(
        config, params, state, batch.inputs, batch.resets, dropout_masks=masks, plan=plan
    )
    losses = nats_per_frame(prediction, batch.targets, batch.weights)
    nats, frames = jnp.sum(losses), jnp.sum(jnp.asarray(batch.weights, losses.dtype))
    rows = losses.size // losses.shape[0]
    metrics = {"nats_per_frame": mean_over_counted(nats, frames), "nats": nats, "frames": frames}
    return nats / rows, (state, metrics)


def nats_per_frame(
    prediction: FramePrediction, targets: ArrayLike, weights: ArrayLike | None = None
) -> Array:
    """L^<t> of each frame, as `binary_mixture_cross_entropy_per_step`.

    Args:
        prediction: From `apply_frame_model`.
        targets: `(T, *B, I)`.
        weights: `(T, *B)`; None is 1 everywhere.

    Returns:
        `(T, *B)`, nats.

    Raises:
        ValueError: Shapes differ.
    """
    return binary_mixture_cross_entropy_per_step(*prediction, targets, weights)


def sample_frame_model(
    config: FrameModelConfig,
    params: FrameModelParams,
    key: Array,
    prime: ArrayLike,
    length: int,
    *,
    temperature: ArrayLike = 1.0,
) -> Array:
    """Write a novel piece: read the prime from the zero state, then draw frame after frame.

    k ~ π^<t>,  y_i^<t> ~ P(y_i^<t> | k),  x^<t+1> = y^<t>

    Compiled once for each shape of the prime and `length`. The same key writes the same piece.

    Args:
        config: What the model is made of.
        params: Its parameters.
        key: A random key.
        prime: `(P, *B, I)`, at least one frame: a piece begins from a frame of zeros alone.
        length: How many frames to write.
        temperature: `()`, at least 0: it divides all logits. With 0 the likeliest component sounds
            each key that is likelier to sound than not.

    Returns:
        `(length, *B, I)` bool, without the prime.

    Raises:
        TypeError: As `apply_frame_model`.
        ValueError: The prime is empty or its shape wrong, the length is below one, or the
            temperature below zero.
    """
    prime = _checked_frames("prime", config, prime)
    if prime.shape[0] < 1:
        raise ValueError(f"prime: got shape {prime.shape}, expected at least one frame")
    check_size("length", length)
    check_sampling(temperature, None, None, None)
    return _sample(config, length, params, key, prime, temperature)


@partial(jax.jit, static_argnums=(0, 1))
def _sample(
    config: FrameModelConfig,
    length: int,
    params: FrameModelParams,
    key: Array,
    prime: Array,
    temperature: ArrayLike,
) -> Array:
    recurrence = _recurrence(config)
    state = initial_frame_state(config, params, prime.shape[1:-1])
    if prime.shape[0] > 1:
        state, _ = apply_frame_model(config, params, state, prime[:-1])
    temperature = jnp.asarray(temperature, prime.dtype)

    def draw(carry: tuple[FrameModelState, Array], time: Array) -> tuple[tuple, Array]:
        state, x = carry
        state, y = step_deep(recurrence, params.layers, state, x)
        prediction = _prediction(config, params, y, x)
        key_kind, key_keys = jax.random.split(jax.random.fold_in(key, time))
        kind = sample_token(key_kind, prediction.components, temperature=temperature)
        logits = jnp.take_along_axis(prediction.keys, kind[..., None, None], axis=-2)[..., 0, :]
        noise = jax.random.logistic(key_keys, logits.shape, logits.dtype)
        frame = logits + temperature * noise > 0
        return (state, frame.astype(prime.dtype)), frame

    _, frames = lax.scan(draw, (state, prime[-1]), jnp.arange(length, dtype=jnp.uint32))
    return frames


def _recurrence(config: FrameModelConfig) -> Recurrence:
    return REGISTRY[config.recurrence]


def _prediction(
    config: FrameModelConfig, params: FrameModelParams, ys: Array, xs: Array
) -> FramePrediction:
    read = jnp.concatenate([ys, xs], axis=-1)
    shape = (*ys.shape[:-1], config.components, config.keys)
    keys = apply_dense(params.head, read).reshape(shape)
    return FramePrediction(keys, apply_dense(params.mixture, read))


def _checked_frames(name: str, config: FrameModelConfig, frames: ArrayLike) -> Array:
    frames = jnp.asarray(frames)
    if frames.ndim < 2 or frames.shape[-1] != config.keys:
        raise ValueError(f"{name}: got shape {frames.shape}, expected (T, *B, {config.keys})")
    return frames.astype(config.dtype)


def _draw_masks(
    config: FrameModelConfig,
    params: FrameModelParams,
    key: Array,
    rate: float,
    input_rate: float,
    shape: tuple[int, ...],
) -> list[Array]:
    of_layers = [_recurrence(config).input_shape(of_layer)[0] for of_layer in params.layers]
    sizes = [*of_layers, params.head.w.shape[0] - config.keys]
    rates = [input_rate, *[rate] * (len(sizes) - 1)]
    keys = jax.random.split(key, len(sizes))
    dtype = jnp.dtype(config.dtype)
    return [
        dropout_mask(one, of_one, (*shape, size), dtype=dtype)
        for one, of_one, size in zip(keys, rates, sizes, strict=True)
    ]
