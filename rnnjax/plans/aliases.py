"""What a traced function says of its arrays: which are one and the same, which are only added.

Read off the program, where such things are certain, so that no recurrence has to declare them and
a mere coincidence of values is never taken for them.
"""

from collections.abc import Callable
from typing import Any

import jax


def first_equal_output(function: Callable[..., Any], *arguments: Any) -> tuple[int, ...]:
    """For each flattened output, the index of the first output that is the same array.

    The output of an LSTM, for one, is the h of its carry.

    Args:
        function: Traced, not run.
        arguments: Pytrees of arrays or of `jax.ShapeDtypeStruct`s.
    """
    outputs = jax.make_jaxpr(function)(*arguments).jaxpr.outvars
    return tuple(
        next(first for first, earlier in enumerate(outputs) if earlier is output)
        for output in outputs
    )


def used_only_as_sum(
    function: Callable[..., Any], first: Any, second: Any, *arguments: Any
) -> bool:
    """Whether the function reads its first two arguments only in their sum, leaf by leaf.

    Args:
        function: Traced, not run.
        first: A pytree of arrays or of `jax.ShapeDtypeStruct`s.
        second: Of the same structure, shapes and dtypes, else the answer is no.
        arguments: Of the function.
    """
    if jax.tree.structure(first) != jax.tree.structure(second):
        return False
    jaxpr = jax.make_jaxpr(function)(first, second, *arguments).jaxpr
    count = len(jax.tree.leaves(first))
    pairs = zip(jaxpr.invars[:count], jaxpr.invars[count : 2 * count], strict=True)
    for a, b in pairs:
        readers = [e for e in jaxpr.eqns if any(v is a or v is b for v in e.invars)]
        if len(readers) != 1 or any(v is a or v is b for v in jaxpr.outvars):
            return False
        (reader,) = readers
        if reader.primitive.name != "add" or a.aval != b.aval:
            return False
    return True
