"""Time over the devices of a mesh, for recurrences that are linear in their carry."""

from functools import lru_cache, partial
from typing import Any

import jax
from jax import Array
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from rnnjax.plans.associative import refusal as not_linear
from rnnjax.plans.associative import solve_all
from rnnjax.plans.data_parallel import Axes, checked_axes, refusal_of_rows
from rnnjax.plans.derivatives import reverse_mode_only
from rnnjax.plans.linear_scan import STATE_BEFORE_SHARD, of_last_shard
from rnnjax.plans.manual_axes import vary_alike
from rnnjax.plans.protocol import ANY_ORDER_REVERSE, Inputs, Plan, Request, check_size
from rnnjax.recurrences.protocol import Carry, Params, Recurrence

NAME = "sequence_parallel"


def run(
    recurrence: Recurrence,
    params: Params,
    inputs: Inputs,
    reverse: bool,
    *,
    mesh: Mesh,
    axis: str,
    rows: tuple[str, ...],
    chunk_steps: int | None,
) -> tuple[Carry, Array]:
    """Solve each shard of time on its device; the states at their borders go from one to another.

    Projection, coefficients and output of a step need no other device. A shard learns what its
    steps do to a state, the devices exchange that in O(log n) rounds, and each solves its steps
    from the state that enters them. Backward the same goes the other way, and the gradients of the
    parameters are summed over devices.

    Args:
        recurrence: One that says its linear form.
        params: Its parameters.
        inputs: All arrays besides.
        reverse: Whether to run from the last step to the first.
        mesh: The devices.
        axis: The axis of the mesh that time is sharded over.
        rows: The axes that the first batch axis is sharded over; none leaves it whole.
        chunk_steps: Of a shard's own steps, see `linear_scan`.
    """
    keep = jax.checkpoint_policies
    policy = keep.save_from_both_policies(
        keep.dots_saveable, keep.save_only_these_names(STATE_BEFORE_SHARD)
    )

    def of_shard(params: Params, inputs: Inputs) -> tuple[Carry, Array]:
        params, inputs = vary_alike((params, inputs))
        params, xs, carry, fresh_carry = reverse_mode_only(
            NAME, (params, inputs.xs, inputs.carry, inputs.fresh_carry)
        )
        inputs = inputs._replace(xs=xs, carry=carry, fresh_carry=fresh_carry)
        solve = partial(solve_all, recurrence, reverse=reverse, chunk_steps=chunk_steps, over=axis)
        carry, ys = jax.checkpoint(solve, policy=policy)(params, inputs)
        return of_last_shard(carry, axis, reverse), ys

    of_rows: Any = P(rows) if rows else P()
    along_time: Any = P(axis, *of_rows)
    specs = Inputs(along_time, of_rows, of_rows, along_time, along_time)
    return jax.shard_map(
        of_shard,
        mesh=mesh,
        in_specs=(P(), specs),
        out_specs=(of_rows, along_time),
        axis_names={axis, *rows},
    )(params, inputs)


def refusal(mesh: Mesh, axis: str, rows: tuple[str, ...], request: Request) -> str | None:
    """Why a request cannot be served, or None."""
    shards = mesh.shape[axis]
    if request.time_steps % shards:
        return (
            f"T is {request.time_steps}, no multiple of the {shards} devices along {axis!r}; "
            "give longer inputs and their lengths"
        )
    return not_linear(request) or refusal_of_rows(mesh, rows, request)


def sequence_parallel(
    mesh: Mesh, axis: str, *, rows: Axes = (), chunk_steps: int | None = None
) -> Plan:
    """A plan that shards time over devices; for recurrences linear in their carry, by name.

    Inputs and outputs are sharded along T, in equal parts; the carry is the same on all devices.

    Args:
        mesh: The devices.
        axis: The axis of the mesh that time is sharded over.
        rows: Other axes of the mesh, that the first batch axis is sharded over.
        chunk_steps: Of a device's own steps, as in `associative_by`; None chooses by platform.

    Raises:
        TypeError: The mesh is none.
        ValueError: A name is none of the mesh's axes or comes twice, or `chunk_steps` is not an
            integer or below one.
    """
    (axis,) = checked_axes("axis", mesh, (axis,))
    names = checked_axes("rows", mesh, rows)
    if axis in names:
        raise ValueError(f"rows: got {rows!r}, expected other axes than that of time, {axis!r}")
    if chunk_steps is not None:
        check_size("chunk_steps", chunk_steps)
    return _sequence_parallel(mesh, axis, names, chunk_steps)


# Kept, for a compiled scan is found again by the plan that it was made with.
@lru_cache
def _sequence_parallel(
    mesh: Mesh, axis: str, rows: tuple[str, ...], chunk_steps: int | None
) -> Plan:
    options = {"mesh": mesh, "axis": axis, "rows": rows, "chunk_steps": chunk_steps}
    return Plan(
        name=f"{NAME}({', '.join((axis, *rows))})",
        summary=f"time over {mesh.shape[axis]} devices, states handed on in O(log) rounds",
        run=partial(run, **options),
        derivatives=ANY_ORDER_REVERSE,
        cost="each device solves its part of time twice, forward and backward; of a step's size, "
        "one decay and one drive a round are sent",
        refusal=partial(refusal, mesh, axis, rows),
    )
