"""The projection hoisted into large products, and a backward pass written by hand."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from rnnjax.plans.aliases import first_equal_output
from rnnjax.plans.derivatives import first_order_only, reverse_mode_only
from rnnjax.plans.masking import enter, leave, per_step, select, zero_unless
from rnnjax.plans.protocol import FIRST_ORDER_REVERSE, Inputs, Plan, at_least_one
from rnnjax.plans.segments import (
    in_whole_segments,
    join_segments,
    scan_segments,
    segment_length,
)
from rnnjax.recurrences.protocol import Carry, Params, Recurrence

LONGEST_SEGMENT = 64

Differentiated = tuple[
    Callable[[Carry, Array, Any], tuple[Carry, Any]], Any, Callable[[Any], tuple[Params, Array]]
]
"""What the backward loop does each step, what it reads along time, and what is done after it."""


class Saved(NamedTuple):
    """What the forward pass keeps for the backward one besides its own inputs and outputs.

    Per row and step that is the carry less the leaf that the output already is: one H for an LSTM
    (its c), nothing for an Elman network or a GRU. Projections, mixed carries and gates are
    computed anew, segment by segment, in large products.
    """

    starts: Carry  # leaves (T / K, *B, ...): the carry before each segment
    entered: list[Array]  # (T, *B, ...) each: leaves of the carry as each step saw it


def _output_leaf(recurrence: Recurrence, params: Params, inputs: Inputs) -> int | None:
    """Which leaf of the new carry the output is, if any."""
    *carry, output = first_equal_output(
        lambda p, c, x: recurrence.step(p, c, recurrence.project(p, x)),
        params,
        inputs.carry,
        inputs.xs[0],
    )
    return output if output < len(carry) else None


def _forward(
    recurrence: Recurrence,
    reverse: bool,
    length: int,
    params: Params,
    inputs: Inputs,
    keep: Callable[[Carry], Any],
) -> tuple[Carry, Any]:
    """The last carry, and by segments `(carry before it, (ys, keep(the carry that steps saw)))`."""

    def step(carry: Carry, slices: Any) -> tuple[Carry, Any]:
        z, valid, reset = slices
        entered = enter(carry, inputs.fresh_carry, valid, reset)
        new, y = recurrence.step(params, entered, z)
        return leave(new, carry, valid), (zero_unless(valid, y), keep(entered))

    def segment(carry: Carry, slices: Any) -> tuple[Carry, Any]:
        (xs, valid, resets), _ = slices
        zs = recurrence.project(params, zero_unless(valid, xs))
        new, out = lax.scan(step, carry, (zs, valid, resets), reverse=reverse)
        return new, (carry, out)

    return scan_segments(segment, inputs.carry, per_step(inputs), length, reverse)


def _entered(
    output_leaf: int | None,
    reverse: bool,
    inputs: Inputs,
    start: Carry,
    kept: list[Array],
    ys: Array,
) -> Carry:
    """The carry as each step of a segment saw it, `(K, *B, ...)`; `inputs` are the segment's."""
    first_leaves, structure = jax.tree.flatten(start)
    if output_leaf is None:
        return jax.tree.unflatten(structure, kept)
    first = first_leaves[output_leaf][None]
    # Padding has output zero but a frozen carry. A valid step sees only one such carry, the
    # segment's first, for in the order of running a row's padding comes all before or all after
    # its elements.
    after = ys
    if inputs.valid is not None:
        after = select(inputs.valid, ys, jnp.broadcast_to(first, ys.shape))
    before = jnp.concatenate([after[1:], first] if reverse else [first, after[:-1]])
    fresh = jax.tree.leaves(inputs.fresh_carry)[output_leaf]
    before = enter(before, jnp.broadcast_to(fresh, before.shape), inputs.valid, inputs.resets)
    return jax.tree.unflatten(structure, [*kept[:output_leaf], before, *kept[output_leaf:]])


def _differentiate_gate(
    recurrence: Recurrence, params: Params, xs: Array, entered: Carry
) -> Differentiated:
    """For a recurrence that states `mix` and `gate`: nothing of a step is computed twice."""
    mix, gate = recurrence.mix, recurrence.gate
    assert mix is not None
    assert gate is not None
    zs, ms = recurrence.project(params, xs), mix(params, entered)

    def cotangents_of_gate(z: Any, m: Any, carry: Carry, cotangents: Any) -> Any:
        return jax.vjp(gate, z, m, carry)[1](cotangents)

    at_one_step = jax.eval_shape(lambda tree: jax.tree.map(lambda a: a[0], tree), (zs, ms, entered))
    outputs = jax.eval_shape(gate, *at_one_step)
    first = first_equal_output(cotangents_of_gate, *at_one_step, outputs)

    def step(dnew: Carry, dy: Array, of_step: Any) -> tuple[Carry, Any]:
        z, m, carry = of_step
        dz, dm, dgate = cotangents_of_gate(z, m, carry, (dnew, dy))
        (dmix,) = jax.vjp(partial(mix, params), carry)[1](dm)
        distinct = [d for i, d in enumerate(jax.tree.leaves((dz, dm))) if first[i] == i]
        return jax.tree.map(jnp.add, dgate, dmix), distinct

    def after_loop(distinct: list[Array]) -> tuple[Params, Array]:
        leaves, structure = jax.tree.flatten((zs, ms))
        of_leaf = dict(zip((i for i, f in enumerate(first) if f == i), distinct, strict=False))
        cotangents = jax.tree.unflatten(structure, [of_leaf[first[i]] for i in range(len(leaves))])
        _, vjp = jax.vjp(lambda p, x: (recurrence.project(p, x), mix(p, entered)), params, xs)
        return vjp(cotangents)

    return step, (zs, ms, entered), after_loop


def _differentiate_step(
    recurrence: Recurrence, params: Params, xs: Array, entered: Carry
) -> Differentiated:
    """For any recurrence: by carry and z in the loop, by the parameters over all time after it."""
    zs = recurrence.project(params, xs)

    def step(dnew: Carry, dy: Array, of_step: Any) -> tuple[Carry, Any]:
        z, carry = of_step
        _, vjp = jax.vjp(partial(recurrence.step, params), carry, z)
        dentered, dz = vjp((dnew, dy))
        return dentered, (dz, (dnew, dy))

    def after_loop(out: Any) -> tuple[Params, Array]:
        dzs, of_steps = out
        _, vjp = jax.vjp(lambda p: jax.vmap(partial(recurrence.step, p))(entered, zs), params)
        (by_step,) = vjp(of_steps)
        by_projection, dxs = jax.vjp(recurrence.project, params, xs)[1](dzs)
        return jax.tree.map(jnp.add, by_step, by_projection), dxs

    return step, (zs, entered), after_loop


def _backward(
    recurrence: Recurrence,
    reverse: bool,
    length: int,
    params: Params,
    inputs: Inputs,
    ys: Array,
    saved: Saved,
    cotangents: tuple[Carry, Array],
) -> tuple[Params, Array, Carry, Carry]:
    """The cotangents of the parameters, of xs, of the carry and of the fresh carry."""
    output_leaf = _output_leaf(recurrence, params, inputs)
    differentiate = _differentiate_step if recurrence.mix is None else _differentiate_gate
    zeros_like = partial(jax.tree.map, jnp.zeros_like)

    def segment(sums: Any, slices: Any) -> tuple[Any, Array]:
        dcarry, dfresh, dparams = sums
        ((xs, valid, resets), kept, ys, dys), start = slices
        xs, dys = zero_unless(valid, (xs, dys))
        here = inputs._replace(valid=valid, resets=resets)
        entered = _entered(output_leaf, reverse, here, start, kept, ys)
        differentiate_step, of_steps, after_loop = differentiate(recurrence, params, xs, entered)

        def step(sums: Any, slices: Any) -> tuple[Any, Any]:
            dcarry, dfresh = sums
            valid, reset, dy, of_step = slices
            dentered, out = differentiate_step(zero_unless(valid, dcarry), dy, of_step)
            if reset is None:
                dbefore = dentered
            else:
                dbefore = zero_unless(~reset, dentered)
                dfresh = jax.tree.map(jnp.add, dfresh, zero_unless(reset, dentered))
            return (leave(dbefore, dcarry, valid), dfresh), out

        (dcarry, dfresh), outs = lax.scan(
            step, (dcarry, dfresh), (valid, resets, dys, of_steps), reverse=not reverse
        )
        dparams_here, dxs = after_loop(outs)
        dparams = jax.tree.map(jnp.add, dparams, dparams_here)
        return (dcarry, dfresh, dparams), zero_unless(valid, dxs)

    dcarry, dys = cotangents
    (dcarry, dfresh, dparams), dxs = scan_segments(
        segment,
        (dcarry, zeros_like(inputs.fresh_carry), zeros_like(params)),
        (per_step(inputs), saved.entered, ys, dys),
        length,
        not reverse,
        saved.starts,
    )
    return dparams, join_segments(dxs), dcarry, dfresh


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _fused(
    plan: str, recurrence: Recurrence, reverse: bool, length: int, params: Params, inputs: Inputs
) -> tuple[Carry, Array]:
    del plan  # whom an error about derivatives names
    carry, (_, (ys, _)) = _forward(recurrence, reverse, length, params, inputs, keep=lambda _: None)
    return carry, join_segments(ys)


def _fused_forward(
    plan: str, recurrence: Recurrence, reverse: bool, length: int, params: Params, inputs: Inputs
) -> tuple[tuple[Carry, Array], Any]:
    del plan
    output_leaf = _output_leaf(recurrence, params, inputs)

    def keep(entered: Carry) -> list[Array]:
        return [leaf for i, leaf in enumerate(jax.tree.leaves(entered)) if i != output_leaf]

    carry, (starts, out) = _forward(recurrence, reverse, length, params, inputs, keep)
    ys, kept = join_segments(out)
    return (carry, ys), (params, inputs, ys, Saved(starts, kept))


def _fused_backward(
    plan: str,
    recurrence: Recurrence,
    reverse: bool,
    length: int,
    residuals: Any,
    cotangents: Any,
) -> tuple[Params, Inputs]:
    (params, inputs, ys, saved), cotangents = first_order_only(plan, (residuals, cotangents))
    dparams, dxs, dcarry, dfresh = _backward(
        recurrence, reverse, length, params, inputs, ys, saved, cotangents
    )
    return dparams, Inputs(dxs, dcarry, dfresh, valid=None, resets=None)


_fused.defvjp(_fused_forward, _fused_backward)


def run(
    recurrence: Recurrence,
    params: Params,
    inputs: Inputs,
    reverse: bool,
    *,
    plan: str = "fused",
    longest_segment: int = LONGEST_SEGMENT,
) -> tuple[Carry, Array]:
    """Run segment by segment; the gradient of each weight is one product a segment.

    Time is cut into segments of K steps. A segment's inputs are projected in one product; its
    steps then only mix and gate. Backward, the loop carries nothing but the carry's cotangent:

    (∂L/∂z^<t>, ∂L/∂m^<t>, ∂L/∂carry^<t-1>) from ∂L/∂carry^<t> and ∂L/∂y^<t>, then
    ∂L/∂W_h = Σ_t h^<t-1>ᵀ ∂L/∂m^<t>,  ∂L/∂W_x = Σ_t x^<t>ᵀ ∂L/∂z^<t>  as products over K·B rows.

    Args:
        recurrence: What to run.
        params: Its parameters.
        inputs: All arrays besides.
        reverse: Whether to run from the last step to the first.
        plan: The name that an error about derivatives gives.
        longest_segment: The upper bound of K.
    """
    params, xs, carry, fresh = reverse_mode_only(
        plan, (params, inputs.xs, inputs.carry, inputs.fresh_carry)
    )
    inputs = inputs._replace(xs=xs, carry=carry, fresh_carry=fresh)
    length = segment_length(inputs.xs.shape[0], longest_segment)

    def whole_segments(part: Inputs) -> tuple[Carry, Array]:
        return _fused(plan, recurrence, reverse, min(length, part.xs.shape[0]), params, part)

    return in_whole_segments(whole_segments, inputs, length, reverse)


fused = Plan(
    name="fused",
    summary="hoisted projection, hand-written backward pass, weight gradients in large products",
    run=run,
    derivatives=FIRST_ORDER_REVERSE,
    cost="saves the carry alone; a gradient recomputes projections and gates by segments",
)


@lru_cache
def fused_by(steps: int) -> Plan:
    """The fused plan with segments of at most `steps` steps, to tune it to another machine.

    Raises:
        ValueError: `steps` is not an integer or below one.
    """
    at_least_one("steps", steps)
    return replace(fused, name=f"fused_by({steps})", run=partial(run, longest_segment=steps))
