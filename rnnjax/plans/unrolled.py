"""The loop written out: what a scan is benchmarked against."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
from jax import Array

from rnnjax.plans import reference
from rnnjax.plans.masking import masked_step, per_step
from rnnjax.plans.protocol import ANY_ORDER, Inputs, Plan, check_size
from rnnjax.recurrences.protocol import Carry, Params, Recurrence


def run(
    recurrence: Recurrence, params: Params, inputs: Inputs, reverse: bool
) -> tuple[Carry, Array]:
    """A Python loop over time: T copies of the step in the compiled program."""
    step = masked_step(recurrence, inputs.fresh_carry)
    time_steps = inputs.xs.shape[0]
    carry, ys = inputs.carry, [jnp.empty(0)] * time_steps
    for t in reversed(range(time_steps)) if reverse else range(time_steps):
        slices = jax.tree.map(lambda a, t=t: a[t], per_step(inputs))
        carry, ys[t] = step(params, carry, *slices)
    return carry, jnp.stack(ys)


unrolled = Plan(
    name="unrolled",
    summary="a Python loop: every step compiled by itself",
    run=run,
    derivatives=ANY_ORDER,
    cost="compile time and program size grow with T; a gradient keeps every intermediate",
)


@lru_cache
def unrolled_by(steps: int) -> Plan:
    """A scan whose compiled loop takes `steps` steps an iteration (`lax.scan(unroll=steps)`).

    Raises:
        ValueError: `steps` is not an integer or below one.
    """
    check_size("steps", steps)
    return Plan(
        name=f"unrolled_by({steps})",
        summary=f"lax.scan with {steps} steps an iteration",
        run=partial(reference.run, unroll=steps),
        derivatives=ANY_ORDER,
        cost="compile time grows with the number of steps an iteration",
    )
