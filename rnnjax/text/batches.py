"""Sequences of many lengths as padded batches: like lengths together, each example once an epoch.

Rows come from anything that gives columns by a list of places, as a `datasets.Dataset` does. Which
examples stand in which batch is a pure function of (lengths, seed, epoch), and the batch of a
training step one of the step, so that a run resumed at a step goes on with the right batch.

Lengths are rounded up to few values of T, each of which is compiled once; a batch takes its T from
the longest of its rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np

ROWS_AT_A_TIME = 1000
"""How many rows are read at once where all rows are looked at."""


class Examples(Protocol):
    """Rows by place, such as a `datasets.Dataset`."""

    def __len__(self) -> int:
        """The number of rows, N."""
        ...

    def __getitem__(self, places: Any, /) -> Any:
        """`[[3, 1]]` is a mapping from the name of a column to its values in rows 3 and 1."""
        ...


@dataclass(frozen=True)
class Batches:
    """The batches of all epochs; called with a training step it gives the batch of the step.

    Attributes:
        per_epoch: how many batches an epoch has.
        make: (epoch, index in the epoch) -> batch, a pure function.
    """

    per_epoch: int
    make: Callable[[int, int], Any]

    def __call__(self, step: int) -> Any:
        """The batch of a step, counted from 0 over all epochs."""
        return self.make(*divmod(step, self.per_epoch))

    def epoch(self, epoch: int = 0) -> Iterator[Any]:
        """The batches of one epoch in order, for instance of held-out examples."""
        return (self.make(epoch, index) for index in range(self.per_epoch))


class PaddedBatch(NamedTuple):
    """B examples, those columns that are sequences padded with zeros to T steps; a pytree.

    In one batch of an epoch rows may be missing: they have length and weight 0, and hold zeros.
    """

    columns: dict[str, np.ndarray]  # (T, B, ...) of a sequence, (B, ...) of another
    lengths: dict[str, np.ndarray]  # (B,) int32 of each sequence
    weights: np.ndarray  # (B,) float32, 1 for an example, 0 for a missing one


class Members(NamedTuple):
    """The examples of a batch, at most B places, and the T that holds the longest of them."""

    places: np.ndarray  # (n,) int64
    steps: int


def bucket_steps(lengths: np.ndarray, growth: float = 1.25) -> np.ndarray:
    """The values of T that lengths are rounded up to, ascending: few, and none much too long.

    T_1 is the shortest length, T_{k+1} = max(T_k + 1, ⌊growth · T_k⌋), and the last one the longest
    length. So a length n ≥ 1 is rounded up to at most growth · n: where all rows of a batch are of
    one bucket, no more than 1 − 1/growth of it is padding.

    Args:
        lengths: `(N,)` integers of at least 0; a T is at least 1.
        growth: above 1; the nearer to 1, the less padding and the more values of T.

    Returns:
        `(K,)` int64; K grows as log(longest / shortest) / log(growth).

    Raises:
        ValueError: there is no length, one is negative, or the growth is not above 1.
    """
    lengths = np.asarray(lengths)
    if lengths.ndim != 1 or not lengths.size or lengths.min() < 0:
        raise ValueError(
            f"lengths: got {lengths if lengths.size < 9 else lengths.shape}, "
            "expected one row of at least one length, each at least 0"
        )
    if not growth > 1:
        raise ValueError(f"growth: got {growth}, expected above 1")
    steps, longest = [max(1, int(lengths.min()))], int(lengths.max())
    while steps[-1] < longest:
        steps.append(min(longest, max(steps[-1] + 1, int(growth * steps[-1]))))
    return np.asarray(steps)


def batches_by_length(
    lengths: np.ndarray, batch_size: int, *, growth: float = 1.25, seed: int = 0, epoch: int = 0
) -> list[Members]:
    """Which examples stand in which batch of an epoch; a pure function of its arguments.

    Examples are drawn in random order within the bucket of their length; B of a bucket are a batch,
    and the fewer than B that are left join the next longer bucket. So all N examples stand in
    ⌈N / B⌉ batches, each exactly once, and all batches but one are full. The batches of an epoch
    come in random order.

    Args:
        lengths: `(N,)` integers of at least 0.
        batch_size: B.
        growth: of `bucket_steps`.
        seed: another one shuffles differently.
        epoch: so does another epoch.

    Raises:
        ValueError: as `bucket_steps`, or B is not positive, or seed or epoch is negative.
    """
    check_batch_size(batch_size)
    steps = bucket_steps(lengths, growth)
    bucket = np.searchsorted(steps, lengths)
    rng = shuffler(seed, epoch)
    order = rng.permutation(len(lengths))
    order = order[np.argsort(bucket[order], kind="stable")]
    batches, begin = [], 0
    # Each bucket ends where the next one begins; the last batch takes what is left of all.
    for end in np.searchsorted(bucket[order], np.arange(len(steps)), side="right"):
        while end - begin >= batch_size or begin < end == len(order):
            places = order[begin : begin + batch_size]
            batches.append(Members(places, int(steps[bucket[places].max()])))
            begin += len(places)
    return [batches[place] for place in rng.permutation(len(batches))]


def pad(
    rows: Sequence[Any], steps: int, batch_size: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows side by side, time first; zeros behind each one and in the place of missing rows.

    Args:
        rows: at most B arrays or lists (n, ...) of numbers, n at most T, of one shape but for n.
        steps: T.
        batch_size: B; None is the number of rows.

    Returns:
        The rows `(T, B, ...)`, in int32, float32 or bool, and their lengths `(B,)` int32.

    Raises:
        ValueError: there is no row or more than B, one is longer than T, they differ in shape or
            dtype, or hold no numbers.
    """
    arrays = [as_numbers("rows", row) for row in rows]
    batch_size = len(arrays) if batch_size is None else batch_size
    if not 1 <= len(arrays) <= batch_size:
        raise ValueError(f"rows: got {len(arrays)}, expected 1..{batch_size}")
    lengths = np.zeros(batch_size, np.int32)
    for row, array in enumerate(arrays):
        if array.ndim < 1 or len(array) > steps:
            raise ValueError(
                f"rows: number {row} has shape {array.shape}, expected at most {steps} steps"
            )
        lengths[row] = len(array)
    # An empty list does not say what it is empty of.
    kinds = {(array.shape[1:], array.dtype) for array in arrays if len(array)}
    if len(kinds) > 1:
        raise ValueError(f"rows: got shapes and dtypes {sorted(map(str, kinds))}, expected one")
    shape, dtype = kinds.pop() if kinds else (arrays[0].shape[1:], arrays[0].dtype)
    padded = np.zeros((steps, batch_size, *shape), dtype)
    for row, array in enumerate(arrays):
        if len(array):
            padded[: len(array), row] = array
    return padded, lengths


def padded_batches(
    examples: Examples,
    sequences: Sequence[str],
    values: Sequence[str] = (),
    *,
    batch_size: int,
    growth: float = 1.25,
    seed: int = 0,
) -> Batches:
    """Batches of examples by their length, shuffled anew each epoch; `PaddedBatch` each.

    Args:
        examples: the rows.
        sequences: the columns that are padded; batches are made by the lengths of the first. T of
            each is rounded up for itself: `bucket_steps` of its own lengths.
        values: further columns, a number or an array of one shape a row.
        batch_size: B.
        growth: of `bucket_steps`.
        seed: of the shuffling.

    Raises:
        ValueError: there are no rows or no sequences, or a number is out of range.
        KeyError: there is no such column.
    """
    check_batch_size(batch_size)
    if not sequences:
        raise ValueError("sequences: got none, expected at least one column")
    lengths = [lengths_of(examples, name) for name in sequences]
    steps = dict(zip(sequences, (bucket_steps(n, growth) for n in lengths), strict=True))
    count = len(lengths[0])

    @lru_cache(2)
    def members(epoch: int) -> list[Members]:
        return batches_by_length(lengths[0], batch_size, growth=growth, seed=seed, epoch=epoch)

    def make(epoch: int, index: int) -> PaddedBatch:
        places = members(epoch)[index].places
        rows = examples[places.tolist()]
        columns, row_lengths = {}, {}
        for name in sequences:
            longest = max(map(len, rows[name]))
            fitting = steps[name][np.searchsorted(steps[name], longest)]
            columns[name], row_lengths[name] = pad(rows[name], int(fitting), batch_size)
        for name in values:
            known = as_numbers(name, rows[name])
            columns[name] = np.zeros((batch_size, *known.shape[1:]), known.dtype)
            columns[name][: len(known)] = known
        weights = (np.arange(batch_size) < len(places)).astype(np.float32)
        return PaddedBatch(columns, row_lengths, weights)

    return Batches(-(-count // batch_size), make)


def lengths_of(examples: Examples, column: str) -> np.ndarray:
    """How long the sequence of each row is, `(N,)` int64.

    Raises:
        KeyError: there is no such column.
    """
    count = len(examples)
    chunks = (range(a, min(a + ROWS_AT_A_TIME, count)) for a in range(0, count, ROWS_AT_A_TIME))
    return np.asarray(
        [len(row) for chunk in chunks for row in examples[list(chunk)][column]], np.int64
    )


def as_numbers(name: str, values: Any) -> np.ndarray:
    """Integers in int32, floating numbers in float32, bool as it is.

    Raises:
        ValueError: they are none of these, or integers beyond int32.
    """
    array = np.asarray(values)
    if array.dtype == np.bool_:
        return array
    if np.issubdtype(array.dtype, np.floating):
        return array.astype(np.float32)
    narrow = np.iinfo(np.int32)
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name}: got dtype {array.dtype}, expected numbers")
    if array.size and not narrow.min <= array.min() <= array.max() <= narrow.max:
        raise ValueError(f"{name}: got {array.min()} to {array.max()}, expected 32-bit integers")
    return array.astype(np.int32)


def shuffler(seed: int, epoch: int) -> np.random.Generator:
    """The random numbers of an epoch.

    Raises:
        ValueError: seed or epoch is negative.
    """
    if seed < 0 or epoch < 0:
        raise ValueError(f"seed, epoch: got {seed}, {epoch}, expected at least 0")
    return np.random.default_rng([seed, epoch])


def check_batch_size(batch_size: int) -> None:
    """Raise ValueError unless B is at least 1."""
    if batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}, expected at least 1")
