"""What libraries are asked to do, and the arrays they do it on: the same for all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

GATES: Mapping[str, int] = {"elman": 1, "gru": 3, "lstm": 4}
"""G of each recurrence that is compared."""


class RefusedError(Exception):
    """The library has no such thing; the message says what is missing."""


@dataclass(frozen=True)
class Sequences:
    """Run a recurrence over a batch of sequences.

    A training step is loss = ½ (Σ |ys|² + Σ |carry|²) and its gradient by parameters and inputs;
    past its length a row's ys do not count.
    """

    recurrence: str  # one of GATES
    computation: str  # "forward" or "training"
    batch_size: int
    time_steps: int
    input_size: int
    hidden_size: int
    options: str = ""  # "", "lengths" or "resets"
    plan: str = ""  # of ours


@dataclass(frozen=True)
class Product:
    """Multiply two square matrices: the machine's rate."""

    size: int
    plan: str = ""


@dataclass(frozen=True)
class Generation:
    """Sample from a character model: embedding, layers of a recurrence, softmax."""

    recurrence: str
    batch_size: int
    layers: int
    hidden_size: int
    length: int
    vocabulary_size: int = 96
    plan: str = ""  # a way to do it, where a library has several


@dataclass(frozen=True)
class Streaming:
    """Step by step from Python at B = 1, I = H: each step's output is there before the next."""

    recurrence: str
    hidden_size: int
    steps: int
    plan: str = ""


Task = Sequences | Product | Generation | Streaming


class Compiled(NamedTuple):
    """What it took to make a program."""

    lower_seconds: float
    compile_seconds: float
    temporary_bytes: int | None
    output_bytes: int | None


class Prepared(NamedTuple):
    """A task that is ready to be timed."""

    call: Callable[[], Any]  # returns when its results are there
    results: Callable[[Any], Mapping[str, np.ndarray]]  # of a call, in names common to all
    compiled: Compiled | None = None  # None where nothing is compiled


Prepare = Mapping[type, Callable[[Any], Prepared]]


def weights_of(recurrence: str, input_size: int, hidden_size: int) -> dict[str, np.ndarray]:
    """w_x (I, GH), w_h (H, GH), b_x (GH,), b_h (GH,), float32, gates in PyTorch's order.

    Uniform within ±1/√H, as PyTorch draws them.
    """
    random, columns = np.random.default_rng(0), GATES[recurrence] * hidden_size
    shapes = {
        "w_x": (input_size, columns),
        "w_h": (hidden_size, columns),
        "b_x": (columns,),
        "b_h": (columns,),
    }
    bound = hidden_size**-0.5
    return {
        name: random.uniform(-bound, bound, shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def inputs_of(task: Sequences) -> np.ndarray:
    """(T, B, I) standard normal, float32."""
    shape = (task.time_steps, task.batch_size, task.input_size)
    return np.random.default_rng(1).standard_normal(shape, np.float32)


def lengths_of(task: Sequences) -> np.ndarray:
    """(B,) int32: from T down to ½ T, in even steps."""
    lengths = np.linspace(task.time_steps, task.time_steps / 2, task.batch_size)
    return np.round(lengths).astype(np.int32)


def resets_of(task: Sequences) -> np.ndarray:
    """(T, B) bool: one in 32 steps, at each row's own times."""
    shape = (task.time_steps, task.batch_size)
    return np.random.default_rng(2).random(shape) < 1 / 32


def within_lengths(task: Sequences) -> np.ndarray:
    """(T, B) bool: which steps count."""
    return np.arange(task.time_steps)[:, None] < lengths_of(task)
