from collections import Counter
from contextlib import contextmanager
from itertools import accumulate

import numpy as np
import pytest

from benchmarks.child_process import ChildEndedError, ChildTookTooLongError
from benchmarks.libraries.tasks import Prepared, Product, RefusedError, Streaming, Task
from benchmarks.turns import (
    MOST_CALLS,
    REST_SECONDS,
    Contestant,
    Forget,
    MakeReady,
    MeasurePeak,
    Processes,
    Ready,
    Refused,
    TakeTurn,
    answer,
    by_turns,
    come_to_rest,
    library_process,
    make_ready,
    peaks_of,
)

SMALL, LARGE = Product(4), Product(8)


class Machine:
    """A clock that only calls move on, each by the next of its seconds."""

    def __init__(self, *seconds):
        self.now, self.called, self._seconds = 0.0, 0, iter(seconds)

    def clock(self):
        return self.now

    def prepare(self, task):
        if task == LARGE:
            raise RefusedError("too large")
        return Prepared(self._call, lambda number: {"calls": np.array(number)}, None, "gru")

    def _call(self):
        self.called += 1
        self.now += next(self._seconds)
        return self.called


def test_readiness_tells_the_results_and_the_seconds_of_the_second_call():
    machine = Machine(100.0, 3.0)
    prepared = {}
    ready = answer({Product: machine.prepare}, prepared, MakeReady(SMALL), machine.clock)
    assert ready == Ready(None, "gru", {"calls": np.array(1)}, 3.0)
    assert list(prepared) == [SMALL]
    assert answer({}, prepared, Forget()) is None
    assert prepared == {}


def test_what_a_library_has_not_is_refused_with_a_reason():
    prepare = {Product: Machine().prepare}
    assert answer(prepare, {}, MakeReady(LARGE)) == Refused("too large")
    assert answer(prepare, {}, MakeReady(Streaming("gru", 4, 4))) == Refused("has no such thing")


@pytest.mark.parametrize(
    ("seconds", "wanted", "median", "calls"),
    [
        ([9.0, 1.0], 0.5, 1.0, 2),  # at least one that counts
        ([1.0, 5.0, 2.0, 3.0], 2.5, 3.0, 4),
        ([0.0, *[7.0] * MOST_CALLS], 1.0, 7.0, 1 + MOST_CALLS),
        ([1.0, *[1.0] * MOST_CALLS], 1e9, 1.0, 1 + MOST_CALLS),
    ],
)
def test_first_call_of_a_turn_is_not_timed_but_decides_how_many_are(seconds, wanted, median, calls):
    machine = Machine(*seconds)
    prepared: dict[Task, Prepared] = {SMALL: machine.prepare(SMALL)}
    assert answer({}, prepared, TakeTurn(SMALL, wanted), machine.clock) == median
    assert machine.called == calls


def test_rest_is_waited_for_while_threads_compute_but_not_for_ever():
    def naps(computed_at_each):
        slept = []
        times = iter(accumulate(part for each in computed_at_each for part in (0.0, each)))
        come_to_rest(lambda: sum(slept), lambda: next(times), slept.append)
        return len(slept)

    assert naps([0.0]) == 1
    assert naps([REST_SECONDS, REST_SECONDS / 2, REST_SECONDS / 5, 0.0]) == 3
    assert naps([REST_SECONDS] * 1000) == pytest.approx(1 / REST_SECONDS, abs=1)


class Pretended:
    """Libraries whose processes are none: what is asked is recorded."""

    def __init__(self, seconds=1.0, fails=()):
        self.asked, self.started, self.ended = [], [], []
        self.seconds, self.fails = seconds, list(fails)

    @contextmanager
    def start(self, name):
        self.started.append(name)

        def ask(request, seconds):
            self.asked.append((name, request))
            if isinstance(request, MakeReady):
                if request.task in self.fails:
                    raise ChildTookTooLongError(f"no report within {seconds:g} s")
                return Refused("no") if name == "empty" else Ready(None, None, {}, self.seconds)
            return self.seconds

        yield f"version of {name}", ask
        self.ended.append(name)


def test_processes_start_when_first_asked_and_end_with_the_block():
    pretended = Pretended()
    with Processes(pretended.start) as processes:
        assert pretended.started == []
        for library in ("a", "b", "a"):
            processes.ask(library, Forget())
        assert pretended.started == ["a", "b"]
        assert processes.versions == {"a": "version of a", "b": "version of b"}
        processes.end("a")
        assert pretended.ended == ["a"]
        processes.ask("a", Forget())
    assert pretended.started == ["a", "b", "a"]
    assert sorted(pretended.ended) == ["a", "a", "b"]


def test_process_over_which_a_task_fails_starts_anew_without_it():
    tasks = [Product(size) for size in (1, 2, 3)]
    pretended = Pretended(fails=tasks[1:2])
    left_out = {}
    with Processes(pretended.start) as processes:
        ready = make_ready(processes, "a", tasks, 5.0, left_out)
        assert make_ready(processes, "empty", tasks[:1], 5.0, left_out) == {}
    assert list(ready) == [Contestant("a", tasks[0]), Contestant("a", tasks[2])]
    assert left_out == {
        Contestant("a", tasks[1]): "no report within 5 s",
        Contestant("empty", tasks[0]): "no",
    }
    assert pretended.started == ["a", "a", "empty"]
    asked = [request.task.size for name, request in pretended.asked if name == "a"]
    assert asked == [1, 2, 1, 3]


@pytest.mark.parametrize(("budget", "rounds"), [(0.1, 3), (21.0, 5), (1e6, 7)])
def test_all_take_turns_in_changing_order_and_the_budget_decides_how_often(budget, rounds):
    expected = {Contestant(name, SMALL): seconds for name, seconds in (("a", 1.0), ("b", 1.5))}
    pretended = Pretended(seconds=2.0)
    with Processes(pretended.start) as processes:
        found = by_turns(processes, expected, budget, 0.5, least_rounds=3, most_rounds=7)
    assert found == dict.fromkeys(expected, (2.0, 2.0, 2.0, rounds))
    names = [name for name, request in pretended.asked if request == TakeTurn(SMALL, 0.5)]
    turns = [tuple(names[i : i + 2]) for i in range(0, len(names), 2)]
    assert all(Counter(turn) == Counter("ab") for turn in turns)
    assert rounds < 7 or len(set(turns)) == 2


def test_peak_of_a_long_call_is_measured_once():
    expected = {Contestant("a", SMALL): 0.1, Contestant("b", SMALL): 1.0}
    pretended = Pretended()
    with Processes(pretended.start) as processes:
        assert list(peaks_of(processes, expected)) == list(expected)
    assert pretended.asked == [("a", MeasurePeak(SMALL, 3)), ("b", MeasurePeak(SMALL, 1))]


def test_a_library_serves_in_a_process_of_its_own():
    with library_process("benchmarks.libraries.numpy_product", 120.0) as (version, ask):
        assert version == np.__version__
        ready = ask(MakeReady(LARGE), 60.0)
        assert ready.results["product"].shape == (8, 8)
        assert ask(TakeTurn(LARGE, 0.0), 60.0) > 0
        with pytest.raises(ChildEndedError, match="exit code 1"):
            ask(TakeTurn(SMALL, 0.0), 60.0)  # never made ready
        with pytest.raises(ChildEndedError):
            ask(Forget(), 60.0)
