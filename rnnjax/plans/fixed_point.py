"""Nonlinear recurrences parallel in time: all states at once, by Newton's method or cheaper ones.

The states of a sequence solve s^<t> = f^<t>(s^<t-1>) for all t. Given a guess of all of them, each
step is replaced by its tangent there, or by an approximation of it; what is left is linear along
time and solved by a scan of matrices:

δ^<t> = A^<t> δ^<t-1> + (f^<t>(s^<t-1>) − s^<t>),  s ← s + δ,  A^<t> ≈ ∂f^<t>/∂s^<t-1>

Whatever A is, each iteration makes the states exact one step further, so T iterations are enough;
with a good A a handful is. A plan says what A is; all else is here.

References:
    Lim et al. (2024), Parallelizing non-linear sequential models over the sequence length, ICLR,
    section 3; Gonzalez et al. (2024), Towards scalable and stable parallelization of nonlinear
    RNNs, NeurIPS, sections 3 and 4, proposition 1.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from rnnjax.plans.derivatives import first_order_only, reverse_mode_only
from rnnjax.plans.masking import enter, select, zero_unless
from rnnjax.plans.protocol import Inputs, Plan, check_size
from rnnjax.recurrences.protocol import Carry, Params, Recurrence


class Convergence(NamedTuple):
    """How a solution was found. Not differentiated."""

    iterations: Array  # () int32: until every row had converged or could not any more
    residual: Array  # (*B): largest |s^<t> − f^<t>(s^<t-1>)| / max(1, |s|) of a row's steps
    converged: Array  # (*B) bool: within the tolerance; what is not is NaN in carry and outputs


class Approximation(NamedTuple):
    """The steps of all times side by side, and an approximation of their Jacobians.

    Attributes:
        pack: A carry, leaves `(T, *B, ...)`, as one array `(T, *B, ...)`.
        unpack: Its inverse.
        evaluate: `(entered carries) -> (new carries, kept)`; `kept` is what `jacobian` can use.
        jacobian: `(entered carries, kept) -> A`, of packed carries by packed carries.
        transpose: Of each A.
        scan: `(A, b, *, reverse) -> x`, x^<t> = A^<t> x^<t-1> + b^<t>, of packed arrays.
    """

    pack: Callable[[Carry], Array]
    unpack: Callable[[Array], Carry]
    evaluate: Callable[[Carry], tuple[Carry, Any]]
    jacobian: Callable[[Carry, Any], Array]
    transpose: Callable[[Array], Array]
    scan: Callable[..., Array]


class Method(NamedTuple):
    """What a plan of this kind is made of.

    Attributes:
        plan: The name that an error about derivatives gives.
        approximate: `(recurrence, params, zs, carry, batch_axes) -> Approximation`, with zs
            `(T, *B, ...)` and the leaves of the carry `(*B, ...)`.
        tolerance: Of the relative residual; None is `default_tolerance`.
        max_iterations: None is T.
        damping: The Jacobian is taken times 1 − damping.
    """

    plan: str
    approximate: Callable[[Recurrence, Params, Any, Carry, int], Approximation]
    tolerance: float | None = None
    max_iterations: int | None = None
    damping: float = 0.0


@dataclass(frozen=True, eq=False, repr=False)
class IterativePlan(Plan):
    """A plan that can also tell how it converged.

    Attributes:
        run_with_convergence: `run` with a third result, a `Convergence`.
    """

    run_with_convergence: Callable[
        [Recurrence, Params, Inputs, bool], tuple[Carry, Array, Convergence]
    ] = field(kw_only=True)


def default_tolerance(compute_dtype: Any, accumulation_dtype: Any) -> float:
    """16 roundings of a sum; with coarser products a quarter of a rounding of theirs.

    The products round the state they are given, so that a step jumps by about as much.
    """
    if compute_dtype == accumulation_dtype:
        return 16 * float(jnp.finfo(accumulation_dtype).eps)
    return float(jnp.finfo(compute_dtype).eps) / 4


def checked_options(
    tolerance: float | None, max_iterations: int | None, damping: float
) -> dict[str, Any]:
    """The options of a `Method`, or an error that names the one out of range.

    Raises:
        ValueError: An option is not of its kind or out of range.
    """
    if tolerance is not None and not (_is_real(tolerance) and 0 < tolerance < 1):
        raise ValueError(f"tolerance: got {tolerance!r}, expected a number between 0 and 1")
    if max_iterations is not None:
        check_size("max_iterations", max_iterations)
    if not (_is_real(damping) and 0 <= damping < 1):
        raise ValueError(f"damping: got {damping!r}, expected a number from 0 to below 1")
    return {"tolerance": tolerance, "max_iterations": max_iterations, "damping": damping}


def plan_name(name: str, options: dict[str, Any]) -> str:
    """The name of a plan with the options that differ from its own."""
    own = Method._field_defaults
    given = ", ".join(f"{key}={value}" for key, value in options.items() if value != own[key])
    return f"{name}_with({given})" if given else name


def _is_real(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def not_real(carry: Carry) -> str | None:
    """Why a carry cannot be packed into one real array, or None."""
    names = sorted({leaf.dtype.name for leaf in jax.tree.leaves(carry)})
    if len(names) == 1 and jnp.issubdtype(names[0], jnp.floating):
        return None
    return f"it needs a real carry, got one of {', '.join(names)}"


def run_with_convergence(
    method: Method, recurrence: Recurrence, params: Params, inputs: Inputs, reverse: bool
) -> tuple[Carry, Array, Convergence]:
    """The last carry, the outputs, and how they were found; what was not found is NaN."""
    params, xs, carry, fresh = reverse_mode_only(
        method.plan, (params, inputs.xs, inputs.carry, inputs.fresh_carry)
    )
    inputs = inputs._replace(xs=xs, carry=carry, fresh_carry=fresh)
    return _solved(method, recurrence, reverse, params, inputs)


def run(
    method: Method, recurrence: Recurrence, params: Params, inputs: Inputs, reverse: bool
) -> tuple[Carry, Array]:
    """`run_with_convergence` without the report."""
    carry, ys, _ = run_with_convergence(method, recurrence, params, inputs, reverse)
    return carry, ys


class _Masks(NamedTuple):
    """What each step has to do with the one before it in the order of running, `(T, *B)` bool."""

    valid: Array
    linked: Array  # it goes on from the step before it: neither the first nor after a reset
    last: Array  # of its row


def _masks(recurrence: Recurrence, params: Params, inputs: Inputs, reverse: bool) -> _Masks:
    shape = inputs.xs.shape[: inputs.xs.ndim - len(recurrence.input_shape(params))]
    valid = jnp.ones(shape, bool) if inputs.valid is None else inputs.valid
    linked = valid & _before(valid, reverse)
    if inputs.resets is not None:
        linked &= ~inputs.resets
    return _Masks(valid, linked, valid & ~_before(valid, not reverse))


def _before(values: Array, reverse: bool) -> Array:
    """What each step finds of the step before it in the order of running; the first finds zero."""
    nothing = jnp.zeros_like(values[:1])
    if reverse:
        return jnp.concatenate([values[1:], nothing])
    return jnp.concatenate([nothing, values[:-1]])


def _entered(inputs: Inputs, masks: _Masks, before: Carry) -> Carry:
    """The carry that each step sees, given what the step before it left, leaves `(T, *B, ...)`."""
    carry, fresh = (
        jax.tree.map(lambda a, b: jnp.broadcast_to(a, b.shape), given, before)
        for given in (inputs.carry, inputs.fresh_carry)
    )
    return select(masks.linked, before, enter(carry, fresh, inputs.valid, inputs.resets))


class _Equations(NamedTuple):
    """s^<t> = f^<t>(s^<t-1>) for all t, in packed arrays `(T, *B, ...)`.

    Attributes:
        evaluate: `(s^<t-1> of each t, zero where not linked) -> (f, kept)`.
        jacobian: `(s^<t-1> of each t, kept) -> A`.
        scan: `(A, b, *, reverse) -> x`.
        valid: `(T, *B)` bool; the other steps have no equation.
        linked: `(T, *B)` bool: whether f^<t> depends on s^<t-1>.
        reverse: Whether the last step comes first.
        smallest_scale: What a residual is relative to where states are smaller.
    """

    evaluate: Callable[[Array], tuple[Array, Any]]
    jacobian: Callable[[Array, Any], Array]
    scan: Callable[..., Array]
    valid: Array
    linked: Array
    reverse: bool
    smallest_scale: float


class _Iterate(NamedTuple):
    iterations: Array  # () int32
    states: Array  # (T, *B, ...)
    evaluated: Array  # f of them
    kept: Any
    settled: Array  # (*B) int32: how many steps from the first on solve their equations
    residual: Array  # (*B)
    hopeless: Array  # (*B) bool: all before it is settled, and a step is not finite


def _solve(equations: _Equations, start: Array, tolerance: float, limit: int) -> _Iterate:
    """Iterate until every row is settled or hopeless, `limit` times at most."""
    valid, linked, reverse = equations.valid, equations.linked, equations.reverse
    time_steps = start.shape[0]
    numbers = jnp.arange(time_steps, dtype=jnp.int32)
    number = (numbers[::-1] if reverse else numbers).reshape(-1, *(1,) * (valid.ndim - 1))

    def before(states: Array) -> Array:
        return zero_unless(linked, _before(states, reverse))

    def largest(values: Array) -> Array:
        """Of each step and row, `(T, *B)`."""
        return jnp.max(jnp.abs(values), axis=tuple(range(valid.ndim, values.ndim)))

    def iterate(iterations: Array, states: Array) -> _Iterate:
        entered = before(states)
        evaluated, kept = equations.evaluate(entered)
        gap = zero_unless(valid, largest(evaluated - states))
        size = jnp.maximum(largest(states), jnp.maximum(largest(entered), largest(evaluated)))
        size = jnp.maximum(size, equations.smallest_scale)
        right = (gap <= tolerance * size) | ~valid  # not so of a NaN
        settled = jnp.min(jnp.where(right, time_steps, number), axis=0)
        return _Iterate(
            iterations,
            states,
            evaluated,
            kept,
            settled,
            jnp.max(jnp.where(gap == 0, gap, gap / size), axis=0),
            jnp.any((number == settled) & ~jnp.isfinite(gap), axis=0),
        )

    def body(at: _Iterate) -> _Iterate:
        # What is settled stays, and the step after it is exact, whatever overflows further on.
        later, next_ = valid & (number > at.settled), valid & (number == at.settled)
        matrices = zero_unless(linked & later, equations.jacobian(before(at.states), at.kept))
        gaps = zero_unless(later | next_, at.evaluated - at.states)
        change = equations.scan(matrices, gaps, reverse=reverse)
        states = select(next_, at.evaluated, select(later, at.states + change, at.states))
        states = jnp.where(jnp.isfinite(states) | ~_like(later, states), states, 0)
        return iterate(at.iterations + 1, states)

    def unfinished(at: _Iterate) -> Array:
        return (at.iterations < limit) & jnp.any((at.settled < time_steps) & ~at.hopeless)

    # Else the compiler evaluates the first iterate, of all of time, while it compiles.
    start = lax.optimization_barrier(start)
    return lax.while_loop(unfinished, body, iterate(jnp.zeros((), jnp.int32), start))


def _like(mask: Array, values: Array) -> Array:
    return mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim))


def _limits(method: Method, inputs: Inputs) -> tuple[float, int]:
    """The tolerance and the largest number of iterations."""
    tolerance = method.tolerance
    if tolerance is None:
        accumulation_dtype = jax.tree.leaves(inputs.carry)[0].dtype
        tolerance = default_tolerance(inputs.xs.dtype, accumulation_dtype)
    return tolerance, method.max_iterations or inputs.xs.shape[0]


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _solved(
    method: Method, recurrence: Recurrence, reverse: bool, params: Params, inputs: Inputs
) -> tuple[Carry, Array, Convergence]:
    return _solved_forward(method, recurrence, reverse, params, inputs)[0]


def _solved_forward(
    method: Method, recurrence: Recurrence, reverse: bool, params: Params, inputs: Inputs
) -> tuple[tuple[Carry, Array, Convergence], Any]:
    masks = _masks(recurrence, params, inputs, reverse)
    zs = recurrence.project(params, zero_unless(inputs.valid, inputs.xs))
    approximation = method.approximate(recurrence, params, zs, inputs.carry, masks.valid.ndim - 1)
    pack, unpack = approximation.pack, approximation.unpack

    def entered(before: Array) -> Carry:
        return _entered(inputs, masks, unpack(before))

    def evaluate(before: Array) -> tuple[Array, Any]:
        new, kept = approximation.evaluate(entered(before))
        return pack(new), kept

    def jacobian(before: Array, kept: Any) -> Array:
        return (1 - method.damping) * approximation.jacobian(entered(before), kept)

    equations = _Equations(
        evaluate, jacobian, approximation.scan, masks.valid, masks.linked, reverse, 1.0
    )
    time_steps = inputs.xs.shape[0]
    along_time = jax.tree.map(lambda a: jnp.zeros((time_steps, *a.shape), a.dtype), inputs.carry)
    found = _solve(equations, pack(along_time), *_limits(method, inputs))
    states = unpack(found.states)

    before = jax.tree.map(lambda a: _before(a, reverse), states)
    new, ys = recurrence.step(params, _entered(inputs, masks, before), zs)
    carry = jax.tree.map(lambda a: jnp.sum(a, axis=0), zero_unless(masks.last, new))
    carry = select(jnp.any(masks.valid, axis=0), carry, inputs.carry)
    converged = found.settled == time_steps
    carry = select(converged, carry, _nan_like(carry))
    ys = zero_unless(
        inputs.valid, select(jnp.broadcast_to(converged, masks.valid.shape), ys, _nan_like(ys))
    )
    report = Convergence(found.iterations, found.residual, converged)
    return (carry, ys, report), (params, inputs, states, converged)


def _nan_like(tree: Any) -> Any:
    return jax.tree.map(lambda a: jnp.full_like(a, jnp.nan), tree)


def _solved_backward(
    method: Method, recurrence: Recurrence, reverse: bool, residuals: Any, cotangents: Any
) -> tuple[Params, Inputs]:
    """By the implicit function theorem: an equation as linear as the steps are at the solution.

    With J^<t> = ∂f^<t>/∂s^<t-1> and g^<t> the whole cotangent of s^<t>, where a step is linked:
    g^<t> = J^<t+1>ᵀ g^<t+1> + (∂y^<t+1>/∂s^<t>)ᵀ dy^<t+1>
    It is solved for all t as the states were, with exact products Jᵀ g; the rest is one vjp.
    """
    (params, inputs, states, converged), (dcarry, dys) = first_order_only(
        method.plan, (residuals, cotangents[:2])
    )
    masks = _masks(recurrence, params, inputs, reverse)
    # A row that was not found has a gradient of NaN, unless nothing was asked of it.
    asked = _any_nonzero(dcarry, converged.ndim, 0) | _any_nonzero(
        zero_unless(inputs.valid, dys), converged.ndim, 1
    )
    lost = ~converged & asked
    dcarry, dys = zero_unless(converged, dcarry), zero_unless(masks.valid & converged, dys)
    dlast = jax.tree.map(
        lambda a: zero_unless(masks.last, jnp.broadcast_to(a, (dys.shape[0], *a.shape))), dcarry
    )
    before = jax.tree.map(lambda a: _before(a, reverse), states)

    def steps(params: Params, xs: Array, carry: Carry, fresh: Carry) -> tuple[Carry, Array]:
        given = inputs._replace(xs=xs, carry=carry, fresh_carry=fresh)
        zs = recurrence.project(params, zero_unless(inputs.valid, xs))
        return recurrence.step(params, _entered(given, masks, before), zs)

    zs = recurrence.project(params, zero_unless(inputs.valid, inputs.xs))
    approximation = method.approximate(recurrence, params, zs, inputs.carry, masks.valid.ndim - 1)
    pack, unpack = approximation.pack, approximation.unpack
    entered = _entered(inputs, masks, before)
    _, pull = jax.vjp(lambda carries: recurrence.step(params, carries, zs), entered)
    _, kept = approximation.evaluate(entered)
    matrices = approximation.transpose(approximation.jacobian(entered, kept))

    def whole(later: Array) -> Carry:
        """The whole cotangent of what a step left, given that of what the next one saw."""
        return jax.tree.map(jnp.add, unpack(later), dlast)

    def evaluate(later: Array) -> tuple[Array, None]:
        return pack(pull((whole(later), dys))[0]), None

    linked = _before(masks.linked, not reverse)
    equations = _Equations(
        evaluate,
        lambda later, kept: matrices,  # noqa: ARG005
        approximation.scan,
        masks.valid,
        linked,
        not reverse,
        0.0,
    )
    found = _solve(equations, jnp.zeros_like(pack(states)), *_limits(method, inputs))
    lost |= found.settled < dys.shape[0]
    dstates = whole(zero_unless(linked, _before(found.states, not reverse)))

    _, pull_all = jax.vjp(steps, params, inputs.xs, inputs.carry, inputs.fresh_carry)
    dparams, dxs, dcarry_by_steps, dfresh = pull_all((dstates, dys))
    dcarry = jax.tree.map(
        jnp.add, dcarry_by_steps, zero_unless(~jnp.any(masks.valid, axis=0), dcarry)
    )
    dparams = jax.tree.map(lambda a: jnp.where(jnp.any(lost), jnp.nan, a), dparams)
    dxs = select(masks.valid & lost, _nan_like(dxs), dxs)
    dcarry, dfresh = select(lost, _nan_like((dcarry, dfresh)), (dcarry, dfresh))
    return dparams, Inputs(dxs, dcarry, dfresh, valid=None, resets=None)


def _any_nonzero(tree: Any, batch_axes: int, time_axes: int) -> Array:
    """Of each row, `(*B)`."""
    leaves = jax.tree.leaves(tree)
    found = jnp.zeros((), bool)
    for leaf in leaves:
        kept = range(time_axes, time_axes + batch_axes)
        found |= jnp.any(leaf != 0, axis=tuple(i for i in range(leaf.ndim) if i not in kept))
    return found


_solved.defvjp(_solved_forward, _solved_backward)
