"""Work in a child process that can be given up: what it reports, each report within a time."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

Send = Callable[[Any], None]
Receive = Callable[[float | None], Any]
"""`receive(seconds)` waits for the next report, for ever if None."""


class ChildTookTooLongError(Exception):
    """The next report did not come within its time."""


class ChildEndedError(Exception):
    """The child ended before it reported: it crashed, or the system killed it."""


@contextmanager
def child_process(work: Callable[..., None], *arguments: Any) -> Iterator[Receive]:
    """Run `work(send, *arguments)` in a new process, and kill it when the block ends.

    Args:
        work: A function of a module; it may `send` anything that pickles.
        arguments: Likewise.

    Raises:
        ChildTookTooLongError: From `receive`.
        ChildEndedError: From `receive`, with the exit code.
    """
    # Spawned, not forked: the threads of JAX do not survive a fork.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work_and_close, args=(work, sender, arguments), daemon=True)
    process.start()
    sender.close()  # so that the end of the child is the end of the pipe

    def receive(seconds: float | None) -> Any:
        if not receiver.poll(seconds):
            raise ChildTookTooLongError(f"no report within {seconds:g} s")
        try:
            return receiver.recv()
        except EOFError:
            process.join()
            raise ChildEndedError(f"the process ended with exit code {process.exitcode}") from None

    try:
        yield receive
    finally:
        process.kill()
        process.join()
        process.close()
        receiver.close()


def _work_and_close(
    work: Callable[..., None], sender: Connection, arguments: tuple[Any, ...]
) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with sender:
        work(sender.send, *arguments)


def _end_with_parent() -> None:
    """Let no child compile on for minutes after its parent was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
