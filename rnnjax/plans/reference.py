"""The definition: a plain `jax.lax.scan` of one step after another."""

from jax import Array, lax

from rnnjax.plans.masking import masked_step, per_step
from rnnjax.plans.protocol import ANY_ORDER, Inputs, Plan
from rnnjax.recurrences.protocol import Carry, Params, Recurrence


def run(
    recurrence: Recurrence, params: Params, inputs: Inputs, reverse: bool, unroll: int = 1
) -> tuple[Carry, Array]:
    """Scan `step(project(x))` along time, `unroll` steps to an iteration of the compiled loop."""
    step = masked_step(recurrence, inputs.fresh_carry)
    return lax.scan(
        lambda carry, slices: step(params, carry, *slices),
        inputs.carry,
        per_step(inputs),
        reverse=reverse,
        unroll=unroll,
    )


reference = Plan(
    name="reference",
    summary="plain lax.scan of step(project(x)): the definition",
    run=run,
    derivatives=ANY_ORDER,
    cost="one small loop to compile; a gradient keeps every intermediate of every step",
)
