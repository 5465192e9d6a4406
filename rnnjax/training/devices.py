"""More devices: a mesh of them, and where the state and the batches of training go on it.

Rows are sharded over all devices (data parallel). Parameters are on every device, or each device
keeps a part of their hidden units, with the optimiser's state of that part, and all of them are
gathered for a step. What a step computes does not depend on how many devices there are, up to
the order of sums.
"""

import hashlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rnnjax.training.processes import from_first_process, in_any_process
from rnnjax.training.step import LossFunction, TrainState, make_train_step

DATA, HIDDEN = "data", "hidden"
"""The axes of the mesh. Rows go along both; parameters are sharded along the second alone."""


def make_mesh(*, hidden: int = 1) -> Mesh:
    """All devices of all processes as a mesh of n / hidden × hidden, its axes `DATA` and `HIDDEN`.

    Args:
        hidden: Over how many devices the hidden units of the parameters are sharded; with 1 all
            parameters are on every device.

    Raises:
        ValueError: `hidden` is not an integer of at least 1 that divides the number of devices.
    """
    devices = jax.device_count()
    if not isinstance(hidden, int) or hidden < 1 or devices % hidden:
        raise ValueError(f"hidden: got {hidden!r}, expected a divisor of the {devices} devices")
    return jax.make_mesh(
        (devices // hidden, hidden), (DATA, HIDDEN), axis_types=(AxisType.Auto, AxisType.Auto)
    )


def state_shardings(mesh: Mesh, state: TrainState) -> TrainState:
    """Where each leaf of a training state goes.

    The memory, leaves `(B, ...)`, is sharded along its rows. Along `HIDDEN`, parameters and the
    optimiser's state are sharded by the last axis that `HIDDEN` divides: that of the hidden units,
    or of all gates of all of them. All else is on every device, scalars of the memory too.

    Args:
        mesh: From `make_mesh`.
        state: Arrays, or `jax.ShapeDtypeStruct`s.

    Returns:
        A `TrainState` of `NamedSharding`s.

    Raises:
        ValueError: The rows of the memory are no multiple of the number of devices.
    """
    everywhere = NamedSharding(mesh, P())

    def by_rows(path: Any, leaf: Any) -> NamedSharding:
        if leaf.ndim == 0:
            return everywhere
        if leaf.shape[0] % mesh.size:
            name = f"memory{jax.tree_util.keystr(path)}"
            raise ValueError(
                f"{name}: got {leaf.shape[0]} rows, expected a multiple of the {mesh.size} devices"
            )
        return _by_rows(mesh, 0)

    def by_units(leaf: Any) -> NamedSharding:
        divisible = [axis for axis, size in enumerate(leaf.shape) if size % mesh.shape[HIDDEN] == 0]
        if mesh.shape[HIDDEN] == 1 or not divisible:
            return everywhere
        return NamedSharding(mesh, P(*[None] * divisible[-1], HIDDEN))

    shardings = jax.tree.map(lambda _: everywhere, state)
    return shardings._replace(
        params=jax.tree.map(by_units, state.params),
        optimizer_state=jax.tree.map(by_units, state.optimizer_state),
        memory=jax.tree.map_with_path(by_rows, state.memory),
    )


def place_state(state: TrainState, shardings: TrainState) -> TrainState:
    """The state on the devices where its shardings say; the one given is consumed.

    Args:
        state: The same in all processes.
        shardings: From `state_shardings`.

    Raises:
        ValueError: In all processes, if the state has other values in one than in the first.
    """
    if jax.process_count() > 1:
        own = _digest(state)
        differs = from_first_process(lambda: own) != own
        if in_any_process(differs):  # Else those that agree would wait for the others.
            here = "differ from" if differs else "are"
            raise ValueError(
                "state: got values that are not the same in all processes (in process "
                f"{jax.process_index()} they {here} those of the first), expected the same keys, "
                "files and versions in all"
            )
    return jax.tree.map(_put, state, shardings)


def _put(leaf: Array, sharding: NamedSharding) -> Array:
    if jax.process_count() == 1 or not leaf.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _put(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=str(jax.random.key_impl(leaf)))
    # Copies: a training step donates these buffers, which must not be NumPy's.
    value = np.asarray(leaf)
    return jax.make_array_from_callback(
        value.shape, sharding, lambda index: jnp.array(value[index or ()], copy=True)
    )


def _digest(state: TrainState) -> str:
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(state):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        value = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {value.shape} {value.dtype} ".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def make_train_step_over(
    mesh: Mesh,
    shardings: TrainState,
    loss_function: LossFunction,
    optimizer: optax.GradientTransformation,
    *,
    rows_axis: Any = 1,
    **options: Any,
) -> jax.stages.Wrapped:
    """`make_train_step` over the devices of a mesh: `(state, batch) -> (state, metrics)`.

    The loss function is that of one device, and is given whole parameters. Let its scans run under
    `rnnjax.plans.data_parallel`, or activations are gathered where XLA finds no other way.

    Args:
        mesh: From `make_mesh`.
        shardings: From `state_shardings`; of the state given, and of that returned.
        loss_function: As for `make_train_step`.
        optimizer: Likewise.
        rows_axis: As for `place_batch`.
        options: Of `make_train_step`.
    """
    everywhere = NamedSharding(mesh, P())

    def of_whole_parameters(
        params: Any, memory: Any, batch: Any, key: Array
    ) -> tuple[Array, tuple[Any, Any]]:
        # Gathered once, here: else XLA chooses anew at each use, and may gather activations.
        whole = jax.lax.with_sharding_constraint(params, everywhere)
        return loss_function(whole, memory, batch, key)

    return jax.jit(
        make_train_step(of_whole_parameters, optimizer, **options),
        donate_argnums=0,
        in_shardings=(shardings, jax.tree.map(partial(_by_rows, mesh), rows_axis)),
        out_shardings=(shardings, everywhere),
    )


def rows_of_process(mesh: Mesh, batch_size: int) -> np.ndarray:
    """The numbers of the rows of a batch that are this process's to read, in order, `(B_process,)`.

    Args:
        mesh: From `make_mesh`.
        batch_size: B, of all processes together.

    Raises:
        ValueError: B is no multiple of the number of devices.
    """
    if batch_size < 1 or batch_size % mesh.size:
        raise ValueError(
            f"batch_size: got {batch_size}, expected a multiple of the {mesh.size} devices"
        )
    sharding = _by_rows(mesh, 0)
    indices = sharding.addressable_devices_indices_map((batch_size,)).values()
    return np.sort(np.concatenate([np.arange(batch_size)[index] for index in indices]))


def place_batch(mesh: Mesh, batch: Any, *, rows_axis: Any = 1) -> Any:
    """The batch of all processes, from the rows of this one; no process sees those of another.

    Args:
        mesh: From `make_mesh`.
        batch: A pytree of NumPy arrays, such as `TextBatch`, with the rows `rows_of_process`.
        rows_axis: Which axis the rows are; an integer, or a tree of them that begins as the
            batch's does. 1 is that of `(T, B, ...)`.

    Returns:
        The same tree of `jax.Array`s, B rows in all, sharded over all devices.

    Raises:
        ValueError: A leaf has no such axis, or its rows are no multiple of this process's devices.
    """
    axes = jax.tree.broadcast(rows_axis, batch)
    return jax.tree.map_with_path(
        lambda path, leaf, axis: _placed(mesh, f"batch{jax.tree_util.keystr(path)}", leaf, axis),
        batch,
        axes,
    )


def _by_rows(mesh: Mesh, axis: int) -> NamedSharding:
    return NamedSharding(mesh, P(*[None] * axis, mesh.axis_names))


def _placed(mesh: Mesh, name: str, leaf: Any, axis: int) -> Array:
    local = np.asarray(leaf)
    sharding = _by_rows(mesh, axis)
    devices = len(sharding.addressable_devices)
    if local.ndim <= axis or local.shape[axis] == 0 or local.shape[axis] % devices:
        raise ValueError(
            f"{name}: got shape {local.shape}, expected rows along axis {axis}, "
            f"a multiple of this process's {devices} devices"
        )
    batch_size = local.shape[axis] * mesh.size // devices
    rows = rows_of_process(mesh, batch_size)
    shape = (*local.shape[:axis], batch_size, *local.shape[axis + 1 :])

    def of_device(index: Any) -> np.ndarray:
        wanted = np.arange(batch_size)[index[axis]]
        return local.take(np.searchsorted(rows, wanted), axis)

    return jax.make_array_from_callback(shape, sharding, of_device)
