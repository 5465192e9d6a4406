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
from functools import lru_cache, partial
from math import isfinite
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from rnnjax.plans.derivatives import first_order_only, reverse_mode_only
from rnnjax.plans.masking import enter, select, zero_unless
from rnnjax.plans.protocol import Inputs, Plan, Request, check_size
from rnnjax.plans.segments import states_entered
from rnnjax.recurrences.protocol import Carry, Params, Recurrence


class Convergence(NamedTuple):
    """How a solution was found; its derivative is zero."""

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


def refusal_by_shapes(
    why: Callable[[Recurrence, Params], str | None],
) -> Callable[[Request], str | None]:
    """A plan's `refusal` that traces for each recurrence and its shapes once.

    Args:
        why: `(recurrence, parameters without values) -> why it cannot be served, or None`.
    """

    @lru_cache
    def kept(recurrence: Recurrence, structure: Any, leaves: tuple[Any, ...]) -> str | None:
        return why(recurrence, structure.unflatten(leaves))

    def refusal(request: Request) -> str | None:
        """Why a request cannot be served, or None."""
        leaves, structure = jax.tree.flatten(request.params)
        return kept(request.recurrence, structure, tuple(leaves))

    return refusal


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
    valid = inputs.valid
    if valid is None:
        valid = jnp.ones_like(inputs.xs, dtype=bool, shape=shape)
    linked = valid & _before(valid, reverse)
    if inputs.resets is not None:
        linked &= ~inputs.resets
    return _Masks(valid, linked, valid & ~_before(valid, not reverse))


def _before(values: Array, reverse: bool) -> Array:
    """What each step finds of the step before it in the order of running; the first finds zero."""
    return states_entered(values, jnp.zeros_like(values[0]), reverse)


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
        moved = at.states + change
        moved = jnp.where(jnp.isfinite(moved), moved, 0)
        states = select(next_, at.evaluated, select(later, moved, at.states))
        return iterate(at.iterations + 1, states)

    def unfinished(at: _Iterate) -> Array:
        return (at.iterations < limit) & jnp.any((at.settled < time_steps) & ~at.hopeless)

    # Else the compiler evaluates the first iterate, of all of time, while it compiles.
    start = lax.optimization_barrier(start)
    # Inside `shard_map` each device counts its own iterations.
    none = jnp.zeros_like(start, dtype=jnp.int32, shape=())
    return lax.while_loop(unfinished, body, iterate(none, start))


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
    along_time = jax.tree.map(
        lambda a: jnp.zeros_like(a, shape=(time_steps, *a.shape)), inputs.carry
    )
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
    # What was not found may be as large as it likes, and must not meet a cotangent of zero.
    states = zero_unless(jnp.broadcast_to(converged, masks.valid.shape), states)
    return (carry, ys, report), (params, inputs, states, converged)


def _nan_like(tree: Any) -> Any:
    return jax.tree.map(lambda a: jnp.full_like(a, jnp.nan), tree)


def _solved_backward(
    method: Method, recurrence: Recurrence, reverse: bool, residuals: Any, cotangents: Any
) -> tuple[Params, Inputs]:
    """By the implicit function theorem: first the cotangents of all states, then one vjp."""
    (params, inputs, states, converged), (dcarry, dys) = first_order_only(
        method.plan, (residuals, cotangents[:2])
    )
    masks = _masks(recurrence, params, inputs, reverse)
    dys = zero_unless(inputs.valid, dys)
    # A row that was not found has a gradient of NaN, unless nothing was asked of it.
    asked = _any_nonzero(dcarry, 0, converged.ndim) | _any_nonzero(dys, 1, converged.ndim)
    dcarry = zero_unless(converged, dcarry)
    dys = zero_unless(jnp.broadcast_to(converged, masks.valid.shape), dys)
    before = jax.tree.map(lambda a: _before(a, reverse), states)
    dstates, found = _adjoint(method, recurrence, reverse, params, inputs, before, (dcarry, dys))
    lost = (asked & ~converged) | ~found

    def steps(params: Params, xs: Array, carry: Carry, fresh: Carry) -> tuple[Carry, Array]:
        given = inputs._replace(xs=xs, carry=carry, fresh_carry=fresh)
        zs = recurrence.project(params, zero_unless(inputs.valid, xs))
        return recurrence.step(params, _entered(given, masks, before), zs)

    _, pull = jax.vjp(steps, params, inputs.xs, inputs.carry, inputs.fresh_carry)
    dparams, dxs, dfirst, dfresh = pull((dstates, dys))
    unused = ~jnp.any(masks.valid, axis=0)  # a row of length 0 gives its carry back
    dfirst = jax.tree.map(jnp.add, dfirst, zero_unless(unused, dcarry))
    dparams = jax.tree.map(lambda a: jnp.where(jnp.any(lost), jnp.nan, a), dparams)
    dxs = select(masks.valid & lost, _nan_like(dxs), dxs)
    dfirst, dfresh = select(lost, _nan_like((dfirst, dfresh)), (dfirst, dfresh))
    return dparams, Inputs(dxs, dfirst, dfresh, valid=None, resets=None)


def _adjoint(
    method: Method,
    recurrence: Recurrence,
    reverse: bool,
    params: Params,
    inputs: Inputs,
    before: Carry,
    cotangents: tuple[Carry, Array],
) -> tuple[Carry, Array]:
    """The whole cotangents of the states, and for which rows they were found.

    With J^<t> = ∂f^<t>/∂s^<t-1> and u^<t> the cotangent of the s^<t-1> that step t sees:
    u^<t> = J^<t>ᵀ (u^<t+1> + ds^<t>) + (∂y^<t>/∂s^<t-1>)ᵀ dy^<t>,  ds^<t> = dcarry at a row's end
    This is solved as the states were, the other way round. The products with Jᵀ are exact whatever
    the approximation of J is; with an exact one the first iteration solves it.

    Args:
        method: How to solve.
        recurrence: What was run.
        reverse: Whether it ran from the last step to the first.
        params: Its parameters.
        inputs: All arrays besides.
        before: Leaves `(T, *B, ...)`: the state after the step before each.
        cotangents: Of the last carry and of the outputs, zero in padding.

    Returns:
        Leaves `(T, *B, ...)`, and `(*B)` bool.
    """
    dcarry, dys = cotangents
    masks = _masks(recurrence, params, inputs, reverse)
    zs = recurrence.project(params, zero_unless(inputs.valid, inputs.xs))
    approximation = method.approximate(recurrence, params, zs, inputs.carry, masks.valid.ndim - 1)
    entered = _entered(inputs, masks, before)
    _, kept = approximation.evaluate(entered)
    matrices = approximation.transpose(approximation.jacobian(entered, kept))
    _, pull = jax.vjp(lambda carries: recurrence.step(params, carries, zs), entered)
    at_ends = jax.tree.map(
        lambda d, a: zero_unless(masks.last, jnp.broadcast_to(d, a.shape)), dcarry, before
    )

    def whole(later: Array) -> Carry:
        return jax.tree.map(jnp.add, approximation.unpack(later), at_ends)

    def evaluate(later: Array) -> tuple[Array, None]:
        (seen,) = pull((whole(later), dys))
        return approximation.pack(seen), None

    equations = _Equations(
        evaluate,
        lambda later, kept: matrices,  # noqa: ARG005
        approximation.scan,
        masks.valid,
        _before(masks.linked, not reverse),
        not reverse,
        0.0,
    )
    start = jnp.zeros_like(approximation.pack(before))
    found = _solve(equations, start, *_limits(method, inputs))
    later = zero_unless(equations.linked, _before(found.states, not reverse))
    return whole(later), found.settled == inputs.xs.shape[0]


def _any_nonzero(tree: Any, time_axes: int, batch_axes: int) -> Array:
    """Of each row, `(*B)` bool."""
    found = jnp.zeros((), bool)
    for leaf in jax.tree.leaves(tree):
        features = range(time_axes + batch_axes, leaf.ndim)
        found |= jnp.any(leaf != 0, axis=(*range(time_axes), *features))
    return found


_solved.defvjp(_solved_forward, _solved_backward)
