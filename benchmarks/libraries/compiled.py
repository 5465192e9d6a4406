"""What the libraries on JAX have in common."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from benchmarks.libraries.tasks import (
    FIRST_TOKEN,
    Generation,
    Prepared,
    Product,
    Sequences,
    Streaming,
    lengths_of,
    resets_of,
    stream_of,
    within_lengths,
)
from benchmarks.measure import compile_program, without_stored_programs

Run = Callable[[Any, Array], tuple[Any, Array]]
"""`(params, xs) -> (carry, ys)`."""

Step = Callable[[Any, Any, Array], tuple[Any, Array]]
"""`(params, carry, x) -> (carry, y)`."""

without_stored_programs()


def prepared(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    results: Callable[[Any], Mapping[str, np.ndarray]],
    computes: str | None = None,
) -> Prepared:
    """Compile a function from nothing."""
    program, cost = compile_program(function, arguments)
    return Prepared(
        lambda: jax.block_until_ready(program(*arguments)), results, cost._asdict(), computes
    )


def prepared_run(
    task: Sequences,
    run: Run,
    params: Any,
    xs: Array,
    *,
    batch_major: bool = False,
    computes: str | None = None,
) -> Prepared:
    """Compile a forward pass or a training step.

    Args:
        task: Says which.
        run: Time-major, or batch-major inside and out.
        params: Its parameters.
        xs: Its inputs.
        batch_major: Which of the two.
        computes: See `Prepared`.
    """
    mask = None
    if task.kind == "lengths":
        mask = jnp.asarray(within_lengths(task))[..., None]
        mask = jnp.swapaxes(mask, 0, 1) if batch_major else mask

    def loss(params: Any, xs: Array) -> Array:
        carry, ys = run(params, xs)
        counted = ys if mask is None else jnp.where(mask, ys, 0)
        squares = [jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves((carry, counted))]
        return jnp.stack(squares).sum() / 2

    def time_major(array: Array) -> np.ndarray:
        return np.swapaxes(np.asarray(array), 0, 1) if batch_major else np.asarray(array)

    if task.computation == "forward":
        return prepared(run, (params, xs), lambda found: {"ys": time_major(found[1])}, computes)
    return prepared(
        jax.value_and_grad(loss, argnums=(0, 1)),
        (params, xs),
        lambda found: {"loss": np.asarray(found[0]), "dxs": time_major(found[1][1])},
        computes,
    )


def run_by_steps(task: Sequences, step: Step, zero: Any) -> Run:
    """`lax.scan` over a step, which clears the carry at resets and freezes it past lengths.

    Args:
        task: Says whether there are resets or lengths.
        step: Of a cell.
        zero: The carry at the beginning and after a reset.
    """
    rows = np.ones((task.time_steps, task.batch_size), bool)
    valid = jnp.asarray(within_lengths(task) if task.kind == "lengths" else rows)[..., None]
    resets = jnp.asarray(resets_of(task) if task.kind == "resets" else ~rows)[..., None]

    def chosen(condition: Array, this: Any, other: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.where(condition, a, b), this, other)

    def run(params: Any, xs: Array) -> tuple[Any, Array]:
        def one(carry: Any, inputs: tuple[Array, Array, Array]) -> tuple[Any, Array]:
            x, valid, reset = inputs
            before = chosen(reset, zero, carry) if task.kind == "resets" else carry
            after, y = step(params, before, x)
            return (chosen(valid, after, before) if task.kind == "lengths" else after), y

        return lax.scan(one, zero, (xs, valid, resets))

    return run


def zero_carry(recurrence: str, rows: int, hidden_size: int) -> Any:
    """Zeros, one array or two."""
    zero = jnp.zeros((rows, hidden_size), jnp.float32)
    return (zero, zero) if recurrence == "lstm" else zero


def lengths_array(task: Sequences) -> Array:
    """(B,) int32."""
    return jnp.asarray(lengths_of(task))


def product(task: Product) -> Prepared:
    """XLA's product of two square matrices."""
    a, b = np.random.default_rng(0).standard_normal((2, task.size, task.size), np.float32)
    return prepared(jnp.dot, (jnp.asarray(a), jnp.asarray(b)), lambda found: {"product": found})


def generation_by_scan(task: Generation, step: Step, params: Any, carry: Any) -> Prepared:
    """One program that draws all tokens.

    Args:
        task: The model and the length.
        step: `(params, carry, token (B,)) -> (carry, logits (B, V))`.
        params: Its parameters.
        carry: The first one.
    """

    def generate(params: Any, key: Array) -> tuple[Array, Array]:
        def draw(before: Any, key: Array) -> tuple[Any, Array]:
            carry, token, _ = before
            carry, logits = step(params, carry, token)
            token = jax.random.categorical(key, logits).astype(jnp.int32)
            return (carry, token, logits), token

        first = jnp.full((task.batch_size,), FIRST_TOKEN, jnp.int32)
        logits = jnp.zeros((task.batch_size, task.vocabulary_size), jnp.float32)
        keys = jax.random.split(key, task.length)
        (_, _, logits), tokens = lax.scan(draw, (carry, first, logits), keys)
        return tokens, logits

    return prepared(
        generate,
        (params, jax.random.key(0)),
        lambda found: {"tokens": np.asarray(found[0]), "logits": np.asarray(found[1])},
    )


def generation_by_calls(task: Generation, step: Step, params: Any, carry: Any) -> Prepared:
    """A call from Python for each token; arguments as in `generation_by_scan`."""

    def draw(params: Any, carry: Any, token: Array, key: Array) -> tuple[Any, ...]:
        carry, logits = step(params, carry, token)
        key, now = jax.random.split(key)
        return carry, jax.random.categorical(now, logits).astype(jnp.int32), key, logits

    first = jnp.full((task.batch_size,), FIRST_TOKEN, jnp.int32)
    key = jax.random.key(0)
    _, cost = compile_program(draw, (params, carry, first, key))
    jitted = jax.jit(draw)

    def call() -> tuple[list[np.ndarray], Any]:
        state: tuple[Any, ...] = (carry, first, key, None)
        tokens = []
        for _ in range(task.length):
            state = jitted(params, *state[:3])
            tokens.append(np.asarray(state[1]))  # someone reads it
        return tokens, state[3]

    return Prepared(
        call,
        lambda found: {"tokens": np.stack(found[0]), "logits": np.asarray(found[1])},
        cost._asdict(),
    )


def streaming_by_calls(task: Streaming, step: Step, params: Any, carry: Any) -> Prepared:
    """A call of a compiled step for each input.

    Args:
        task: How many steps.
        step: Of a cell, on rows.
        params: Its parameters.
        carry: The first one.
    """
    xs = [jnp.asarray(x) for x in stream_of(task)]
    _, cost = compile_program(step, (params, carry, xs[0]))
    jitted = jax.jit(step)

    def call() -> list[Array]:
        state, ys = carry, []
        for x in xs:
            state, y = jitted(params, state, x)
            ys.append(y.block_until_ready())
        return ys

    return Prepared(call, lambda ys: {"ys": np.concatenate(ys)}, cost._asdict())
