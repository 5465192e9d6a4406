"""Where a run is: step, loss, rate and time left, as a bar or, not on a terminal, rare lines."""

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol, Self, TextIO

try:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
except ImportError as error:
    raise ImportError(
        "rnnjax.training.progress needs rich: pip install 'rnnjax-lib[train]'"
    ) from error


class RunProgress(Protocol):
    """A context manager told of each step."""

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        """Say that `step` steps are done; `metrics` are the last known, "loss" among them."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class Rate:
    """Steps a second over the last `window` seconds, so that a slow start is soon forgotten."""

    def __init__(self, window: float = 30.0) -> None:
        self._window = window
        self._seen: deque[tuple[float, int]] = deque()

    def update(self, now: float, step: int) -> float:
        """Steps a second at time `now` in seconds; NaN before two times are known."""
        self._seen.append((now, step))
        # One entry at or before the window's beginning stays, to measure from.
        while len(self._seen) > 2 and self._seen[1][0] <= now - self._window:
            self._seen.popleft()
        first_time, first_step = self._seen[0]
        return (step - first_step) / (now - first_time) if now > first_time else math.nan


def describe_progress(
    step: int, total_steps: int, loss: float, rate: float, items_per_step: int, unit: str
) -> str:
    """One line: step of steps, loss, items a second and time left; unknown parts left out."""
    parts = [f"step {step:,}/{total_steps:,}"]
    if not math.isnan(loss):
        parts.append(f"loss {loss:.4f}")
    if not math.isnan(rate) and rate > 0:
        parts.append(f"{_short(rate * items_per_step)} {unit}/s")
        parts.append(f"{_duration((total_steps - step) / rate)} left")
    return "  ".join(parts)


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class LineProgress:
    """A plain line on `stream` every `seconds`, the first after as long: short runs are silent."""

    def __init__(
        self,
        total_steps: int,
        *,
        items_per_step: int = 1,
        unit: str = "steps",
        seconds: float = 60.0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total_steps, self._items_per_step, self._unit = total_steps, items_per_step, unit
        self._seconds, self._clock = seconds, clock
        self._stream = sys.stderr if stream is None else stream
        self._rate, self._written_at = Rate(), clock()

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write a line if one is due."""
        now = self._clock()
        rate = self._rate.update(now, step)
        if now - self._written_at >= self._seconds:
            loss = metrics.get("loss", math.nan)
            line = describe_progress(
                step, self._total_steps, loss, rate, self._items_per_step, self._unit
            )
            print(line, file=self._stream, flush=True)
            self._written_at = now

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.flush()


class BarProgress:
    """A bar on a terminal, redrawn in place."""

    def __init__(
        self,
        total_steps: int,
        *,
        items_per_step: int = 1,
        unit: str = "steps",
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total_steps, self._items_per_step, self._unit = total_steps, items_per_step, unit
        self._clock, self._rate = clock, Rate()
        self._bar = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            console=Console(stderr=True) if console is None else console,
        )
        self._task = self._bar.add_task("compiling", total=total_steps)

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        """Move the bar; rich redraws it a few times a second."""
        rate = self._rate.update(self._clock(), step)
        loss = metrics.get("loss", math.nan)
        line = describe_progress(
            step, self._total_steps, loss, rate, self._items_per_step, self._unit
        )
        self._bar.update(self._task, completed=step, description=line)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()


def make_progress(
    total_steps: int, *, items_per_step: int = 1, unit: str = "steps", seconds: float = 60.0
) -> RunProgress:
    """A bar if standard error is a terminal, else a line every `seconds`, none in a shorter run.

    `items_per_step` of `unit` (say 4,096 characters) turn steps a second into units a second.

    Raises:
        ValueError: a number is not positive.
    """
    for name, number in (
        ("total_steps", total_steps),
        ("items_per_step", items_per_step),
        ("seconds", seconds),
    ):
        if number <= 0:
            raise ValueError(f"{name}: got {number}, expected above 0")
    if sys.stderr.isatty():
        return BarProgress(total_steps, items_per_step=items_per_step, unit=unit)
    return LineProgress(total_steps, items_per_step=items_per_step, unit=unit, seconds=seconds)
