"""What the benchmark of activations calls an error, and the report that it writes."""

import json

import numpy as np
import pytest

from benchmarks import activations
from benchmarks.activations import PRESETS, Config, errors_in_ulps, parse, taken
from rnnjax.plans.native_library import Library, instruction_sets, library


@pytest.mark.parametrize("name", activations.FUNCTIONS)
def test_a_result_rounded_once_is_half_a_unit_off_at_most(name):
    values = np.concatenate(
        [np.linspace(-90, 90, 10_001), np.logspace(-45, 38, 1001), [np.inf, -np.inf]]
    ).astype(np.float32)
    rounded = activations.FUNCTIONS[name](values.astype(np.float64)).astype(np.float32)
    assert errors_in_ulps(name, values, rounded).max() <= 0.5
    moderate = (np.abs(values) > 0.01) & (np.abs(values) < 5)
    next_to_it = np.nextafter(rounded[moderate], np.float32(0))
    errors = errors_in_ulps(name, values[moderate], next_to_it)
    assert 0.4 <= errors.min() <= errors.max() <= 1.5


def test_only_what_is_below_the_least_normal_number_may_be_zero():
    values, zero = np.array([-88, -87], np.float32), np.zeros(2, np.float32)
    of_subnormal, of_normal = errors_in_ulps("sigmoid", values, zero)
    assert of_subnormal == 0
    assert of_normal > 2**23


def test_every_number_is_taken_but_nan():
    every = 10_007
    numbers = np.concatenate(list(taken(every)))
    bits = np.arange(0, 2**32, every, dtype=np.uint64)
    magnitudes = bits & 0x7FFFFFFF
    assert numbers.size == np.sum(magnitudes <= 0x7F800000)
    assert not np.isnan(numbers).any()


@pytest.mark.skipif(library().missing is not None, reason="installed without compiled kernels")
def test_the_report_names_every_instruction_set_and_xla(tmp_path):
    activations.run(Config(every=100_003, out=tmp_path), "a command")
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    by = [row["by"] for row in results["rows"]]
    assert by == [*instruction_sets(), "XLA"] * len(activations.FUNCTIONS)
    assert all(row["as_xla_at_infinity_and_nan"] for row in results["rows"])
    table = (tmp_path / "table.md").read_text("utf-8")
    assert "`a command`" in table
    assert "Every 100003th of all float32 numbers" in table


def test_the_command_line():
    assert parse([]) == PRESETS["full"]
    assert parse(["--preset", "quick", "--every", "5"]).every == 5
    with pytest.raises(SystemExit):
        parse(["--every", "0"])
    with pytest.raises(ValueError, match="every: got 0"):
        Config(every=0)


def test_it_needs_the_library(monkeypatch):
    monkeypatch.setattr(activations, "library", lambda: Library(None, "there is none"))
    with pytest.raises(ValueError, match="native: there is none"):
        activations.run(Config(every=100_003), "a command")
