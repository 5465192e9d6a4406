"""What a recurrence is: a record of pure functions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jax import Array

from rnnjax.recurrences.linear import LinearForm

Params = Any
"""A typed immutable record (a pytree) of arrays of one floating dtype."""

Carry = Any
"""A pytree of arrays; every leaf begins with the batch axes."""


@dataclass(frozen=True, eq=False)
class Recurrence:
    """What is computed in one step; how it is run along time is the business of a plan.

    x^<t> -> z^<t> = project(x^<t>), then (carry^<t>, y^<t>) = step(carry^<t-1>, z^<t>).

    All functions take any number of leading axes, none too.

    Attributes:
        name: Its name in the registry.
        summary: One line: what it is and where it comes from.
        init: `(key, input_size, hidden_size, *, dtype, ...) -> params`.
        initial_carry: `(params, batch_shape) -> carry`; the carry before the first step and
            after a reset.
        project: `(params, xs) -> zs`, `(..., I) -> (..., G)`; all that does not depend on the
            carry.
        step: `(params, carry, z) -> (carry, y)`; the sequential rest.
        input_shape: `(params) -> shape` of one input without its time and batch axes.
        mix: `(params, carry) -> m`; the only use of recurrent weights, linear in `params`.
            With `gate` it splits `step` once more: `step = gate(z, mix(params, carry), carry)`.
        gate: `(z, m, carry) -> (carry, y)`; free of parameters, elementwise along the batch.
        sizes: `(params) -> options`, the keyword arguments with which `init` gives parameters of
            these shapes: `init(key, **options, dtype=dtype)`. By them `scan` refuses parameters
            of another recurrence (it traces `init`, once a shape); None leaves them unchecked.
        linear: The same step as stages that are linear in the carry, where it is so. A plan may
            then run it in parallel along time.
    """

    name: str
    summary: str
    init: Callable[..., Params]
    initial_carry: Callable[[Params, tuple[int, ...]], Carry]
    project: Callable[[Params, Array], Any]
    step: Callable[[Params, Carry, Any], tuple[Carry, Array]]
    input_shape: Callable[[Params], tuple[int, ...]]
    mix: Callable[[Params, Carry], Any] | None = None
    gate: Callable[[Any, Any, Carry], tuple[Carry, Array]] | None = None
    sizes: Callable[[Params], dict[str, Any]] | None = None
    linear: LinearForm | None = None

    def __post_init__(self) -> None:
        if (self.mix is None) != (self.gate is None):
            given, missing = ("gate", "mix") if self.mix is None else ("mix", "gate")
            raise ValueError(f"{missing}: got None beside a {given}, expected both or neither")

    def __deepcopy__(self, memo: dict[int, Any]) -> "Recurrence":
        # As a function is: else a copied module would be compiled anew, and not by `native`.
        return self

    def __repr__(self) -> str:
        return f"<recurrence {self.name}>"
