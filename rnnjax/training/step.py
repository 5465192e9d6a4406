"""One training step: a pure function of (state, batch), compiled once."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rnnjax.training.optimizer import ClipState, LearningRateState, global_norm

Metrics = dict[str, Array]
LossFunction = Callable[[Any, Any, Any, Array], tuple[Array, tuple[Any, Mapping[str, Array]]]]
"""(params, memory, batch, key) -> (loss, (memory, metrics)), loss and metrics scalars."""

STEP_METRICS = (
    "loss",
    "gradient_norm",
    "clipped_gradient_norm",
    "clipped",
    "learning_rate",
    "skipped",
)


class TrainState(NamedTuple):
    """All that a training step reads and writes; a pytree.

    `memory` is what goes from one batch to the next, for instance the carry of truncated
    BPTT; `()` if nothing does. `key` is a typed key, `jax.random.key(seed)`.
    """

    step: Array  # () int32: batches seen, which is also the position in the data
    params: Any
    optimizer_state: Any
    memory: Any
    key: Array  # () typed PRNG key


TrainStep = Callable[[TrainState, Any], tuple[TrainState, Metrics]]


def initial_train_state(
    params: Any, optimizer: optax.GradientTransformation, memory: Any, key: Array
) -> TrainState:
    """The state before the first step, in buffers of its own.

    A training step consumes (donates) its state, so params, memory and key are copied: the
    caller's arrays stay alive, and an array given twice becomes two.

    Raises:
        ValueError: `key` is not a typed scalar key.
    """
    if not _is_key(key) or key.shape != ():
        raise ValueError(
            f"key: got {getattr(key, 'dtype', type(key).__name__)} of shape "
            f"{getattr(key, 'shape', ())}, expected one typed key: jax.random.key(seed)"
        )
    return TrainState(
        jnp.zeros((), jnp.int32), *_copy((params, optimizer.init(params), memory, key))
    )


def make_train_step(
    loss_function: LossFunction, optimizer: optax.GradientTransformation
) -> TrainStep:
    """Compile (state, batch) -> (state, metrics); the given state is consumed (donated).

    g = ∂loss/∂params with memory held constant, so that no gradient passes from one batch to
    the one before: truncated BPTT (Williams & Peng 1990; Mikolov 2012). `loss_function` gets
    a fresh key each step.

    A step whose loss or gradient norm is not finite is skipped: params, optimizer state and
    memory stay as they were, while step and key go on. A skipped step costs as much as any.

    Metrics, each () : those of `loss_function`, and loss, gradient_norm (before clipping),
    skipped (0 or 1); from a chain made by `build_optimizer` also clipped_gradient_norm
    (after), clipped (0 or 1) and learning_rate, all float32 but the loss. Without clipping,
    clipped_gradient_norm is gradient_norm and clipped is 0.

    Raises:
        ValueError: at the first call, before compilation: the loss is not a real scalar, a
            metric takes a name of the above or is not a scalar, or the memory returned differs
            from the memory given in structure, shape or dtype.
    """

    def loss_with_checks(
        params: Any, memory: Any, batch: Any, key: Array
    ) -> tuple[Array, tuple[Any, Metrics]]:
        loss, (new_memory, metrics) = loss_function(params, memory, batch, key)
        loss = jnp.asarray(loss)
        _check_loss(loss)
        _check_memory(memory, new_memory)
        return loss, (new_memory, _checked_metrics(metrics))

    def train_step(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        key, loss_key = jax.random.split(state.key)
        memory = jax.tree.map(jax.lax.stop_gradient, state.memory)
        (loss, (new_memory, metrics)), gradient = jax.value_and_grad(
            loss_with_checks, has_aux=True
        )(state.params, memory, batch, loss_key)
        gradient_norm = global_norm(gradient)
        is_finite = jnp.isfinite(loss) & jnp.isfinite(gradient_norm)
        updates, new_optimizer_state = optimizer.update(
            gradient, state.optimizer_state, state.params
        )
        with jax.numpy_dtype_promotion("standard"):  # Optax leans on implicit promotion.
            new_params = optax.apply_updates(state.params, updates)
        metrics |= {
            "loss": loss,
            "gradient_norm": gradient_norm,
            "skipped": jnp.where(is_finite, jnp.float32(0), jnp.float32(1)),
            **_recorded(new_optimizer_state, gradient_norm),
        }
        # A select, not a branch: XLA fuses it into the elementwise update it guards.
        params, optimizer_state, memory = jax.tree.map(
            lambda new, old: jnp.where(is_finite, new, old),
            (new_params, new_optimizer_state, new_memory),
            (state.params, state.optimizer_state, state.memory),
        )
        step = state.step + jnp.ones_like(state.step)
        return TrainState(step, params, optimizer_state, memory, key), metrics

    return jax.jit(train_step, donate_argnums=0)


def _copy(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.copy() if _is_key(x) else jnp.array(x, copy=True), tree)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _recorded(optimizer_state: Any, gradient_norm: Array) -> Metrics:
    records = jax.tree.leaves(
        optimizer_state, is_leaf=lambda x: isinstance(x, ClipState | LearningRateState)
    )
    metrics = {"clipped_gradient_norm": gradient_norm, "clipped": jnp.zeros((), jnp.float32)}
    for record in records:
        if isinstance(record, ClipState):
            was_clipped = record.clipped_gradient_norm < record.gradient_norm
            metrics["clipped_gradient_norm"] = record.clipped_gradient_norm
            metrics["clipped"] = was_clipped.astype(jnp.float32)
        elif isinstance(record, LearningRateState):
            metrics["learning_rate"] = record.learning_rate
    return metrics


def _check_loss(loss: Array) -> None:
    if loss.shape != () or not jnp.issubdtype(loss.dtype, jnp.floating):
        raise ValueError(
            f"loss_function: got a loss of shape {loss.shape} and dtype {loss.dtype}, "
            "expected a floating scalar"
        )


def _checked_metrics(metrics: Mapping[str, Array]) -> Metrics:
    arrays = {name: jnp.asarray(value) for name, value in metrics.items()}
    for name, value in arrays.items():
        if name in STEP_METRICS:
            raise ValueError(
                f"loss_function: got a metric named {name!r}, expected a name not in {STEP_METRICS}"
            )
        if value.shape != ():
            raise ValueError(
                f"loss_function: got metric {name!r} of shape {value.shape}, expected a scalar"
            )
    return arrays


def _check_memory(given: Any, returned: Any) -> None:
    if jax.tree.structure(given) != jax.tree.structure(returned):
        raise ValueError(
            f"loss_function: got memory {jax.tree.structure(returned)}, "
            f"expected the structure it was given, {jax.tree.structure(given)}"
        )
    for (path, old), new in zip(
        jax.tree.leaves_with_path(given), jax.tree.leaves(returned), strict=True
    ):
        new_array = jnp.asarray(new)
        if (old.shape, old.dtype) != (new_array.shape, new_array.dtype):
            raise ValueError(
                f"loss_function: got memory{jax.tree_util.keystr(path)} of shape "
                f"{new_array.shape} and dtype {new_array.dtype}, "
                f"expected {old.shape} and {old.dtype} as it was given"
            )
