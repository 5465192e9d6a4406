"""Lyapunov exponents: at what rates what happens to the state grows or is forgotten."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from rnnjax.diagnostics.vector_carry import (
    carry_as_vector,
    carry_size,
    checked_arguments,
    over_rows,
    vector_step,
)
from rnnjax.recurrences.protocol import Carry, Params, Recurrence


def lyapunov_exponents(
    recurrence: Recurrence,
    params: Params,
    xs: ArrayLike,
    key: Array,
    carry: Carry | None = None,
    *,
    count: int | None = None,
    discarded: int = 0,
) -> Array:
    """The rates at which small changes of the carry grow along the inputs, by the QR method.

    Q^<t> R^<t> = J^<t> Q^<t-1>,  λ_i = (1/n) Σ_t log |R_ii^<t>|,  n = T − discarded

    J^<t> is the step's Jacobian; it is never formed, only multiplied by Q's columns. Above zero
    changes grow as exp(λ t) and so do gradients: they explode. Below zero they vanish, with a
    memory of 1/|λ| steps. All of them add up to the mean of log |det J^<t>|.

    Args:
        recurrence: What is computed in one step.
        params: Its parameters.
        xs: `(T, *B, I)`, of the parameters' dtype: the inputs that drive the state.
        key: A random key, for the directions to begin with.
        carry: Leaves `(*B, H)`: carry^<0>; None is the recurrence's own.
        count: How many of the largest; None is all D, the numbers in a row's carry.
        discarded: The first steps, in which the directions find their place, that do not count.

    Returns:
        `(*B, count)`, nats a step, the largest first; −∞ for a direction that a step forgets whole.

    Raises:
        TypeError: As `rnnjax.scan`, or `xs` is not of the parameters' dtype.
        ValueError: As `rnnjax.scan`, or `count` is not within 1 … D, or `discarded` not within
            0 … T − 1.

    References:
        Benettin et al. (1980), Meccanica 15, 9–30; of recurrent networks Engelken, Wolf and Abbott
        (2023), arXiv:2006.02427, and Vogt et al. (2022), arXiv:2006.14123.
    """
    xs, carry, batch_axes = checked_arguments(recurrence, params, xs, carry)
    size = carry_size(carry, batch_axes)
    count = size if count is None else count
    for name, value, least, most in (
        ("count", count, 1, size),
        ("discarded", discarded, 0, xs.shape[0] - 1),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"{name}: got {value!r}, expected an integer within {least} … {most}")
    return _exponents(recurrence, batch_axes, size, count, discarded, params, xs, key, carry)


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _exponents(
    recurrence: Recurrence,
    batch_axes: int,
    size: int,
    count: int,
    discarded: int,
    params: Params,
    xs: Array,
    key: Array,
    carry: Carry,
) -> Array:
    # Directions drawn at random meet every subspace; the axes might lie within one.
    first, _ = jnp.linalg.qr(jax.random.normal(key, (size, count), xs.dtype))
    counts = jnp.arange(xs.shape[0]) >= discarded

    def of_row(carry: Carry, xs: Array) -> Array:
        step = vector_step(recurrence, params, carry)

        def body(
            state: tuple[Array, Array, Array], inputs: tuple[Array, Array]
        ) -> tuple[Any, None]:
            vector, directions, sums = state
            x, is_counted = inputs
            vector, push = jax.linearize(lambda v: step(v, x), vector)
            pushed = jax.vmap(push, in_axes=1, out_axes=1)(directions)
            directions, triangle = jnp.linalg.qr(pushed)
            growth = jnp.log(jnp.abs(jnp.diagonal(triangle)))
            sums = sums + jnp.where(is_counted, growth, jnp.zeros_like(growth))
            return (vector, directions, sums), None

        state = carry_as_vector(carry), first, jnp.zeros(count, xs.dtype)
        (_, _, sums), _ = lax.scan(body, state, (xs, counts))
        return jnp.sort(sums / (xs.shape[0] - discarded), descending=True)

    return over_rows(of_row, batch_axes, out_axes=0)(carry, xs)
