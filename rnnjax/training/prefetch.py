"""Batches prepared in another thread while the device computes."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any


@contextmanager
def prefetched(
    batch_at: Callable[[int], Any], steps: range, ahead: int = 2
) -> Iterator[Iterator[Any]]:
    """`batch_at(step)` of each step in order, the next ones being made meanwhile.

    The batches are those of `map(batch_at, steps)`: the thread changes when they are made, never
    what they are.

    Args:
        batch_at: step -> batch; called by one thread, in order, but not the caller's: settings
            of JAX that hold for one thread alone do not reach it.
        steps: the steps of which batches are wanted.
        ahead: how many batches to make beforehand, which are held in memory; 0 makes each when
            it is asked for, in the caller's thread.

    Raises:
        ValueError: `ahead` is negative.
        Exception: what `batch_at` raised, when the batch of that step is asked for.
    """
    if ahead < 0:
        raise ValueError(f"ahead: got {ahead}, expected at least 0")
    if ahead == 0:
        yield map(batch_at, steps)
        return
    executor = ThreadPoolExecutor(1, "batches")
    made = deque(executor.submit(batch_at, step) for step in steps[:ahead])

    def in_order() -> Iterator[Any]:
        for step in steps[ahead:]:
            batch = made.popleft().result()
            made.append(executor.submit(batch_at, step))
            yield batch
        while made:
            yield made.popleft().result()

    try:
        yield in_order()
    finally:
        # Whoever leaves in the middle does not wait for a batch that nobody will use.
        executor.shutdown(wait=False, cancel_futures=True)
