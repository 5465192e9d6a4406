"""Nonlinear recurrences parallel in time, by Newton's method over all states at once."""

from collections.abc import Callable
from functools import lru_cache, partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Var

from rnnjax.plans import fixed_point
from rnnjax.plans.fixed_point import (
    Approximation,
    IterativePlan,
    Method,
    checked_options,
    not_real,
    refusal_by_shapes,
)
from rnnjax.plans.manual_axes import vary_alike
from rnnjax.plans.matrix_scan import dense_scan
from rnnjax.plans.protocol import FIRST_ORDER_REVERSE
from rnnjax.recurrences.protocol import Carry, Params, Recurrence


def approximate(
    recurrence: Recurrence, params: Params, zs: Any, carry: Carry, batch_axes: int
) -> Approximation:
    """The Jacobian of each step by all D numbers of a row's carry, `(T, *B, D, D)`.

    Args:
        recurrence: Any.
        params: Its parameters.
        zs: Leaves `(T, *B, ...)`.
        carry: Leaves `(*B, ...)`, for their shapes.
        batch_axes: How many axes `*B` are.
    """
    leaves, structure = jax.tree.flatten(carry)
    shapes = [leaf.shape[batch_axes:] for leaf in leaves]
    ends = [sum(prod(shape) for shape in shapes[: i + 1]) for i in range(len(shapes))]

    def pack(carries: Carry) -> Array:
        parts = [
            leaf.reshape(*leaf.shape[: leaf.ndim - len(shape)], -1)
            for leaf, shape in zip(jax.tree.leaves(carries), shapes, strict=True)
        ]
        return jnp.concatenate(parts, axis=-1)

    def unpack(packed: Array) -> Carry:
        parts = jnp.split(packed, ends[:-1], axis=-1)
        return jax.tree.unflatten(
            structure,
            [
                part.reshape(*packed.shape[:-1], *shape)
                for part, shape in zip(parts, shapes, strict=True)
            ],
        )

    def evaluate(entered: Carry) -> tuple[Carry, None]:
        return recurrence.step(params, entered, zs)[0], None

    def jacobian(entered: Carry, kept: None) -> Array:
        del kept
        push = _push(recurrence, params, zs, entered)
        basis, _ = vary_alike((unpack(jnp.eye(ends[-1], dtype=leaves[0].dtype)), entered))
        return jax.vmap(lambda direction: pack(push(direction)), out_axes=-1)(basis)

    return Approximation(
        pack, unpack, evaluate, jacobian, lambda a: jnp.swapaxes(a, -1, -2), dense_scan
    )


def _push(
    recurrence: Recurrence, params: Params, zs: Any, entered: Carry
) -> Callable[[Carry], Carry]:
    """What a direction, leaves without time and batch, becomes in each of the steps."""

    def everywhere(direction: Any, like: Any) -> Any:
        return jax.tree.map(lambda d, a: jnp.broadcast_to(d, a.shape), direction, like)

    mix, gate = recurrence.mix, recurrence.gate
    if mix is None or gate is None or not is_affine(partial(mix, params), entered):
        _, by_carry = jax.linearize(lambda c: recurrence.step(params, c, zs)[0], entered)
        return lambda direction: by_carry(everywhere(direction, entered))

    mixed = mix(params, entered)
    _, by_both = jax.linearize(lambda m, c: gate(zs, m, c)[0], mixed, entered)

    # One product with the recurrent weights does for all steps.
    def through_gate(direction: Carry) -> Carry:
        at_zero = jax.tree.map(jnp.zeros_like, direction)
        _, of_mixed = jax.jvp(partial(mix, params), (at_zero,), (direction,))
        return by_both(everywhere(of_mixed, mixed), everywhere(direction, entered))

    return through_gate


def is_affine(function: Callable[[Any], Any], argument: Any) -> bool:
    """Whether the derivative of a function, read off its program, is the same everywhere.

    What is jitted within counts as reading all that it is given.

    Args:
        function: Traced, not run.
        argument: A pytree of arrays or of `jax.ShapeDtypeStruct`s.
    """
    jaxpr = jax.make_jaxpr(lambda at, t: jax.jvp(function, (at,), (t,))[1])(
        argument, argument
    ).jaxpr
    read = {variable for variable in jaxpr.outvars if isinstance(variable, Var)}
    for equation in reversed(jaxpr.eqns):
        if any(variable in read for variable in equation.outvars):
            read.update(v for v in equation.invars if isinstance(v, Var))
    points = jaxpr.invars[: len(jax.tree.leaves(argument))]
    return not any(point in read for point in points)


@refusal_by_shapes
def refusal(recurrence: Recurrence, params: Params) -> str | None:
    """Why a recurrence cannot be served, or None."""
    return not_real(jax.eval_shape(lambda p: recurrence.initial_carry(p, ()), params))


@lru_cache(typed=True)
def newton_with(
    *,
    tolerance: float | None = None,
    max_iterations: int | None = None,
    damping: float = 0.0,
) -> IterativePlan:
    """The Newton plan with options of its iteration.

    Args:
        tolerance: How far from solving its equation a step may be, relative to the larger of 1 and
            the state; None is 16 roundings in the dtype of the sums.
        max_iterations: After so many a row that has not converged is NaN; None is T, which is
            always enough.
        damping: 0 … 1: the Jacobian is taken times 1 − damping. More iterations, but steadier
            ones where the steps are not contractive.

    Raises:
        ValueError: An option is not a number or out of range.

    References:
        Lim et al. (2024), Parallelizing non-linear sequential models over the sequence length,
        ICLR, section 3 (DEER).
    """
    options = checked_options(tolerance, max_iterations, damping)
    method = Method(fixed_point.plan_name("newton", options), approximate, **options)
    return IterativePlan(
        name=method.plan,
        summary="parallel in time: Newton's method over all states at once (DEER)",
        run=partial(fixed_point.run, method),
        run_with_convergence=partial(fixed_point.run_with_convergence, method),
        derivatives=FIRST_ORDER_REVERSE,
        cost="memory T·B·D², work T·B·D³ an iteration of depth O(log T), D numbers in a row's "
        "carry; a few iterations on what forgets, T at most",
        refusal=refusal,
    )


newton = newton_with()
