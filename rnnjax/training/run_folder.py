"""A run folder: one run's config, command and versions, held by one process at a time."""

import dataclasses
import fcntl
import json
import os
import shlex
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import jax

from rnnjax.training.files import replace_text
from rnnjax.training.machine import machine_record
from rnnjax.training.versions import installed_versions

CONFIG, RECORD, LOCK = "config.json", "run.json", "lock"
_ABSENT = "absent"
C = TypeVar("C")


class RunFolderError(ValueError):
    """The folder belongs to a run of another config, or to a process that is alive."""


@dataclass(frozen=True)
class RunFolder:
    """An open run folder; `is_new` says whether this call made the run."""

    path: Path
    config: dict[str, Any]
    is_new: bool
    start: dict[str, Any]  # the entry of this start in `run.json`
    opened: float = field(default_factory=time.monotonic, repr=False)

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints go."""
        return self.path / "checkpoints"

    def seconds(self) -> float:
        """Since the folder was opened, in s; of a run that was resumed, its last part alone."""
        return round(time.monotonic() - self.opened, 1)


@contextmanager
def open_run_folder(
    path: Path,
    config: Any,
    *,
    may_differ: Collection[str] = (),
    command: Sequence[str] | None = None,
    fingerprint: Mapping[str, str] | None = None,
) -> Iterator[RunFolder]:
    """Make or reopen the folder of a run and hold it until the block ends.

    Written atomically: `config.json`, the resolved config, and `run.json`, a list with one
    entry for each time the run was started: command line, UTC time, versions, machine, devices
    and fingerprint.
    The lock is the operating system's, so that a process that dies leaves none behind.

    Args:
        path: the folder, made if absent.
        config: a dataclass (of dataclasses) or a mapping, of JSON values and paths.
        may_differ: dotted names of fields that may have changed since the run was made, such
            as "optimizer.total_steps"; the new value is then written.
        command: the command line to record; None for that of this process.
        fingerprint: as `rnnjax.training.fingerprint.fingerprint` makes it, or None.

    Raises:
        RunFolderError: the run was made with another config (the fields are named) or with
            other data, its config cannot be read, or another process has the folder.
        ValueError: `config` is not of the kind above.
        OSError: the folder cannot be written.
    """
    fields = resolved_config(config)
    if path.exists() and not path.is_dir():
        raise RunFolderError(f"path: got the file {path}, expected a folder")
    path.mkdir(parents=True, exist_ok=True)
    with _locked(path / LOCK):
        is_new = not (path / CONFIG).exists()
        if not is_new:
            differences = [
                difference
                for name, difference in _differences(_read_config(path), fields)
                if name not in may_differ
            ]
            if differences:
                raise RunFolderError(
                    f"config: the run in {path} was made with another one: {'; '.join(differences)}"
                )
        starts = [] if is_new else _read_starts(path)
        _check_data(path, starts, fingerprint)
        starts.append(
            {
                "command": shlex.join(sys.orig_argv if command is None else command),
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                "versions": installed_versions(),
                "machine": machine_record(),
                "devices": [device.device_kind for device in jax.devices()],
            }
            | ({} if fingerprint is None else {"fingerprint": dict(fingerprint)})
        )
        # The config last: it is what makes the folder a run.
        replace_text(path / RECORD, json.dumps(starts, indent=1))
        replace_text(path / CONFIG, json.dumps(fields, indent=1))
        yield RunFolder(path, fields, is_new, starts[-1])


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise RunFolderError(
                f"path: {path.parent} is in use by process {file.read().strip() or 'unknown'}, "
                "expected a folder that no live process trains in"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            # The file stays: removing it would let two processes lock two different files.
            file.truncate(0)
            fcntl.flock(file, fcntl.LOCK_UN)


def resolved_config(config: Any) -> dict[str, Any]:
    """A dataclass (of dataclasses) or a mapping as JSON values, paths as strings.

    Raises:
        ValueError: `config` is neither, or has a value that JSON has not.
    """
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        config = dataclasses.asdict(config)
    if not isinstance(config, Mapping):
        raise ValueError(f"config: got {type(config).__name__}, expected a dataclass or a mapping")
    try:
        return json.loads(json.dumps(dict(config), default=_path_as_text, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"config: {error}, expected JSON values and paths") from None


def config_of(kind: type[C], fields: Mapping[str, Any]) -> C:
    """The dataclass that `resolved_config` made these JSON values of; its checks are made again.

    Raises:
        ValueError: a field is unknown or missing, or a value is refused by the dataclass.
    """
    return _built(kind, fields, "")


def read_config(folder: Path, kind: type[C]) -> C:
    """The config that the run of a folder was made with.

    Raises:
        FileNotFoundError: there is no run in the folder.
        RunFolderError: it cannot be read.
        ValueError: as `config_of`.
    """
    return config_of(kind, _read_config(folder))


def _built(kind: Any, fields: Mapping[str, Any], prefix: str) -> Any:
    known = {field.name: field for field in dataclasses.fields(kind)}
    unknown = [f"{prefix}{name}" for name in fields if name not in known]
    if unknown:
        raise ValueError(f"config: got unknown {', '.join(unknown)}, expected {', '.join(known)}")
    hints = get_type_hints(kind)
    values = {
        name: _value(hints[name], value, f"{prefix}{name}.") for name, value in fields.items()
    }
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"config: {error}, expected a value of each field") from None


def _value(hint: Any, value: Any, prefix: str) -> Any:
    """What JSON has no word for is told by the type of the field."""
    kinds = (hint, *get_args(hint))
    if isinstance(value, Mapping):
        records = [kind for kind in kinds if dataclasses.is_dataclass(kind)]
        return _built(records[0], value, prefix) if records else dict(value)
    if isinstance(value, list):
        return tuple(value)
    return Path(value) if isinstance(value, str) and Path in kinds else value


def _path_as_text(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"got a value of type {type(value).__name__}")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((path / CONFIG).read_text("utf-8")))
    except (ValueError, TypeError):
        raise RunFolderError(f"path: got {path / CONFIG} damaged, expected a JSON object") from None


def _read_starts(path: Path) -> list[Any]:
    try:
        return list(json.loads((path / RECORD).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return []  # A record for people; a run goes on without its past entries.


def _check_data(path: Path, starts: list[Any], fingerprint: Mapping[str, str] | None) -> None:
    """A run goes on with other code, as mended code is, but not with other data."""
    for start in starts:
        before = start.get("fingerprint", {}).get("data") if isinstance(start, dict) else None
        if fingerprint is not None and before not in (None, fingerprint["data"]):
            raise RunFolderError(
                f"data: the run in {path} was made with other rows: fingerprint {before[:12]}, "
                f"now {fingerprint['data'][:12]}"
            )


def _differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str]]:
    for key in sorted(old.keys() | new.keys()):
        name, before, now = prefix + key, old.get(key, _ABSENT), new.get(key, _ABSENT)
        if isinstance(before, dict) and isinstance(now, dict):
            yield from _differences(before, now, f"{name}.")
        elif before != now:
            yield name, f"{name} was {before!r}, now {now!r}"
