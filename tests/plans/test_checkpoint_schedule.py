"""A backward pass of few carries finds each it needs, and runs the fewest segments again."""

from functools import cache
from itertools import product

import pytest

from rnnjax.plans.checkpoint_schedule import binomial_schedule, fewest_free, most_segments

SIZES = tuple(product(range(1, 40), range(2, 9)))


def forward_runs(segments, slots):
    """How often each segment is run without being differentiated; fails on a carry not there."""
    schedule = binomial_schedule(segments, slots)
    kept, runs = {}, [0] * segments

    def advance(before, advances):
        for segment, slot in advances:
            assert segment == before
            assert 0 <= slot < slots
            kept[slot] = before
            before += 1
            runs[segment] += 1
        return before

    assert advance(0, schedule.forward) == segments
    for segment in reversed(range(segments)):
        assert advance(kept[schedule.starts[segment]], schedule.again[segment]) == segment
    return runs


@cache
def fewest_runs(segments, free):
    """By trying every place of the next carry kept."""
    if segments == 1:
        return 0
    if free == 0:
        return float("inf")
    return min(
        first + fewest_runs(segments - first, free - 1) + fewest_runs(first, free)
        for first in range(1, segments)
    )


def test_each_carry_is_there_and_none_could_do_with_fewer_runs():
    for segments, slots in SIZES:
        runs = forward_runs(segments, slots)
        # The last is run for the outputs, not for a carry.
        assert sum(runs) - 1 == fewest_runs(segments, slots - 1), (segments, slots)


def test_no_segment_is_run_more_often_than_the_binomial_coefficient_says():
    for segments, slots in SIZES:
        times = next(t for t in range(segments + 1) if most_segments(slots - 1, t) >= segments)
        assert max(forward_runs(segments, slots)) <= max(1, times), (segments, slots)


@pytest.mark.parametrize("times", [1, 2, 5])
def test_the_fewest_carries_are_enough_and_one_less_is_not(times):
    for segments in range(2, 300):
        free = fewest_free(segments, times)
        assert most_segments(free - 1, times) < segments <= most_segments(free, times)
    assert fewest_free(1, times) == 0
