"""A scan by a plan that iterates, with the report of how it converged."""

from jax import Array
from jax.typing import ArrayLike, DTypeLike

from rnnjax.plans.fixed_point import Convergence, IterativePlan
from rnnjax.plans.newton import newton
from rnnjax.plans.protocol import Plan
from rnnjax.recurrences.protocol import Carry, Params, Recurrence
from rnnjax.scanning import _prepared, _run


def scan_with_convergence(
    recurrence: Recurrence,
    params: Params,
    xs: ArrayLike,
    carry: Carry | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
    fresh_carry: Carry | None = None,
    accumulation_dtype: DTypeLike | None = None,
    plan: str | Plan = newton,
) -> tuple[Carry, Array, Convergence]:
    """`rnnjax.scan` by a plan that iterates, and how its iteration went.

    Args:
        recurrence: As for `rnnjax.scan`, as are all others but `plan`.
        params: Its parameters.
        xs: `(T, *B, I)`.
        carry: Leaves `(*B, H)`.
        lengths: `(*B,)` integer.
        resets: `(T, *B)` bool.
        reverse: Whether to run from each row's last valid element to its first.
        fresh_carry: Leaves `(*B, H)`.
        accumulation_dtype: Of sums, gates and carry.
        plan: "newton", "quasi_newton" or one of them with options, such as
            `rnnjax.plans.newton_with(max_iterations=20)`.

    Returns:
        carry: Leaves `(*B, H)`; NaN in a row that did not converge.
        ys: `(T, *B, H)`; likewise.
        convergence: How many iterations were made, and for each row its residual and whether it
            converged.

    Raises:
        TypeError: The plan does not iterate; else as `rnnjax.scan`.
        ValueError: As `rnnjax.scan`.
    """
    chosen, arguments = _prepared(
        recurrence,
        params,
        xs,
        carry,
        lengths,
        resets,
        reverse,
        fresh_carry,
        accumulation_dtype,
        plan,
    )
    if not isinstance(chosen, IterativePlan):
        raise TypeError(f"plan: got {chosen.name!r}, expected one that iterates, such as 'newton'")
    after, ys, convergence = _run(recurrence, chosen.run_with_convergence, *arguments)
    return after, ys, convergence
