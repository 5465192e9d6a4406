"""Parallel along time, for recurrences that are linear in their carry."""

from dataclasses import replace
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rnnjax.plans.derivatives import reverse_mode_only
from rnnjax.plans.linear_scan import linear_scan, semiring_scan, states_entered
from rnnjax.plans.masking import enter, select, zero_unless
from rnnjax.plans.protocol import ANY_ORDER_REVERSE, Inputs, Plan, Request, check_size
from rnnjax.recurrences.linear import AFFINE, Stage
from rnnjax.recurrences.protocol import Carry, Params, Recurrence


def run(
    recurrence: Recurrence,
    params: Params,
    inputs: Inputs,
    reverse: bool,
    *,
    chunk_steps: int | None = None,
) -> tuple[Carry, Array]:
    """Solve the stages of the carry one after another, each for all of time.

    Projection, coefficients and output are computed for all steps at once, and differentiated so.
    Between them, a `linear_scan` for each leaf of the carry.

    Args:
        recurrence: One that says its linear form.
        params: Its parameters.
        inputs: All arrays besides.
        reverse: Whether to run from the last step to the first.
        chunk_steps: See `linear_scan`.
    """
    form = recurrence.linear
    if form is None:
        raise ValueError(f"recurrence: got {recurrence.name}, expected one linear in its carry")
    params, xs, carry, fresh_carry = reverse_mode_only(
        "associative", (params, inputs.xs, inputs.carry, inputs.fresh_carry)
    )
    valid, resets = inputs.valid, inputs.resets
    if resets is not None and valid is not None:
        resets = resets & valid  # a reset in padding does nothing
    masks = Masks(valid, resets)
    zs = recurrence.project(params, zero_unless(valid, xs))
    initial, structure = jax.tree.flatten(carry)
    fresh = jax.tree.leaves(fresh_carry)
    entered: list[Array] = []
    after: list[Array] = []
    for stage, first, new in zip(form.stages, initial, fresh, strict=True):
        decay, drive = stage.coefficients(params, zs, tuple(entered))
        states = _solve(stage, decay, drive, first, new, masks, xs.shape[0], reverse, chunk_steps)
        seen = states_entered(states, first, reverse)
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
    return solve(factor, drive, initial, blocked, reverse=reverse, chunk_steps=chunk_steps)


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
    cost="a gradient keeps what the projection and the output of all steps need, and the states",
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
