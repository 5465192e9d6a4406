"""A model on paper of training on 8 to 4,096 accelerators: bytes moved against link rates.

Nothing here is measured. Rates are those that vendors state; what nobody states is an assumption,
in `ASSUMPTIONS`, and the report prints all of it. Communication hides behind nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, log2

DEVICES = (8, 16, 64, 256, 1024, 4096)


@dataclass(frozen=True)
class Accelerator:
    """One accelerator and its links.

    Attributes:
        name: As in the tables.
        flops: A second, of 16-bit products, without sparsity.
        memory_bytes: A second, to and from its own memory.
        link_bytes: A second, one way, to its neighbours.
        neighbours: How many are reached at that rate; None is all.
        network_bytes: A second, one way, to all others.
        torus: Whether messages go from neighbour to neighbour along three axes, not through a tree.
        source: Where the rates are stated.
    """

    name: str
    flops: float
    memory_bytes: float
    link_bytes: float
    neighbours: int | None
    network_bytes: float
    torus: bool
    source: str


ACCELERATORS: Mapping[str, Accelerator] = {
    accelerator.name: accelerator
    for accelerator in (
        Accelerator(
            name="TPU v5p",
            flops=459e12,
            memory_bytes=2765e9,
            link_bytes=1200e9 / 2,
            neighbours=None,
            network_bytes=1200e9 / 2,
            torus=True,
            source="459 TFLOP/s, 2765 GB/s of memory, 1200 GB/s of interconnect both ways a chip, "
            "a 3D torus of up to 6144: https://docs.cloud.google.com/tpu/docs/v5p",
        ),
        Accelerator(
            name="H100",
            flops=989e12,
            memory_bytes=3350e9,
            link_bytes=900e9 / 2,
            neighbours=8,
            network_bytes=400e9 / 8,
            torus=False,
            source="1979 TFLOP/s with sparsity, half of it without, 3.35 TB/s of memory, NVLink of "
            "900 GB/s both ways: https://www.nvidia.com/en-us/data-center/h100/; a node of eight, "
            "with a port of 400 Gb/s for each: https://docs.nvidia.com/dgx/dgxh100-user-guide/",
        ),
    )
}

UTILISATION = 0.4
STEP_SECONDS = 10e-6
HOP_SECONDS = 1e-6
NETWORK_SECONDS = 5e-6
ELEMENTWISE_PASSES = 12
ASSUMPTIONS = (
    f"products run at {UTILISATION:.0%} of the peak",
    f"a step of a time loop takes {STEP_SECONDS * 1e6:.0f} µs at least, forward and backward each",
    f"a message takes {HOP_SECONDS * 1e6:.0f} µs from neighbour to neighbour, and "
    f"{NETWORK_SECONDS * 1e6:.0f} µs a level of a tree through a network",
    "collectives reach the stated rate of all links of a device together",
    f"a linear scan with its gradient goes {ELEMENTWISE_PASSES} times over T·B·H numbers in memory",
    "nothing is computed while something is sent",
)


@dataclass(frozen=True)
class LSTMTraining:
    """A training step of stacked LSTMs with parameters and gradients in float32."""

    layers: int = 2
    hidden_size: int = 1024
    time_steps: int = 256

    @property
    def parameter_bytes(self) -> int:
        """Of all layers, with I = H."""
        return 4 * self.layers * (8 * self.hidden_size**2 + 4 * self.hidden_size)

    def seconds(self, accelerator: Accelerator, rows: float) -> float:
        """On one device without any other: the larger of its products and its loop."""
        flops = 3 * 2 * 8 * self.hidden_size**2 * self.layers * self.time_steps * rows
        loop = 2 * self.layers * self.time_steps * STEP_SECONDS
        return max(flops / (UTILISATION * accelerator.flops), loop)


@dataclass(frozen=True)
class LongScan:
    """A minimal GRU (linear in its carry) over a long sequence, with its gradient, in float32."""

    hidden_size: int = 1024
    time_steps: int = 2**20
    rows: int = 1

    @property
    def sent_a_round(self) -> int:
        """A decay and a drive of a state's size."""
        return 2 * 4 * self.rows * self.hidden_size

    def seconds(self, accelerator: Accelerator) -> float:
        """All of it on one device: its products, and what passes through memory."""
        numbers = self.time_steps * self.rows * self.hidden_size
        flops = 3 * 2 * 2 * self.hidden_size * numbers
        passes = ELEMENTWISE_PASSES * 4 * numbers
        return flops / (UTILISATION * accelerator.flops) + passes / accelerator.memory_bytes


def message_seconds(accelerator: Accelerator, devices: int) -> float:
    """How long the smallest message takes to the farthest device."""
    if accelerator.torus:
        return HOP_SECONDS * 3 * max(1, ceil(devices ** (1 / 3) / 2))
    within = min(devices, accelerator.neighbours or devices)
    levels = ceil(log2(devices / within)) if devices > within else 0
    return HOP_SECONDS + NETWORK_SECONDS * levels


def all_reduce_seconds(accelerator: Accelerator, devices: int, size: float) -> float:
    """Sum `size` bytes over devices: by a ring of neighbours, then of groups of them."""
    within = min(devices, accelerator.neighbours or devices)
    groups = devices // within
    near = 2 * (within - 1) / within * size / accelerator.link_bytes
    # Each of a group has summed its part, and sums that with its counterparts of other groups.
    far = 2 * (groups - 1) / groups * (size / within) / accelerator.network_bytes
    return near + far + 2 * message_seconds(accelerator, devices)


def rounds_of_exchange(devices: int) -> int:
    """Of `rnnjax.plans.sequence_parallel`, in one direction."""
    return 0 if devices < 2 else 1 + (ceil(log2(devices - 1)) if devices > 2 else 0)


def weak_efficiency(
    accelerator: Accelerator, work: LSTMTraining, devices: int, rows_a_device: int
) -> float:
    """The share of a step that is not communication, the rows of each device being given."""
    alone = work.seconds(accelerator, rows_a_device)
    return alone / (alone + all_reduce_seconds(accelerator, devices, work.parameter_bytes))


def strong_efficiency(
    accelerator: Accelerator, work: LSTMTraining, devices: int, rows: int
) -> float:
    """The speed-up over one device, divided by the number of devices, the batch being given."""
    one = work.seconds(accelerator, rows)
    step = work.seconds(accelerator, rows / devices)
    step += all_reduce_seconds(accelerator, devices, work.parameter_bytes)
    return one / (devices * step)


def sequence_efficiency(accelerator: Accelerator, work: LongScan, devices: int) -> float:
    """Likewise of a long sequence whose time is shared; its parameters' gradients are summed."""
    one = work.seconds(accelerator)
    slowest = min(accelerator.link_bytes, accelerator.network_bytes)
    one_round = message_seconds(accelerator, devices) + work.sent_a_round / slowest
    parameters = 4 * 2 * (work.hidden_size**2 + work.hidden_size)
    step = one / devices + 2 * rounds_of_exchange(devices) * one_round
    step += all_reduce_seconds(accelerator, devices, parameters)
    return one / (devices * step)
