"""The step h' = a h + b, elementwise, with a and b from the input alone."""

from typing import Any, NamedTuple

from jax import Array

from rnnjax.recurrences.linear import LinearForm, Stage


class Coefficients(NamedTuple):
    """What `project` gives: all there is to a step."""

    decay: Array  # (..., H)
    drive: Array  # (..., H)


def coefficients_of_input(
    params: Any, z: Coefficients, entered: tuple[Array, ...]
) -> tuple[Array, Array]:
    """Decay and drive, just as they were projected."""
    del params, entered
    return z.decay, z.drive


def read_state(params: Any, z: Any, entered: Any, new: Any) -> Any:
    """The output is the state."""
    del params, z, entered
    return new


DIAGONAL = LinearForm((Stage(coefficients_of_input),), read_state)
"""h' = decay h + drive, y = h'."""
