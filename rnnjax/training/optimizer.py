"""The optimiser chain: clip by global norm, Adam or AdamW, warm-up and decay."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

Schedule = Literal["constant", "cosine", "linear"]
SCHEDULES: tuple[Schedule, ...] = ("constant", "cosine", "linear")


@dataclass(frozen=True)
class OptimizerConfig:
    """Hyperparameters of the optimiser chain; every field is checked when the record is made.

    Attributes:
        learning_rate: the peak, reached at the end of warm-up.
        schedule: how the learning rate falls after warm-up, see `learning_rate_at`.
        warmup_steps: steps of linear warm-up; 0 is none.
        total_steps: the step at which the decay ends (the rate stays there afterwards).
        final_fraction: the final learning rate as a fraction of the peak, in 0..1.
        clip_norm: the largest global gradient norm let through; None is no clipping.
        b1: decay of the first moment, in [0, 1).
        b2: decay of the second moment, in [0, 1).
        eps: added to the root of the second moment.
        weight_decay: decoupled weight decay (AdamW) times the learning rate; 0 is plain Adam.

    Raises:
        ValueError: a field is outside its range or of the wrong type.
    """

    learning_rate: float = 2e-3
    schedule: Schedule = "cosine"
    warmup_steps: int = 0
    total_steps: int = 1000
    final_fraction: float = 0.1
    clip_norm: float | None = 1.0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _require_number("learning_rate", self.learning_rate, "above 0", lambda x: x > 0)
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule: got {self.schedule!r}, expected one of {SCHEDULES}")
        _require_integer("total_steps", self.total_steps, 1)
        _require_integer("warmup_steps", self.warmup_steps, 0)
        if self.warmup_steps > self.total_steps:
            raise ValueError(
                f"warmup_steps: got {self.warmup_steps}, "
                f"expected at most total_steps = {self.total_steps}"
            )
        _require_number("final_fraction", self.final_fraction, "in 0..1", lambda x: 0 <= x <= 1)
        if self.clip_norm is not None:
            _require_number("clip_norm", self.clip_norm, "above 0, or None", lambda x: x > 0)
        _require_number("b1", self.b1, "in [0, 1)", lambda x: 0 <= x < 1)
        _require_number("b2", self.b2, "in [0, 1)", lambda x: 0 <= x < 1)
        _require_number("eps", self.eps, "above 0", lambda x: x > 0)
        _require_number("weight_decay", self.weight_decay, "at least 0", lambda x: x >= 0)


def _require_number(
    name: str, value: float, expected: str, is_valid: Callable[[float], bool]
) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not is_valid(value):
        raise ValueError(f"{name}: got {value!r}, expected a finite number {expected}")


def _require_integer(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}: got {value!r}, expected an integer of at least {least}")


def learning_rate_at(config: OptimizerConfig, step: int | Array) -> Array:
    """The learning rate of update `step` (0 is the first), float32 of `step`'s shape.

    With peak η, warm-up W, end N, final fraction φ and p = min(1, (step − W) / (N − W)):
    η·(step + 1)/W in warm-up, so that no step is wasted on a rate of zero; afterwards
    η (constant), η·(φ + (1 − φ)·(1 + cos πp)/2) (cosine; Loshchilov & Hutter 2017,
    without restarts) or η·(1 − (1 − φ)·p) (linear).
    """
    peak, decay_steps = config.learning_rate, config.total_steps - config.warmup_steps
    if config.schedule == "constant" or decay_steps == 0:
        decay = optax.constant_schedule(peak)
    elif config.schedule == "cosine":
        decay = optax.cosine_decay_schedule(peak, decay_steps, alpha=config.final_fraction)
    else:
        decay = optax.linear_schedule(peak, peak * config.final_fraction, decay_steps)
    with jax.numpy_dtype_promotion("standard"):  # Optax leans on implicit promotion.
        count = jnp.asarray(step, jnp.int32)
        rate = decay(jnp.maximum(count - config.warmup_steps, 0))
        if config.warmup_steps > 0:
            warmup = optax.linear_schedule(0.0, peak, config.warmup_steps)(count + 1)
            rate = jnp.where(count < config.warmup_steps, warmup, rate)
        return jnp.broadcast_to(jnp.asarray(rate, jnp.float32), count.shape)


class ClipState(NamedTuple):
    """What clipping saw in the last update: global norms, float32 scalars."""

    gradient_norm: Array
    clipped_gradient_norm: Array


class LearningRateState(NamedTuple):
    """The number of updates made, () int32, and the learning rate of the last one, () float32."""

    updates_made: Array
    learning_rate: Array


def global_norm(tree: Any) -> Array:
    """The Euclidean norm of all leaves together, accumulated in float32 or wider; () float32."""
    squares = [
        jnp.sum(jnp.square(leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))))
        for leaf in jax.tree.leaves(tree)
    ]
    total = sum((square.astype(jnp.float32) for square in squares), jnp.zeros((), jnp.float32))
    return jnp.sqrt(total)


def clip_by_recorded_norm(clip_norm: float) -> optax.GradientTransformation:
    """`optax.clip_by_global_norm` that keeps the norms before and after in its state.

    g ← g · min(1, c/‖g‖), with ‖g‖ over all parameters (Pascanu et al. 2013, §3.2).
    """
    clip = optax.clip_by_global_norm(clip_norm)

    def init(params: optax.Params) -> ClipState:
        del params
        # Two arrays, not one twice: a train step donates its state buffer by buffer.
        return ClipState(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32))

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, ClipState]:
        del state, params
        clipped, _ = clip.update(updates, optax.EmptyState())
        return clipped, ClipState(global_norm(updates), global_norm(clipped))

    return optax.GradientTransformation(init, update)


def scale_by_recorded_learning_rate(config: OptimizerConfig) -> optax.GradientTransformation:
    """Scale updates by −η(count), `learning_rate_at`, keeping η in the state for the metrics."""

    def init(params: optax.Params) -> LearningRateState:
        del params
        return LearningRateState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32))

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, LearningRateState]:
        del params
        assert isinstance(state, LearningRateState)
        rate = learning_rate_at(config, state.updates_made)
        scaled = jax.tree.map(lambda u: -rate.astype(u.dtype) * u, updates)
        return scaled, LearningRateState(state.updates_made + jnp.ones((), jnp.int32), rate)

    return optax.GradientTransformation(init, update)


def build_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Clip by global norm, Adam (Kingma & Ba 2015) or AdamW (Loshchilov & Hutter 2019), schedule.

    Weight decay is decoupled and reaches every parameter, scaled by the learning rate.
    """
    links: list[optax.GradientTransformation] = []
    if config.clip_norm is not None:
        links.append(clip_by_recorded_norm(config.clip_norm))
    links.append(optax.scale_by_adam(config.b1, config.b2, config.eps))
    if config.weight_decay > 0:
        links.append(optax.add_decayed_weights(config.weight_decay))
    links.append(scale_by_recorded_learning_rate(config))
    chain = optax.chain(*links)

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        with jax.numpy_dtype_promotion("standard"):  # Optax leans on implicit promotion.
            return chain.update(updates, state, params)

    return optax.GradientTransformation(chain.init, update)
