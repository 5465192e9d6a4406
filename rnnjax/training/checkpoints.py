"""Checkpoints by Orbax: written atomically, verified before use, the best and the last kept.

`Checkpoints` writes while the caller waits, `BackgroundSaves` while training goes on.

Several processes save and restore one checkpoint together, in a folder that all of them see: each
writes and reads the parts of arrays that are on its devices, the first does all else. How many
processes and devices there were is of no matter when it is restored.
"""

import hashlib
import json
import logging
import math
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rnnjax.training.files import flush_to_disk, replace_text
from rnnjax.training.processes import from_first_process
from rnnjax.training.step import TrainState
from rnnjax.training.versions import installed_versions

try:
    import orbax.checkpoint as ocp
except ImportError as error:
    raise ImportError(
        "rnnjax.training.checkpoints needs orbax-checkpoint: pip install 'rnnjax-lib[train]'"
    ) from error

ARRAYS, RECORD, MANIFEST = "arrays", "checkpoint.json", "manifest.json"
_NAME = re.compile(r"step_(\d+)(?:\.(\d+))?")
_INCOMPLETE = ".incomplete_"
_PYTHON_SCALARS = {bool: "bool", int: "int", float: "float"}


class ForeignCheckpointError(ValueError):
    """A checkpoint is of another model; the text names the first difference."""


class DamagedCheckpointError(ValueError):
    """No checkpoint of the folder can be used; the text names each and its damage."""


class Damage(NamedTuple):
    """A checkpoint that was passed over, and why."""

    name: str
    reason: str


class Restored(NamedTuple):
    """What a checkpoint held; `damaged` lists the preferred ones that could not be used."""

    state: TrainState
    step: int
    metrics: dict[str, float]
    metadata: dict[str, Any]
    versions: dict[str, str]
    path: Path
    damaged: tuple[Damage, ...]


class Prepared(NamedTuple):
    """A checkpoint that is yet to be written, in arrays of its own on the host."""

    path: Path
    step: int
    record: dict[str, Any]
    arrays: dict[str, np.ndarray | Array]  # of several processes' devices as they are


@dataclass(frozen=True)
class Checkpoints:
    """A folder of checkpoints `step_00000100`, of which the last and the best are kept.

    Attributes:
        folder: made at the first save.
        keep_last: how many of the newest to keep, at least 1.
        keep_best: how many of the best by `best_metric` to keep as well.
        best_metric: a name in the metrics given to `save`; needed if keep_best is above 0.
        lower_is_better: the sense of `best_metric`.

    Raises:
        ValueError: a field is outside its range.
    """

    folder: Path
    keep_last: int = 2
    keep_best: int = 0
    best_metric: str | None = None
    lower_is_better: bool = True

    def __post_init__(self) -> None:
        if self.keep_last < 1:
            raise ValueError(f"keep_last: got {self.keep_last}, expected at least 1")
        if self.keep_best < 0:
            raise ValueError(f"keep_best: got {self.keep_best}, expected at least 0")
        if self.keep_best > 0 and self.best_metric is None:
            raise ValueError("best_metric: got None, expected the name of a metric to keep best by")

    def save(
        self, state: TrainState, metrics: Mapping[str, float], metadata: Mapping[str, Any]
    ) -> Path:
        """Write a checkpoint whole or not at all, then drop those no longer kept.

        With several processes all call this, with the same state.

        Leaves may be jax arrays, typed keys, numpy arrays and Python numbers. `metadata` is
        JSON and says whose checkpoint it is; versions are added. A checkpoint of the same step
        is superseded, not overwritten. Those of later steps are left alone.

        Raises:
            ValueError: `metadata` is not JSON, or a leaf is none of the above.
            OSError: it cannot be written; earlier checkpoints are untouched.
        """
        return self.write(self.prepare(state, metrics, metadata))

    def prepare(
        self, state: TrainState, metrics: Mapping[str, float], metadata: Mapping[str, Any]
    ) -> Prepared:
        """The first half of `save`: copy everything to the host, so that the state may change."""
        step = int(state.step)
        leaves = _named_leaves(state)
        record = {
            "step": step,
            "metrics": {name: float(value) for name, value in metrics.items()},
            "metadata": _as_json(metadata),
            "versions": installed_versions(),
            "structure": [[name, *_shape_and_type(name, leaf)] for name, leaf in leaves],
        }
        # Orbax does not store arrays without elements; their shape says all there is.
        arrays = {
            f"leaf_{index:05d}": value
            for index, value in enumerate(_to_write(leaf) for _, leaf in leaves)
            if value.size
        }
        name = from_first_process(lambda: self._free_name(step))
        return Prepared(self.folder / name, step, record, arrays)

    def write(self, prepared: Prepared) -> Path:
        """The second half of `save`: write what was prepared, and drop what is superseded."""
        path, step, record, arrays = prepared
        if self.folder.exists() and not self.folder.is_dir():
            raise OSError(f"folder: got the file {self.folder}, expected a folder")
        incomplete = self.folder / f"{_INCOMPLETE}{step:08d}"

        def begin() -> None:
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.glob(f"{_INCOMPLETE}*"):
                shutil.rmtree(leftover)
            incomplete.mkdir()
            replace_text(incomplete / RECORD, json.dumps(record, indent=1))

        def complete() -> None:
            replace_text(incomplete / MANIFEST, json.dumps(_manifest(incomplete), indent=1))
            for written in incomplete.rglob("*"):
                flush_to_disk(written)
            incomplete.rename(path)
            flush_to_disk(self.folder)

        try:
            from_first_process(begin)
            with _errors_raised_not_logged(), ocp.PyTreeCheckpointer() as checkpointer:
                checkpointer.save((incomplete / ARRAYS).absolute(), arrays)
            from_first_process(complete)
        except (OSError, ValueError) as error:  # Orbax raises ValueError where the disk is full.
            _clear_away(incomplete)  # It takes room, and is of no use.
            raise OSError(
                f"checkpoint {path} could not be written, earlier ones are untouched: {error}"
            ) from error
        from_first_process(lambda: self._drop_superseded(step))
        return path

    def finish(self) -> None:
        """Return at once: all that was saved is on the disk."""

    def last_good(self) -> Path | None:
        """The newest undamaged checkpoint."""
        return next((path for path in reversed(self._saved()) if _damage(path) is None), None)

    def would_be_best(self, metrics: Mapping[str, float]) -> bool:
        """Whether `metrics` beat those of every checkpoint here; never if keep_best is 0."""
        if self.keep_best == 0:
            return False
        rank = self._rank(metrics)
        return from_first_process(
            lambda: rank is not None and all(rank < other for other, _ in self._ranked())
        )

    def restore_latest(
        self, template_state: TrainState, expected_metadata: Mapping[str, Any] | None = None
    ) -> Restored | None:
        """Restore the newest undamaged checkpoint; None if there is none at all.

        Args:
            template_state: of the structure, shapes, dtypes and devices to restore to; its
                arrays may be `jax.ShapeDtypeStruct`s, with a sharding or none.
            expected_metadata: each of its entries must equal the checkpoint's.

        Raises:
            ForeignCheckpointError: the checkpoint is of another model.
            DamagedCheckpointError: there are checkpoints, and all are damaged.
        """
        return self._restore_first(
            lambda: reversed(self._saved()), template_state, expected_metadata or {}
        )

    def restore_best(
        self, template_state: TrainState, expected_metadata: Mapping[str, Any] | None = None
    ) -> Restored | None:
        """Restore the best undamaged checkpoint by `best_metric`; None if none has the metric.

        Arguments and errors are those of `restore_latest`.
        """
        return self._restore_first(
            lambda: (path for _, path in sorted(self._ranked())),
            template_state,
            expected_metadata or {},
        )

    def _restore_first(
        self,
        preferred: Callable[[], Iterable[Path]],
        template: TrainState,
        expected_metadata: Mapping[str, Any],
    ) -> Restored | None:
        def first_undamaged() -> tuple[str | None, list[Damage]]:
            damaged: list[Damage] = []
            for path in preferred():
                reason = _damage(path)
                if reason is None:
                    return path.name, damaged
                damaged.append(Damage(path.name, reason))
            return None, damaged

        name, found = from_first_process(first_undamaged)
        damaged = tuple(Damage(*one) for one in found)
        if name is not None:
            return _restore(self.folder / name, template, _as_json(expected_metadata), damaged)
        if damaged:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in damaged)
            raise DamagedCheckpointError(
                f"checkpoints: all in {self.folder} are damaged: {reasons}"
            )
        return None

    def _saved(self) -> list[Path]:
        """All checkpoints, oldest first; of one step the superseded before the last."""
        if not self.folder.is_dir():
            return []
        return sorted((p for p in self.folder.iterdir() if _NAME.fullmatch(p.name)), key=_order)

    def _free_name(self, step: int) -> str:
        earlier = [_order(path)[1] for path in self._saved() if _order(path)[0] == step]
        return f"step_{step:08d}.{max(earlier) + 1}" if earlier else f"step_{step:08d}"

    def _rank(self, metrics: Mapping[str, float]) -> float | None:
        """Lower is better; None if the metric is missing or not finite."""
        value = metrics.get(self.best_metric) if self.best_metric is not None else None
        if value is None or not math.isfinite(value):
            return None
        return float(value) if self.lower_is_better else -float(value)

    def _ranked(self) -> list[tuple[float, Path]]:
        ranked = []
        for path in self._saved():
            try:
                rank = self._rank(json.loads((path / RECORD).read_text("utf-8"))["metrics"])
            except (OSError, ValueError, KeyError, AttributeError, TypeError):
                continue  # A damaged record; restoring reports it by name.
            if rank is not None:
                ranked.append((rank, path))
        return ranked

    def _drop_superseded(self, step: int) -> None:
        # Later steps are of a run that was left for an older checkpoint, or are damaged: they
        # take no place from the ones kept here.
        newest_of_step = {
            _order(path)[0]: path for path in self._saved() if _order(path)[0] <= step
        }
        kept = set(list(newest_of_step.values())[-self.keep_last :])
        alive = set(newest_of_step.values())
        ranked = sorted((rank, path) for rank, path in self._ranked() if path in alive)
        kept |= {path for _, path in ranked[: self.keep_best]}
        for path in self._saved():
            if _order(path)[0] <= step and path not in kept:
                # Renamed first: a half-deleted checkpoint must not look like a damaged one.
                doomed = path.rename(path.with_name(f"{_INCOMPLETE}{path.name}"))
                shutil.rmtree(doomed)


class BackgroundSaves:
    """`Checkpoints` whose `save` returns as soon as the state is copied; a thread writes the rest.

    One checkpoint is written at a time: the next `save` waits for the one before. What a save
    failed of is raised by the next call of `save`, `would_be_best` or `finish`.

    Raises:
        ValueError: there are several processes.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        if jax.process_count() > 1:
            # Two threads would meet the other processes in an order that nobody knows.
            raise ValueError(
                f"checkpoints: got {jax.process_count()} processes, expected one; "
                "give Checkpoints itself"
            )
        self._checkpoints = checkpoints
        self._executor = ThreadPoolExecutor(1, "checkpoints")
        self._pending: Future[Path] | None = None

    def save(
        self, state: TrainState, metrics: Mapping[str, float], metadata: Mapping[str, Any]
    ) -> Path:
        """Begin to write a checkpoint, whose place is returned; as `Checkpoints.save`."""
        self.finish()
        prepared = self._checkpoints.prepare(state, metrics, metadata)
        self._pending = self._executor.submit(self._checkpoints.write, prepared)
        return prepared.path

    def finish(self) -> None:
        """Wait until what was saved is on the disk.

        Raises:
            OSError: it could not be written; earlier checkpoints are untouched.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def would_be_best(self, metrics: Mapping[str, float]) -> bool:
        """As `Checkpoints.would_be_best`, the one being written included."""
        self.finish()
        return self._checkpoints.would_be_best(metrics)

    def last_good(self) -> Path | None:
        """The newest undamaged checkpoint; one being written is waited for, not its failure."""
        if self._pending is not None:
            wait([self._pending])
        return self._checkpoints.last_good()


@contextmanager
def _errors_raised_not_logged() -> Iterator[None]:
    """Orbax logs pages of tracebacks of the very errors that it raises."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _order(path: Path) -> tuple[int, int]:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1]), int(match[2] or 0)


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    return [
        (jax.tree_util.keystr(path).removeprefix("."), leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
    ]


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _shape_and_type(name: str, leaf: Any) -> tuple[list[int], str]:
    if type(leaf) in _PYTHON_SCALARS:
        return [], _PYTHON_SCALARS[type(leaf)]
    if not isinstance(leaf, Array | np.ndarray | np.generic | jax.ShapeDtypeStruct):
        raise ValueError(f"state: got {type(leaf).__name__} at {name}, expected an array or number")
    return list(leaf.shape), str(leaf.dtype)


def _to_write(leaf: Any) -> np.ndarray | Array:
    """A copy: the leaf's own buffer is given to the next step while the copy is written.

    What is on devices of several processes stays there: it is written before the next step.
    """
    array = jax.random.key_data(leaf) if _is_key(leaf) else leaf
    if isinstance(array, Array) and not array.is_fully_addressable:
        return array
    return np.array(array, copy=True)


def _as_json(metadata: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(dict(metadata), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata: {error}, expected JSON") from None


def _manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Size in bytes and SHA-256 of every file but the manifest itself."""
    manifest = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / MANIFEST:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            name = path.relative_to(folder).as_posix()
            manifest[name] = {"bytes": path.stat().st_size, "sha256": digest}
    return manifest


def _damage(folder: Path) -> str | None:
    """What differs from the manifest, in words; None if nothing does."""
    try:
        expected = dict(json.loads((folder / MANIFEST).read_text("utf-8")))
    except OSError:
        return f"{MANIFEST} cannot be read"
    except (ValueError, TypeError):
        return f"{MANIFEST} is corrupted"
    found = _manifest(folder)
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} does not belong to it"
        if found[name]["bytes"] != expected[name]["bytes"]:
            return (
                f"{name} is truncated or extended: got {found[name]['bytes']} bytes, "
                f"expected {expected[name]['bytes']}"
            )
        if found[name] != expected[name]:
            return f"{name} is corrupted: its SHA-256 differs"
    return None


def _restore(
    path: Path,
    template: TrainState,
    expected_metadata: Mapping[str, Any],
    damaged: tuple[Damage, ...],
) -> Restored:
    record = json.loads((path / RECORD).read_text("utf-8"))
    for name, expected in expected_metadata.items():
        if record["metadata"].get(name) != expected:
            raise ForeignCheckpointError(
                f"checkpoint {path}: got metadata {name} = {record['metadata'].get(name)!r}, "
                f"expected {expected!r}"
            )
    leaves = _named_leaves(template)
    _check_structure(
        path,
        [(name, shape, dtype) for name, shape, dtype in record["structure"]],
        [(name, *_shape_and_type(name, leaf)) for name, leaf in leaves],
    )
    stored = _read_arrays(path, [leaf for _, leaf in leaves])
    restored = [
        _like(leaf, stored.get(f"leaf_{index:05d}")) for index, (_, leaf) in enumerate(leaves)
    ]
    return Restored(
        state=jax.tree.unflatten(jax.tree.structure(template), restored),
        step=record["step"],
        metrics=record["metrics"],
        metadata=record["metadata"],
        versions=record["versions"],
        path=path,
        damaged=damaged,
    )


def _check_structure(
    path: Path,
    stored: list[tuple[str, list[int], str]],
    expected: list[tuple[str, list[int], str]],
) -> None:
    stored_names, expected_names = ({name for name, *_ in side} for side in (stored, expected))
    for name, shape, dtype in stored:
        if name not in expected_names:
            raise ForeignCheckpointError(
                f"checkpoint {path}: got {name} of shape {tuple(shape)} and dtype {dtype}, "
                "which this model does not have"
            )
    for name, shape, dtype in expected:
        if name not in stored_names:
            raise ForeignCheckpointError(
                f"checkpoint {path}: got no {name}, "
                f"expected one of shape {tuple(shape)} and dtype {dtype}"
            )
    for (name, shape, dtype), (_, expected_shape, expected_dtype) in zip(
        stored, expected, strict=True
    ):
        if (shape, dtype) != (expected_shape, expected_dtype):
            raise ForeignCheckpointError(
                f"checkpoint {path}: got {name} of shape {tuple(shape)} and dtype {dtype}, "
                f"expected {tuple(expected_shape)} and {expected_dtype}"
            )


def _read_arrays(path: Path, leaves: list[Any]) -> dict[str, np.ndarray | Array]:
    how = {
        f"leaf_{index:05d}": _how_to_read(leaf)
        for index, leaf in enumerate(leaves)
        if math.prod(getattr(leaf, "shape", ()))
    }
    with ocp.PyTreeCheckpointer() as checkpointer:
        return checkpointer.restore((path / ARRAYS).absolute(), restore_args=how)


def _clear_away(folder: Path) -> None:
    """Remove a folder that may still be written to: Orbax gives up at the first error it meets."""
    deadline = time.monotonic() + 2
    stayed_away = 0
    while stayed_away < 3 and time.monotonic() < deadline:
        stayed_away = 0 if folder.exists() else stayed_away + 1
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.02)


def _how_to_read(leaf: Any) -> ocp.RestoreArgs:
    sharding = _place_of(leaf)
    if sharding is not None and not sharding.is_fully_addressable:
        return ocp.ArrayRestoreArgs(restore_type=Array, sharding=sharding)  # this process's part
    # As numpy: jax would narrow 64-bit leaves where x64 is off.
    return ocp.RestoreArgs(restore_type=np.ndarray)


def _place_of(leaf: Any) -> jax.sharding.Sharding | None:
    """Where a leaf of a template was put; None where nobody said."""
    is_placed = (
        leaf.committed if isinstance(leaf, Array) else isinstance(leaf, jax.ShapeDtypeStruct)
    )
    return leaf.sharding if is_placed else None


def _like(leaf: Any, value: np.ndarray | Array | None) -> Any:
    """The stored value as the template's kind of leaf, on the template's devices."""
    if isinstance(value, Array):
        is_key = _is_key(leaf)
        return jax.random.wrap_key_data(value, impl=_implementation(leaf)) if is_key else value
    if type(leaf) in _PYTHON_SCALARS:
        assert value is not None
        return type(leaf)(value.item())
    if isinstance(leaf, np.generic):
        return np.asarray(value)[()]
    if isinstance(leaf, np.ndarray):
        return np.zeros(leaf.shape, leaf.dtype) if value is None else value
    # A copy: a training step donates this buffer, which must not be numpy's.
    array = jnp.zeros(leaf.shape, leaf.dtype) if value is None else jnp.array(value, copy=True)
    if _is_key(leaf):
        array = jax.random.wrap_key_data(array, impl=_implementation(leaf))
    sharding = _place_of(leaf)
    return array if sharding is None else jax.device_put(array, sharding)


def _implementation(keys: Any) -> str:
    """Of keys or of a `jax.ShapeDtypeStruct` of them."""
    names: list[str] = []
    jax.eval_shape(lambda traced: names.append(str(jax.random.key_impl(traced))), keys)
    return names[0]
