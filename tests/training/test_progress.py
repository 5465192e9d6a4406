import io
import math
from typing import Any

import pytest
from rich.console import Console

from rnnjax.training.progress import (
    BarProgress,
    LineProgress,
    Rate,
    describe_progress,
    make_progress,
)


def clock_of(*times):
    return iter(times).__next__


def test_the_rate_forgets_a_slow_start():
    rate = Rate(window=10.0)
    assert math.isnan(rate.update(0.0, 1))
    assert rate.update(100.0, 2) == pytest.approx(0.01)
    rates = [rate.update(100.0 + second, 2 + 5 * second) for second in range(1, 21)]
    assert rates[-1] == pytest.approx(5.0)


def test_a_line_says_step_loss_rate_and_time_left():
    line = describe_progress(500, 20_000, 1.23456, 2.0, 4096, "characters")
    assert line == "step 500/20,000  loss 1.2346  8,192 characters/s  2:42:30 left"
    assert describe_progress(1, 9, math.nan, math.nan, 1, "steps") == "step 1/9"
    assert describe_progress(9, 9, 0.5, 0.25, 1, "steps").endswith("0.25 steps/s  0:00 left")


def test_lines_are_as_rare_as_asked():
    stream = io.StringIO()
    clock = clock_of(0.0, 5.0, 10.0, 14.0, 19.0, 20.0, 21.0)
    with LineProgress(
        6, items_per_step=3, unit="words", seconds=10.0, stream=stream, clock=clock
    ) as progress:
        for step in range(1, 7):
            progress.update(step, {} if step < 3 else {"loss": 2.0})
    assert stream.getvalue().splitlines() == [
        "step 2/6  0.6 words/s  0:20 left",
        "step 5/6  loss 2.0000  0.8 words/s  0:04 left",
    ]


def test_a_short_run_that_is_not_on_a_terminal_is_silent(capfd):
    with make_progress(3) as progress:
        for step in range(1, 4):
            progress.update(step, {"loss": 2.0})
    assert capfd.readouterr() == ("", "")


def test_the_bar_shows_the_same_text():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    with BarProgress(4, unit="words", console=console, clock=clock_of(0.0, 2.0)) as progress:
        progress.update(1, {"loss": 3.0})
        progress.update(3, {"loss": 2.5})
    assert "step 3/4  loss 2.5000  1 words/s  0:01 left" in stream.getvalue()


@pytest.mark.parametrize(("is_terminal", "kind"), [(True, BarProgress), (False, LineProgress)])
def test_a_terminal_gets_a_bar(monkeypatch, is_terminal, kind):
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal, raising=False)
    assert isinstance(make_progress(3), kind)


@pytest.mark.parametrize("name", ["total_steps", "items_per_step", "seconds"])
def test_a_bad_number_is_named(name):
    numbers: dict[str, Any] = {"total_steps": 1, name: 0}
    with pytest.raises(ValueError, match=f"^{name}: got 0, expected above 0"):
        make_progress(**numbers)
