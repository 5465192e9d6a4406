"""What the command lines of experiments have in common."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TypeVar

AnyConfig = TypeVar("AnyConfig")


def preset_named(
    arguments: Sequence[str], presets: Mapping[str, AnyConfig], default: str = "demo"
) -> AnyConfig:
    """The config that `--preset` names; the default's if it names none, or one that is not there.

    That is for the parser to refuse, by the type of the flag.
    """
    name = default
    for flag, value in pairwise([*arguments, ""]):
        before, _, joined = flag.partition("=")
        if before == "--preset":
            name = joined or value
    return presets.get(name, presets[default])


def say(text: str) -> None:
    """Print to standard error at once."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with a line in place of a traceback where the user can mend what is wrong."""
    from experiments.data.package_files import DataMismatch, DataUnavailable
    from rnnjax.training.loop import DivergedError, Interrupted

    try:
        yield
    except Interrupted as interrupted:
        say(f"{interrupted}; run the same command to go on")
        sys.exit(interrupted.exit_status)
    except (ValueError, OSError, DivergedError, DataUnavailable, DataMismatch) as error:
        say("; ".join([f"error: {error}", *getattr(error, "__notes__", ())]))
        sys.exit(2)
