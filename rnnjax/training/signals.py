"""SIGINT and SIGTERM noted, so that a step can be finished before they are obeyed."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import FrameType

import jax

from rnnjax.training.interval import STEPS_IN_FLIGHT
from rnnjax.training.processes import Agreement


@dataclass
class Signals:
    """The number of the first signal that came, None before.

    With several processes `first` is that of any of them, in all of them after the same step.
    """

    first: int | None = None
    own: int | None = None
    _agreement: Agreement = field(default_factory=partial(Agreement, STEPS_IN_FLIGHT))

    def note(self, number: int) -> None:
        """This process got a signal."""
        self.own = number
        if jax.process_count() == 1:
            self.first = number

    def after_step(self) -> None:
        """Hear of signals that other processes got; all call this after each step."""
        if self.first is None:
            self.first = self._agreement.after_step(self.own or 0) or None


@contextmanager
def signals_noted() -> Iterator[Signals]:
    """Note the first SIGINT or SIGTERM instead of dying of it; a second one raises.

    Outside the main thread nothing is noted: Python allows handlers there only.

    Raises:
        KeyboardInterrupt: at the second signal.
    """
    noted = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return

    def note(signal_number: int, frame: FrameType | None) -> None:
        del frame
        if noted.own is not None:
            raise KeyboardInterrupt("second signal: left at once, without a checkpoint")
        noted.note(signal_number)
        # os.write, for a print may be interrupted in the middle of another one.
        os.write(2, b"\nfinishing the step and saving; once more to leave at once\n")

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # A signal ignored from the start (a background job of a script) stays ignored.
    previous = {number: old for number, old in previous.items() if old is not signal.SIG_IGN}
    try:
        for number in previous:
            signal.signal(number, note)
        yield noted
    finally:
        for number, handler in previous.items():
            # None is a handler that was not installed from Python, and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
