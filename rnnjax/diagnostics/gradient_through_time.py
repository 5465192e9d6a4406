"""How much of the gradient reaches each step of backpropagation through time."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from rnnjax.diagnostics.vector_carry import checked_arguments
from rnnjax.recurrences.protocol import Carry, Params, Recurrence

Loss = Callable[[Carry, Array], Array]
"""`(carry^<Tx>, ys) -> loss`: of the last carry, leaves `(*B, H)`, and all outputs, a scalar."""


def gradients_through_time(
    recurrence: Recurrence,
    params: Params,
    xs: ArrayLike,
    loss: Loss,
    carry: Carry | None = None,
) -> Carry:
    """The gradient of a loss by every carry: what backpropagation hands from step t + 1 to step t.

    δ^<t> = ∂L/∂carry^<t>,  t = 0 … Tx;  δ^<t-1> = (∂carry^<t>/∂carry^<t-1>)ᵀ δ^<t> + direct terms

    It is the whole derivative by what the *next* step reads: of y^<t> only what later steps make of
    it counts, so that a loss of the last output alone has δ^<Tx> = 0, and one of the last carry has
    its own derivative there. Exact, by autodiff of the step as it stands.

    Args:
        recurrence: What is computed in one step.
        params: Its parameters.
        xs: `(T, *B, I)`, of the parameters' dtype.
        loss: Of the last carry and the outputs `(T, *B, H)`. The same function object is compiled
            once.
        carry: Leaves `(*B, H)`: carry^<0>; None is the recurrence's own.

    Returns:
        Leaves `(T + 1, *B, H)`, δ^<0> first. Of a complex leaf a + ib it is ∂L/∂a − i ∂L/∂b.

    Raises:
        TypeError: As `rnnjax.scan`, or `xs` is not of the parameters' dtype.
        ValueError: As `rnnjax.scan`, or the loss is not a real scalar.

    References:
        Werbos (1990), Backpropagation through time, Proceedings of the IEEE 78(10); Hochreiter
        (1991) and Bengio et al. (1994) on how δ^<t> shrinks or grows.
    """
    xs, carry, _ = checked_arguments(recurrence, params, xs, carry)
    return _gradients(recurrence, loss, params, xs, carry)


def gradient_norms_through_time(
    recurrence: Recurrence,
    params: Params,
    xs: ArrayLike,
    loss: Loss,
    carry: Carry | None = None,
) -> Array:
    """‖∂L/∂carry^<t>‖₂ for t = 0 … Tx, of each row: `gradients_through_time` in one number.

    The norm is over all leaves of the carry together. Rows do not see each other, so where the loss
    is a sum over rows each has the norm it would have alone; for a mean over B rows multiply by B.

    Args:
        recurrence: What is computed in one step.
        params: Its parameters.
        xs: `(T, *B, I)`.
        loss: As in `gradients_through_time`.
        carry: Leaves `(*B, H)`.

    Returns:
        `(T + 1, *B)`, in the unit of the loss by that of the state.

    Raises:
        TypeError: As `gradients_through_time`.
        ValueError: As `gradients_through_time`.
    """
    xs, carry, batch_axes = checked_arguments(recurrence, params, xs, carry)
    return _norms(batch_axes, _gradients(recurrence, loss, params, xs, carry))


@partial(jax.jit, static_argnums=(0, 1))
def _gradients(
    recurrence: Recurrence, loss: Loss, params: Params, xs: Array, carry: Carry
) -> Carry:
    def with_added(changes: Carry) -> Array:
        """The loss where something is added to each carry: its derivative at zero is δ."""

        def step(carry: Carry, inputs: tuple[Array, Carry]) -> tuple[Carry, Array]:
            x, change = inputs
            carry = jax.tree.map(jnp.add, carry, change)
            return recurrence.step(params, carry, recurrence.project(params, x))

        before_last = jax.tree.map(lambda leaf: leaf[:-1], changes)
        last = jax.tree.map(lambda leaf: leaf[-1], changes)
        after, ys = lax.scan(step, carry, (xs, before_last))
        value = jnp.asarray(loss(jax.tree.map(jnp.add, after, last), ys))
        if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
            raise ValueError(
                f"loss: got a value of shape {value.shape} and dtype {value.dtype.name}, "
                "expected a floating scalar"
            )
        return value

    time_steps = xs.shape[0]
    return jax.grad(with_added)(
        jax.tree.map(lambda leaf: jnp.zeros((time_steps + 1, *leaf.shape), leaf.dtype), carry)
    )


@partial(jax.jit, static_argnums=0)
def _norms(batch_axes: int, gradients: Carry) -> Array:
    squares = [
        jnp.sum(jnp.real(leaf * jnp.conj(leaf)), axis=tuple(range(1 + batch_axes, leaf.ndim)))
        for leaf in jax.tree.leaves(gradients)
    ]
    return jnp.sqrt(sum(squares[1:], squares[0]))
