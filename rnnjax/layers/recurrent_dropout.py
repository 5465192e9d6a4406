"""Dropout of what the recurrent weights read, by the same mask at every step of a sequence."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from rnnjax.layers.step_inputs import (
    broadcast_mask,
    carry_shapes,
    join,
    joined_size,
    output_leaf,
    split,
)
from rnnjax.plans.protocol import Plan
from rnnjax.precision import cast_leaves
from rnnjax.recurrences.protocol import Carry, Params, Recurrence
from rnnjax.scanning import explain_plan, scan


def scan_with_recurrent_dropout(
    recurrence: Recurrence,
    params: Params,
    xs: ArrayLike,
    mask: ArrayLike,
    carry: Carry | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
    fresh_carry: Carry | None = None,
    accumulation_dtype: DTypeLike | None = None,
    plan: str | Plan = "auto",
) -> tuple[Carry, Array]:
    """Run a recurrence whose recurrent weights see a part of the units only.

    (carry^<t>, y^<t>) = gate(project(x^<t>), mix(carry^<t-1> with mask ⊙ h^<t-1>), carry^<t-1>)

    Only the product is given the masked h; what else a step does with its carry, such as the update
    of a GRU, reads it whole. In evaluation use `rnnjax.scan`.

    Args:
        recurrence: One with a `mix`, whose output h is a leaf of its carry.
        params: Its parameters.
        xs: `(T, *B, I)`.
        mask: `(*B, H)`, the same at all steps, from `rnnjax.layers.dropout.dropout_mask`; or
            `(T, *B, H)`, such as a mask for each packed sequence from
            `rnnjax.layers.dropout.per_sequence`: then the backward pass of `fused` computes the
            recurrent product of each step again. Axes of length 1 are broadcast, missing ones in
            front too. It is rounded to the dtype of xs.
        carry: As in `rnnjax.scan`, and so all that follow.
        lengths: `(*B,)` integer.
        resets: `(T, *B)` bool.
        reverse: Run each row from its last valid element to its first.
        fresh_carry: Leaves `(*B, H)`: what a reset puts in place.
        accumulation_dtype: In which products are summed.
        plan: How to run it.

    Returns:
        carry: Leaves `(*B, H)`, not masked.
        ys: `(T, *B, H)`, not masked.

    Raises:
        TypeError: As `rnnjax.scan`, or the mask is not floating.
        ValueError: As `rnnjax.scan`, or the mask does not broadcast to `(T, *B, H)`, or the
            recurrence has no `mix` or an output that is not a leaf of its carry.
        NotImplementedError: As `rnnjax.scan`.

    References:
        Gal and Ghahramani (2016), arXiv:1512.05287, section 4.1, in the form with one mask for all
        gates. Moon et al. (2015), RNNDrop, and Semeniuta et al. (2016), arXiv:1603.05118, drop
        what goes into the cell instead.
    """
    # Values of lengths are known only out here; all else is checked again while tracing.
    explain_plan(
        recurrence,
        params,
        xs,
        carry,
        lengths=lengths,
        resets=resets,
        reverse=reverse,
        fresh_carry=fresh_carry,
        accumulation_dtype=accumulation_dtype,
        plan=plan,
    )
    return _scan(
        recurrence,
        bool(reverse),
        None if accumulation_dtype is None else jnp.dtype(accumulation_dtype),
        plan,
        params,
        jnp.asarray(xs),
        jnp.asarray(mask),
        carry,
        fresh_carry,
        None if lengths is None else jnp.asarray(lengths),
        None if resets is None else jnp.asarray(resets),
    )


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _scan(
    recurrence: Recurrence,
    reverse: bool,
    accumulation_dtype: Any,
    plan: str | Plan,
    params: Params,
    xs: Array,
    mask: Array,
    carry: Carry | None,
    fresh_carry: Carry | None,
    lengths: Array | None,
    resets: Array | None,
) -> tuple[Carry, Array]:
    leaf = output_leaf(recurrence, params)
    shapes = features, masked = _shapes(recurrence, leaf, params)
    whole = (*xs.shape[: xs.ndim - len(features)], *masked)
    mask_of_all_steps = mask.ndim < len(whole)
    mask = broadcast_mask("mask", mask, whole[1:] if mask_of_all_steps else whole, xs.dtype)
    scan_on = partial(
        scan,
        lengths=lengths,
        resets=resets,
        reverse=reverse,
        accumulation_dtype=accumulation_dtype,
        plan=plan,
    )
    if not mask_of_all_steps:
        reading_masks = _with_a_mask_each_step(recurrence, leaf)
        joined = join((xs, mask), shapes)
        return scan_on(reading_masks, params, joined, carry, fresh_carry=fresh_carry)

    initial = recurrence.initial_carry(params, whole[1 : len(whole) - len(masked)])
    before, fresh = (initial if given is None else given for given in (carry, fresh_carry))
    keeping_mask = _with_one_mask(recurrence, leaf)
    (after, _), ys = scan_on(keeping_mask, params, xs, (before, mask), fresh_carry=(fresh, mask))
    return cast_leaves(after, xs.dtype) if carry is None else after, ys


def _shapes(
    recurrence: Recurrence, leaf: int, params: Params
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of an input and of a mask."""
    one_row = jax.tree.leaves(carry_shapes(recurrence, params))
    return recurrence.input_shape(params), one_row[leaf].shape


def _masked(carry: Carry, leaf: int, mask: Array) -> Carry:
    leaves, structure = jax.tree.flatten(carry)
    leaves[leaf] = mask * leaves[leaf]
    return structure.unflatten(leaves)


def _mix_and_gate(recurrence: Recurrence) -> tuple[Callable[..., Any], Callable[..., Any]]:
    if recurrence.mix is None or recurrence.gate is None:
        raise ValueError(
            f"recurrence: got {recurrence.name}, which states no `mix`, "
            "expected one that does, such as rnnjax.lstm"
        )
    return recurrence.mix, recurrence.gate


# Both are kept, so that the same recurrence is the same argument to `jit` again. Neither has
# `sizes`: the parameters have been checked as those of the recurrence.
@lru_cache
def _with_one_mask(recurrence: Recurrence, leaf: int) -> Recurrence:
    """The recurrence with a mask beside its carry, the only place where `mix` can find one."""
    inner_mix, inner_gate = _mix_and_gate(recurrence)

    def initial_carry(params: Params, batch_shape: tuple[int, ...]) -> tuple[Carry, Array]:
        carry = recurrence.initial_carry(params, batch_shape)
        return carry, jnp.ones_like(jax.tree.leaves(carry)[leaf])

    def mix(params: Params, carry_and_mask: tuple[Carry, Array]) -> Any:
        carry, mask = carry_and_mask
        return inner_mix(params, _masked(carry, leaf, mask))

    def gate(
        z: Any, m: Any, carry_and_mask: tuple[Carry, Array]
    ) -> tuple[tuple[Carry, Array], Array]:
        carry, mask = carry_and_mask
        carry, y = inner_gate(z, m, carry)
        return (carry, mask), y

    def step(
        params: Params, carry: tuple[Carry, Array], z: Any
    ) -> tuple[tuple[Carry, Array], Array]:
        return gate(z, mix(params, carry), carry)

    return replace(
        recurrence,
        name=f"{recurrence.name} with recurrent dropout",
        initial_carry=initial_carry,
        step=step,
        mix=mix,
        gate=gate,
        sizes=None,
        linear=None,
    )


@lru_cache
def _with_a_mask_each_step(recurrence: Recurrence, leaf: int) -> Recurrence:
    """The recurrence with inputs joined to masks; without `mix`, which could not see them."""
    mix, gate = _mix_and_gate(recurrence)

    def project(params: Params, joined: Array) -> tuple[Any, Array]:
        xs, mask = split(joined, _shapes(recurrence, leaf, params))
        return recurrence.project(params, xs), mask

    def step(params: Params, carry: Carry, z_and_mask: tuple[Any, Array]) -> tuple[Carry, Array]:
        z, mask = z_and_mask
        return gate(z, mix(params, _masked(carry, leaf, mask)), carry)

    return replace(
        recurrence,
        name=f"{recurrence.name} with recurrent dropout",
        project=project,
        step=step,
        input_shape=lambda params: (joined_size(_shapes(recurrence, leaf, params)),),
        mix=None,
        gate=None,
        sizes=None,
        linear=None,
    )
