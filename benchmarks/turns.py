"""Libraries in processes of their own that take turns: one computes, the others sleep.

Threads of one library that wait in a loop for work slow another library down where both are in one
process, and for some milliseconds after a call where they are not. So a turn begins with a call
that is not timed, and ends only when its process has come to rest.
"""

import importlib
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from math import ceil
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from benchmarks.child_process import ChildEndedError, ChildTookTooLongError, Send, child_process
from benchmarks.libraries.tasks import Prepare, Prepared, RefusedError, Task, Timed
from benchmarks.measure import Clock, Spread, peak_resident_increase, spread

REST_SECONDS = 0.002  # a process is at rest that computes for less than a quarter of such a while
LONGEST_UNREST = 1.0
MOST_CALLS = 50  # of a turn
LONG_SECONDS = 0.2  # the peak of memory of a call that takes longer is measured once


class MakeReady(NamedTuple):
    """Prepare a task, and call it twice."""

    task: Task


class TakeTurn(NamedTuple):
    """Call a task once, then for about so many seconds, at least once."""

    task: Timed
    seconds: float


class MeasurePeak(NamedTuple):
    """Measure the rise of resident memory during a call."""

    task: Timed
    repeats: int


class Forget(NamedTuple):
    """Let go of all tasks."""


class Ready(NamedTuple):
    """A task is ready to be timed."""

    compiled: Mapping[str, Any] | None  # what `CompileCost` has; None where nothing is compiled
    computes: str | None  # see `Prepared`
    results: Mapping[str, np.ndarray]
    seconds: float  # of the second call


class Refused(NamedTuple):
    """A task is not to be timed."""

    reason: str


Ask = Callable[[Any, float | None], Any]
"""`ask(request, seconds)` sends a request and waits for the answer, for ever if None."""

Start = Callable[[str], AbstractContextManager[tuple[str, Ask]]]
"""Starts the process of a library by name; gives its version and how to ask it."""


class Contestant(NamedTuple):
    """A task, and the library that does it."""

    library: str
    task: Timed


def serve(send: Send, requests: Connection, module: str) -> None:
    """Import the module of a library, send its version, and answer requests until killed."""
    library = importlib.import_module(module)
    send(library.VERSION)
    prepared: dict[Task, Prepared] = {}
    while True:
        found = answer(library.PREPARE, prepared, requests.recv())
        come_to_rest()
        send(found)


def answer(
    prepare: Prepare,
    prepared: dict[Task, Prepared],
    request: MakeReady | TakeTurn | MeasurePeak | Forget,
    clock: Clock = time.perf_counter,
) -> Any:
    """What a library's process answers.

    Args:
        prepare: Of the library.
        prepared: The tasks that are ready; changed.
        request: What is asked.
        clock: Seconds.

    Returns:
        `Ready` or `Refused`; the median of a turn's calls in seconds; bytes, or None where the
        system does not tell; None.
    """

    def seconds_of(call: Callable[[], object]) -> float:
        start = clock()
        call()
        return clock() - start

    match request:
        case MakeReady(task):
            if type(task) not in prepare:
                return Refused("has no such thing")
            try:
                program = prepare[type(task)](task)
            except RefusedError as error:
                return Refused(str(error))
            prepared[task] = program
            results = program.results(program.call())
            return Ready(program.compiled, program.computes, results, seconds_of(program.call))
        case TakeTurn(task, seconds):
            call = prepared[task].call
            first = seconds_of(call)
            count = min(max(ceil(seconds / first), 1), MOST_CALLS) if first > 0 else MOST_CALLS
            return statistics.median(seconds_of(call) for _ in range(count))
        case MeasurePeak(task, repeats):
            return peak_resident_increase(prepared[task].call, repeats=repeats)
        case Forget():
            prepared.clear()
            return None


def come_to_rest(
    clock: Clock = time.monotonic,
    computed: Clock = time.process_time,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Return when the threads of this process no longer compute; after a second in any case.

    Args:
        clock: Seconds.
        computed: Seconds of all threads together.
        sleep: For so many seconds.
    """
    end = clock() + LONGEST_UNREST
    while clock() < end:
        before = computed()
        sleep(REST_SECONDS)
        if computed() - before < REST_SECONDS / 4:
            return


@contextmanager
def library_process(module: str, start_seconds: float) -> Iterator[tuple[str, Ask]]:
    """Start a library in a process of its own, which ends with the block.

    Args:
        module: Has `VERSION` and `PREPARE`.
        start_seconds: How long it may take to import it.

    Raises:
        ChildTookTooLongError: It did not start in time; also from asking, with a time given.
        ChildEndedError: It ended, likewise.
    """
    requests, to_child = multiprocessing.get_context("spawn").Pipe(duplex=False)
    with to_child, child_process(serve, requests, module) as receive:
        requests.close()  # the child's copy is its own

        def ask(request: Any, seconds: float | None) -> Any:
            try:
                to_child.send(request)
            except BrokenPipeError:
                raise ChildEndedError("the process has ended") from None
            return receive(seconds)

        yield receive(start_seconds), ask


class Processes:
    """The processes of libraries: each starts when first asked, and ends with the block."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._running: dict[str, tuple[ExitStack, Ask]] = {}
        self.versions: dict[str, str] = {}

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        for library in list(self._running):
            self.end(library)

    def ask(self, library: str, request: Any, seconds: float | None = None) -> Any:
        """The answer of a library; raises as `library_process`."""
        if library not in self._running:
            with ExitStack() as stack:
                self.versions[library], ask = stack.enter_context(self._start(library))
                self._running[library] = (stack.pop_all(), ask)
        return self._running[library][1](request, seconds)

    def end(self, library: str) -> None:
        """End the process of a library, with all that is prepared there."""
        stack, _ = self._running.pop(library)
        stack.close()


def make_ready(
    processes: Processes,
    library: str,
    tasks: Sequence[Timed],
    limit_seconds: float,
    left_out: dict[Contestant, str],
) -> dict[Contestant, Ready]:
    """Prepare the tasks of one library, all anew without what takes too long or ends its process.

    Args:
        processes: Of the libraries.
        library: Which.
        tasks: What it is to do.
        limit_seconds: How long one may take to be prepared.
        left_out: Contestant -> why; those in it are not tried, and more are added.
    """
    while True:
        found: dict[Contestant, Ready] = {}
        failed = False
        for contestant in (Contestant(library, task) for task in tasks):
            if contestant in left_out:
                continue
            try:
                answered = processes.ask(library, MakeReady(contestant.task), limit_seconds)
            except (ChildTookTooLongError, ChildEndedError) as error:
                left_out[contestant] = str(error)
                processes.end(library)
                failed = True
                break
            if isinstance(answered, Refused):
                left_out[contestant] = answered.reason
            else:
                found[contestant] = answered
        if not failed:
            return found


def by_turns(
    processes: Processes,
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
        processes: Of the libraries, where all contestants are ready.
        expected: Contestant -> seconds of a call.
        budget_seconds: About how long all rounds take together.
        turn_seconds: About how long the timed calls of a turn take; at least one is made.
        least_rounds: The fewest, whatever the budget.
        most_rounds: The most.
        seed: Of the shuffling.

    Returns:
        Quartiles over the rounds of the medians of turns.
    """
    one_round = sum(
        seconds + max(seconds, min(turn_seconds, MOST_CALLS * seconds)) + 2 * REST_SECONDS
        for seconds in expected.values()
    )
    affordable = ceil(budget_seconds / one_round) if expected else 0
    order, shuffling = list(expected), random.Random(seed)
    seconds: dict[Contestant, list[float]] = {contestant: [] for contestant in order}
    for _ in range(min(max(affordable, least_rounds), most_rounds)):
        shuffling.shuffle(order)
        for contestant in order:
            turn = TakeTurn(contestant.task, turn_seconds)
            seconds[contestant].append(processes.ask(contestant.library, turn))
    return {contestant: spread(found) for contestant, found in seconds.items()}


def peaks_of(processes: Processes, expected: Mapping[Contestant, float]) -> dict[Contestant, Any]:
    """Contestant -> bytes by which resident memory rises in a call; None where it is not told."""
    return {
        contestant: processes.ask(
            contestant.library,
            MeasurePeak(contestant.task, repeats=1 if seconds > LONG_SECONDS else 3),
        )
        for contestant, seconds in expected.items()
    }
