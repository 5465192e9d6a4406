"""Less memory for backpropagation through time, by computing each segment twice."""

from functools import lru_cache, partial
from math import isqrt
from typing import Any

import jax
from jax import Array

from rnnjax.plans import fused
from rnnjax.plans.masking import per_step
from rnnjax.plans.protocol import FIRST_ORDER_REVERSE, Inputs, Plan, check_size
from rnnjax.plans.segments import in_whole_segments, join_segments, scan_segments
from rnnjax.recurrences.protocol import Carry, Params, Recurrence

NAME = "checkpointed"


def run(
    recurrence: Recurrence,
    params: Params,
    inputs: Inputs,
    reverse: bool,
    segments: int | None = None,
) -> tuple[Carry, Array]:
    """Keep the carry at the border of each segment; backward, run a segment again, then fused.

    With S segments of K = T / S steps a gradient holds S carries and what `fused` saves for K
    steps; S = √T makes both O(√T). Outputs and inputs are of length T under any plan.
    """
    time_steps = inputs.xs.shape[0]
    # The ceiling: never more segments than asked for, but for a shorter remainder.
    length = -(-time_steps // min(segments or isqrt(time_steps), time_steps))

    @jax.checkpoint
    def segment(carry: Carry, slices: Any) -> tuple[Carry, Array]:
        xs, valid, resets = slices
        part = Inputs(xs, carry, inputs.fresh_carry, valid, resets)
        return fused.run(recurrence, params, part, reverse, plan=NAME)

    def whole_segments(part: Inputs) -> tuple[Carry, Array]:
        here = min(length, part.xs.shape[0])
        carry, ys = scan_segments(segment, part.carry, per_step(part), here, reverse)
        return carry, join_segments(ys)

    return in_whole_segments(whole_segments, inputs, length, reverse)


checkpointed = Plan(
    name=NAME,
    summary="√T segments, each computed again in the backward pass",
    run=run,
    derivatives=FIRST_ORDER_REVERSE,
    cost="a gradient keeps O(√T) carries and takes one forward pass more",
)


@lru_cache
def checkpointed_in(segments: int) -> Plan:
    """The checkpointed plan with at most `segments` segments, and a remainder where T asks for one.

    Raises:
        ValueError: `segments` is not an integer or below one.
    """
    check_size("segments", segments)
    return Plan(
        name=f"checkpointed_in({segments})",
        summary=f"{segments} segments, each computed again in the backward pass",
        run=partial(run, segments=segments),
        derivatives=FIRST_ORDER_REVERSE,
        cost=f"a gradient keeps {segments} carries and a segment's; one forward pass more",
    )
