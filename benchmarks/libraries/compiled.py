"""What the libraries on JAX have in common."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.libraries.tasks import Compiled, Prepared, Product, Sequences, within_lengths
from benchmarks.measure import compile_program

Run = Callable[[Any, Array], tuple[Any, Array]]
"""`(params, xs) -> (carry, ys)`."""


def prepared(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    results: Callable[[Any], Mapping[str, np.ndarray]],
) -> Prepared:
    """Compile a function from nothing."""
    program, cost = compile_program(function, arguments)
    return Prepared(lambda: jax.block_until_ready(program(*arguments)), results, Compiled(*cost))


def prepared_run(
    task: Sequences, run: Run, params: Any, xs: Array, *, batch_axis: int = 1
) -> Prepared:
    """Compile a forward pass or a training step.

    Args:
        task: Says which.
        run: Time-major, or batch-major inside and out.
        params: Its parameters.
        xs: Its inputs.
        batch_axis: 1, or 0 where `run` is batch-major.
    """
    mask = None
    if task.options == "lengths":
        mask = jnp.moveaxis(jnp.asarray(within_lengths(task)), 1, batch_axis)[..., None]

    def loss(params: Any, xs: Array) -> Array:
        carry, ys = run(params, xs)
        if mask is not None:
            ys = jnp.where(mask, ys, 0)
        return sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves((carry, ys))) / 2

    def time_major(array: Array) -> np.ndarray:
        return np.moveaxis(np.asarray(array), batch_axis, 1)

    if task.computation == "forward":
        return prepared(run, (params, xs), lambda found: {"ys": time_major(found[1])})
    return prepared(
        jax.value_and_grad(loss, argnums=(0, 1)),
        (params, xs),
        lambda found: {"loss": np.asarray(found[0]), "dxs": time_major(found[1][1])},
    )


def product(task: Product) -> Prepared:
    """XLA's product of two square matrices."""
    a, b = (
        jax.random.normal(key, (task.size, task.size))
        for key in jax.random.split(jax.random.key(0))
    )
    return prepared(jnp.dot, (a, b), lambda found: {"product": np.asarray(found)})
