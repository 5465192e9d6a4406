"""Parallel along time, for recurrences that are linear in their carry."""

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rnnjax.plans.derivatives import reverse_mode_only
from rnnjax.plans.linear_scan import linear_scan, semiring_scan, states_entered_over
from rnnjax.plans.manual_axes import vary_alike
from rnnjax.plans.masking import enter, per_step, select, zero_unless
from rnnjax.plans.protocol import ANY_ORDER_REVERSE, Inputs, Plan, Request, check_size
from rnnjax.plans.segments import (
    in_whole_segments,
    join_segments,
    scan_segments,
)
from rnnjax.recurrences.linear import AFFINE, Stage
from rnnjax.recurrences.protocol import Carry, Params, Recurrence

NUMBERS_A_SEGMENT = 2**19
MOST_STEPS_A_SEGMENT = 256
"""On a CPU, so many numbers of the carry are solved at once, or so many steps: arrays that leave
its caches, and are asked of the system anew each time, cost more than what is done with them."""


def run(
    recurrence: Recurrence,
    params: Params,
    inputs: Inputs,
    reverse: bool,
    *,
    segment_steps: int | None = None,
    chunk_steps: int | None = None,
) -> tuple[Carry, Array]:
    """Solve the stages of the carry one after another, each for all of time.

    Projection, coefficients and output are computed for all steps at once, and differentiated so.
    Between them, a `linear_scan` for each leaf of the carry. On a CPU, where arrays of all of time
    would leave its caches, that is done segment by segment.

    Args:
        recurrence: One that says its linear form.
        params: Its parameters.
        inputs: All arrays besides.
        reverse: Whether to run from the last step to the first.
        segment_steps: How many steps are solved at once; None chooses by platform and size.
        chunk_steps: See `linear_scan`.
    """
    params, xs, carry, fresh_carry = reverse_mode_only(
        "associative", (params, inputs.xs, inputs.carry, inputs.fresh_carry)
    )
    inputs = inputs._replace(xs=xs, carry=carry, fresh_carry=fresh_carry)
    if segment_steps is None:
        # Chunks are asked for to be side by side in all of time.
        time_steps = inputs.xs.shape[0]
        segment_steps = _default_segment_steps(inputs) if chunk_steps is None else time_steps

    # Products are kept for the backward pass; what is elementwise is computed again, segment by
    # segment, which is faster than to keep it.
    @partial(jax.checkpoint, policy=jax.checkpoint_policies.dots_saveable)
    def segment(carry: Carry, slices: Any) -> tuple[Carry, Array]:
        xs, valid, resets = slices
        part = Inputs(xs, carry, fresh_carry, valid, resets)
        return solve_all(recurrence, params, part, reverse, chunk_steps)

    def whole_segments(part: Inputs) -> tuple[Carry, Array]:
        length = min(segment_steps, part.xs.shape[0])
        carry, ys = scan_segments(segment, part.carry, per_step(part), length, reverse)
        return carry, join_segments(ys)

    return in_whole_segments(whole_segments, inputs, segment_steps, reverse)


def _default_segment_steps(inputs: Inputs) -> int:
    time_steps = inputs.xs.shape[0]
    if jax.default_backend() != "cpu":
        return time_steps
    a_step = sum(leaf.size for leaf in jax.tree.leaves(inputs.carry))
    return min(max(1, NUMBERS_A_SEGMENT // max(a_step, 1)), MOST_STEPS_A_SEGMENT, time_steps)


def solve_all(
    recurrence: Recurrence,
    params: Params,
    inputs: Inputs,
    reverse: bool,
    chunk_steps: int | None,
    over: str | None = None,
) -> tuple[Carry, Array]:
    """Solve the stages of the carry for all steps that are given.

    Args:
        recurrence: One that says its linear form.
        params: Its parameters.
        inputs: All arrays besides.
        reverse: Whether to run from the last step to the first.
        chunk_steps: See `linear_scan`.
        over: Inside `jax.shard_map`, the axis of devices that time is sharded over; the carry
            returned is then the one after this shard.
    """
    form = recurrence.linear
    assert form is not None, f"{recurrence.name} is refused before"
    valid, resets = inputs.valid, inputs.resets
    if resets is not None and valid is not None:
        resets = resets & valid  # a reset in padding does nothing
    masks = Masks(valid, resets)
    zs = recurrence.project(params, zero_unless(valid, inputs.xs))
    initial, structure = jax.tree.flatten(inputs.carry)
    fresh = jax.tree.leaves(inputs.fresh_carry)
    time_steps = inputs.xs.shape[0]
    entered: list[Array] = []
    after: list[Array] = []
    for stage, first, new in zip(form.stages, initial, fresh, strict=True):
        decay, drive = stage.coefficients(params, zs, tuple(entered))
        if over is not None:  # what came from a coefficient alone may be alike on all devices
            decay, drive, _ = vary_alike((decay, drive, first))
        states = _solve(
            stage, decay, drive, first, new, masks, time_steps, reverse, chunk_steps, over
        )
        seen = states_entered_over(states, first, reverse, over)
        entered.append(enter(seen, jnp.broadcast_to(new, seen.shape), valid, resets))
        after.append(states)
    last = jax.tree.unflatten(structure, [states[0 if reverse else -1] for states in after])
    # In padding only zeros are read: what a row's frozen carry holds must not reach a product.
    before = jax.tree.unflatten(structure, entered)
    read = form.read(params, zs, before, zero_unless(valid, jax.tree.unflatten(structure, after)))
    return last, zero_unless(valid, read)


class Masks(NamedTuple):
    """`(T, *B)` bool, or None."""

    valid: Array | None
    resets: Array | None


def _solve(
    stage: Stage,
    decay: Array | None,
    drive: Array,
    initial: Array,
    fresh: Array,
    masks: Masks,
    time_steps: int,
    reverse: bool,
    chunk_steps: int | None,
    over: str | None,
) -> Array:
    """One leaf of the carry after each step, `(T, *B, ...)`."""
    semiring = stage.semiring
    valid, blocked = masks

    def for_all_time(coefficient: Array) -> Array:
        return jnp.broadcast_to(coefficient, (time_steps, *initial.shape)).astype(initial.dtype)

    drive = for_all_time(drive)
    if decay is None and valid is None:
        return drive
    if decay is None:
        factor, blocked = jnp.zeros_like(drive), valid
    else:
        factor = for_all_time(decay)
        if blocked is not None:
            drive = select(blocked, semiring.apply(for_all_time(fresh), factor, drive), drive)
    if valid is not None:
        factor = select(valid, factor, jnp.full_like(factor, semiring.one))
        drive = select(valid, drive, jnp.full_like(drive, semiring.zero))
    solve = linear_scan if semiring is AFFINE else partial(semiring_scan, semiring)
    return solve(
        factor, drive, initial, blocked, reverse=reverse, chunk_steps=chunk_steps, over=over
    )


def refusal(request: Request) -> str | None:
    """Only what is linear in its carry can be solved without a loop."""
    if request.recurrence.linear is None:
        return f"{request.recurrence.name} is not linear in its carry"
    return None


associative = Plan(
    name="associative",
    summary="for recurrences linear in the carry: all of time at once, by chunked parallel scans",
    run=run,
    derivatives=ANY_ORDER_REVERSE,
    cost="a gradient keeps the products of the projection and of the output, and the outputs",
    refusal=refusal,
)


@lru_cache
def associative_by(chunk_steps: int) -> Plan:
    """The associative plan with chunks of `chunk_steps` steps; 1 is the textbook scan of O(log T).

    Raises:
        ValueError: `chunk_steps` is not an integer or below one.
    """
    check_size("chunk_steps", chunk_steps)
    return replace(
        associative,
        name=f"associative_by({chunk_steps})",
        summary=f"a parallel scan over chunks of {chunk_steps} steps",
        run=partial(run, chunk_steps=chunk_steps),
    )
