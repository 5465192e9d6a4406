from itertools import accumulate, chain, repeat

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.measure import (
    compile_program,
    interleaved_seconds,
    peak_resident_increase,
    spread,
)


class Machine:
    """A clock that only calls move on, each by the next of its times."""

    def __init__(self, **times):
        self.now, self.called = 0.0, []
        self._times = {name: chain(values, repeat(values[-1])) for name, values in times.items()}
        self.calls = {name: lambda name=name: self._call(name) for name in times}

    def _call(self, name):
        self.called.append(name)
        self.now += next(self._times[name])

    def clock(self):
        return self.now


def test_calls_take_turns_in_changing_order():
    machine = Machine(a=[1.0], b=[2.0], c=[3.0])
    interleaved_seconds(machine.calls, 60.0, clock=machine.clock)
    rounds = [tuple(machine.called[i : i + 3]) for i in range(0, len(machine.called), 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in rounds)
    assert len(set(rounds[2:])) > 1


def test_first_call_is_not_timed():
    machine = Machine(a=[100.0, 1.0], b=[200.0, 2.0])
    seconds = interleaved_seconds(machine.calls, 30.0, clock=machine.clock)
    assert seconds == {"a": [1.0] * 10, "b": [2.0] * 10}


@pytest.mark.parametrize(("budget", "rounds"), [(0.1, 3), (20.0, 5), (22.0, 6), (1e6, 7)])
def test_budget_decides_rounds_within_bounds(budget, rounds):
    machine = Machine(a=[1.0], b=[3.0])
    seconds = interleaved_seconds(
        machine.calls, budget, least_rounds=3, most_rounds=7, clock=machine.clock
    )
    assert len(seconds["a"]) == len(seconds["b"]) == rounds


def test_calls_too_short_for_the_clock_are_timed_most_often():
    machine = Machine(a=[0.0])
    seconds = interleaved_seconds(machine.calls, 1.0, most_rounds=9, clock=machine.clock)
    assert seconds == {"a": [0.0] * 9}


def test_refuses_bounds_that_cross():
    with pytest.raises(ValueError, match="least_rounds: got 5, expected 1 … 4"):
        interleaved_seconds({}, 1.0, most_rounds=4)


def test_spread_is_that_of_the_timed_rounds():
    machine = Machine(a=[50.0, 50.0, 5.0, 1.0, 4.0, 2.0, 3.0])
    (seconds,) = interleaved_seconds(machine.calls, 0.1, clock=machine.clock).values()
    assert spread(seconds) == (2.0, 3.0, 4.0, 5)
    assert spread([1.0, 2.0]).median == 1.5
    with pytest.raises(ValueError, match="seconds: got none"):
        spread([])


def test_compiling_times_tracing_and_xla_apart():
    ticks = iter(accumulate([0.0, 2.0, 5.0]))
    arguments = (jnp.arange(3, dtype=jnp.float32),)
    compiled, cost = compile_program(lambda x: x * x, arguments, clock=lambda: next(ticks))
    np.testing.assert_array_equal(compiled(*arguments), [0.0, 1.0, 4.0])
    assert (cost.lower_seconds, cost.compile_seconds, cost.output_bytes) == (2.0, 5.0, 12)


def test_compiling_traces_anew_each_time():
    traced = []
    inner = jax.jit(lambda x: traced.append(x) or x)
    for _ in range(2):
        compile_program(lambda x: inner(x), (jax.ShapeDtypeStruct((2,), jnp.float32),))
    assert len(traced) == 2


def test_peak_counts_what_a_call_touches_and_frees():
    size = 64 * 2**20
    nothing, much = (
        peak_resident_increase(lambda: None),
        peak_resident_increase(lambda: np.ones(size, np.uint8).sum()),
    )
    if nothing is None or much is None:
        pytest.skip("this system keeps no record of peak memory")
    assert nothing < size / 8
    assert 0.9 * size < much < 1.5 * size
