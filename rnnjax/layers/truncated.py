"""Truncated backpropagation through time: the whole forward, a bounded way backward."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike, DTypeLike

from rnnjax.layers.checks import check_size
from rnnjax.plans.masking import select
from rnnjax.plans.protocol import Plan
from rnnjax.plans.segments import join_segments, scan_segments
from rnnjax.precision import cast_leaves, default_accumulation_dtype, returned_carry
from rnnjax.recurrences.protocol import Carry, Params, Recurrence
from rnnjax.scanning import explain_plan, scan


def scan_truncated(
    recurrence: Recurrence,
    params: Params,
    xs: ArrayLike,
    carry: Carry | None = None,
    *,
    every: int,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    fresh_carry: Carry | None = None,
    accumulation_dtype: DTypeLike | None = None,
    plan: str | Plan = "auto",
) -> tuple[Carry, Array]:
    """`rnnjax.scan`, but gradients do not flow back over a border every K steps.

    (carry^<t>, y^<t>) = step(stop_gradient(carry^<t-1>), x^<t>)  where t − 1 > 0 is a multiple of K

    Values are those of the whole scan. A border counts for the rows that go on beyond it: one that
    has ended takes its carry, with its gradient, over the borders in its padding. The program does
    not grow with T / K. A gradient keeps as much as that of `scan`; where memory is the reason to
    truncate, train on windows that hand on the state, as `rnnjax.text.streams` cuts them.

    Args:
        recurrence: What is computed in one step.
        params: Its parameters.
        xs: `(T, *B, I)`.
        carry: Leaves `(*B, H)`, before the first step; gradients reach it from the first K steps.
        every: K, at least 1; from T on the gradient is that of `scan`.
        lengths: `(*B,)` integer.
        resets: `(T, *B)` bool.
        fresh_carry: Leaves `(*B, H)`: what a reset puts in place.
        accumulation_dtype: As in `rnnjax.scan`.
        plan: How to run each piece of K steps.

    Returns:
        carry: Leaves `(*B, H)`.
        ys: `(T, *B, H)`.

    Raises:
        TypeError: As `rnnjax.scan`.
        ValueError: As `rnnjax.scan`, or `every` is not an integer or below one.
        NotImplementedError: As `rnnjax.scan`.

    References:
        Williams and Peng (1990), Neural Computation 2(4): BPTT(h; h') with h = h' = K.
    """
    check_size("every", every)
    # Values of lengths are known only out here; all else is checked again while tracing.
    explain_plan(
        recurrence,
        params,
        xs,
        carry,
        lengths=lengths,
        resets=resets,
        fresh_carry=fresh_carry,
        accumulation_dtype=accumulation_dtype,
        plan=plan,
    )
    return _scan_pieces(
        recurrence,
        every,
        plan,
        accumulation_dtype,
        params,
        jnp.asarray(xs),
        jax.tree.map(jnp.asarray, carry),
        None if lengths is None else jnp.asarray(lengths).astype(jnp.int32),
        None if resets is None else jnp.asarray(resets),
        fresh_carry,
    )


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _scan_pieces(
    recurrence: Recurrence,
    every: int,
    plan: str | Plan,
    accumulation_dtype: DTypeLike | None,
    params: Params,
    xs: Array,
    carry: Carry | None,
    lengths: Array | None,
    resets: Array | None,
    fresh_carry: Carry | None,
) -> tuple[Carry, Array]:
    time_steps = xs.shape[0]
    batch_shape = xs.shape[1 : xs.ndim - len(recurrence.input_shape(params))]
    # From piece to piece the carry is as exact as it is from step to step.
    exact = default_accumulation_dtype(xs.dtype)
    if accumulation_dtype is not None:
        exact = jax.dtypes.canonicalize_dtype(accumulation_dtype)
    if carry is None:
        before = recurrence.initial_carry(cast_leaves(params, exact), batch_shape)
    else:
        before = cast_leaves(carry, exact)

    def piece(carry: Carry, slices: Any) -> tuple[Carry, Array]:
        times, xs, resets = slices
        start = times[0]
        goes_on, here = start > 0, None
        if lengths is not None:
            goes_on &= lengths > start
            here = jnp.clip(lengths - start, 0, xs.shape[0])
        goes_on = jnp.broadcast_to(goes_on, batch_shape)
        return scan(
            recurrence,
            params,
            xs,
            select(goes_on, lax.stop_gradient(carry), carry),
            lengths=here,
            resets=resets,
            fresh_carry=fresh_carry,
            accumulation_dtype=accumulation_dtype,
            plan=plan,
        )

    along_time = (jnp.arange(time_steps, dtype=jnp.int32), xs, resets)
    every = min(every, time_steps)
    whole = time_steps - time_steps % every
    early, late = (
        jax.tree.map(lambda a, part=part: a[part], along_time)
        for part in (slice(None, whole), slice(whole, None))
    )
    after, ys = scan_segments(piece, before, early, every, reverse=False)
    ys = join_segments(ys)
    if whole < time_steps:
        after, rest = piece(after, late)
        ys = jnp.concatenate([ys, rest])
    return returned_carry(after, carry, xs.dtype), ys
