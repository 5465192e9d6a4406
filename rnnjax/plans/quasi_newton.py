"""Nonlinear recurrences parallel in time, by the part of the Jacobian that stays in a unit."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from rnnjax.plans import fixed_point
from rnnjax.plans.fixed_point import (
    Approximation,
    IterativePlan,
    Method,
    checked_options,
    not_real,
    refusal_by_shapes,
)
from rnnjax.plans.matrix_scan import unit_scan
from rnnjax.plans.protocol import FIRST_ORDER_REVERSE
from rnnjax.recurrences.protocol import Carry, Params, Recurrence


def approximate(
    recurrence: Recurrence, params: Params, zs: Any, carry: Carry, batch_axes: int
) -> Approximation:
    """Of the Jacobian of each step the K × K block of each unit, `(T, *B, K, K, H)`.

    A unit is a place in the last axis of the K leaves of the carry, such as h and c of an LSTM.

    Args:
        recurrence: One that states its `mix`.
        params: Its parameters.
        zs: Leaves `(T, *B, ...)`.
        carry: Leaves `(*B, H)`.
        batch_axes: How many axes `*B` are.
    """
    del batch_axes
    mix, gate = recurrence.mix, recurrence.gate
    if mix is None or gate is None:
        raise ValueError(f"recurrence: got {recurrence.name}, expected one that states `mix`")
    leaves, structure = jax.tree.flatten(carry)
    slopes = _slopes(partial(mix, params), carry)

    def pack(carries: Carry) -> Array:
        return jnp.stack(jax.tree.leaves(carries), axis=-2)

    def unpack(packed: Array) -> Carry:
        return jax.tree.unflatten(structure, [packed[..., i, :] for i in range(len(leaves))])

    def evaluate(entered: Carry) -> tuple[Carry, Any]:
        mixed = mix(params, entered)
        return gate(zs, mixed, entered)[0], mixed

    def jacobian(entered: Carry, mixed: Any) -> Array:
        def by_leaf(i: int) -> Array:
            """One derivative along all units at once: they do not meet in the gate."""
            ones = jax.tree.unflatten(
                structure,
                [
                    jnp.full_like(leaf, 1 if i == j else 0)
                    for j, leaf in enumerate(jax.tree.leaves(entered))
                ],
            )
            through = jax.tree.map(lambda s, m: jnp.broadcast_to(s, m.shape), slopes[i], mixed)
            _, new = jax.jvp(lambda m, c: gate(zs, m, c)[0], (mixed, entered), (through, ones))
            return pack(new)

        return jnp.stack([by_leaf(i) for i in range(len(leaves))], axis=-2)

    return Approximation(
        pack, unpack, evaluate, jacobian, lambda a: jnp.swapaxes(a, -2, -3), unit_scan
    )


def _slopes(mix: Callable[[Carry], Any], carry: Carry) -> list[Any]:
    """For each leaf of the carry, how m answers to each unit's own number, leaves `(G,)`.

    `mix` is taken to be linear in the carry; where it is not, this is a coarser approximation.
    """
    leaves, structure = jax.tree.flatten(carry)
    units, dtype = leaves[0].shape[-1], leaves[0].dtype
    nothing, basis = jnp.zeros((units, units), dtype), jnp.eye(units, dtype=dtype)

    def own(answers: Array) -> Array:
        """Of `(H, G)` the entries whose unit is that of the row; gates are stacked on the axis."""
        return jnp.diagonal(answers.reshape(units, -1, units), axis1=0, axis2=2).reshape(-1)

    def by_leaf(i: int) -> Any:
        at = jax.tree.unflatten(structure, [nothing] * len(leaves))
        along = jax.tree.unflatten(
            structure, [basis if i == j else nothing for j in range(len(leaves))]
        )
        _, answers = jax.jvp(mix, (at,), (along,))
        return jax.tree.map(own, answers)

    return [by_leaf(i) for i in range(len(leaves))]


@refusal_by_shapes
def refusal(recurrence: Recurrence, params: Params) -> str | None:
    """Why a recurrence cannot be served, or None."""
    mix = recurrence.mix
    if mix is None:
        return f"{recurrence.name} states no `mix`, off which to read a unit's own part"
    carry = jax.eval_shape(lambda p: recurrence.initial_carry(p, ()), params)
    shapes = sorted({leaf.shape for leaf in jax.tree.leaves(carry)})
    if len(shapes) != 1 or len(shapes[0]) != 1:
        return f"it needs a carry of vectors of one size, got shapes {shapes}"
    (units,) = shapes[0]
    mixed = jax.tree.leaves(jax.eval_shape(mix, params, carry))
    if any(len(m.shape) != 1 or m.shape[0] % units for m in mixed):
        return f"it needs a `mix` of gates of {units} units, got {[m.shape for m in mixed]}"
    return not_real(carry)


@lru_cache(typed=True)
def quasi_newton_with(
    *,
    tolerance: float | None = None,
    max_iterations: int | None = None,
    damping: float = 0.0,
) -> IterativePlan:
    """The quasi-Newton plan with options of its iteration.

    Args:
        tolerance: How far from solving its equation a step may be, relative to the larger of 1 and
            the state; None is 16 roundings in the dtype of the sums.
        max_iterations: After so many a row that has not converged is NaN; None is T, which is
            always enough.
        damping: 0 … 1: the approximate Jacobian is taken times 1 − damping.

    Raises:
        ValueError: An option is not a number or out of range.

    References:
        Gonzalez et al. (2024), Towards scalable and stable parallelization of nonlinear RNNs,
        NeurIPS, section 4.1 (quasi-DEER).
    """
    options = checked_options(tolerance, max_iterations, damping)
    method = Method(fixed_point.plan_name("quasi_newton", options), approximate, **options)
    return IterativePlan(
        name=method.plan,
        summary="parallel in time: Newton's method with each unit's own derivatives (quasi-DEER)",
        run=partial(fixed_point.run, method),
        run_with_convergence=partial(fixed_point.run_with_convergence, method),
        derivatives=FIRST_ORDER_REVERSE,
        cost="memory T·B·D, work T·B·D² an iteration of depth O(log T), D numbers in a row's "
        "carry; more iterations than newton, also for a gradient, T at most",
        refusal=refusal,
    )


quasi_newton = quasi_newton_with()
