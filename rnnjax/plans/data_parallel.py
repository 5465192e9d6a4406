"""Rows over the devices of a mesh: each runs a plan on the rows that it has."""

from functools import lru_cache, partial
from math import prod
from typing import Any

import jax
from jax import Array
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from rnnjax.plans import REGISTRY
from rnnjax.plans.choose import run_by_auto
from rnnjax.plans.manual_axes import vary_alike
from rnnjax.plans.masking import per_step
from rnnjax.plans.protocol import Inputs, Plan, Request
from rnnjax.recurrences.protocol import Carry, Params, Recurrence

Axes = str | tuple[str, ...]
"""Names of axes of a mesh."""


def run(
    recurrence: Recurrence,
    params: Params,
    inputs: Inputs,
    reverse: bool,
    *,
    mesh: Mesh,
    axes: tuple[str, ...],
    plan: Plan | None,
) -> tuple[Carry, Array]:
    """Run a plan on each device, on its rows and with all parameters.

    Nothing is exchanged but, backward, the sum over devices of the parameters' gradients. XLA left
    to itself would gather activations for a plan that makes one axis of time and rows, and for a
    compiled kernel, which it cannot split.

    Args:
        recurrence: What to run.
        params: Its parameters.
        inputs: All arrays besides.
        reverse: Whether to run from the last step to the first.
        mesh: The devices.
        axes: The axes of the mesh that the first batch axis is sharded over.
        plan: What each device runs; None chooses by the shapes that it has.
    """
    rows: Any = P(axes)
    along_time: Any = P(None, axes)

    def of_shard(params: Params, inputs: Inputs) -> tuple[Carry, Array]:
        params, inputs = vary_alike((params, inputs))
        chosen = plan
        if chosen is None:
            request = _request_of(recurrence, params, inputs, reverse)
            chosen = run_by_auto(request, REGISTRY)
        return chosen.run(recurrence, params, inputs, reverse)

    return jax.shard_map(
        of_shard,
        mesh=mesh,
        in_specs=(P(), Inputs(along_time, rows, rows, along_time, along_time)),
        out_specs=(rows, along_time),
        axis_names=set(axes),
    )(params, inputs)


def _request_of(recurrence: Recurrence, params: Params, inputs: Inputs, reverse: bool) -> Request:
    """What is asked of the plan on one device."""
    xs, valid, resets = per_step(inputs)
    batch_axes = xs.ndim - len(recurrence.input_shape(params)) - 1
    batch_shape = xs.shape[1 : 1 + batch_axes]
    leaves = jax.tree.leaves(inputs.carry)
    return Request(
        recurrence=recurrence,
        params=jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), params),
        time_steps=xs.shape[0],
        batch_shape=batch_shape,
        carry_size=sum(prod(leaf.shape[batch_axes:]) for leaf in leaves),
        dtype=xs.dtype.name,
        accumulation_dtype=jax.tree.leaves(params)[0].dtype.name,
        lengths=valid is not None,
        resets=resets is not None,
        reverse=reverse,
        platform=jax.default_backend(),
    )


def refusal(mesh: Mesh, axes: tuple[str, ...], plan: Plan | None, request: Request) -> str | None:
    """Why a request cannot be served, or None."""
    reason = refusal_of_rows(mesh, axes, request)
    if reason is not None or plan is None:
        return reason
    first, *others = request.batch_shape
    return plan.refusal(request._replace(batch_shape=(first // size_of(mesh, axes), *others)))


def refusal_of_rows(mesh: Mesh, axes: tuple[str, ...], request: Request) -> str | None:
    """Why the first batch axis of a request cannot be sharded over axes of a mesh, or None."""
    devices = size_of(mesh, axes)
    if devices > 1 and not request.batch_shape:
        return f"there is no batch axis to share among {devices} devices"
    if request.batch_shape and request.batch_shape[0] % devices:
        rows = request.batch_shape[0]
        return f"the first batch axis has {rows} rows, no multiple of the {devices} devices"
    return None


def size_of(mesh: Mesh, axes: tuple[str, ...]) -> int:
    """How many devices there are along axes of a mesh."""
    return prod(mesh.shape[axis] for axis in axes)


def checked_axes(name: str, mesh: Mesh, axes: Axes) -> tuple[str, ...]:
    """The names as a tuple.

    Raises:
        TypeError: The mesh is none.
        ValueError: A name is not one of the mesh's axes, or comes twice.
    """
    if not isinstance(mesh, Mesh):
        raise TypeError(f"mesh: got {type(mesh).__name__}, expected a jax.sharding.Mesh")
    names = (axes,) if isinstance(axes, str) else tuple(axes)
    if not set(names) <= set(mesh.axis_names) or len(set(names)) != len(names):
        raise ValueError(
            f"{name}: got {axes!r}, expected names of axes of the mesh, {mesh.axis_names}"
        )
    return names


def data_parallel(mesh: Mesh, axes: Axes | None = None, *, plan: str | Plan = "auto") -> Plan:
    """A plan that shards the rows of a batch over devices and runs another plan on each.

    Args:
        mesh: The devices.
        axes: The axes of the mesh that the first batch axis is sharded over; None is all.
        plan: What each device runs: a name, a plan, or "auto", chosen by the shapes of a shard.

    Raises:
        TypeError: The mesh or the plan is of another kind.
        ValueError: A name is unknown.
    """
    names = checked_axes("axes", mesh, mesh.axis_names if axes is None else axes)
    if not names:
        raise ValueError(f"axes: got {axes!r}, expected at least one")
    inner = plan
    if isinstance(plan, str):
        if plan != "auto" and plan not in REGISTRY:
            known = ", ".join(["auto", *REGISTRY])
            raise ValueError(f"plan: got {plan!r}, expected one of {known}, or a Plan")
        inner = REGISTRY.get(plan)
    elif not isinstance(plan, Plan):
        raise TypeError(f"plan: got {type(plan).__name__}, expected a name or a Plan")
    assert not isinstance(inner, str)
    return _data_parallel(mesh, names, inner)


# Kept, for a compiled scan is found again by the plan that it was made with.
@lru_cache
def _data_parallel(mesh: Mesh, axes: tuple[str, ...], plan: Plan | None) -> Plan:
    inner = "auto" if plan is None else plan.name
    return Plan(
        name=f"data_parallel({', '.join(axes)}; {inner})",
        summary=f"rows over {size_of(mesh, axes)} devices, {inner} on each",
        run=partial(run, mesh=mesh, axes=axes, plan=plan),
        derivatives="those of the plan on each device" if plan is None else plan.derivatives,
        cost="backward, a sum of the parameters' gradients over devices",
        refusal=partial(refusal, mesh, axes, plan),
    )
