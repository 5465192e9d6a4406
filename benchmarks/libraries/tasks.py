"""What libraries are asked to do, and the arrays they do it on: the same for all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

GATES: Mapping[str, int] = {"elman": 1, "gru": 3, "lstm": 4}
"""G of each recurrence that is compared."""


class RefusedError(Exception):
    """The library has no such thing, or it is not to be timed; the message says why."""


@dataclass(frozen=True)
class Sequences:
    """Run a recurrence over a batch of sequences.

    A training step is loss = ½ (Σ |ys|² + Σ |carry|²) and its gradient by parameters and inputs;
    past its length a row's ys do not count.
    """

    recurrence: str
    computation: str  # "forward" or "training"
    batch_size: int
    time_steps: int
    input_size: int
    hidden_size: int
    kind: str = "plain"  # or with "lengths" or "resets"
    plan: str = ""  # of ours


@dataclass(frozen=True)
class Product:
    """Multiply two square matrices: the machine's rate."""

    size: int
    plan: str = ""

    def operations(self) -> float:
        """Of floating point."""
        return 2.0 * self.size**3


@dataclass(frozen=True)
class Generation:
    """Sample from a character model: embedding (E = H), layers of a recurrence, dense, softmax."""

    recurrence: str
    batch_size: int
    layers: int
    hidden_size: int
    length: int
    plan: str = ""  # a way to do it, where a library has several
    vocabulary_size: int = 96


@dataclass(frozen=True)
class Reading:
    """The logits of a `Generation`'s model before the last of these tokens, to check it by."""

    model: Generation
    tokens: bytes  # (length, B) int32


@dataclass(frozen=True)
class Streaming:
    """Step after step, called from Python, B = 1, I = H; each output is there before the next."""

    recurrence: str
    hidden_size: int
    steps: int
    plan: str = ""


Timed = Sequences | Product | Generation | Streaming
Task = Timed | Reading


class Prepared(NamedTuple):
    """A task that is ready to be timed."""

    call: Callable[[], Any]  # returns when its results are there
    results: Callable[[Any], Mapping[str, np.ndarray]]  # of a call, in names common to all
    compiled: Mapping[str, Any] | None = None  # what `benchmarks.measure.CompileCost` has
    computes: str | None = None  # a recurrence of ours, where it is not the one that was asked for


Prepare = Mapping[type, Callable[[Any], Prepared]]
"""Kind of task -> what makes it ready; raises `RefusedError`."""

FIRST_TOKEN = 0


def weights_of(
    recurrence: str, input_size: int, hidden_size: int, layer: int = 0
) -> dict[str, np.ndarray]:
    """w_x (I, GH), w_h (H, GH), b (GH,), float32, uniform within ±1/√H, gates in PyTorch's order.

    There is one bias, for not all libraries have a second.
    """
    columns, bound = GATES[recurrence] * hidden_size, hidden_size**-0.5
    shapes = {"w_x": (input_size, columns), "w_h": (hidden_size, columns), "b": (columns,)}
    random = np.random.default_rng(layer)
    return {
        name: random.uniform(-bound, bound, shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def outer_weights_of(task: Generation) -> dict[str, np.ndarray]:
    """Of a character model, what is not in its layers: table (V, H), w (H, V), b (V,)."""
    random = np.random.default_rng(100)
    vocabulary, hidden = task.vocabulary_size, task.hidden_size
    shapes = {"table": (vocabulary, hidden), "w": (hidden, vocabulary), "b": (vocabulary,)}
    return {name: random.standard_normal(s, np.float32) / 8 for name, s in shapes.items()}


def inputs_of(task: Sequences) -> np.ndarray:
    """(T, B, I) standard normal, float32."""
    shape = (task.time_steps, task.batch_size, task.input_size)
    return np.random.default_rng(1).standard_normal(shape, np.float32)


def stream_of(task: Streaming) -> list[np.ndarray]:
    """Inputs (1, H) of each step, standard normal, float32."""
    shape = (task.steps, 1, task.hidden_size)
    return list(np.random.default_rng(1).standard_normal(shape, np.float32))


def lengths_of(task: Sequences) -> np.ndarray:
    """(B,) int32: from T down to ½ T, in even steps."""
    lengths = np.linspace(task.time_steps, task.time_steps / 2, task.batch_size)
    return np.round(lengths).astype(np.int32)


def within_lengths(task: Sequences) -> np.ndarray:
    """(T, B) bool: which steps count."""
    return np.arange(task.time_steps)[:, None] < lengths_of(task)


def resets_of(task: Sequences) -> np.ndarray:
    """(T, B) bool: one in 32 steps, at each row's own times."""
    shape = (task.time_steps, task.batch_size)
    return np.random.default_rng(2).random(shape) < 1 / 32


def by_gate(array: np.ndarray, gates: str) -> dict[str, np.ndarray]:
    """Gate -> its columns; `gates` are letters in PyTorch's order."""
    return dict(zip(gates, np.split(array, len(gates), axis=-1), strict=True))


def in_order(array: np.ndarray, gates: str, order: str) -> np.ndarray:
    """The columns of gates in another order."""
    parts = by_gate(array, gates)
    return np.concatenate([parts[gate] for gate in order], axis=-1)
