"""Metrics on disk: JSON lines for programs, TensorBoard event files for eyes."""

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rnnjax.training.files import replace_text

try:
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
except ImportError as error:
    raise ImportError(
        "rnnjax.training.metrics needs tensorboard: pip install 'rnnjax-lib[train]'"
    ) from error

# Protocol buffers make their classes at import, where no type checker sees them.
_Event: Any = vars(event_pb2)["Event"]
_SessionLog: Any = vars(event_pb2)["SessionLog"]
_Summary: Any = vars(summary_pb2)["Summary"]


class JsonLines:
    """Append one JSON object a line, `{"step": 100, "train/loss": 1.5}`, each flushed.

    Opening at `start_step` drops, atomically, the lines of later steps and a line cut short:
    what a killed run wrote after its last checkpoint, which the resumed run writes again.
    Numbers that are not finite become null, for JSON has none.

    Raises:
        ValueError: `start_step` is negative.
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path, start_step: int = 0) -> None:
        _check_start_step(start_step)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            text = path.read_text("utf-8", errors="replace")
            kept = "".join(
                f"{line}\n"
                for line, record in _records(text)
                if record is not None and record["step"] <= start_step
            )
            if kept != text:
                replace_text(path, kept)
        self._file = path.open("a", encoding="utf-8")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append the metrics of a step."""
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._file.write(json.dumps({"step": step, **finite}, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoard:
    """Write scalars to a TensorBoard event file in `folder`.

    Opening at `start_step` tells TensorBoard to drop what earlier files say of later steps.

    Raises:
        ValueError: `start_step` is negative.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, start_step: int = 0) -> None:
        _check_start_step(start_step)
        _wait_for_a_later_name(folder)
        self._writer = EventFileWriter(str(folder))
        restart = _SessionLog(status=_SessionLog.START)
        event = _Event(wall_time=time.time(), step=start_step + 1, session_log=restart)
        self._writer.add_event(event)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of a step."""
        values = [_Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        event = _Event(wall_time=time.time(), step=step, summary=_Summary(value=values))
        self._writer.add_event(event)

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()


def _wait_for_a_later_name(folder: Path) -> None:
    """Files are read in the order of their names, which begin with the second they were made in."""
    seconds = [path.name.split(".")[3] for path in folder.glob("events.out.tfevents.*")]
    newest = max((int(second) for second in seconds if second.isdigit()), default=0)
    deadline = time.monotonic() + 1.1  # a clock that was put back is not waited for
    while int(time.time()) <= newest and time.monotonic() < deadline:
        time.sleep(0.02)


class MetricLogger:
    """`metrics.jsonl` and the TensorBoard folder `tensorboard` of a run, written together.

    A context manager. `start_step` is the step resumed from, 0 for a new run: everything
    logged for later steps is dropped.

    Raises:
        ValueError: `start_step` is negative.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, start_step: int = 0) -> None:
        self.path = folder / "metrics.jsonl"
        self._writers = (
            JsonLines(self.path, start_step),
            TensorBoard(folder / "tensorboard", start_step),
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of a step to both."""
        for writer in self._writers:
            writer.log(step, metrics)

    def close(self) -> None:
        """Close both."""
        with ExitStack() as stack:  # the second one too if the first one fails
            for writer in self._writers:
                stack.callback(writer.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except OSError:
            if error is None:
                raise
            # On a full disk closing fails as logging did, and must not hide how.


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON-lines file in order; a last line cut short is left out.

    Raises:
        OSError: there is no such file.
        ValueError: another line is not a record.
    """
    records, others = readable_metrics(path)
    if others:
        raise ValueError(f"path: got {path} whose line {others[0]} is no record, expected JSON")
    return records


def readable_metrics(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """The records of a JSON-lines file in order, and the numbers of the lines that are none.

    A last line cut short is neither: a run that is still writing has one, or one that was killed.

    Raises:
        OSError: there is no such file.
    """
    records, others = [], []
    lines = list(_records(path.read_text("utf-8", errors="replace")))
    for number, (_, record) in enumerate(lines, start=1):
        if record is not None:
            records.append(record)
        elif number < len(lines):
            others.append(number)
    return records, others


def _records(text: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        is_record = isinstance(record, dict) and isinstance(record.get("step"), int)
        yield line, record if is_record else None


def _check_start_step(start_step: int) -> None:
    if start_step < 0:
        raise ValueError(f"start_step: got {start_step}, expected at least 0")
