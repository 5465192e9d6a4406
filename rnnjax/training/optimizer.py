"""The optimiser chain: clipping, the algorithm, weight decay, warm-up and decay of the rate."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rnnjax.training.optimizer_links import (
    average_params,
    record_clipping,
    scale_by_recorded_learning_rate,
)

Algorithm = Literal["adam", "sgd", "rmsprop"]
ALGORITHMS: tuple[Algorithm, ...] = ("adam", "sgd", "rmsprop")
Schedule = Literal["constant", "cosine", "linear", "step", "plateau"]
SCHEDULES: tuple[Schedule, ...] = ("constant", "cosine", "linear", "step", "plateau")
Decayed = Literal["all", "matrices"]
DECAYED: tuple[Decayed, ...] = ("all", "matrices")


@dataclass(frozen=True)
class OptimizerConfig:
    """Hyperparameters of the optimiser chain; every field is checked when the record is made.

    Attributes:
        learning_rate: the peak, reached at the end of warm-up.
        schedule: how the learning rate falls after warm-up, see `learning_rate_at`; "plateau"
            falls when the training loss does not.
        warmup_steps: steps of linear warm-up; 0 is none.
        total_steps: the step at which the decay ends (the rate stays there afterwards).
        final_fraction: the lowest learning rate after warm-up as a fraction of the peak, in 0..1.
        clip_norm: the largest global gradient norm let through; None is no such clipping.
        b1: decay of the first moment of adam, in [0, 1).
        b2: decay of the second moment of adam, in [0, 1).
        eps: added to the root of the second moment.
        weight_decay: decoupled weight decay times the learning rate (with adam this is AdamW);
            0 is none.
        algorithm: what is made of the clipped gradient, one of `ALGORITHMS`.
        momentum: of sgd and rmsprop, in [0, 1).
        nesterov: whether the momentum looks ahead.
        rms_decay: decay of the mean square of rmsprop, in [0, 1).
        clip_value: the largest entry of a gradient let through; None is no such clipping.
        clip_adaptive: the largest gradient norm of a unit let through, as a fraction of the norm
            of the unit's weights; None is no such clipping.
        decay_every: steps between two falls of schedule="step".
        decay_factor: by which the rate falls in schedule="step" and "plateau", in (0, 1).
        plateau_window: steps over which the loss is averaged for schedule="plateau".
        plateau_patience: such averages without a lower one before the rate falls.
        plateau_tolerance: by which fraction an average must be lower to count, in (0, 1].
        weight_decay_of: what weight decay reaches: "all", or "matrices", what has two axes or more.
        accumulation_steps: batches whose mean gradient makes one update.
        average_decay: d of the moving average of the parameters, in [0, 1), see
            `averaged_params`; None keeps none.

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
    algorithm: Algorithm = "adam"
    momentum: float = 0.0
    nesterov: bool = False
    rms_decay: float = 0.9
    clip_value: float | None = None
    clip_adaptive: float | None = None
    decay_every: int = 1000
    decay_factor: float = 0.5
    plateau_window: int = 100
    plateau_patience: int = 5
    plateau_tolerance: float = 1e-4
    weight_decay_of: Decayed = "all"
    accumulation_steps: int = 1
    average_decay: float | None = None

    def __post_init__(self) -> None:
        for name, known in (
            ("schedule", SCHEDULES),
            ("algorithm", ALGORITHMS),
            ("weight_decay_of", DECAYED),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: got {getattr(self, name)!r}, expected one of {known}")
        for name, least in (
            ("total_steps", 1),
            ("warmup_steps", 0),
            ("decay_every", 1),
            ("plateau_window", 1),
            ("plateau_patience", 1),
            ("accumulation_steps", 1),
        ):
            _require_integer(name, getattr(self, name), least)
        if self.warmup_steps > self.total_steps:
            raise ValueError(
                f"warmup_steps: got {self.warmup_steps}, "
                f"expected at most total_steps = {self.total_steps}"
            )
        for name in ("learning_rate", "eps"):
            _require_number(name, getattr(self, name), "above 0", lambda x: x > 0)
        for name in ("clip_norm", "clip_value", "clip_adaptive"):
            if getattr(self, name) is not None:
                _require_number(name, getattr(self, name), "above 0, or None", lambda x: x > 0)
        for name in ("b1", "b2", "momentum", "rms_decay"):
            _require_number(name, getattr(self, name), "in [0, 1)", lambda x: 0 <= x < 1)
        _require_number("final_fraction", self.final_fraction, "in 0..1", lambda x: 0 <= x <= 1)
        _require_number("decay_factor", self.decay_factor, "in (0, 1)", lambda x: 0 < x < 1)
        _require_number(
            "plateau_tolerance", self.plateau_tolerance, "in (0, 1]", lambda x: 0 < x <= 1
        )
        _require_number("weight_decay", self.weight_decay, "at least 0", lambda x: x >= 0)
        if self.algorithm == "adam" and self.momentum > 0:
            raise ValueError(
                f"momentum: got {self.momentum} with algorithm='adam', expected 0: adam has b1"
            )
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: got True with momentum = 0, expected False")
        if self.average_decay is not None:
            _require_number(
                "average_decay", self.average_decay, "in [0, 1), or None", lambda x: 0 <= x < 1
            )


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
    """The learning rate at a step (0 is the first), float32 of `step`'s shape.

    With peak η, warm-up W, end N, final fraction φ and p = min(1, (step − W) / (N − W)):
    η·(step + 1)/W in warm-up, so that no step is wasted on a rate of zero; afterwards
    η (constant), η·(φ + (1 − φ)·(1 + cos πp)/2) (cosine; Loshchilov & Hutter 2017,
    without restarts), η·(1 − (1 − φ)·p) (linear), or with factor f and D = `decay_every`
    η·max(φ, f^⌊(step − W)/D⌋) (step). Of plateau it is η: the factor found while training, never
    below φ, comes on top.
    """
    peak, decay_steps = config.learning_rate, config.total_steps - config.warmup_steps
    lowest = peak * config.final_fraction
    if config.schedule in ("constant", "plateau") or decay_steps == 0:
        decay = optax.constant_schedule(peak)
    elif config.schedule == "cosine":
        decay = optax.cosine_decay_schedule(peak, decay_steps, alpha=config.final_fraction)
    elif config.schedule == "step":
        decay = optax.exponential_decay(
            peak, config.decay_every, config.decay_factor, staircase=True, end_value=lowest
        )
    else:
        decay = optax.linear_schedule(peak, lowest, decay_steps)
    with jax.numpy_dtype_promotion("standard"):  # Optax leans on implicit promotion.
        count = jnp.asarray(step, jnp.int32)
        rate = decay(jnp.maximum(count - config.warmup_steps, 0))
        if config.warmup_steps > 0:
            warmup = optax.linear_schedule(0.0, peak, config.warmup_steps)(count + 1)
            rate = jnp.where(count < config.warmup_steps, warmup, rate)
        return jnp.broadcast_to(jnp.asarray(rate, jnp.float32), count.shape)


def build_optimizer(
    config: OptimizerConfig, weight_decay_mask: Callable[[Any], Any] | None = None
) -> optax.GradientTransformationExtraArgs:
    """The chain that a config describes, of Optax's own links.

    Clipping, in this order where more than one is asked for: adaptive (Brock et al. 2021, §4), by
    value, by the global norm (Pascanu et al. 2013, §3.2). Then Adam (Kingma & Ba 2015), SGD
    (Sutskever et al. 2013 on momentum) or RMSProp (Tieleman & Hinton 2012), decoupled weight decay
    (Loshchilov & Hutter 2019), and the learning rate. With `accumulation_steps` = k all of it acts
    on the mean gradient of k batches; in between, updates are zero.

    Args:
        config: the hyperparameters.
        weight_decay_mask: params -> a tree of bool like them, True where weight decay acts; in
            place of `weight_decay_of`.

    Returns:
        The chain; with schedule="plateau" its update needs the loss, `value=loss`.
    """
    links: list[optax.GradientTransformation] = []
    clips: list[optax.GradientTransformation] = []
    if config.clip_adaptive is not None:
        clips.append(optax.adaptive_grad_clip(config.clip_adaptive))
    if config.clip_value is not None:
        clips.append(optax.clip(config.clip_value))
    if config.clip_norm is not None:
        clips.append(optax.clip_by_global_norm(config.clip_norm))
    if clips:
        links.append(record_clipping(optax.chain(*clips)))
    if config.algorithm == "adam":
        links.append(optax.scale_by_adam(config.b1, config.b2, config.eps))
    elif config.algorithm == "rmsprop":
        links.append(optax.scale_by_rms(config.rms_decay, config.eps, eps_in_sqrt=False))
    if config.algorithm != "adam" and config.momentum > 0:
        links.append(optax.trace(config.momentum, config.nesterov))
    if config.weight_decay > 0:
        if weight_decay_mask is None and config.weight_decay_of == "matrices":
            weight_decay_mask = _matrices
        links.append(optax.add_decayed_weights(config.weight_decay, weight_decay_mask))
    # Of k batches that make an update the last one's rate counts.
    every = config.accumulation_steps
    links.append(
        scale_by_recorded_learning_rate(lambda n: learning_rate_at(config, (n + 1) * every - 1))
    )
    if config.schedule == "plateau":
        links.append(
            optax.contrib.reduce_on_plateau(
                config.decay_factor,
                config.plateau_patience,
                config.plateau_tolerance,
                accumulation_size=config.plateau_window,
                min_scale=config.final_fraction,
            )
        )
    if config.average_decay is not None:
        links.append(average_params(config.average_decay))
    chain: Any = optax.chain(*links)
    if config.accumulation_steps > 1:
        chain = optax.MultiSteps(chain, config.accumulation_steps)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        with jax.numpy_dtype_promotion("standard"):  # Optax leans on implicit promotion.
            return chain.update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(chain.init, update)


def _matrices(params: Any) -> Any:
    return jax.tree.map(lambda p: p.ndim >= 2, params)
