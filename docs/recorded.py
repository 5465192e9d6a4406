"""What the docstring of each experiment says of its recorded runs.

The last paragraph of the docstring of `experiments/NAME.py` begins with "Recorded:" and is written
by `python docs/generated.py` from the reports in docs/results, by the function of that name here.
"""

import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"
PARAGRAPH = re.compile(r"(?<=\n\n)Recorded: .*(?:\n.+)*")
WIDTH = 100

RECORDED: dict[str, Callable[[], str]] = {}
"""Name of an experiment -> what is recorded of it: scores beside those of baselines, and times."""


def recorded(function: Callable[[], str]) -> Callable[[], str]:
    """Put a function into `RECORDED`, under its name."""
    RECORDED[function.__name__] = function
    return function


def with_paragraph(source: str, text: str) -> str:
    """The source of an experiment with its paragraph written anew.

    Raises:
        ValueError: Its docstring has no such paragraph, or several.
    """
    begin = source.index('"""') + 3
    end = source.index('"""', begin)
    pieces = PARAGRAPH.split(source[begin:end])
    if len(pieces) != 2:
        found = len(pieces) - 1
        raise ValueError(f"source: got {found} paragraphs 'Recorded: …', expected one")
    wrapped = textwrap.fill(f"Recorded: {text}", WIDTH, break_on_hyphens=False)
    return f"{source[:begin]}{pieces[0]}{wrapped}{pieces[1]}{source[end:]}"


def sources_with_paragraphs() -> dict[Path, str]:
    """The source of every experiment that has a record, with its paragraph as the record has it."""
    paths = {EXPERIMENTS / f"{name}.py": text for name, text in RECORDED.items()}
    return {path: with_paragraph(path.read_text("utf-8"), text()) for path, text in paths.items()}


def run_of(report: dict[str, Any]) -> str:
    """How a run was made: "`python -m experiments.NAME train`, 3.2 minutes on 2 cores of AMD EPYC".

    Args:
        report: A `report.json`, with "command", "seconds" and "machine".
    """
    machine = report["machine"]
    command = re.sub(r"^\S*python\S*", "python", report["command"])
    return (
        f"`{command}`, {report['seconds'] / 60:.1f} minutes on {machine['cores']} cores "
        f"of {machine['cpu']}"
    )


# One function for each experiment.
