"""Which outputs of a function are one and the same array, so that it need be kept only once."""

from collections.abc import Callable
from typing import Any

import jax


def first_equal_output(function: Callable[..., Any], *arguments: Any) -> tuple[int, ...]:
    """For each flattened output, the index of the first output that is the same value.

    An LSTM's output is its carry's h; the cotangents of two summands are one array. That is read
    off the traced program, where they are one variable, so no recurrence has to declare it and a
    mere coincidence of values is never taken for it.

    Args:
        function: Traced, not run.
        arguments: Arrays or `jax.ShapeDtypeStruct`s.
    """
    outputs = jax.make_jaxpr(function)(*arguments).jaxpr.outvars
    return tuple(
        next(first for first, earlier in enumerate(outputs) if earlier is output)
        for output in outputs
    )
