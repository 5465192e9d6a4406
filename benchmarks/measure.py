"""Measuring compiled programs: time by turns, compile time, memory."""

import ctypes
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

Call = Callable[[], object]
Clock = Callable[[], float]


class CompileCost(NamedTuple):
    """What it took to compile a program, and what XLA says that a call of it takes."""

    lower_seconds: float  # tracing by JAX, to XLA's input language
    compile_seconds: float  # XLA
    temporary_bytes: int | None  # of a call, besides arguments and outputs
    output_bytes: int | None


class Spread(NamedTuple):
    """Quartiles of repeated measurements of one program, in seconds."""

    lower_quartile: float
    median: float
    upper_quartile: float
    rounds: int


def compile_program(
    function: Callable[..., Any], arguments: Sequence[Any], clock: Clock = time.perf_counter
) -> tuple[jax.stages.Compiled, CompileCost]:
    """Compile a function from nothing: what this process has traced before is forgotten.

    Programs that JAX stored on disk are another matter, see `without_stored_programs`.

    Args:
        function: Traced by `jax.jit`.
        arguments: Its arguments; arrays or `jax.ShapeDtypeStruct`s.
        clock: Seconds.

    Returns:
        The compiled function and its cost.
    """
    jax.clear_caches()
    start = clock()
    lowered = jax.jit(function).lower(*arguments)
    middle = clock()
    compiled = lowered.compile()
    end = clock()
    memory = compiled.memory_analysis()
    return compiled, CompileCost(
        lower_seconds=middle - start,
        compile_seconds=end - middle,
        temporary_bytes=None if memory is None else memory.temp_size_in_bytes,
        output_bytes=None if memory is None else memory.output_size_in_bytes,
    )


def without_stored_programs() -> None:
    """Keep JAX from taking compiled programs from disk, for the whole life of this process.

    JAX looks at this setting once, at the first compilation, so call it before.
    """
    jax.config.update("jax_enable_compilation_cache", False)


def interleaved_seconds(
    calls: Mapping[str, Call],
    budget_seconds: float,
    *,
    least_rounds: int = 5,
    most_rounds: int = 200,
    seed: int = 0,
    clock: Clock = time.perf_counter,
) -> dict[str, list[float]]:
    """Time calls by turns, so that noise of the machine hits all alike.

    Every round calls each once, in an order shuffled anew, so that none always follows the same
    one. Two calls of each go before: the first warms up, the second tells how many rounds the
    budget allows.

    Args:
        calls: Name -> what to time; JAX's results are waited for.
        budget_seconds: About how long all rounds take together.
        least_rounds: The fewest, whatever the budget.
        most_rounds: The most.
        seed: Of the shuffling.
        clock: Seconds.

    Returns:
        Name -> seconds of each round.

    Raises:
        ValueError: The bounds of rounds are not 1 ≤ least ≤ most.
    """
    if not 1 <= least_rounds <= most_rounds:
        raise ValueError(
            f"least_rounds: got {least_rounds}, expected 1 … {most_rounds} (most_rounds)"
        )

    def seconds_of(call: Call) -> float:
        start = clock()
        jax.block_until_ready(call())
        return clock() - start

    for call in calls.values():
        jax.block_until_ready(call())
    one_round = sum(seconds_of(call) for call in calls.values())
    affordable = ceil(budget_seconds / one_round) if one_round > 0 else most_rounds
    rounds = min(max(affordable, least_rounds), most_rounds)

    names, shuffling = list(calls), random.Random(seed)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        shuffling.shuffle(names)
        for name in names:
            seconds[name].append(seconds_of(calls[name]))
    return seconds


def spread(seconds: Sequence[float]) -> Spread:
    """Median and quartiles of measurements, interpolated linearly.

    Raises:
        ValueError: There are none.
    """
    if not seconds:
        raise ValueError("seconds: got none, expected at least one measurement")
    lower, median, upper = np.quantile(np.asarray(seconds), [0.25, 0.5, 0.75]).tolist()
    return Spread(lower, median, upper, len(seconds))


def peak_resident_increase(call: Call, *, repeats: int = 3) -> int | None:
    """Bytes by which the resident memory of this process rises at most during a call.

    Before each of the repeats, freed memory that the process still holds is given back and the
    kernel's record of the peak is reset; the largest rise counts, for memory that could not be
    given back hides a part of it. A call before all takes what is taken only once.

    Returns:
        None where the system has no such record (it is Linux's) or forbids to reset it.
    """
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not (status.exists() and os.access(reset, os.W_OK)):
        return None
    # The allocator of musl and others has no such function and holds less back.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)
    jax.block_until_ready(call())
    rises = []
    for _ in range(repeats):
        time.sleep(0.02)  # XLA's threads free a call's temporaries after its results are there
        trim(0)
        reset.write_text("5", encoding="ascii")  # proc(5): resets the peak resident set size
        before = _kibibytes(status, "VmRSS")
        jax.block_until_ready(call())
        rises.append(_kibibytes(status, "VmHWM") - before)
    return max(0, *rises) * 1024


def _kibibytes(status: Path, name: str) -> int:
    lines = status.read_text("ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
