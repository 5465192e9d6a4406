"""A run folder as it is read afterwards, whatever has become of the run."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rnnjax.training.metrics import readable_metrics
from rnnjax.training.run_folder import CONFIG, RECORD

METRICS, REPORT = "metrics.jsonl", "report.json"


class RecordedRun(NamedTuple):
    """What a run folder holds; `problems` says in words what cannot be read of it.

    `config` has dotted names, `optimizer.total_steps`. `starts` are the entries of `run.json`,
    `records` the lines of `metrics.jsonl`, and `report` is what `report.json` says, empty until
    the run is finished; its keys are all optional:

    | key | value |
    | --- | --- |
    | `test` | metric -> number, on the test split |
    | `metric`, `lower_is_better` | the metric that counts, and its sense |
    | `baselines` | split -> name -> number, of that metric; those of "validation" are drawn |
    | `step`, `parameters` | of the model that is reported |
    | `sample` or `samples` | a text; or a list of texts, or of mappings such as input -> output |
    """

    name: str
    config: dict[str, Any]
    starts: list[dict[str, Any]]
    records: list[dict[str, Any]]
    report: dict[str, Any]
    problems: tuple[str, ...]

    @property
    def state(self) -> str:
        """Finished, or how far it is."""
        if self.report:
            return "finished"
        total = self.config.get("optimizer.total_steps")
        end = f" of {total:,}" if isinstance(total, int) else ""
        return f"unfinished: logged up to step {self.last_step:,}{end}"

    @property
    def last_step(self) -> int:
        """The last step that was logged, 0 if none was."""
        return max((record["step"] for record in self.records), default=0)

    def digests(self, part: str) -> set[str]:
        """The digests that the starts of the run have of its "data", "config" or "code"."""
        given = (start.get("fingerprint") for start in self.starts)
        known = (one.get(part) for one in given if isinstance(one, dict))
        return {digest for digest in known if isinstance(digest, str)}


def read_runs(paths: Sequence[Path]) -> list[RecordedRun]:
    """The runs in folders, each named by as much of its path as tells it from the others.

    Raises:
        ValueError: there is no path, a folder is given twice, or it is not that of a run.
        OSError: a file cannot be read.
    """
    if not paths:
        raise ValueError("runs: got no folder, expected at least one")
    resolved = [path.resolve() for path in paths]
    for path, full in zip(paths, resolved, strict=True):
        if resolved.count(full) > 1:
            raise ValueError(f"runs: got {path} twice, expected different folders")
        if not (path / CONFIG).is_file():
            raise ValueError(f"runs: got {path} without {CONFIG}, expected the folder of a run")
    names = _names(resolved)
    return [_read_run(name, path) for name, path in zip(names, paths, strict=True)]


def flattened(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values, in the order of the config."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _read_run(name: str, path: Path) -> RecordedRun:
    problems: list[str] = []

    def read(file: str, kind: type, *, is_needed: bool = True) -> Any:
        if not (path / file).exists():
            if is_needed:
                problems.append(f"{file} is missing")
            return kind()
        try:
            value = json.loads((path / file).read_text("utf-8"))
        except ValueError:  # that of the encoding is one too
            value = None
        if not isinstance(value, kind):
            problems.append(f"{file} is damaged: it is no JSON {_KINDS[kind]}")
            return kind()
        return value

    config = dict(flattened(read(CONFIG, dict)))
    starts = read(RECORD, list)
    others = [start for start in starts if not isinstance(start, dict)]
    if others:
        problems.append(
            f"{RECORD} is damaged: {len(others)} of its entries left out, as no records"
        )
        starts = [start for start in starts if start not in others]
    report = read(REPORT, dict, is_needed=False)
    wrong = [
        key for key, is_right in _REPORT.items() if key in report and not is_right(report[key])
    ]
    if wrong:
        problems.append(f"{REPORT} is damaged: {', '.join(wrong)} not as expected")
        report = {key: value for key, value in report.items() if key not in wrong}
    records: list[dict[str, Any]] = []
    if (path / METRICS).exists():
        records, others = readable_metrics(path / METRICS)
        kept = [record for record in records if all(_is_metric(v) for v in record.values())]
        count = len(others) + len(records) - len(kept)
        if count:
            problems.append(f"{METRICS} is damaged: {count} of its lines left out, as no records")
        records = kept
    else:
        problems.append(f"{METRICS} is missing")
    run = RecordedRun(name, config, starts, records, report, ())
    if len(run.digests("code")) > 1:
        problems.append("it was resumed with other code than it was begun with")
    return run._replace(problems=tuple(problems))


_KINDS = {dict: "object", list: "list"}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_metric(value: object) -> bool:
    return value is None or _is_number(value)


def _are_numbers(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _is_sample(value: object) -> bool:
    return isinstance(value, str) or (
        isinstance(value, dict) and all(isinstance(part, str) for part in value.values())
    )


_REPORT = {
    "test": _are_numbers,
    "metric": lambda value: isinstance(value, str),
    "lower_is_better": lambda value: isinstance(value, bool),
    "baselines": lambda value: (
        isinstance(value, dict) and all(_are_numbers(split) for split in value.values())
    ),
    "step": _is_number,
    "parameters": _is_number,
    "sample": lambda value: isinstance(value, str),
    "samples": lambda value: isinstance(value, list) and all(map(_is_sample, value)),
}


def _names(paths: Sequence[Path]) -> list[str]:
    for count in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise AssertionError("different paths differ in full")
