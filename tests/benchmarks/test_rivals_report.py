from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

from benchmarks.libraries.tasks import Product
from benchmarks.rivals_report import (
    Place,
    RivalRow,
    behind_table,
    comparison_table,
    comparisons,
    generation_table,
    geometric_mean,
    in_one_line,
    library_table,
    means_table,
    missing_table,
    plans_table,
    plot,
    plot_generation,
    plot_libraries,
    rate_table,
    report_text,
    streaming_table,
    summary,
    tokens_a_second,
)

SMALL = {"batch_size": 1, "time_steps": 2, "input_size": 8, "hidden_size": 8}
LARGE = {"batch_size": 32, "time_steps": 2, "input_size": 256, "hidden_size": 256}
PRODUCT = Product(256)
RATE = 2 * 256**3 / 0.2e-3  # of the row below
LARGE_OPERATIONS = 2 * 2 * 32 * 3 * 256 * 512


def row(library, plan, seconds, computation="training", at=LARGE, spread=0.01, **values):
    return RivalRow(
        **{"recurrence": "gru", "kind": "plain", "layers": 1, "plan": plan}
        | at
        | {"library": library, "computation": computation, "status": "measured"}
        | values,
        run_seconds=seconds,
        run_seconds_lower_quartile=seconds * (1 - spread),
        run_seconds_upper_quartile=seconds * (1 + spread),
        rounds=5,
    )


ROWS = [
    row("ours", "reference", 4e-3),
    row("ours", "auto", 2e-3),
    row("pytorch", "", 6e-3),
    row("dm_haiku", "", 4e-3),
    row("ours", "", 0.2e-3, "product"),
    row("numpy_product", "", 0.4e-3, "product"),
    row("ours", "auto", 1e-3, at=SMALL),
    row("pytorch", "", 0.5e-3, at=SMALL),
    row("ours", "auto", 1e-3, "forward", spread=0.1),
    row("dm_haiku", "", 0.9e-3, "forward", spread=0.1),
]


def test_operations_are_those_of_products():
    place = Place("plain", "forward", "gru", 1, 32, 2, 256, 256)
    assert place.operations() == LARGE_OPERATIONS
    assert place._replace(computation="training").operations() == 3 * LARGE_OPERATIONS
    assert place.is_large()
    assert not place._replace(batch_size=31).is_large()
    assert not place._replace(hidden_size=255).is_large()


def test_the_best_rival_is_compared_and_the_fastest_product_is_the_rate():
    large, small, forward = comparisons(ROWS, PRODUCT)
    assert (large.rival.library, large.ratio, large.within_spread) == ("dm_haiku", 2.0, False)
    assert large.share == pytest.approx(3 * LARGE_OPERATIONS / 2e-3 / RATE)
    assert (small.ratio, small.share, small.within_spread) == (0.5, None, False)
    assert (forward.ratio, forward.within_spread) == (pytest.approx(0.9), True)


def test_what_is_not_measured_on_both_sides_is_not_compared():
    alone = [row("ours", "auto", 1.0), row("ours", "native", 0.1)]
    assert comparisons(alone, PRODUCT) == []
    refused = replace(row("pytorch", "", 1.0), status="values differ by 1")
    assert comparisons([*alone, refused], PRODUCT) == []
    assert comparisons(ROWS[2:4], PRODUCT) == []


def test_the_three_figures_are_stated():
    text = summary(comparisons(ROWS, PRODUCT))
    shares = [3 * LARGE_OPERATIONS / 2e-3 / RATE, LARGE_OPERATIONS / 1e-3 / RATE]
    mean, least = 100 * geometric_mean(shares), 100 * min(shares)
    assert f"geometric mean over 3 places: **{(2 * 0.5 * 0.9) ** (1 / 3):.2f}**" in text
    assert "The least of them: **0.50** (PyTorch; gru, training, B = 1, T = 2, I = 8" in text
    assert "behind at 2 of 3 places, at 1 of them by more than the quartiles of both" in text
    assert f"geometric mean **{mean:.0f} %**, least **{least:.0f} %** (gru, forward" in text
    assert summary([]) == ""


def test_tables_are_exact():
    found = comparisons(ROWS, PRODUCT)
    share = f"{100 * (found[0].share or 0):.0f} %"
    assert comparison_table(ROWS, found[:2]) == (
        "| recurrence | B | T | I | H | rnnjax | best rival ÷ ours | share | PyTorch | Haiku |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        f"| gru | 32 | 2 | 256 | 256 | 2.00 ms | 2.00 | {share} | 6.00 ms (×3.00) "
        "| 4.00 ms (×2.00) |\n"
        "| gru | 1 | 2 | 8 | 8 | 1.00 ms | 0.500 | – | 0.500 ms (×0.500) | – |\n"
    )
    assert "share" not in comparison_table(ROWS, found[1:2])
    assert means_table(found) == (
        "| best rival ÷ ours | gru | all | least |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| training step, plain | 1.00 | 1.00 | 0.500 |\n"
        "| forward, plain | 0.900 | 0.900 | 0.900 |\n"
    )
    assert behind_table(found) == (
        "| kind | computation | rival | recurrence | B | T | I | H | rival ÷ ours "
        "| within quartiles |\n"
        "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| plain | training | PyTorch | gru | 1 | 2 | 8 | 8 | 0.500 | no |\n"
        "| plain | forward | Haiku | gru | 32 | 2 | 256 | 256 | 0.900 | yes |\n"
    )
    assert behind_table(found[:1]) == ""
    assert rate_table(ROWS, PRODUCT) == (
        "| product of | median | least | largest |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| rnnjax | 168 | 168 | 168 |\n"
        "| NumPy | 84 | 84 | 84 |\n"
    )
    assert library_table(ROWS[:4], lambda row: f"{row.run_seconds}") == (
        "| recurrence | B | T | I | H | rnnjax | PyTorch | Haiku |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| gru | 32 | 2 | 256 | 256 | 0.002 | 0.006 | 0.004 |\n"
    )


def test_plans_are_relative_to_auto_and_its_own_is_named():
    native = replace(row("ours", "native", 1.0), status="auto takes it")
    newton = replace(row("ours", "newton", 1.0), status="refused: no")
    assert plans_table([*ROWS[:2], native, newton]) == (
        "| kind | computation | recurrence | B | T | I | H | reference | native | newton |\n"
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| plain | training | gru | 32 | 2 | 256 | 256 | ×2.00 | auto | – |\n"
    )
    assert missing_table([native, newton, newton]) == (
        "| library | plan | reason | where |\n"
        "| --- | --- | --- | --- |\n"
        "| rnnjax | newton | refused: no | gru plain |\n"
    )


GENERATION = [
    row("ours", "sample_language_model", 0.5, "generation", kind="generation"),
    row("pytorch", "module", 2.0, "generation", kind="generation"),
    row("pytorch", "cells", 1.0, "generation", kind="generation"),
    row("ours", "one_step", 4e-6, "streaming", SMALL, kind="streaming"),
    row("pytorch", "cells", 2e-6, "streaming", SMALL, kind="streaming"),
]


def test_generation_counts_the_tokens_of_all_rows_and_streaming_the_steps():
    assert tokens_a_second(GENERATION[0]) == 2 * 32 / 0.5
    assert generation_table(GENERATION) == (
        "| recurrence | B | layers | H | best rival ÷ ours | rnnjax `sample_language_model` "
        "| PyTorch `module` | PyTorch `cells` |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| gru | 32 | 1 | 256 | 2.00 | 128 | 32.0 | 64.0 |\n"
    )
    assert streaming_table(GENERATION) == (
        "| recurrence | H | best rival ÷ ours | rnnjax `one_step` | PyTorch `cells` |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| gru | 8 | 0.500 | 2.00 | 1.00 |\n"
    )


def test_one_line_names_the_best_rival():
    point = {"recurrence": "gru", "kind": "plain"} | LARGE
    assert in_one_line(point, ROWS[:4]) == (
        "gru plain B=32 T=2 I=256 H=256: training 2.00 ms, Haiku ×2.00"
    )
    assert in_one_line(point, ROWS[2:4]).endswith(": nothing to compare")


def test_figures_say_the_ratios_and_the_names():
    (panel, *_) = plot(comparisons(ROWS, PRODUCT)).axes
    assert [text.get_text() for text in panel.texts] == [
        "2.00\nHaiku",
        "0.50\nPyTorch",
        "0.90\nHaiku",
    ]
    training, forward = plot_libraries(ROWS, comparisons(ROWS, PRODUCT)).axes
    assert [text.get_text() for text in training.texts] == [f" {sqrt(3 * 0.5):.1f}", " 2.0"]
    assert [text.get_text() for text in forward.texts] == [" 0.9"]
    bars, lines = plot_generation(GENERATION).axes
    assert [text.get_text() for text in bars.texts] == [" 128/s", " 64/s"]
    assert [np.asarray(line.get_ydata()).tolist() for line in lines.lines] == [[2.0], [1.0]]


def test_report_says_how_each_library_is_used_and_when_and_where_it_ran():
    conditions = {
        "machine": {
            "cpu": "Abacus", "cores": 2, "memory_bytes": 2**30, "system": "S", "architecture": "a",
        },
        "versions": {"jax": "1"},
        "product_size": 256,
        "budget_seconds": 1.0,
        "turn_seconds": 0.5,
    }  # fmt: skip
    text = report_text("c", "d", conditions, ROWS + GENERATION)
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles == [
        "## In short",
        "## Where ours is behind",
        "## Training step, plain: run time",
        "## Forward, plain: run time",
        "## Generation: tokens a second, of all rows together",
        "## Streaming at B = 1: µs a step",
        "## Our plans: run time relative to auto",
        "## Training step: compile time in seconds, tracing and XLA together",
        "## Training step: MiB by which resident memory rises in a call at most",
        "## Forward: compile time in seconds, tracing and XLA together",
        "## Forward: MiB by which resident memory rises in a call at most",
        "## The machine's rate: GFLOP/s of 256 × 256",
        "## How each library is used",
    ]
    for name in ("PyTorch", "Flax Linen", "Flax NNX", "Haiku", "Equinox", "Keras", "NumPy"):
        assert f"\n- {name}" in text
    assert "`c`, d." in text
    assert "Abacus, 2 cores" in text


def test_geometric_mean():
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)
