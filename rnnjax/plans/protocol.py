"""What a plan is: a way to run any recurrence along time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from jax import Array

from rnnjax.recurrences.protocol import Carry, Params, Recurrence


class Inputs(NamedTuple):
    """All arrays of a scan besides the parameters; `None` is an option that was not asked for."""

    xs: Array  # (T, *B, I)
    carry: Carry  # leaves (*B, ...): before the first step
    fresh_carry: Carry  # leaves (*B, ...): what a reset puts in place of the carry
    valid: Array | None  # (T, *B) bool: step t of a row is within its length
    resets: Array | None  # (T, *B) bool: the carry is cleared before step t


class Request(NamedTuple):
    """What a plan may be asked whether it can serve: everything known before a compile."""

    recurrence: Recurrence
    params: Params  # leaves are `jax.ShapeDtypeStruct`s
    time_steps: int  # T
    batch_shape: tuple[int, ...]  # *B
    carry_size: int  # numbers in one row's carry
    dtype: str  # of the inputs: that of the products
    accumulation_dtype: str
    lengths: bool
    resets: bool
    reverse: bool
    platform: str  # "cpu", "gpu" or "tpu"

    @property
    def rows(self) -> int:
        """The product of the batch axes."""
        rows = 1
        for size in self.batch_shape:
            rows *= size
        return rows


ANY_ORDER = "any order, forward and reverse mode"
ANY_ORDER_REVERSE = "any order, reverse mode"
FIRST_ORDER_REVERSE = "first order, reverse mode"


def serves_everything(request: Request) -> None:
    """The `refusal` of a plan that serves every request."""
    del request


@dataclass(frozen=True, eq=False)
class Plan:
    """How a recurrence is run along time. All plans promise the same values and gradients.

    Attributes:
        name: Its name in the registry.
        summary: One line: the idea.
        run: `(recurrence, params, inputs, reverse) -> (carry, ys)`.
        derivatives: Which derivatives it has: `ANY_ORDER`, `ANY_ORDER_REVERSE` or
            `FIRST_ORDER_REVERSE`.
        cost: One line: what time and memory it takes.
        refusal: `(request) -> str | None`: which option it lacks, or None where it serves.
    """

    name: str
    summary: str
    run: Callable[[Recurrence, Params, Inputs, bool], tuple[Carry, Array]]
    derivatives: str
    cost: str
    refusal: Callable[[Request], str | None] = serves_everything

    def __deepcopy__(self, memo: dict[int, Any]) -> "Plan":
        return self  # as a function is

    def __repr__(self) -> str:
        return f"<plan {self.name}>"


def check_size(name: str, value: object) -> None:
    """Raise ValueError, naming the argument, unless it is an integer of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}: got {value!r}, expected an integer of at least 1")
