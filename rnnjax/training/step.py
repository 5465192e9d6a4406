"""One training step: a pure function of (state, batch), compiled once."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rnnjax.training.loss_scale import LossScale, next_loss_scale, unscaled
from rnnjax.training.norms import global_norm, norms_by_name
from rnnjax.training.optimizer_links import optimizer_metrics

Metrics = dict[str, Array]
LossFunction = Callable[[Any, Any, Any, Array], tuple[Array, tuple[Any, Mapping[str, Array]]]]
"""(params, memory, batch, key) -> (loss, (memory, metrics)), loss and metrics scalars."""

STEP_METRICS = (
    "loss",
    "gradient_norm",
    "clipped_gradient_norm",
    "clipped",
    "learning_rate",
    "loss_scale",
    "skipped",
    "skipped_in_a_row",
)


class Counters(NamedTuple):
    """What a run counts; part of its state, so that it goes on counting after a restart."""

    skipped: Array  # () int32: steps skipped because loss or gradient was not finite
    skipped_in_a_row: Array  # () int32: of them the last ones, without a step kept since
    evaluated_step: Array  # () int32: the step last evaluated, 0 if none
    best_evaluation: Array  # () float32: the best value watched by early stopping, NaN if none
    evaluations_since_best: Array  # () int32


class TrainState(NamedTuple):
    """All that a training step reads and writes; a pytree.

    `memory` is what goes from one batch to the next, for instance the carry of truncated
    BPTT; `()` if nothing does. `key` is a typed key, `jax.random.key(seed)`. `counters` are the
    loop's, which `train_step` and `rnnjax.training.loop.train` keep.
    """

    step: Array  # () int32: batches seen, which is also the position in the data
    params: Any
    optimizer_state: Any
    memory: Any
    key: Array  # () typed PRNG key
    counters: Counters
    loss_scale: LossScale | None  # None where no gradient passes through float16


TrainStep = Callable[[TrainState, Any], tuple[TrainState, Metrics]]


def initial_train_state(
    params: Any,
    optimizer: optax.GradientTransformation,
    memory: Any,
    key: Array,
    loss_scale: LossScale | None = None,
) -> TrainState:
    """The state before the first step, in buffers of its own.

    A training step consumes (donates) its state, so params, memory and key are copied: the
    caller's arrays stay alive, and an array given twice becomes two.

    Args:
        params: what is trained, a pytree of arrays.
        optimizer: the chain, as given to `make_train_step`.
        memory: what goes from one batch to the next; `()` if nothing does.
        key: a typed key.
        loss_scale: `rnnjax.training.loss_scale.initial_loss_scale()` where gradients pass through
            float16, as `PrecisionPolicy.loss_scale` gives it; else None.

    Raises:
        ValueError: `key` is not a typed scalar key.
    """
    if not _is_key(key) or key.shape != ():
        raise ValueError(
            f"key: got {getattr(key, 'dtype', type(key).__name__)} of shape "
            f"{getattr(key, 'shape', ())}, expected one typed key: jax.random.key(seed)"
        )
    zero, nan = jnp.zeros((), jnp.int32), jnp.full((), jnp.nan, jnp.float32)
    counters = Counters(zero, zero, zero, nan, zero)
    state = TrainState(zero, params, optimizer.init(params), memory, key, counters, loss_scale)
    return _copy(state)


def make_train_step(
    loss_function: LossFunction,
    optimizer: optax.GradientTransformation,
    *,
    parameter_norms: bool = False,
) -> TrainStep:
    """Compile (state, batch) -> (state, metrics); the given state is consumed (donated).

    g = ∂loss/∂params with memory held constant, so that no gradient passes from one batch to
    the one before: truncated BPTT (Williams & Peng 1990; Mikolov 2012). `loss_function` gets
    a fresh key each step.

    A step whose loss or gradient norm is not finite is skipped: params, optimizer state and
    memory stay as they were, while step and key go on. A skipped step costs as much as any.
    Where the state has a loss scale s, the gradient is that of s·loss divided by s.

    The optimizer is told the loss as `value`, if it takes one.

    Metrics, each () : those of `loss_function`, and loss, gradient_norm (before clipping), skipped
    (0 or 1), skipped_in_a_row (while a loss scale is sought, which skips steps too, it stands
    still); from a chain made by `build_optimizer` also clipped_gradient_norm (after), clipped (0
    or 1) and learning_rate; and loss_scale if there is one; all float32 but the loss. Without
    clipping, clipped_gradient_norm is gradient_norm and clipped is 0. If the chain accumulates
    batches, clipped_gradient_norm, clipped and learning_rate are those of the last update.

    Args:
        loss_function: see `LossFunction`.
        optimizer: an Optax chain.
        parameter_norms: whether the norm of each parameter and of its gradient are metrics too,
            "parameter_norm/NAME" and "gradient_norm/NAME".

    Raises:
        ValueError: at the first call, before compilation: the loss is not a real scalar, a
            metric takes a name of the above or is not a scalar, or the memory returned differs
            from the memory given in structure, shape or dtype.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def loss_with_checks(
        params: Any, memory: Any, batch: Any, key: Array, scale: Array | None
    ) -> tuple[Array, tuple[Array, Any, Metrics]]:
        loss, (new_memory, metrics) = loss_function(params, memory, batch, key)
        loss = jnp.asarray(loss)
        _check_loss(loss)
        _check_memory(memory, new_memory)
        scaled = loss
        if scale is not None:
            scaled = loss.astype(scale.dtype) * scale
        return scaled, (loss, new_memory, _checked_metrics(metrics))

    def train_step(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        key, loss_key = jax.random.split(state.key)
        memory = jax.tree.map(jax.lax.stop_gradient, state.memory)
        scale = None if state.loss_scale is None else state.loss_scale.scale
        gradient, (loss, new_memory, metrics) = jax.grad(loss_with_checks, has_aux=True)(
            state.params, memory, batch, loss_key, scale
        )
        if scale is not None:
            gradient = unscaled(gradient, scale)
        gradient_norm = global_norm(gradient)
        is_finite = jnp.isfinite(loss) & jnp.isfinite(gradient_norm)
        updates, new_optimizer_state = optimizer.update(
            gradient, state.optimizer_state, state.params, value=loss
        )
        with jax.numpy_dtype_promotion("standard"):  # Optax leans on implicit promotion.
            new_params = optax.apply_updates(state.params, updates)
        # A select, not a branch: XLA fuses it into the elementwise update it guards.
        params, optimizer_state, memory = jax.tree.map(
            lambda new, old: jnp.where(is_finite, new, old),
            (new_params, new_optimizer_state, new_memory),
            (state.params, state.optimizer_state, state.memory),
        )
        counters = _counted(state.counters, is_finite, scale)
        metrics |= {
            "loss": loss,
            "gradient_norm": gradient_norm,
            "clipped_gradient_norm": gradient_norm,
            "clipped": jnp.zeros((), jnp.float32),
            **optimizer_metrics(new_optimizer_state),
            "skipped": jnp.where(is_finite, jnp.float32(0), jnp.float32(1)),
            "skipped_in_a_row": counters.skipped_in_a_row.astype(jnp.float32),
        }
        if parameter_norms:
            metrics |= {f"gradient_norm/{n}": v for n, v in norms_by_name(gradient).items()}
            metrics |= {f"parameter_norm/{n}": v for n, v in norms_by_name(params).items()}
        loss_scale = state.loss_scale
        if loss_scale is not None:
            metrics["loss_scale"] = loss_scale.scale
            loss_scale = next_loss_scale(loss_scale, is_finite)
        step = state.step + jnp.ones_like(state.step)
        new_state = TrainState(step, params, optimizer_state, memory, key, counters, loss_scale)
        return new_state, metrics

    return jax.jit(train_step, donate_argnums=0)


def _counted(counters: Counters, is_finite: Array, scale: Array | None) -> Counters:
    skipped = (~is_finite).astype(jnp.int32)
    in_a_row = skipped
    if scale is not None:  # A step skipped for a scale too large is the search for the right one.
        in_a_row = jnp.where(scale > 1, jnp.zeros_like(skipped), skipped)
    return counters._replace(
        skipped=counters.skipped + skipped,
        skipped_in_a_row=jnp.where(
            is_finite, jnp.zeros_like(skipped), counters.skipped_in_a_row + in_a_row
        ),
    )


def _copy(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.copy() if _is_key(x) else jnp.array(x, copy=True), tree)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


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
