"""Dropout of what the recurrent weights read, by the same mask at every step of a sequence."""

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
    of a GRU, reads it whole. In evaluation use `rnnjax.scan`. A gradient takes a little longer than
    without a mask: `fused` has to compute the recurrent product of each step again.

    Args:
        recurrence: One with a `mix`, whose output h is a leaf of its carry.
        params: Its parameters.
        xs: `(T, *B, I)`.
        mask: `(*B, H)`, the same at all steps, from `rnnjax.layers.dropout.dropout_mask`; or
            anything else that broadcasts to `(T, *B, H)`, such as a mask for each packed sequence
            from `rnnjax.layers.dropout.per_sequence`. It is rounded to the dtype of xs.
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
    masked = _with_mask(recurrence, leaf)
    shapes = _shapes(recurrence, leaf, params)
    features, masked_shape = shapes
    leading = xs.shape[: xs.ndim - len(features)]
    mask = broadcast_mask("mask", mask, (*leading, *masked_shape), xs.dtype)
    return scan(
        masked,
        params,
        join((xs, mask), shapes),
        carry,
        lengths=lengths,
        resets=resets,
        reverse=reverse,
        fresh_carry=fresh_carry,
        accumulation_dtype=accumulation_dtype,
        plan=plan,
    )


def _shapes(
    recurrence: Recurrence, leaf: int, params: Params
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of an input and of a mask."""
    one_row = jax.tree.leaves(carry_shapes(recurrence, params))
    return recurrence.input_shape(params), one_row[leaf].shape


# Kept, so that the same recurrence is the same argument to `jit` again.
@lru_cache
def _with_mask(recurrence: Recurrence, leaf: int) -> Recurrence:
    """The recurrence with inputs joined to a mask of one leaf of the carry."""
    mix, gate = recurrence.mix, recurrence.gate
    if mix is None or gate is None:
        raise ValueError(
            f"recurrence: got {recurrence.name}, which states no `mix`, "
            "expected one that does, such as rnnjax.lstm"
        )

    def project(params: Params, joined: Array) -> tuple[Any, Array]:
        xs, mask = split(joined, _shapes(recurrence, leaf, params))
        return recurrence.project(params, xs), mask

    def step(params: Params, carry: Carry, z_and_mask: tuple[Any, Array]) -> tuple[Carry, Array]:
        z, mask = z_and_mask
        leaves, structure = jax.tree.flatten(carry)
        leaves[leaf] = mask * leaves[leaf]
        return gate(z, mix(params, structure.unflatten(leaves)), carry)

    return replace(
        recurrence,
        name=f"{recurrence.name} with recurrent dropout",
        project=project,
        step=step,
        input_shape=lambda params: (joined_size(_shapes(recurrence, leaf, params)),),
        # `mix` sees the carry alone, and no mask.
        mix=None,
        gate=None,
        # The parameters have been checked as those of the recurrence.
        sizes=None,
        linear=None,
    )
