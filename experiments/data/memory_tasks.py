"""The adding problem and copy memory: to remember is all there is to do, over any length.

Both are drawn on the device, inside of what is compiled.

References:
    Hochreiter and Schmidhuber (1997), "Long short-term memory", Neural Computation 9(8), sections
    5.4 and 5.5. The forms here are those of Arjovsky, Shah and Bengio (2016), arXiv:1511.06464,
    sections 5.1 and 5.2.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

SYMBOLS, COPIED = 8, 10
"""Of copy memory: how many symbols there are, and how many are to be remembered."""

BLANK, DELIMITER = SYMBOLS, SYMBOLS + 1
"""Of copy memory: the ids after the symbols. BLANK is an answer too, DELIMITER never is."""

ADDING_BASELINE = 1 / 6
"""The squared error of who always says 1: the variance of a sum of two of U(0, 1)."""

ONE_UNKNOWN = 1 / 12
"""The least squared error of who knows one of the two numbers: the variance of the other."""


class AddingBatch(NamedTuple):
    """B sequences of T numbers, two of which are marked; their sum is asked for at one step."""

    xs: Array  # (T, B, 3) float32: a number in 0 … 1, whether it is marked, whether here is asked
    sums: Array  # (B,) float32
    asked: Array  # (B,) int32: the step at which the sum is asked for


class CopyBatch(NamedTuple):
    """B sequences of T + 20 tokens: 10 symbols, T − 1 blanks, the delimiter, 10 blanks."""

    tokens: Array  # (T + 20, B) int32, 0 … 9
    targets: Array  # (T + 20, B) int32, 0 … 8: T + 10 blanks, then the 10 symbols


def adding_batch(
    key: Array, time_steps: int, batch_size: int, share_in_the_middle: float = 0.0
) -> AddingBatch:
    """Draw sequences of the adding problem.

    One mark is before step T // 2 and one after it. The sum is asked for at the last step; or, of
    some sequences, at step T // 2, where one of the two numbers is still to come.

    Args:
        key: A random key.
        time_steps: T, at least 4.
        batch_size: B.
        share_in_the_middle: The share of sequences of which the sum is asked for in the middle: the
            first ones of the batch.

    Raises:
        ValueError: T is below 4, or the share is not within 0 … 1.
    """
    if time_steps < 4:
        raise ValueError(f"time_steps: got {time_steps}, expected at least 4")
    if not 0 <= share_in_the_middle <= 1:
        raise ValueError(f"share_in_the_middle: got {share_in_the_middle}, expected within 0 … 1")
    key_numbers, key_first, key_second = jax.random.split(key, 3)
    half, shape = time_steps // 2, (batch_size,)
    numbers = jax.random.uniform(key_numbers, (time_steps, batch_size), jnp.float32)
    first = jax.random.randint(key_first, shape, 0, half, jnp.int32)
    second = jax.random.randint(key_second, shape, half + 1, time_steps, jnp.int32)
    in_the_middle = jnp.arange(batch_size) < round(share_in_the_middle * batch_size)
    asked = jnp.where(in_the_middle, half, time_steps - 1).astype(jnp.int32)
    times = jnp.arange(time_steps, dtype=jnp.int32)[:, None]
    marks = ((times == first) | (times == second)).astype(jnp.float32)
    xs = jnp.stack([numbers, marks, (times == asked).astype(jnp.float32)], axis=-1)
    return AddingBatch(xs, jnp.sum(numbers * marks, axis=0), asked)


def copy_batch(key: Array, blanks: int, batch_size: int) -> CopyBatch:
    """Draw sequences of copy memory.

    Args:
        key: A random key.
        blanks: T, at least 1: how long the symbols are to be remembered.
        batch_size: B.

    Raises:
        ValueError: T is below 1.
    """
    if blanks < 1:
        raise ValueError(f"blanks: got {blanks}, expected at least 1")
    symbols = jax.random.randint(key, (COPIED, batch_size), 0, SYMBOLS, jnp.int32)

    def all_of(token: int, count: int) -> Array:
        return jnp.full((count, batch_size), token, jnp.int32)

    tokens = [symbols, all_of(BLANK, blanks - 1), all_of(DELIMITER, 1), all_of(BLANK, COPIED)]
    return CopyBatch(
        jnp.concatenate(tokens), jnp.concatenate([all_of(BLANK, blanks + COPIED), symbols])
    )


def copy_baseline(blanks: int) -> float:
    """The cross-entropy of who remembers nothing, nats a step: 10 ln 8 / (T + 20).

    That is to know when a symbol is asked for, and none of the symbols.
    """
    return COPIED * math.log(SYMBOLS) / (blanks + 2 * COPIED)
