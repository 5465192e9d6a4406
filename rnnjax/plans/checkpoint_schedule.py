"""In which order segments are run again when only some of the carries between them are kept."""

from bisect import bisect_left
from functools import lru_cache
from math import comb
from typing import NamedTuple


class Advance(NamedTuple):
    """Put the carry before a segment into a slot, and run the segment for the carry after it."""

    segment: int
    slot: int


class Schedule(NamedTuple):
    """What a forward pass keeps, and how a backward pass gets the carry before each segment.

    Attributes:
        forward: An advance for each segment.
        starts: For each segment, the slot with the carry to begin from when the backward pass,
            which goes from the last segment to the first, gets there.
        again: For each segment, the advances that make of that carry the one before the segment.
    """

    forward: tuple[Advance, ...]
    starts: tuple[int, ...]
    again: tuple[tuple[Advance, ...], ...]


@lru_cache(maxsize=32)
def binomial_schedule(segments: int, slots: int) -> Schedule:
    """The schedule that runs the fewest segments again.

    The carries kept are a stack: between the topmost one and the segment that is due, others are
    put where binomial coefficients say.

    Args:
        segments: How many, at least 1.
        slots: How many carries are kept at a time, the very first among them; at least 1, and 2
            for more than one segment.

    References:
        Griewank and Walther (2000), "Algorithm 799: revolve", ACM TOMS 26(1).
    """
    kept = [0]  # slot -> the segment before which the carry in it stands
    last = segments - 1
    forward = [*_advances_to(last, kept, slots), Advance(last, len(kept) - 1)]
    starts: list[int] = []
    again: list[tuple[Advance, ...]] = []
    for segment in reversed(range(segments)):
        starts.append(len(kept) - 1)
        again.append(tuple(_advances_to(segment, kept, slots)))
        kept.pop()
    return Schedule(tuple(forward), tuple(starts[::-1]), tuple(again[::-1]))


def _advances_to(segment: int, kept: list[int], slots: int) -> list[Advance]:
    """From the topmost carry kept to a segment; `kept` grows by those put on the way, and by it."""
    advances = []
    while kept[-1] < segment:
        before, slot = kept[-1], len(kept)
        after = before + _first_part(segment - before + 1, slots - slot)
        advances.append(Advance(before, slot - 1))
        # What the next slot holds before the carry that is to be kept there does not matter.
        advances += [Advance(between, slot) for between in range(before + 1, after)]
        kept.append(after)
    return advances


def _first_part(segments: int, free: int) -> int:
    """How many segments to advance before the next carry is kept."""
    times = 1
    while most_segments(free, times) < segments:
        times += 1
    at_least = most_segments(free, times - 2) if times > 1 else 1
    return max(at_least, segments - most_segments(free - 1, times))


def most_segments(free: int, times: int) -> int:
    """How many segments can be run backward with none run forward more than `times` times again.

    C(free + times, times)

    Args:
        free: How many carries can be kept besides the very first.
        times: The run that is differentiated counts as one.
    """
    return comb(free + times, times)


def fewest_free(segments: int, times: int) -> int:
    """The fewest carries besides the very first with which `most_segments` suffices."""
    return bisect_left(range(segments), segments, key=lambda free: most_segments(free, times))
