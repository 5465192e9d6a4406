"""Several processes that train together: starting them, and agreeing on what to do next."""

import json
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class FirstProcessError(OSError):
    """The first process could not do what it does for all; the text says why."""


def start_processes(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    local_device_ids: Sequence[int] | None = None,
    start_seconds: int = 300,
    heartbeat_seconds: int = 100,
    end_seconds: int = 300,
) -> None:
    """Join the processes of a job, before anything of JAX has run; then devices are those of all.

    The engine is JAX's own, `jax.distributed`, and each process runs the same program:

    - Under SLURM, `srun python …` with a task for each GPU (or each node's CPU): no argument, all
      is read from the variables of the job step.
    - On a TPU pod, the same program on every host: no argument.
    - Elsewhere, an address of the first process that all can reach, how many there are, and which
      this one is.

    When a process dies, or does not come, the others end too, by an error or by JAX's engine, which
    aborts them: as soon as it is noticed, after `heartbeat_seconds`, `start_seconds` or, where one
    has left by an error, `end_seconds` at the latest. Start all again, on as many devices as there
    are, and restore the last checkpoint.

    Args:
        coordinator_address: "HOST:PORT" of the first process, a free port. One of the loopback
            is served to this machine alone.
        num_processes: How many.
        process_id: 0 … num_processes − 1; 0 is the first.
        local_device_ids: Which of the machine's GPUs are this process's; None is all of them, or
            the one of this task under SLURM.
        start_seconds: How long to wait for all to join.
        heartbeat_seconds: After how long a silent process counts as dead.
        end_seconds: How long a process that has come to its end, be it by an error, waits for the
            others to come to theirs; after that they are ended.

    Raises:
        ValueError: Some but not all of the first three arguments are given, one is out of range,
            or none is and no cluster is found.
        RuntimeError: JAX has already computed something, or the processes are started already.
    """
    given = {
        "coordinator_address": coordinator_address,
        "num_processes": num_processes,
        "process_id": process_id,
    }
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
        raise ValueError(
            f"{missing[0]}: got None beside another of the three, expected one of each or none"
        )
    options: dict[str, Any] = {
        "local_device_ids": local_device_ids,
        "initialization_timeout": start_seconds,
        "heartbeat_timeout_seconds": heartbeat_seconds,
        "shutdown_timeout_seconds": end_seconds,
    }
    if coordinator_address is not None:
        host = _checked_host(coordinator_address)
        if not isinstance(num_processes, int) or num_processes < 1:
            raise ValueError(
                f"num_processes: got {num_processes!r}, expected an integer of at least 1"
            )
        if not isinstance(process_id, int) or not 0 <= process_id < num_processes:
            raise ValueError(
                f"process_id: got {process_id!r}, expected an integer below num_processes, "
                f"0 … {num_processes - 1}"
            )
        options |= given | {"cluster_detection_method": "deactivate"}
        if host in LOOPBACK:
            options["coordinator_bind_address"] = coordinator_address
    if jax.distributed.is_initialized():
        raise RuntimeError("start_processes: got a second call, expected one in each process")
    slow = threading.Timer(start_seconds, _say_that_some_are_missing, (start_seconds,))
    slow.daemon = True
    slow.start()
    try:
        jax.distributed.initialize(**options)
    except ValueError as error:
        raise ValueError(
            f"coordinator_address: got None outside of SLURM and TPU pods ({error}), expected "
            "HOST:PORT of the first process, with num_processes and process_id"
        ) from error
    finally:
        slow.cancel()


def _say_that_some_are_missing(seconds: int) -> None:
    # Said here, for what JAX says before it aborts the process does not tell this case.
    os.write(
        2,
        f"\nstart_processes: not all processes have joined within {seconds} s: was each of them "
        "started, with the same address and number, and does the first one's address lead to "
        "it?\n".encode(),
    )


def _checked_host(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(
            f"coordinator_address: got {address!r}, expected HOST:PORT, such as node001:12345"
        )
    return host


def is_first_process() -> bool:
    """Whether this is the process that writes what is written once: logs, progress, reports."""
    return jax.process_index() == 0


def from_first_process(function: Callable[[], Any]) -> Any:
    """What a function returns that only the first process calls, in all of them.

    All processes must get here in the same order. With one process it is but a call.

    Args:
        function: Returns what JSON can hold; tuples come back as lists.

    Raises:
        FirstProcessError: In the others, if it raised.
        Exception: In the first, what it raised.
    """
    if jax.process_count() == 1:
        return function()
    raised: Exception | None = None
    outcome: dict[str, Any] = {}
    if is_first_process():
        try:
            outcome = {"value": function()}
        except Exception as error:  # noqa: BLE001  raised again below, when the others know
            raised, outcome = error, {"error": str(error)}
    outcome = json.loads(_text_of_first(json.dumps(outcome)))
    if raised is not None:
        raise raised
    if "error" in outcome:
        raise FirstProcessError(f"in the first process: {outcome['error']}")
    return outcome["value"]


def _text_of_first(text: str) -> str:
    own = np.frombuffer(text.encode("utf-8"), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(own.size)))
    if not is_first_process():
        own = np.zeros(size, np.uint8)
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(own))).decode("utf-8")


def in_any_process(condition: bool) -> bool:
    """Whether a condition holds in any process; all ask, in the same order, and all are told."""
    return bool(int(_largest(int(condition)))) if jax.process_count() > 1 else condition


@dataclass
class Agreement:
    """What the largest number is that any process has, known to all of them at the same step.

    Asked in each step, answered some steps later, so that no step waits for it.

    Attributes:
        steps_later: How many.
    """

    steps_later: int
    _asked: deque[Array] = field(default_factory=deque)

    def after_step(self, own: int) -> int:
        """Tell the number of this process, 0 … 2³¹ − 1; the largest of all some steps ago, or 0."""
        if jax.process_count() == 1:
            return own
        self._asked.append(_largest(own))
        if len(self._asked) <= self.steps_later:
            return 0
        return int(self._asked.popleft())


def _largest(own: int) -> Array:
    sharding, largest = _over_all_devices()
    shape = (jax.device_count(),)
    numbers = jax.make_array_from_callback(shape, sharding, lambda _: np.full(1, own, np.int32))
    return largest(numbers)


@cache
def _over_all_devices() -> tuple[NamedSharding, Callable[[Array], Array]]:
    mesh = Mesh(np.asarray(jax.devices()), ("all",))
    everywhere = NamedSharding(mesh, P())
    return NamedSharding(mesh, P("all")), jax.jit(jnp.max, out_shardings=everywhere)
