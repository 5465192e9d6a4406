"""The Jacobian of a step by the carry, and its singular values."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from rnnjax.diagnostics.vector_carry import (
    carry_as_vector,
    checked_arguments,
    over_rows,
    vector_step,
)
from rnnjax.recurrences.protocol import Carry, Params, Recurrence


def step_jacobians(
    recurrence: Recurrence, params: Params, xs: ArrayLike, carry: Carry | None = None
) -> Array:
    """J^<t> = ∂carry^<t>/∂carry^<t-1> along the states that the inputs lead through.

    The carry is taken as one real vector of D numbers (`vector_carry.carry_as_vector`): (h, c) of
    an LSTM has D = 2H, a complex state of H numbers likewise, a matrix its entries. Row i, column j
    is the derivative of number i after the step by number j before it.

    Args:
        recurrence: What is computed in one step.
        params: Its parameters.
        xs: `(T, *B, I)`, of the parameters' dtype.
        carry: Leaves `(*B, H)`: carry^<0>; None is the recurrence's own.

    Returns:
        `(T, *B, D, D)`: mind the size, D² numbers a step and row.

    Raises:
        TypeError: As `rnnjax.scan`, or `xs` is not of the parameters' dtype.
        ValueError: As `rnnjax.scan`.
    """
    xs, carry, batch_axes = checked_arguments(recurrence, params, xs, carry)
    return _step_jacobians(recurrence, batch_axes, params, carry, xs)


def singular_values_of_steps(
    recurrence: Recurrence, params: Params, xs: ArrayLike, carry: Carry | None = None
) -> Array:
    """The singular values of every step's Jacobian, the largest first.

    The largest bounds how much one step of backpropagation can make the gradient grow, the least
    how much it must leave: ‖J^<t>ᵀ δ‖ lies between the least and the largest times ‖δ‖. All below
    one: gradients vanish. That the largest exceeds one is necessary for them to explode.

    Args:
        recurrence: What is computed in one step.
        params: Its parameters.
        xs: `(T, *B, I)`.
        carry: Leaves `(*B, H)`.

    Returns:
        `(T, *B, D)`, D numbers in a row's carry.

    Raises:
        TypeError: As `step_jacobians`.
        ValueError: As `step_jacobians`.

    References:
        Pascanu, Mikolov and Bengio (2013), arXiv:1211.5063, section 2.1.
    """
    jacobians = step_jacobians(recurrence, params, xs, carry)
    return jnp.linalg.svd(jacobians, compute_uv=False)


@partial(jax.jit, static_argnums=(0, 1))
def _step_jacobians(
    recurrence: Recurrence, batch_axes: int, params: Params, carry: Carry, xs: Array
) -> Array:
    def of_row(carry: Carry, xs: Array) -> Array:
        step = vector_step(recurrence, params, carry)

        def body(vector: Array, x: Array) -> tuple[Array, Array]:
            return step(vector, x), jax.jacfwd(step)(vector, x)

        return lax.scan(body, carry_as_vector(carry), xs)[1]

    return over_rows(of_row, batch_axes, out_axes=1)(carry, xs)
