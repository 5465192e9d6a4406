"""Zoneout: units of the carry that keep their previous value for a step."""

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from rnnjax.layers.checks import check_floating
from rnnjax.layers.dropout import bernoulli, check_rate
from rnnjax.layers.step_inputs import (
    broadcast_mask,
    carry_shapes,
    join,
    joined_size,
    output_leaf,
    split,
)
from rnnjax.plans.protocol import Plan, check_size
from rnnjax.recurrences.linear import AFFINE, LinearForm, Stage
from rnnjax.recurrences.protocol import Carry, Params, Recurrence
from rnnjax.scanning import explain_plan, one_step, scan


def zoneout_masks(
    key: Array, rates: Any, time_steps: int, carry: Carry, *, dtype: DTypeLike = jnp.float32
) -> Any:
    """Draw for each step which units keep their previous value.

    Args:
        key: A random key.
        rates: The probability of it for each leaf of the carry, 0 ≤ rate < 1; of an LSTM the
            pair for h and c.
        time_steps: T.
        carry: Leaves `(*B, H)`, read for their shapes alone; `recurrence.initial_carry` does.
        dtype: Floating.

    Returns:
        A mask for each leaf of the carry, `(T, *B, H)`, 1 where the unit keeps its value, else 0.

    Raises:
        ValueError: A rate is outside 0 ≤ rate < 1, the rates are not one for each leaf of the
            carry, or `time_steps` is not an integer or below one.
        TypeError: A rate is not a number, or the dtype is not floating.
    """
    check_size("time_steps", time_steps)
    check_floating("dtype", dtype)
    leaves, structure = jax.tree.flatten(carry)
    masks: list[Array] = []
    rates = _for_each_leaf("rates", rates, structure)
    for leaf_key, rate, leaf in zip(jax.random.split(key, len(leaves)), rates, leaves, strict=True):
        check_rate("rate", rate)
        masks.append(bernoulli(leaf_key, rate, (time_steps, *leaf.shape)).astype(dtype))
    return structure.unflatten(masks)


def scan_with_zoneout(
    recurrence: Recurrence,
    params: Params,
    xs: ArrayLike,
    masks: Any,
    carry: Carry | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
    fresh_carry: Carry | None = None,
    accumulation_dtype: DTypeLike | None = None,
    plan: str | Plan = "auto",
) -> tuple[Carry, Array]:
    """Run a recurrence in which some units keep their previous value at each step.

    new = step(carry^<t-1>, project(x^<t>)),  carry^<t> = d^<t> ⊙ carry^<t-1> + (1 − d^<t>) ⊙ new,
    y^<t> = the h of carry^<t>, for each leaf of the carry with a mask d of its own.

    In evaluation give the rates themselves for masks: each unit then takes its expectation. A
    model is streamed so by `step_with_zoneout`.

    Args:
        recurrence: One whose output h is a leaf of its carry.
        params: Its parameters.
        xs: `(T, *B, I)`.
        masks: For each leaf of the carry what broadcasts to `(T, *B, H)`, within 0 … 1: from
            `zoneout_masks`, or in evaluation the rates. They are rounded to the dtype of xs.
        carry: As in `rnnjax.scan`, and so all that follow.
        lengths: `(*B,)` integer.
        resets: `(T, *B)` bool; a unit that keeps its value at a reset keeps the fresh one.
        reverse: Run each row from its last valid element to its first.
        fresh_carry: Leaves `(*B, H)`: what a reset puts in place.
        accumulation_dtype: In which products are summed.
        plan: How to run it.

    Returns:
        carry: Leaves `(*B, H)`.
        ys: `(T, *B, H)`.

    Raises:
        TypeError: As `rnnjax.scan`, or a mask is not floating.
        ValueError: As `rnnjax.scan`, or a mask does not broadcast to `(T, *B, H)`, the masks are
            not one for each leaf of the carry, or the output is not a leaf of the carry.
        NotImplementedError: As `rnnjax.scan`.

    References:
        Krueger et al. (2017), arXiv:1606.01305, section 3.
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
        jax.tree.map(jnp.asarray, masks),
        carry,
        fresh_carry,
        None if lengths is None else jnp.asarray(lengths),
        None if resets is None else jnp.asarray(resets),
    )


def step_with_zoneout(
    recurrence: Recurrence, params: Params, carry: Carry, x: Array, masks: Any
) -> tuple[Carry, Array]:
    """One step of `scan_with_zoneout`, for streaming and sampling.

    Args:
        recurrence: One whose output h is a leaf of its carry.
        params: Its parameters.
        carry: Leaves `(*B, H)`.
        x: `(*B, I)`.
        masks: For each leaf of the carry what broadcasts to `(*B, H)`; in evaluation the rates.

    Returns:
        carry: Leaves `(*B, H)`.
        y: `(*B, H)`.

    Raises:
        TypeError: A mask is not floating.
        ValueError: A mask does not broadcast to `(*B, H)`, the masks are not one for each leaf of
            the carry, or the output is not a leaf of the carry.
    """
    zoned = _with_masks(recurrence, output_leaf(recurrence, params))
    masks = jax.tree.map(jnp.asarray, masks)
    return one_step(zoned, params, carry, _join(recurrence, params, x, masks))


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _scan(
    recurrence: Recurrence,
    reverse: bool,
    accumulation_dtype: Any,
    plan: str | Plan,
    params: Params,
    xs: Array,
    masks: Any,
    carry: Carry | None,
    fresh_carry: Carry | None,
    lengths: Array | None,
    resets: Array | None,
) -> tuple[Carry, Array]:
    return scan(
        _with_masks(recurrence, output_leaf(recurrence, params)),
        params,
        _join(recurrence, params, xs, masks),
        carry,
        lengths=lengths,
        resets=resets,
        reverse=reverse,
        fresh_carry=fresh_carry,
        accumulation_dtype=accumulation_dtype,
        plan=plan,
    )


def _for_each_leaf(name: str, tree: Any, structure: Any) -> list[Any]:
    leaves, own = jax.tree.flatten(tree)
    if own != structure:
        raise ValueError(f"{name}: got {own}, expected {structure}, one for each leaf of the carry")
    return leaves


def _shapes(recurrence: Recurrence, params: Params) -> list[tuple[int, ...]]:
    """Of an input and of each leaf of the carry."""
    one_row = jax.tree.leaves(carry_shapes(recurrence, params))
    return [recurrence.input_shape(params), *(leaf.shape for leaf in one_row)]


def _join(recurrence: Recurrence, params: Params, xs: Array, masks: Any) -> Array:
    structure = jax.tree.structure(carry_shapes(recurrence, params))
    leaves = _for_each_leaf("masks", masks, structure)
    shapes = features, *of_leaves = _shapes(recurrence, params)
    leading = xs.shape[: xs.ndim - len(features)]
    whole = [
        broadcast_mask(f"masks[{i}]", mask, (*leading, *shape), xs.dtype)
        for i, (mask, shape) in enumerate(zip(leaves, of_leaves, strict=True))
    ]
    return join((xs, *whole), shapes)


# Kept, so that the same recurrence is the same argument to `jit` again.
@lru_cache
def _with_masks(recurrence: Recurrence, leaf: int) -> Recurrence:
    """The recurrence with inputs joined to masks of the carry, one leaf of which is the output."""
    inner_mix, inner_gate = recurrence.mix, recurrence.gate

    def project(params: Params, joined: Array) -> tuple[Any, list[Array]]:
        xs, *masks = split(joined, _shapes(recurrence, params))
        return recurrence.project(params, xs), masks

    def blend(masks: list[Array], old: Carry, new: Carry) -> tuple[Carry, Array]:
        before, structure = jax.tree.flatten(old)
        after = [
            d * kept + (1 - d) * changed
            for d, kept, changed in zip(masks, before, jax.tree.leaves(new), strict=True)
        ]
        return structure.unflatten(after), after[leaf]

    def step(params: Params, carry: Carry, z_and_masks: Any) -> tuple[Carry, Array]:
        z, masks = z_and_masks
        return blend(masks, carry, recurrence.step(params, carry, z)[0])

    # The zeros make a sum of all that goes into the gate, and a plan need only save the sum.
    def mix(params: Params, carry: Carry) -> tuple[Any, list[Array]]:
        assert inner_mix is not None
        return inner_mix(params, carry), [jnp.zeros_like(part) for part in jax.tree.leaves(carry)]

    def gate(z_and_masks: Any, m_and_zeros: Any, carry: Carry) -> tuple[Carry, Array]:
        assert inner_gate is not None
        (z, masks), (m, zeros) = z_and_masks, m_and_zeros
        masks = [mask + zero for mask, zero in zip(masks, zeros, strict=True)]
        return blend(masks, carry, inner_gate(z, m, carry)[0])

    return replace(
        recurrence,
        name=f"{recurrence.name} with zoneout",
        project=project,
        step=step,
        input_shape=lambda params: (joined_size(_shapes(recurrence, params)),),
        mix=None if inner_mix is None else mix,
        gate=None if inner_gate is None else gate,
        # The parameters have been checked as those of the recurrence.
        sizes=None,
        linear=_linear_form(recurrence, leaf),
    )


def _linear_form(recurrence: Recurrence, leaf: int) -> LinearForm | None:
    """With masks: decay d + (1 − d) decay and drive (1 − d) drive, where ⊕ is addition."""
    form = recurrence.linear
    if form is None or any(stage.semiring is not AFFINE for stage in form.stages):
        return None

    def with_mask(i: int, stage: Stage) -> Stage:
        def coefficients(
            params: Params, z_and_masks: Any, entered: tuple[Array, ...]
        ) -> tuple[Array, Array]:
            z, masks = z_and_masks
            decay, drive = stage.coefficients(params, z, entered)
            d = masks[i]
            return d if decay is None else d + (1 - d) * decay, (1 - d) * drive

        return Stage(coefficients)

    def read(params: Params, z: Any, entered: Carry, new: Carry) -> Array:
        del params, z, entered
        return jax.tree.leaves(new)[leaf]

    return LinearForm(tuple(with_mask(i, stage) for i, stage in enumerate(form.stages)), read)
