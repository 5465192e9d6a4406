"""The projection hoisted into larger products, and a backward pass written by hand."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from rnnjax.plans.aliases import first_equal_output, used_only_as_sum
from rnnjax.plans.derivatives import first_order_only, reverse_mode_only
from rnnjax.plans.masking import enter, leave, per_step, select, zero_unless
from rnnjax.plans.protocol import FIRST_ORDER_REVERSE, Inputs, Plan, check_size
from rnnjax.plans.segments import (
    in_whole_segments,
    join_segments,
    scan_segments,
    states_entered,
)
from rnnjax.recurrences.protocol import Carry, Params, Recurrence

STEPS_A_BLOCK = 4
"""On a CPU, whose compiler does not vectorise elementwise work on a slice at a place known only
when running: the steps of a short block are written out, and read their projections where the
product left them. Elsewhere a block is the whole sequence."""

STEPS_A_BLOCK_LINEAR = 64
"""The same where all products leave the loop: what is left of a step needs none of that, and a
longer block makes the products larger."""

STEPS_WRITTEN_OUT = 8
"""Longer blocks are loops themselves."""

STEPS_A_PRODUCT = 64
"""How many steps at most share one product for the weights' gradient, where a divisor of T allows:
this bounds what the backward pass holds besides what was saved."""


class Saved(NamedTuple):
    """What the forward pass keeps for the backward one besides its own inputs and outputs.

    In numbers a row and step: of an LSTM 5 H (the sums before its gates, and c; h is the output),
    of an Elman network H, of a minimal GRU 2 H, of a GRU 6 H (its n needs both summands), of a
    recurrence without `mix` its projection. Gates are computed anew from these.
    """

    entered: list[Array]  # (T, *B, ...): the leaves of the carry that each step saw, less one
    prepared: Any  # leaves (T, *B, ...): see `Form`


class Form(NamedTuple):
    """A step in two parts, and the derivative of the two.

    (carry^<t>, y^<t>) = finish(params, prepare(params, z^<t>, carry^<t-1>), carry^<t-1>)

    Attributes:
        prepare: `(params, z, carry) -> prepared`; what is saved.
        finish: `(params, prepared, carry) -> (carry, y)`.
        back: In the backward loop, `(params, prepared, carry, (dcarry, dy)) -> (dcarry, out)`.
        products: After it, for all rows `(T·B, ...)` of all steps at once,
            `(params, xs, prepared, carry, out) -> (dparams, dxs)`.
    """

    prepare: Callable[[Params, Any, Carry], Any]
    finish: Callable[[Params, Any, Carry], tuple[Carry, Array]]
    back: Callable[[Params, Any, Carry, tuple[Carry, Array]], tuple[Carry, Any]]
    products: Callable[[Params, Array, Any, Carry, Any], tuple[Params, Array]]


def _form(recurrence: Recurrence, params: Params, inputs: Inputs) -> Form:
    """The best form of a step that the recurrence allows."""
    mix, gate = recurrence.mix, recurrence.gate
    if mix is None or gate is None:
        return _form_of_step(recurrence)
    z = jax.eval_shape(recurrence.project, params, inputs.xs[0])
    m = jax.eval_shape(mix, params, inputs.carry)
    if not used_only_as_sum(gate, z, m, inputs.carry):
        return _form_of_gate(
            recurrence.project,
            mix,
            prepare=lambda params, z, carry: (z, mix(params, carry)),
            gate=lambda both, carry: gate(both[0], both[1], carry),
            summands=lambda dboth: dboth,
        )
    return _form_of_gate(
        recurrence.project,
        mix,
        prepare=lambda params, z, carry: jax.tree.map(jnp.add, z, mix(params, carry)),
        gate=lambda total, carry: gate(total, jax.tree.map(jnp.zeros_like, total), carry),
        summands=lambda dsum: (dsum, dsum),
    )


def _form_of_gate(
    project: Callable[[Params, Array], Any],
    mix: Callable[[Params, Carry], Any],
    prepare: Callable[[Params, Any, Carry], Any],
    gate: Callable[[Any, Carry], tuple[Carry, Array]],
    summands: Callable[[Any], tuple[Any, Any]],
) -> Form:
    """Where the recurrent weights are used in `mix` alone: the gate is differentiated in the loop.

    ∂L/∂W_h = Σ_t h^<t-1>ᵀ ∂L/∂m^<t>,  ∂L/∂W_x = Σ_t x^<t>ᵀ ∂L/∂z^<t>  as products of T·B rows.
    """

    def back(
        params: Params, prepared: Any, carry: Carry, cotangents: tuple[Carry, Array]
    ) -> tuple[Carry, Any]:
        dprepared, dcarry = jax.vjp(gate, prepared, carry)[1](cotangents)
        _, dm = summands(dprepared)
        (dmixed,) = jax.vjp(partial(mix, params), carry)[1](dm)
        return jax.tree.map(jnp.add, dcarry, dmixed), dprepared

    def products(
        params: Params, xs: Array, prepared: Any, carry: Carry, dprepared: Any
    ) -> tuple[Params, Array]:
        del prepared
        _, vjp = jax.vjp(lambda p, x: (project(p, x), mix(p, carry)), params, xs)
        return vjp(summands(dprepared))

    def finish(params: Params, prepared: Any, carry: Carry) -> tuple[Carry, Array]:
        del params
        return gate(prepared, carry)

    return Form(prepare, finish, back, products)


def _form_of_step(recurrence: Recurrence) -> Form:
    """For any recurrence: by carry and z in the loop, by the parameters over all time after it."""

    def back(
        params: Params, z: Any, carry: Carry, cotangents: tuple[Carry, Array]
    ) -> tuple[Carry, Any]:
        dcarry, dz = jax.vjp(partial(recurrence.step, params), carry, z)[1](cotangents)
        return dcarry, (dz, cotangents)

    def products(
        params: Params, xs: Array, zs: Any, carry: Carry, out: Any
    ) -> tuple[Params, Array]:
        dzs, cotangents = out
        _, vjp = jax.vjp(lambda p: recurrence.step(p, carry, zs), params)
        (by_step,) = vjp(cotangents)
        by_projection, dxs = jax.vjp(recurrence.project, params, xs)[1](dzs)
        return jax.tree.map(jnp.add, by_step, by_projection), dxs

    return Form(
        lambda params, z, carry: z,  # noqa: ARG005
        lambda params, z, carry: recurrence.step(params, carry, z),
        back,
        products,
    )


def _output_leaf(recurrence: Recurrence, params: Params, inputs: Inputs) -> int | None:
    """Which leaf of the new carry the output is, if any: that one need not be saved."""
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
    block_length: int,
    params: Params,
    inputs: Inputs,
    keep: Callable[[Carry, Any], Any],
) -> tuple[Carry, tuple[Array, Any]]:
    """The last carry, and `(ys, keep(the carry that a step saw, what was prepared))` over time."""
    form = _form(recurrence, params, inputs)

    def step(carry: Carry, slices: Any) -> tuple[Carry, Any]:
        z, valid, reset = slices
        entered = enter(carry, inputs.fresh_carry, valid, reset)
        prepared = form.prepare(params, z, entered)
        new, y = form.finish(params, prepared, entered)
        return leave(new, carry, valid), (zero_unless(valid, y), keep(entered, prepared))

    def block(carry: Carry, slices: Any) -> tuple[Carry, Any]:
        xs, valid, resets = slices
        along_time = (recurrence.project(params, zero_unless(valid, xs)), valid, resets)
        if block_length > STEPS_WRITTEN_OUT:
            return lax.scan(step, carry, along_time, reverse=reverse)
        outs: list[Any] = [None] * block_length
        for t in reversed(range(block_length)) if reverse else range(block_length):
            carry, outs[t] = step(carry, jax.tree.map(lambda a, t=t: a[t], along_time))
        return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outs)

    carry, out = scan_segments(block, inputs.carry, per_step(inputs), block_length, reverse)
    return carry, join_segments(out)


def _entered(
    output_leaf: int | None, reverse: bool, inputs: Inputs, kept: list[Array], ys: Array
) -> Carry:
    """The carry as each step saw it, leaves `(T, *B, ...)`."""
    first_leaves, structure = jax.tree.flatten(inputs.carry)
    if output_leaf is None:
        return jax.tree.unflatten(structure, kept)
    first = first_leaves[output_leaf]
    # Padding has output zero but a frozen carry. A valid step sees only one such carry, the very
    # first, for in the order of running a row's padding comes all before or all after its elements.
    after = ys
    if inputs.valid is not None:
        after = select(inputs.valid, ys, jnp.broadcast_to(first, ys.shape))
    before = states_entered(after, first, reverse)
    fresh = jax.tree.leaves(inputs.fresh_carry)[output_leaf]
    before = enter(before, jnp.broadcast_to(fresh, before.shape), inputs.valid, inputs.resets)
    return jax.tree.unflatten(structure, [*kept[:output_leaf], before, *kept[output_leaf:]])


def _as_rows(leading_axes: int, tree: Any) -> Any:
    """Time and batch axes as one, leaf by leaf."""
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[leading_axes:]), tree)


def steps_a_product(time_steps: int) -> int:
    """How many steps share one product for the weights' gradient: a divisor of T."""
    for steps in range(STEPS_A_PRODUCT, STEPS_A_PRODUCT // 2 - 1, -1):
        if time_steps % steps == 0:
            return steps
    return time_steps


def _backward(
    recurrence: Recurrence,
    reverse: bool,
    params: Params,
    inputs: Inputs,
    ys: Array,
    saved: Saved,
    cotangents: tuple[Carry, Array],
) -> tuple[Params, Array, Carry, Carry]:
    """The cotangents of the parameters, of xs, of the carry and of the fresh carry."""
    form = _form(recurrence, params, inputs)
    output_leaf = _output_leaf(recurrence, params, inputs)
    entered = _entered(output_leaf, reverse, inputs, saved.entered, ys)
    zeros_like = partial(jax.tree.map, jnp.zeros_like)
    leading_axes = inputs.xs.ndim - len(recurrence.input_shape(params))

    def step(sums: Any, slices: Any) -> tuple[Any, Any]:
        dcarry, dfresh = sums
        valid, reset, dy, prepared, entered = slices
        dnew = zero_unless(valid, (dcarry, dy))
        dbefore, out = form.back(params, prepared, entered, dnew)
        if reset is not None:
            dfresh = jax.tree.map(jnp.add, dfresh, zero_unless(reset, dbefore))
            dbefore = zero_unless(~reset, dbefore)
        return (leave(dbefore, dcarry, valid), dfresh), out

    def segment(sums: Any, slices: Any) -> tuple[Any, Array]:
        dcarry, dfresh, dparams = sums
        (xs, valid, resets), dys, prepared, entered = slices
        (dcarry, dfresh), outs = lax.scan(
            step, (dcarry, dfresh), (valid, resets, dys, prepared, entered), reverse=not reverse
        )
        # Rows, not axes of time and batch: XLA's CPU compiler would transpose the latter by a copy.
        rows = _as_rows(leading_axes, (zero_unless(valid, xs), prepared, entered, outs))
        here, dxs = form.products(params, *rows)
        dxs = zero_unless(valid, dxs.reshape(xs.shape))
        return (dcarry, dfresh, jax.tree.map(jnp.add, dparams, here)), dxs

    dcarry, dys = cotangents
    dfresh = zeros_like(inputs.fresh_carry)
    (dcarry, dfresh_by_resets, dparams), dxs = scan_segments(
        segment,
        # Without resets the sum would be a passenger of the loop, which costs time.
        (dcarry, None if inputs.resets is None else dfresh, zeros_like(params)),
        (per_step(inputs), dys, saved.prepared, entered),
        steps_a_product(inputs.xs.shape[0]),
        not reverse,
    )
    if dfresh_by_resets is None:
        dfresh_by_resets = dfresh
    return dparams, join_segments(dxs), dcarry, dfresh_by_resets


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _fused(
    plan: str,
    recurrence: Recurrence,
    reverse: bool,
    block_length: int,
    params: Params,
    inputs: Inputs,
) -> tuple[Carry, Array]:
    del plan  # whom an error about derivatives names
    carry, (ys, _) = _forward(
        recurrence, reverse, block_length, params, inputs, keep=lambda *_: None
    )
    return carry, ys


def _fused_forward(
    plan: str,
    recurrence: Recurrence,
    reverse: bool,
    block_length: int,
    params: Params,
    inputs: Inputs,
) -> tuple[tuple[Carry, Array], Any]:
    del plan
    output_leaf = _output_leaf(recurrence, params, inputs)

    def keep(entered: Carry, prepared: Any) -> Saved:
        leaves = jax.tree.leaves(entered)
        return Saved([leaf for i, leaf in enumerate(leaves) if i != output_leaf], prepared)

    carry, (ys, saved) = _forward(recurrence, reverse, block_length, params, inputs, keep)
    return (carry, ys), (params, inputs, ys, saved)


def _fused_backward(
    plan: str,
    recurrence: Recurrence,
    reverse: bool,
    block_length: int,
    residuals: Any,
    cotangents: Any,
) -> tuple[Params, Inputs]:
    del block_length
    (params, inputs, ys, saved), cotangents = first_order_only(plan, (residuals, cotangents))
    dparams, dxs, dcarry, dfresh = _backward(
        recurrence, reverse, params, inputs, ys, saved, cotangents
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
    steps_a_block: int | None = None,
) -> tuple[Carry, Array]:
    """Project a block of steps in one product; backward, sum a weight's gradient in one product.

    Forward, a block's inputs are projected together and its steps then only mix and gate. Backward,
    the loop carries nothing but the carry's cotangent and writes down those of z and m; the
    gradients of the weights are products over all steps after it, not T sums of small ones.

    Args:
        recurrence: What to run.
        params: Its parameters.
        inputs: All arrays besides.
        reverse: Whether to run from the last step to the first.
        plan: The name that an error about derivatives gives.
        steps_a_block: How many steps are projected together; None is `STEPS_A_BLOCK` on a CPU
            (`STEPS_A_BLOCK_LINEAR` of a recurrence linear in its carry) and all of them elsewhere.
    """
    params, xs, carry, fresh = reverse_mode_only(
        plan, (params, inputs.xs, inputs.carry, inputs.fresh_carry)
    )
    inputs = inputs._replace(xs=xs, carry=carry, fresh_carry=fresh)
    time_steps = inputs.xs.shape[0]
    if steps_a_block is None and jax.default_backend() != "cpu":
        steps_a_block = time_steps
    elif steps_a_block is None:
        steps_a_block = STEPS_A_BLOCK if recurrence.linear is None else STEPS_A_BLOCK_LINEAR
    length = min(steps_a_block, time_steps)

    def whole_blocks(part: Inputs) -> tuple[Carry, Array]:
        return _fused(plan, recurrence, reverse, min(length, part.xs.shape[0]), params, part)

    return in_whole_segments(whole_blocks, inputs, length, reverse)


fused = Plan(
    name="fused",
    summary="hoisted projection, hand-written backward pass, weight gradients in large products",
    run=run,
    derivatives=FIRST_ORDER_REVERSE,
    cost="a gradient keeps what goes into the gates of each step, and one product a weight",
)


@lru_cache
def fused_by(steps: int) -> Plan:
    """The fused plan with `steps` steps projected together, to tune it to another machine.

    Raises:
        ValueError: `steps` is not an integer or below one.
    """
    check_size("steps", steps)
    return replace(fused, name=f"fused_by({steps})", run=partial(run, steps_a_block=steps))
