"""Two scans over the same inputs, one from the past and one from the future, and their merge."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from rnnjax.plans.masking import within_lengths, zero_unless
from rnnjax.plans.protocol import Plan
from rnnjax.recurrences.protocol import Carry, Params, Recurrence
from rnnjax.scanning import explain_plan, scan, sequence_ends

Directions = Recurrence | tuple[Recurrence, Recurrence]
"""One recurrence for both directions, or one that runs forward and one that runs backward."""

Merge = Callable[[Array, Array], Array]
"""`(forward ys, backward ys) -> ys`, each `(T, *B, H)`; elementwise along time and batch."""

BidirectionalCarry = tuple[Carry, Carry]
"""The forward carry and the backward one."""


class BidirectionalParams(NamedTuple):
    """The parameters of both directions, each of its own recurrence."""

    forward: Params
    backward: Params


def concatenate(forward: Array, backward: Array) -> Array:
    """The course's [a→, a←]: `(..., H), (..., H') -> (..., H + H')`."""
    return jnp.concatenate([forward, backward], axis=-1)


def add(forward: Array, backward: Array) -> Array:
    """The sum of both directions, `(..., H)`.

    Raises:
        ValueError: The directions differ in size.
    """
    _check_same_size(forward, backward)
    return forward + backward


def average(forward: Array, backward: Array) -> Array:
    """The mean of both directions, `(..., H)`.

    Raises:
        ValueError: The directions differ in size.
    """
    return add(forward, backward) / 2


def multiply(forward: Array, backward: Array) -> Array:
    """The elementwise product of both directions, `(..., H)`.

    Raises:
        ValueError: The directions differ in size.
    """
    _check_same_size(forward, backward)
    return forward * backward


def init_bidirectional(
    key: Array,
    recurrences: Directions,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
) -> BidirectionalParams:
    """Draw the parameters of both directions with the recurrences' own `init`.

    A pair of parameters drawn in any other way serves as well, also of two hidden sizes.

    Args:
        key: A random key.
        recurrences: One for both directions, or a pair.
        input_size: I.
        hidden_size: H of each direction.
        dtype: Floating.

    Raises:
        ValueError: A size is not an integer or below one.
        TypeError: The dtype is not floating, or `recurrences` is neither one nor a pair.
    """
    forward, backward = _both(recurrences)
    key_forward, key_backward = jax.random.split(key)
    return BidirectionalParams(
        forward.init(key_forward, input_size, hidden_size, dtype=dtype),
        backward.init(key_backward, input_size, hidden_size, dtype=dtype),
    )


def initial_bidirectional_carry(
    recurrences: Directions, params: BidirectionalParams, batch_shape: tuple[int, ...]
) -> BidirectionalCarry:
    """The carry of each direction before its first step, leaves `(*B, H)`.

    Raises:
        TypeError: `recurrences` is neither one nor a pair, or `params` not of two directions.
    """
    forward, backward = _both(recurrences)
    check_bidirectional_params("params", params)
    return (
        forward.initial_carry(params.forward, batch_shape),
        backward.initial_carry(params.backward, batch_shape),
    )


def scan_bidirectional(
    recurrences: Directions,
    params: BidirectionalParams,
    xs: ArrayLike,
    carry: BidirectionalCarry | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    fresh_carry: BidirectionalCarry | None = None,
    accumulation_dtype: DTypeLike | None = None,
    merge: Merge = concatenate,
    plan: str | Plan = "auto",
) -> tuple[BidirectionalCarry, Array]:
    """Run one recurrence from the past and one from the future, and merge their outputs.

    (c→^<t>, a→^<t>) = step→(c→^<t-1>, x^<t>),  (c←^<t>, a←^<t>) = step←(c←^<t+1>, x^<t>),
    y^<t> = merge(a→^<t>, a←^<t>)

    The backward direction begins at each row's own last valid element. Both are compiled as one.

    Args:
        recurrences: One for both directions, or a pair.
        params: Of both directions, from `init_bidirectional`.
        xs: `(T, *B, I)`, as in `rnnjax.scan`.
        carry: The forward carry, before the first step of a row, and the backward one, before its
            last; leaves `(*B, H)`. None is `initial_bidirectional_carry`.
        lengths: `(*B,)` integer.
        resets: `(T, *B)` bool, True where a sequence of a packed row starts. The backward direction
            is reset where one ends (`sequence_ends`); the end of a row is always one.
        fresh_carry: What a reset puts in place, as `carry`; None is the initial carry.
        accumulation_dtype: As in `rnnjax.scan`.
        merge: `concatenate`, `add`, `average`, `multiply`, or any function of two arrays. One
            made anew for each call is compiled anew.
        plan: How to run each direction.

    Returns:
        carry: The forward carry, after each row's last valid step, and the backward one, after its
            first; leaves `(*B, H)`.
        ys: `(T, *B, 2H)` for `concatenate`, else what `merge` makes; zero past a row's length.

    Raises:
        TypeError: As `rnnjax.scan`, or `recurrences` is neither one nor a pair, or `params`
            are not of two directions.
        ValueError: As `rnnjax.scan`, or a carry is not a pair, or `merge` does not take the outputs
            or changes their time and batch axes.
        NotImplementedError: As `rnnjax.scan`.

    References:
        Schuster and Paliwal (1997), IEEE Transactions on Signal Processing 45(11), section II.
    """
    pair = _both(recurrences)
    check_bidirectional_params("params", params)
    _check_pair("carry", carry)
    _check_pair("fresh_carry", fresh_carry)
    # Values of lengths are known only out here; all else is checked while tracing.
    explain_plan(
        pair[0],
        params.forward,
        xs,
        lengths=lengths,
        resets=resets,
        accumulation_dtype=accumulation_dtype,
        plan=plan,
    )
    return _scan_both(
        pair,
        merge,
        plan,
        accumulation_dtype,
        params,
        jnp.asarray(xs),
        (None, None) if carry is None else carry,
        (None, None) if fresh_carry is None else fresh_carry,
        None if lengths is None else jnp.asarray(lengths),
        None if resets is None else jnp.asarray(resets),
    )


def check_bidirectional_params(name: str, params: Any) -> None:
    """Raise TypeError, naming the argument, unless these are parameters of two directions."""
    if not isinstance(params, BidirectionalParams):
        raise TypeError(f"{name}: got {type(params).__name__}, expected BidirectionalParams")


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _scan_both(
    pair: tuple[Recurrence, Recurrence],
    merge: Merge,
    plan: str | Plan,
    accumulation_dtype: DTypeLike | None,
    params: BidirectionalParams,
    xs: Array,
    carry: tuple[Carry | None, Carry | None],
    fresh_carry: tuple[Carry | None, Carry | None],
    lengths: Array | None,
    resets: Array | None,
) -> tuple[BidirectionalCarry, Array]:
    def direction(index: int, *, reverse: bool, resets: Array | None) -> tuple[Carry, Array]:
        try:
            return scan(
                pair[index],
                params[index],
                xs,
                carry[index],
                lengths=lengths,
                resets=resets,
                reverse=reverse,
                fresh_carry=fresh_carry[index],
                accumulation_dtype=accumulation_dtype,
                plan=plan,
            )
        except (TypeError, ValueError) as error:
            error.add_note(f"In the {'backward' if reverse else 'forward'} direction.")
            raise

    ends = None if resets is None else sequence_ends(resets, lengths)
    forward_carry, forward = direction(0, reverse=False, resets=resets)
    backward_carry, backward = direction(1, reverse=True, resets=ends)
    ys = merge(forward, backward)
    leading = forward.shape[:-1]
    if ys.shape[: len(leading)] != leading:
        raise ValueError(f"merge: gives shape {ys.shape}, expected {leading} (T, *B) to come first")
    if lengths is not None:  # a merge may make something of two zeros
        ys = zero_unless(within_lengths(lengths, xs.shape[0]), ys)
    return (forward_carry, backward_carry), ys


def _both(recurrences: Any) -> tuple[Recurrence, Recurrence]:
    if isinstance(recurrences, Recurrence):
        return recurrences, recurrences
    if isinstance(recurrences, tuple | list) and len(recurrences) == 2:
        forward, backward = recurrences
        if isinstance(forward, Recurrence) and isinstance(backward, Recurrence):
            return forward, backward
    raise TypeError(f"recurrences: got {recurrences!r}, expected a Recurrence or a pair of them")


def _check_pair(name: str, carry: Any) -> None:
    if carry is None or (isinstance(carry, tuple | list) and len(carry) == 2):
        return
    got = f"{len(carry)} carries" if isinstance(carry, tuple | list) else type(carry).__name__
    raise ValueError(f"{name}: got {got}, expected a forward and a backward carry")


def _check_same_size(forward: Array, backward: Array) -> None:
    if forward.shape != backward.shape:
        raise ValueError(
            f"merge: got outputs of sizes {forward.shape[-1]} and {backward.shape[-1]}, "
            "expected one size, or `concatenate`"
        )
