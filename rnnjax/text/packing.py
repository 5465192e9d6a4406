"""Sequences packed into rows one behind the other, with a reset where each begins.

A scan over a packed row with these resets computes what it computes of each sequence alone, and
hardly a step is padding, however the lengths differ. What it cannot do is run rows of one batch
for different numbers of steps, as lengths can: a row has T steps, and no sequence may be longer.
"""

import bisect
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from rnnjax.text.batches import (
    Batches,
    Examples,
    as_numbers,
    check_batch_size,
    lengths_of,
    shuffler,
)


class PackedBatch(NamedTuple):
    """B rows of T steps, each of whole sequences one behind the other; a pytree."""

    columns: dict[str, np.ndarray]  # (T, B, ...), zeros where nothing is
    resets: np.ndarray  # (T, B) bool, True at the first step of each sequence
    weights: np.ndarray  # (T, B) float32, 1 for a step of a sequence, 0 for padding
    examples: np.ndarray  # (T, B) int32, the place of the example, -1 for padding


def pack(lengths: np.ndarray, steps: int, *, seed: int = 0, epoch: int = 0) -> list[np.ndarray]:
    """Which examples stand in which row; a pure function of its arguments.

    Best fit, the longest first: each sequence goes to the fullest row that still holds it. Any two
    rows together hold more than T steps, so that there are fewer than 2 Σn / T rows, if more than
    one; usually few more than Σn / T. Sequences of one length change places from epoch to epoch,
    and so do rows, and sequences in their rows; the number of rows stays.

    Args:
        lengths: `(N,)` integers, 1 … T.
        steps: T.
        seed: another one shuffles differently.
        epoch: so does another epoch.

    Returns:
        For each row the places of its examples, each example in exactly one row.

    Raises:
        ValueError: there is no length or one is outside 1 … T, or seed or epoch is negative.

    References:
        Johnson (1973), "Near-optimal bin packing algorithms": at most 11/9 of the fewest rows, + 4.
    """
    lengths = np.asarray(lengths)
    if lengths.ndim != 1 or not lengths.size:
        raise ValueError(f"lengths: got shape {lengths.shape}, expected at least one length")
    wrong = np.flatnonzero((lengths < 1) | (lengths > steps))
    if wrong.size:
        raise ValueError(
            f"lengths: got {lengths[wrong[0]]} of example {wrong[0]}, expected 1..{steps}, the "
            "steps of a row"
        )
    rng = shuffler(seed, epoch)
    order = rng.permutation(len(lengths))
    order = order[np.argsort(-lengths[order], kind="stable")]
    rows: list[list[int]] = []
    with_room: dict[int, list[int]] = defaultdict(list)  # room -> rows that have it
    rooms: list[int] = []  # its keys, ascending
    for place in order.tolist():
        length = int(lengths[place])
        fitting = bisect.bisect_left(rooms, length)
        if fitting < len(rooms):
            room = rooms[fitting]
            row = with_room[room].pop()
            if not with_room[room]:
                del with_room[room], rooms[fitting]
        else:
            room, row = steps, len(rows)
            rows.append([])
        rows[row].append(place)
        if room > length:
            if room - length not in with_room:
                bisect.insort(rooms, room - length)
            with_room[room - length].append(row)
    return [rng.permutation(rows[row]) for row in rng.permutation(len(rows))]


def packed_batches(
    examples: Examples, sequences: Sequence[str], *, steps: int, batch_size: int, seed: int = 0
) -> Batches:
    """Batches of packed rows, shuffled anew each epoch; `PackedBatch` each.

    Every example stands in exactly one row an epoch. In the last batch rows may be missing: they
    are all padding.

    Args:
        examples: the rows of the data.
        sequences: the columns that are packed, equally long in each example.
        steps: T, at least the longest length.
        batch_size: B.
        seed: of the shuffling.

    Raises:
        ValueError: there are no sequences, one is empty or longer than T, columns differ in length,
            or a number is out of range.
        KeyError: there is no such column.
    """
    check_batch_size(batch_size)
    if not sequences:
        raise ValueError("sequences: got none, expected at least one column")
    lengths = lengths_of(examples, sequences[0])
    for name in sequences[1:]:
        differ = np.flatnonzero(lengths_of(examples, name) != lengths)
        if differ.size:
            raise ValueError(
                f"sequences: in example {differ[0]} {name!r} is not as long as {sequences[0]!r}, "
                "expected one length"
            )

    @lru_cache(2)
    def rows(epoch: int) -> list[np.ndarray]:
        return pack(lengths, steps, seed=seed, epoch=epoch)

    def make(epoch: int, index: int) -> PackedBatch:
        chosen = rows(epoch)[index * batch_size : (index + 1) * batch_size]
        places = np.concatenate(chosen)
        data = examples[places.tolist()]
        resets = np.zeros((steps, batch_size), bool)
        sources = np.full((steps, batch_size), -1, np.int32)
        # Where each sequence begins and in which row, in the order of `places`.
        begins = np.concatenate([np.cumsum(lengths[row]) - lengths[row] for row in chosen])
        columns_of = np.repeat(np.arange(len(chosen)), [len(row) for row in chosen])
        resets[begins, columns_of] = True
        for place, begin, column in zip(places, begins, columns_of, strict=True):
            sources[begin : begin + lengths[place], column] = place
        packed = {}
        for name in sequences:
            values = [as_numbers(name, row) for row in data[name]]
            shape, dtype = values[0].shape[1:], values[0].dtype
            packed[name] = np.zeros((steps, batch_size, *shape), dtype)
            for value, begin, column in zip(values, begins, columns_of, strict=True):
                packed[name][begin : begin + len(value), column] = value
        return PackedBatch(packed, resets, (sources >= 0).astype(np.float32), sources)

    return Batches(-(-len(rows(0)) // batch_size), make)
