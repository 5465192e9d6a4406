"""Libraries in processes of their own that take turns: one computes, the others sleep.

Threads of one library that wait in a loop for work slow another library down where both are in one
process, and for some milliseconds after a call where they are not. So a turn ends only when the
process has come to rest.
"""

import importlib
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import ceil
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from benchmarks.child_process import ChildEndedError, Send, child_process
from benchmarks.libraries.tasks import Compiled, Prepared, RefusedError, Task
from benchmarks.measure import Spread, peak_resident_increase, spread

REST_SECONDS = 0.002  # a process is at rest that computes for less than a quarter of such a while
LONGEST_UNREST = 1.0
MOST_CALLS = 50  # of a turn


class Prepare(NamedTuple):
    """Make a task ready, and call it once."""

    task: Task


class TakeTurn(NamedTuple):
    """Call a task once, then for about so many seconds, at least once."""

    task: Task
    seconds: float


class MeasurePeak(NamedTuple):
    """Measure the rise of resident memory during a call."""

    task: Task


class Forget(NamedTuple):
    """Let go of all tasks."""


class Ready(NamedTuple):
    """A task is prepared."""

    compiled: Compiled | None
    results: Mapping[str, np.ndarray]
    seconds: float  # of the second call


class Refused(NamedTuple):
    """A task is not."""

    reason: str


class Turn(NamedTuple):
    """A turn of a task."""

    seconds: float  # the median of its calls


Ask = Callable[[Any, float | None], Any]
"""`ask(request, seconds)` sends a request and waits for the answer, for ever if None."""


def serve(send: Send, requests: Connection, module: str) -> None:
    """Import a library's module, say its version, and answer requests until killed."""
    library = importlib.import_module(module)
    send(library.VERSION)
    prepared: dict[Task, Prepared] = {}
    while True:
        send(answer(library.PREPARE, prepared, requests.recv()))


def answer(
    prepare: Mapping[type, Callable[[Any], Prepared]],
    prepared: dict[Task, Prepared],
    request: Any,
    clock: Callable[[], float] = time.perf_counter,
) -> Any:
    """What a library's process answers; it comes to rest before."""
    found: Any = None
    match request:
        case Prepare(task):
            if type(task) not in prepare:
                return Refused(f"no {type(task).__name__.lower()} here")
            try:
                prepared[task] = prepare[type(task)](task)
            except RefusedError as error:
                return Refused(str(error))
            program = prepared[task]
            results = program.results(program.call())
            found = Ready(program.compiled, results, _seconds_of(program.call, clock))
        case TakeTurn(task, seconds):
            call = prepared[task].call
            first = _seconds_of(call, clock)
            count = min(max(1, ceil(seconds / first)) if first > 0 else MOST_CALLS, MOST_CALLS)
            found = Turn(statistics.median(_seconds_of(call, clock) for _ in range(count)))
        case MeasurePeak(task):
            found = peak_resident_increase(prepared[task].call)
        case Forget():
            prepared.clear()
    come_to_rest()
    return found


def _seconds_of(call: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    call()
    return clock() - start


def come_to_rest() -> None:
    """Return when the threads of this process no longer compute; after a second in any case."""
    end = time.monotonic() + LONGEST_UNREST
    while time.monotonic() < end:
        before = time.process_time()
        time.sleep(REST_SECONDS)
        if time.process_time() - before < REST_SECONDS / 4:
            return


@contextmanager
def library_process(module: str, start_seconds: float) -> Iterator[tuple[str, Ask]]:
    """The version of a library, and how to ask its process, which ends with the block.

    Raises:
        ChildTookTooLongError: It did not start in time; also from asking.
        ChildEndedError: It ended, likewise.
    """
    requests, to_child = multiprocessing.get_context("spawn").Pipe(duplex=False)
    with requests, to_child, child_process(serve, requests, module) as receive:

        def ask(request: Any, seconds: float | None = None) -> Any:
            try:
                to_child.send(request)
            except BrokenPipeError:
                raise ChildEndedError("the process has ended") from None
            return receive(seconds)

        yield receive(start_seconds), ask


class Contestant(NamedTuple):
    """A task and the library that does it."""

    library: str
    task: Task


def by_turns(
    asks: Mapping[str, Ask],
    contestants: Sequence[Contestant],
    expected: Mapping[Contestant, float],
    budget_seconds: float,
    turn_seconds: float,
    *,
    least_rounds: int = 5,
    most_rounds: int = 40,
    seed: int = 0,
) -> dict[Contestant, Spread]:
    """Time contestants by turns, in an order shuffled anew each round.

    Args:
        asks: Library -> how to ask its process.
        contestants: All prepared.
        expected: Seconds of a call.
        budget_seconds: About how long all rounds take together.
        turn_seconds: About how long the timed calls of a turn take; at least one is made.
        least_rounds: The fewest, whatever the budget.
        most_rounds: The most.
        seed: Of the shuffling.

    Returns:
        Quartiles over the rounds of the medians of turns.
    """
    one_round = sum(
        expected[contestant] + max(expected[contestant], turn_seconds) + 2 * REST_SECONDS
        for contestant in contestants
    )
    affordable = ceil(budget_seconds / one_round) if contestants else 0
    rounds = min(max(affordable, least_rounds), most_rounds)
    order, shuffling = list(contestants), random.Random(seed)
    seconds: dict[Contestant, list[float]] = {contestant: [] for contestant in contestants}
    for _ in range(rounds):
        shuffling.shuffle(order)
        for contestant in order:
            turn = asks[contestant.library](TakeTurn(contestant.task, turn_seconds), None)
            seconds[contestant].append(turn.seconds)
    return {contestant: spread(found) for contestant, found in seconds.items()}
