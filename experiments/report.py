"""One page that compares runs: curves, configs, scores, samples, and where each run comes from.

    python -m experiments.report runs/first runs/second
    python -m experiments.report runs/* --output comparison.html

The page is one HTML file that loads nothing. Runs that are not finished, or whose files are
damaged, are on it too, and said to be so.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class Report:
    """Compare runs on one page.

    Attributes:
        runs: Run folders.
        output: The page.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    output: Path = Path("report.html")


def report(config: Report) -> None:
    """Write the page.

    Raises:
        ValueError: A folder is not that of a run, or none is given.
        OSError: A file cannot be read or written.
    """
    from rnnjax.training.files import replace_text
    from rnnjax.training.recorded_run import read_runs
    from rnnjax.training.report_page import report_page

    if not config.output.parent.is_dir():
        raise FileNotFoundError(
            f"output: got {config.output}, expected a file in a folder there is"
        )
    runs = read_runs(config.runs)
    replace_text(config.output, report_page(runs))
    for run in runs:
        print("; ".join([f"{run.name}: {run.state}", *run.problems]))
    print(f"In {config.output}")


def parse(arguments: list[str]) -> Report:
    """The command line as a record."""
    return tyro.cli(Report, args=arguments, description=(__doc__ or "").split("\n\n")[0])


def main(arguments: list[str] | None = None) -> None:
    """Run a command line."""
    config = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        report(config)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
