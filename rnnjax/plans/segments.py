"""Cutting time: into equal segments, and from one step to the next."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from rnnjax.plans.protocol import Inputs
from rnnjax.recurrences.protocol import Carry


def states_entered(states: Array, initial: Array, reverse: bool) -> Array:
    """The state that each step saw, `(T, *B, ...)`, from those after the steps."""
    if reverse:
        return jnp.concatenate([states[1:], initial[None]])
    return jnp.concatenate([initial[None], states[:-1]])


def scan_segments(
    body: Callable[[Any, Any], tuple[Any, Any]],
    carry: Any,
    along_time: Any,
    length: int,
    reverse: bool,
) -> tuple[Any, Any]:
    """Scan a body over equal segments of time instead of over steps.

    Args:
        body: `(carry, slices (K, ...)) -> (carry, out)`.
        carry: What goes from segment to segment.
        along_time: A pytree of `(T, ...)`.
        length: K, a divisor of T.
        reverse: Whether the last segment goes first.

    Returns:
        The last carry, and the outputs stacked along a new leading axis of T / K.
    """
    time_steps = jax.tree.leaves(along_time)[0].shape[0]
    count = time_steps // length
    if count == 1:  # spare the program a loop of one round
        carry, out = body(carry, along_time)
        return carry, jax.tree.map(lambda a: a[None], out)
    segments = jax.tree.map(lambda a: a.reshape(count, length, *a.shape[1:]), along_time)
    return lax.scan(body, carry, segments, reverse=reverse)


def join_segments(out: Any) -> Any:
    """`(T / K, K, ...) -> (T, ...)`, leaf by leaf."""
    return jax.tree.map(lambda a: a.reshape(a.shape[0] * a.shape[1], *a.shape[2:]), out)


def in_whole_segments(
    run: Callable[[Inputs], tuple[Carry, Array]], inputs: Inputs, length: int, reverse: bool
) -> tuple[Carry, Array]:
    """Run on the part of time that `length` divides and on the remainder, if any, one by one."""
    time_steps = inputs.xs.shape[0]
    whole = time_steps - time_steps % length
    if whole in (0, time_steps):
        return run(inputs)

    def part(carry: Carry, times: slice) -> tuple[Carry, Array]:
        return run(
            inputs._replace(
                xs=inputs.xs[times],
                carry=carry,
                valid=None if inputs.valid is None else inputs.valid[times],
                resets=None if inputs.resets is None else inputs.resets[times],
            )
        )

    early, late = slice(None, whole), slice(whole, None)
    if reverse:
        carry, late_ys = part(inputs.carry, late)
        carry, early_ys = part(carry, early)
    else:
        carry, early_ys = part(inputs.carry, early)
        carry, late_ys = part(carry, late)
    return carry, jnp.concatenate([early_ys, late_ys])
