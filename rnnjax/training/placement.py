"""Where the rows of a run go: one device, or all that share them evenly. For one process."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import AxisType, Mesh

from rnnjax.plans.data_parallel import data_parallel
from rnnjax.plans.protocol import Plan
from rnnjax.training.devices import (
    DATA,
    HIDDEN,
    make_train_step_over,
    place_batch,
    place_state,
    state_shardings,
)
from rnnjax.training.step import LossFunction, TrainState, TrainStep, make_train_step


class Placement(NamedTuple):
    """The devices that the rows of a batch are shared among, and which axes these rows are.

    What is computed does not depend on it, up to the order of sums. It can be hashed, so that what
    is compiled can be kept by it.

    Attributes:
        mesh: The devices; None is one, without any sharding.
        rows_axis: As for `rnnjax.training.devices.place_batch`.
    """

    mesh: Mesh | None = None
    rows_axis: Any = 1


ONE_DEVICE = Placement()
"""What a run was before it knew of devices."""


def place_rows(batch_size: int, *, rows_axis: Any = 1) -> Placement:
    """Of the devices of this process as many as share B rows evenly.

    Args:
        batch_size: B.
        rows_axis: As for `rnnjax.training.devices.place_batch`.

    Raises:
        ValueError: B is below one.
        RuntimeError: There are several processes; they call `rnnjax.training.devices` themselves.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}, expected at least 1")
    if jax.process_count() > 1:
        raise RuntimeError(f"place_rows: got {jax.process_count()} processes, expected one")
    devices = jax.devices()
    count = next(n for n in range(len(devices), 0, -1) if batch_size % n == 0)
    if count == 1:
        return Placement(None, rows_axis)
    grid = np.asarray(devices[:count]).reshape(count, 1)
    return Placement(Mesh(grid, (DATA, HIDDEN), (AxisType.Auto, AxisType.Auto)), rows_axis)


def plan_of(placement: Placement, plan: str | Plan) -> str | Plan:
    """What scans of the loss function run under, so that each device runs `plan` on its rows."""
    return plan if placement.mesh is None else data_parallel(placement.mesh, plan=plan)


def make_placed_train_step(
    placement: Placement,
    loss_function: LossFunction,
    optimizer: optax.GradientTransformation,
    **options: Any,
) -> TrainStep:
    """`make_train_step` where the rows are; the state and the batches are given as they are placed.

    Args:
        placement: From `place_rows`.
        loss_function: As for `make_train_step`, its scans under `plan_of(placement, …)`.
        optimizer: Likewise.
        options: Likewise.
    """
    mesh = placement.mesh
    if mesh is None:
        return make_train_step(loss_function, optimizer, **options)
    compiled: list[TrainStep] = []

    def train_step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, jax.Array]]:
        if not compiled:  # Where the leaves of a state go is known when there is one.
            shardings = state_shardings(mesh, state)
            compiled.append(
                make_train_step_over(
                    mesh,
                    shardings,
                    loss_function,
                    optimizer,
                    rows_axis=placement.rows_axis,
                    **options,
                )
            )
        return compiled[0](state, batch)

    return train_step


def placed_state(placement: Placement, state: TrainState) -> TrainState:
    """The state where the rows are; the one given is consumed.

    Raises:
        ValueError: The rows of its memory are no multiple of the devices.
    """
    if placement.mesh is None:
        return state
    return place_state(state, state_shardings(placement.mesh, state))


def placed_batches(placement: Placement, batch_at: Callable[[int], Any]) -> Callable[[int], Any]:
    """Step -> batch, its rows on the devices that have them."""
    if placement.mesh is None:
        return batch_at
    place = partial(place_batch, placement.mesh, rows_axis=placement.rows_axis)
    return lambda step: place(batch_at(step))


def on_one_device(placement: Placement, state: TrainState) -> TrainState:
    """The state as it would be without a placement, for what is no training step."""
    return state if placement.mesh is None else jax.device_put(state, jax.devices()[0])
