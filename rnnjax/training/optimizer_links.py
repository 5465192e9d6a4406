"""Links of an optimiser chain that keep in their state what people want to see, or to use."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rnnjax.precision import default_accumulation_dtype
from rnnjax.training.norms import global_norm


class ClipState(NamedTuple):
    """What clipping saw in the last update: global norms, float32 scalars."""

    gradient_norm: Array
    clipped_gradient_norm: Array


class LearningRateState(NamedTuple):
    """The number of updates made, () int32, and the learning rate of the last one, () float32."""

    updates_made: Array
    learning_rate: Array


class AverageState(NamedTuple):
    """The number of updates averaged, () int32, and Σ_k (1 − d) d^(n−k) θ_k, not yet normalised."""

    updates_made: Array
    average: Any  # like the parameters, in float32 or wider


def record_clipping(clip: optax.GradientTransformation) -> optax.GradientTransformation:
    """Any clipping, keeping the global norms before and after it in its state."""

    def init(params: optax.Params) -> tuple[Any, ClipState]:
        # Two arrays, not one twice: a train step donates its state buffer by buffer.
        norms = ClipState(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32))
        return clip.init(params), norms

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, tuple[Any, ClipState]]:
        assert isinstance(state, tuple)
        clipped, inner = clip.update(updates, state[0], params)
        return clipped, (inner, ClipState(global_norm(updates), global_norm(clipped)))

    return optax.GradientTransformation(init, update)


def scale_by_recorded_learning_rate(
    rate_at: Callable[[Array], Array],
) -> optax.GradientTransformation:
    """Scale updates by −`rate_at(update)`, 0 being the first, keeping the rate in the state."""

    def init(params: optax.Params) -> LearningRateState:
        del params
        return LearningRateState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32))

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, LearningRateState]:
        del params
        assert isinstance(state, LearningRateState)
        rate = rate_at(state.updates_made)
        scaled = jax.tree.map(lambda u: -rate.astype(u.dtype) * u, updates)
        return scaled, LearningRateState(state.updates_made + jnp.ones((), jnp.int32), rate)

    return optax.GradientTransformation(init, update)


def average_params(decay: float) -> optax.GradientTransformation:
    """Keep a moving average of the parameters in the state; updates pass as they are.

    The last link of a chain: it sees the updates that are added to the parameters.
    """

    def init(params: optax.Params) -> AverageState:
        zeros = jax.tree.map(
            lambda p: jnp.zeros(p.shape, default_accumulation_dtype(p.dtype)), params
        )
        return AverageState(jnp.zeros((), jnp.int32), zeros)

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AverageState]:
        assert isinstance(state, AverageState)
        assert params is not None
        average = optax.tree.update_moment(
            optax.apply_updates(params, updates), state.average, decay, order=1
        )
        return updates, AverageState(state.updates_made + jnp.ones((), jnp.int32), average)

    return optax.GradientTransformation(init, update)


def averaged_params(decay: float, params: Any, optimizer_state: Any) -> Any:
    """The moving average that `average_params` keeps, for evaluation and use; it can be jitted.

    θ̄_n = (1 − d) Σ_k d^(n−k) θ_k / (1 − d^n),  θ_k after update k

    Normalised as Adam's moments are, so that it is an average from the first update on; before
    that it is `params`.

    Args:
        decay: d, of `average_params`.
        params: the parameters of now.
        optimizer_state: of now.

    Returns:
        Like `params`, in their dtypes.

    Raises:
        ValueError: the optimiser keeps no average.

    References:
        Kingma and Ba (2015), arXiv:1412.6980, section 7.2, after Polyak and Juditsky (1992).
    """
    states = [s for s in _records(optimizer_state, AverageState) if isinstance(s, AverageState)]
    if len(states) != 1:
        raise ValueError(
            f"optimizer_state: got {len(states)} averages of the parameters, expected one: "
            "build the optimiser with average_decay"
        )
    (state,) = states
    at_least_one = jnp.maximum(state.updates_made, jnp.ones_like(state.updates_made))
    with jax.numpy_dtype_promotion("standard"):  # Optax leans on implicit promotion.
        normalised = optax.tree.bias_correction(state.average, decay, at_least_one)
    return jax.tree.map(
        lambda param, average: jnp.where(
            state.updates_made > 0, average.astype(param.dtype), param
        ),
        params,
        normalised,
    )


def optimizer_metrics(optimizer_state: Any) -> dict[str, Array]:
    """What the links of a chain recorded of the last update, () float32 each.

    `clipped_gradient_norm` and `clipped` (0 or 1) if anything clips, `learning_rate` if
    the chain ends in one of `build_optimizer`.
    """
    metrics: dict[str, Array] = {}
    scale = jnp.ones((), jnp.float32)
    kinds = ClipState, LearningRateState, optax.contrib.ReduceLROnPlateauState
    for record in _records(optimizer_state, *kinds):
        if isinstance(record, ClipState):
            was_clipped = record.clipped_gradient_norm < record.gradient_norm
            metrics["clipped_gradient_norm"] = record.clipped_gradient_norm
            metrics["clipped"] = was_clipped.astype(jnp.float32)
        elif isinstance(record, LearningRateState):
            metrics["learning_rate"] = record.learning_rate
        elif isinstance(record, optax.contrib.ReduceLROnPlateauState):
            scale = jnp.asarray(record.scale).astype(jnp.float32)
    if "learning_rate" in metrics:
        metrics["learning_rate"] *= scale
    return metrics


def _records(optimizer_state: Any, *kinds: type) -> list[Any]:
    """The states of these kinds, wherever in the chain they stand; and other leaves."""
    return jax.tree.leaves(optimizer_state, is_leaf=lambda x: isinstance(x, kinds))
