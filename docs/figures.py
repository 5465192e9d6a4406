"""Figures that the documentation quotes, read from the records in docs/results.

A page quotes one as `<!-- figure: NAME -->12<!-- end -->`, NAME being one of `FIGURES`: its record
and what it is. `python docs/generated.py` writes what is between the marks.
"""

import json
import math
import re
from collections.abc import Callable
from functools import cache, partial
from itertools import product
from pathlib import Path
from statistics import fmean, geometric_mean
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
FIGURE = re.compile(r"<!-- figure: (.*?) -->(.*?)<!-- end -->", re.DOTALL)

FIGURES: dict[str, Callable[[], str]] = {}
"""Name, as "gradient_memory.lstm_units" -> the text that a page shows."""


def figure(name: str) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Put a function into `FIGURES`."""

    def put(function: Callable[[], str]) -> Callable[[], str]:
        assert name not in FIGURES, name
        FIGURES[name] = function
        return function

    return put


def with_figures(page: str) -> str:
    """A page with what is between its marks written anew.

    Raises:
        ValueError: No figure has such a name, or a mark has no end.
    """

    def written(match: re.Match[str]) -> str:
        name = match[1]
        if name not in FIGURES:
            raise ValueError(f"figure: got {name!r}, expected one of {', '.join(FIGURES)}")
        return f"<!-- figure: {name} -->{FIGURES[name]()}<!-- end -->"

    if page.count("<!-- figure:") != len(FIGURE.findall(page)):
        raise ValueError("figure: got a mark without an end, expected <!-- end --> after each")
    return FIGURE.sub(written, page)


@cache
def record(path: str) -> dict[str, Any]:
    """A JSON file of docs/results."""
    return json.loads((RESULTS / path).read_text("utf-8"))


def significant(value: float, digits: int = 2) -> str:
    """A number to so many significant digits, without an exponent; "12", "1.9", "300"."""
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 ** (digits - 1) else f"{rounded:.{digits}g}"


# Does unrolling pay?


def _unrolled_rows(**wanted: object) -> list[dict[str, Any]]:
    return _rows("scan_vs_unrolled/results.json", **wanted)


def _rows(path: str, **wanted: object) -> list[dict[str, Any]]:
    """The rows of all points of a record, each with what its point has, that are as wanted."""
    rows = [
        {name: value for name, value in point.items() if name != "rows"} | row
        for point in record(path)["points"]
        for row in point["rows"]
    ]
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def _unroll_ends(computation: str) -> tuple[int, int]:
    """The shortest T at which a full unroll was given up, and at which all were."""
    measured: dict[int, list[bool]] = {}
    for row in _unrolled_rows(plan="unrolled", computation=computation):
        measured.setdefault(row["time_steps"], []).append(row["status"] == "measured")
    first = min(steps for steps, are_measured in measured.items() if not all(are_measured))
    return first, min(steps for steps, are_measured in measured.items() if not any(are_measured))


for _computation in ("training", "forward"):
    for _index, _end in enumerate(("ends_from", "ends_by")):
        FIGURES[f"scan_vs_unrolled.{_computation}_{_end}"] = (
            lambda computation=_computation, index=_index: str(_unroll_ends(computation)[index])
        )


def _mean_ratio(plan: str, quantity: str) -> float:
    """Geometric mean, over the training steps that both were measured at, relative to the scan."""
    rows, ratios = _unrolled_rows(computation="training", status="measured"), []
    by_place = {(row["recurrence"], row["time_steps"], row["plan"]): row[quantity] for row in rows}
    for (recurrence, time_steps, name), value in by_place.items():
        if name == plan:
            ratios.append(value / by_place[recurrence, time_steps, "reference"])
    return geometric_mean(ratios)


@figure("scan_vs_unrolled.compile_limit")
def _() -> str:
    return f"{record('scan_vs_unrolled/results.json')['compile_limit_seconds']:.0f}"


@figure("scan_vs_unrolled.fused_run")
def _() -> str:
    return f"{_mean_ratio('fused', 'run_seconds'):.2f}"


@figure("scan_vs_unrolled.fused_compile")
def _() -> str:
    return f"{_mean_ratio('fused', 'compile_seconds'):.1f}"


# Which plan wins where


def _sizes_of_plans() -> dict[str, set[int]]:
    sizes: dict[str, set[int]] = {}
    for point in record("plans/results.json")["points"]:
        sizes.setdefault(point["recurrence"], set()).add(point["hidden_size"])
    return sizes


@figure("plans.points")
def _() -> str:
    return str(len(record("plans/results.json")["points"]))


@figure("plans.recurrences_at_several_sizes")
def _() -> str:
    return str(sum(len(sizes) > 1 for sizes in _sizes_of_plans().values()))


@figure("plans.recurrences_at_one_size")
def _() -> str:
    return str(sum(len(sizes) == 1 for sizes in _sizes_of_plans().values()))


WITH_KERNELS = ("few_rows", "with_native", "many_rows")


def _native_relative_to_best_other() -> list[float]:
    """The time of native relative to the fastest other plan, wherever it was measured."""
    ratios = []
    for folder in WITH_KERNELS:
        seconds: dict[tuple[Any, ...], dict[str, float]] = {}
        for row in _rows(f"plans/{folder}/results.json", status="measured"):
            place = (row["recurrence"], row["hidden_size"], row["time_steps"], row["computation"])
            seconds.setdefault(place, {})[row["plan"]] = row["run_seconds"]
        for plans in seconds.values():
            native = plans.pop("native")
            ratios.append(native / min(plans.values()))
    return ratios


@figure("plans.native_places")
def _() -> str:
    return str(len(_native_relative_to_best_other()))


@figure("plans.native_mean")
def _() -> str:
    return f"{geometric_mean(_native_relative_to_best_other()):.2f}"


@figure("plans.native_more_than_a_tenth_behind")
def _() -> str:
    return str(sum(ratio > 1.1 for ratio in _native_relative_to_best_other()))


def _associative_gains() -> list[float]:
    """The time of fused relative to associative, wherever both were measured."""
    seconds = {
        (
            row["recurrence"],
            row["hidden_size"],
            row["time_steps"],
            row["computation"],
            row["plan"],
        ): (row["run_seconds"])
        for row in _rows("plans/results.json", status="measured")
    }
    return [
        seconds[*place, "fused"] / value
        for (*place, plan), value in seconds.items()
        if plan == "associative" and (*place, "fused") in seconds
    ]


@figure("plans.associative_places")
def _() -> str:
    return str(len(_associative_gains()))


@figure("plans.associative_wins")
def _() -> str:
    return str(sum(gain > 1 for gain in _associative_gains()))


@figure("plans.associative_best")
def _() -> str:
    return significant(max(_associative_gains()))


# What a gradient keeps


def _longest(recurrence: str, plan: str) -> dict[str, Any]:
    rows = record("gradient_memory/results.json")["rows"]
    here = [row for row in rows if (row["recurrence"], row["plan"]) == (recurrence, plan)]
    return max(here, key=lambda row: row["time_steps"])


for _recurrence in ("lstm", "gru"):
    for _plan in ("reference", "fused"):

        def _units(recurrence: str = _recurrence, plan: str = _plan) -> str:
            row = _longest(recurrence, plan)
            return significant(row["temporary_bytes"] / row["unit_bytes"])

        FIGURES[f"gradient_memory.{_recurrence}_{_plan}_units"] = _units


@figure("gradient_memory.longest")
def _() -> str:
    return str(_longest("lstm", "fused")["time_steps"])


for _plan in ("checkpointed", "checkpointed_nested(2)"):

    def _saving(plan: str = _plan) -> str:
        fused, other = _longest("lstm", "fused"), _longest("lstm", plan)
        return significant(fused["temporary_bytes"] / other["temporary_bytes"])

    FIGURES[f"gradient_memory.lstm_{_plan}_saving"] = _saving


# Character language model


@figure("character_language_model.bits")
def _() -> str:
    return f"{record('character_language_model/report.json')['test']['bits_per_character']:.3f}"


@figure("character_language_model.test_characters")
def _() -> str:
    return f"{record('character_language_model/report.json')['test_characters']:,}"


for _name, _baseline in (
    ("order_3", "order 3, modified Kneser–Ney"),
    ("xz", "xz after the training text"),
):
    FIGURES[f"character_language_model.{_name}_bits"] = lambda baseline=_baseline: (
        f"{record('character_language_model/report.json')['baselines']['test'][baseline]:.3f}"
    )


# Sentiment


def _sentiment(path: str) -> dict[str, Any]:
    return record(f"{path}/report.json")


_BASELINES_OF_SENTIMENT = {
    "bag": "bag of words, logistic regression",
    "rules": "VADER: word list and rules, nothing learned",
}
for _name, _whose in _BASELINES_OF_SENTIMENT.items():
    FIGURES[f"sentiment.{_name}_accuracy"] = lambda whose=_whose: (
        f"{_sentiment('sentiment')['baselines']['test'][whose]['accuracy']:.3f}"
    )


@figure("sentiment.accuracy")
def _() -> str:
    return f"{_sentiment('sentiment')['test']['accuracy']:.3f}"


@figure("sentiment.test_texts")
def _() -> str:
    return f"{_sentiment('sentiment')['texts']['test']:,}"


@figure("sentiment.attention_agrees")
def _() -> str:
    return f"{_sentiment('sentiment')['attention_agrees']:.2f}"


def _mean_of_poolings(
    part: str, score: str, path: str = "sentiment_compared"
) -> dict[tuple[str, bool], float]:
    """The mean over seeds of a score, by pooling and whether there are both directions."""
    found: dict[tuple[str, bool], list[float]] = {}
    for cell in _sentiment(path)["cells"]:
        of_one = found.setdefault((cell["pooling"], cell["bidirectional"]), [])
        of_one.append(cell["scores"][part][score])
    return {model: sum(values) / len(values) for model, values in found.items()}


for _part in ("test", "tweets", "amazon", "nyt"):
    for _end, _choose in (("worst", min), ("best", max)):
        FIGURES[f"sentiment_compared.{_end}_on_{_part}"] = lambda part=_part, choose=_choose: (
            f"{choose(_mean_of_poolings(part, 'balanced_accuracy').values()):.3f}"
        )
    for _whose, _key in _BASELINES_OF_SENTIMENT.items():
        FIGURES[f"sentiment_compared.{_whose}_on_{_part}"] = lambda part=_part, key=_key: (
            f"{_sentiment('sentiment_compared')['baselines'][part][key]['balanced_accuracy']:.3f}"
        )

for _score in ("accuracy", "mean_absolute_error", "mean_absolute_error_of_median"):
    FIGURES[f"sentiment_stars_compared.attention_{_score}"] = lambda score=_score: (
        f"{_mean_of_poolings('test', score, 'sentiment_stars_compared')['attention', True]:.3f}"
    )
    FIGURES[f"sentiment_stars_compared.bag_{_score}"] = lambda score=_score: (
        f"{_sentiment('sentiment_stars_compared')['baselines']['test'][_BASELINES_OF_SENTIMENT['bag']][score]:.3f}"
    )


# Tiny Shakespeare

for _name, _read in (
    ("bits", lambda report: report["test"]["bits_per_character"]),
    ("order_3_bits", lambda report: report["baselines"]["test"]["order 3, modified Kneser–Ney"]),
):
    FIGURES[f"tinyshakespeare.{_name}"] = lambda read=_read: (
        f"{read(record('tinyshakespeare/report.json')):.3f}"
    )


# Names by group

for _name, _read in (
    ("bits", lambda report: f"{report['test']['bits_per_character']:.3f}"),
    (
        "best_other_bits",
        lambda report: f"{min(report['baselines']['test'].values()):.3f}",
    ),
    ("right", lambda report: f"{100 * report['right_group']['this model']:.0f}"),
    ("right_order_5", lambda report: f"{100 * report['right_group']['order 5, of the group']:.0f}"),
    (
        "times_as_many_last",
        lambda report: significant(
            report["train_names"]["last"] / report["train_names"]["male first"]
        ),
    ),
):
    FIGURES[f"names.{_name}"] = lambda read=_read: read(record("names/report.json"))


# Word language model

for _name, _whose in (
    ("perplexity", "this model"),
    ("alone", "this model, each sentence by itself"),
    ("mixed", "this model mixed with order 5"),
    ("order_5", "order 5, Kneser–Ney"),
    ("unigram", "words by frequency"),
):
    FIGURES[f"word_language_model.{_name}"] = lambda whose=_whose: (
        f"{record('word_language_model/report.json')['perplexity'][whose]:.1f}"
    )


@figure("word_language_model.unknown")
def _() -> str:
    return f"{100 * record('word_language_model/report.json')['unknown']['test']:.1f}"


# Agreement at a distance


def _agreement() -> dict[str, Any]:
    return record("agreement/report.json")


for _name in ("elman", "minimal_gru", "gru", "lstm"):
    FIGURES[f"agreement.{_name}_breaks"] = lambda name=_name: str(
        _agreement()["networks"][name]["breaks_at"]
    )
for _name in ("gru_chrono", "lstm_chrono"):
    FIGURES[f"agreement.{_name}_at_the_longest"] = lambda name=_name: (
        f"{_agreement()['networks'][name]['alone'][str(_agreement()['longest'])]:.2f}"
    )


@figure("agreement.most_steps")
def _() -> str:
    return str(_agreement()["most_steps"])


@figure("agreement.worst_of_all")
def _() -> str:
    accuracies = (min(n["all"].values()) for n in _agreement()["networks"].values())
    return f"{min(accuracies):.3f}"


@figure("agreement.least_left")
def _() -> str:
    """One in how many was left of the gradient where so little was left and yet it was learned."""
    left = [
        network["before"]["gradient_norms"][int(k) - 1] / network["before"]["gradient_norms"][0]
        for network in _agreement()["networks"].values()
        for k, accuracy in network["alone"].items()
        if accuracy >= _agreement()["breaks_below"]
    ]
    return significant(1 / min(left), 1)


# Exploding gradients


def _exploding() -> dict[str, Any]:
    return record("exploding_gradients/report.json")


for _method, _short in (("no clipping", "unclipped"), ("by norm", "norm"), ("by value", "value")):
    for _outcome in ("diverged", "learned"):
        FIGURES[f"exploding_gradients.{_short}_{_outcome}"] = (
            lambda method=_method, outcome=_outcome: (
                f"{100 * _exploding()['methods'][method][outcome][-1]:.0f}"
            )
        )


@figure("exploding_gradients.largest_radius")
def _() -> str:
    return f"{_exploding()['radii'][-1]:g}"


@figure("exploding_gradients.last_safe_radius")
def _() -> str:
    """The largest radius up to which every run without clipping learned."""
    learned = zip(
        _exploding()["radii"], _exploding()["methods"]["no clipping"]["learned"], strict=True
    )
    safe = [radius for radius, share in learned if share == 1]
    return f"{max(safe):g}"


@figure("exploding_gradients.exponent_tells")
def _() -> str:
    return f"{_exploding()['predictors']['largest Lyapunov exponent']['diverges']:.2f}"


# Recurrences compared


def _compared(recurrence: str) -> list[dict[str, Any]]:
    points = record("compare_recurrences/results.json")["points"]
    return [point for point in points if point["recurrence"] == recurrence]


@figure("compare_recurrences.recurrences")
def _() -> str:
    points = record("compare_recurrences/results.json")["points"]
    return str(len({point["recurrence"] for point in points}))


for _name in ("parameters", "steps", "seconds"):
    FIGURES[f"compare_recurrences.{_name}"] = lambda name=_name: (
        f"{record('compare_recurrences/results.json')['config'][name]:,g}"
    )
for _mark in ("steps", "time"):

    def _noise(mark: str = _mark) -> str:
        bits = [point[f"bits_at_equal_{mark}"] for point in _compared("lstm")]
        return f"{max(bits) - min(bits):.3f}"

    FIGURES[f"compare_recurrences.noise_{_mark}"] = _noise


# Named entities


def _f1(path: str, whose: str | None) -> str:
    """Of the split reported, in per cent; of the tagger itself if nobody else is named."""
    report = record(f"{path}/report.json")
    split = report["split"]
    return f"{(report[split] if whose is None else report['baselines'][split][whose])['f1']:.1f}"


for _path in ("named_entities", "named_entities_chinese"):
    for _name, _whose in (
        ("f1", None),
        ("by_word_f1", "most frequent tag of each word"),
        ("linear_f1", "logistic regression of features"),
    ):
        FIGURES[f"{_path}.{_name}"] = lambda path=_path, whose=_whose: _f1(path, whose)
    FIGURES[f"{_path}.entities"] = lambda path=_path: (
        f"{record(f'{path}/report.json')['test']['entities']:,}"
    )


def _mean_f1(variant: str) -> str:
    rows = record("named_entities_compare/report.json")["rows"]
    of_variant = [row["f1"] for row in rows if row["variant"] == variant]
    return f"{sum(of_variant) / len(of_variant):.1f}"


for _name, _variant in (
    ("whole", "as it is"),
    ("softmax", "without the field (softmax)"),
    ("one_direction", "without the backward direction"),
    ("no_characters", "without characters"),
):
    FIGURES[f"named_entities_compare.{_name}"] = lambda variant=_variant: _mean_f1(variant)


# Dates


def _share(path: str, *keys: str, digits: int = 1) -> str:
    """A share of a report of dates, in per cent."""
    value: Any = record(f"{path}/report.json")
    for key in keys:
        value = value[key]
    return f"{100 * value:.{digits}f}"


_OF_BASELINES = "date_translation", "baselines", "test"
for _name, _read in (
    ("exact_match", lambda: _share("date_translation", "test", "exact_match", digits=2)),
    ("counts", lambda: _share(*_OF_BASELINES, "numbers and words, counted", digits=2)),
    ("babel", lambda: _share(*_OF_BASELINES, "babel.dates.parse_date")),
    ("on_year", lambda: _share("date_translation", "attention_on_year", digits=0)),
    ("test_dates", lambda: f"{record('date_translation/report.json')['dates']['test']:,}"),
    ("locales", lambda: str(record("date_translation/report.json")["locales"])),
):
    FIGURES[f"date_translation.{_name}"] = _read


@figure("date_translation.worst_locale")
def _() -> str:
    report = record("date_translation/report.json")
    return f"{100 * min(report['by_locale'][report['decoding']].values()):.1f}"


_BEAM = "beam of 5, α = 0.7"
for _name, _cell, _decoding in (
    ("none", "none", "greedy"),
    ("none_by_beam", "none", _BEAM),
    ("additive", "additive", "greedy"),
    ("dot", "dot", "greedy"),
    ("general", "general", "greedy"),
    ("sampled", "general, scheduled sampling", "greedy"),
):
    FIGURES[f"date_translation_compared.{_name}"] = lambda cell=_cell, decoding=_decoding: _share(
        "date_translation_compared", "cells", cell, "decodings", decoding, "exact_match", digits=2
    )
for _name, _decoding in (("greedy_speed", "greedy"), ("beam_speed", _BEAM)):

    def _speed_of(decoding: str = _decoding) -> str:
        cell = record("date_translation_compared/report.json")["cells"]["general"]
        return significant(cell["decodings"][decoding]["characters_per_second"])

    FIGURES[f"date_translation_compared.{_name}"] = _speed_of


@figure("date_translation_compared.rows")
def _() -> str:
    return str(record("date_translation_compared/report.json")["batch_size"])


# Sequential digits


def _sequential_digits() -> dict[str, Any]:
    return record("sequential_digits/report.json")


for _name, _read in (
    ("accuracy", lambda report: f"{report['test']['accuracy']:.3f}"),
    ("low", lambda report: f"{report['test']['interval'][0]:.3f}"),
    ("high", lambda report: f"{report['test']['interval'][1]:.3f}"),
    ("test_digits", lambda report: f"{report['digits']['test']:,}"),
    ("train_digits", lambda report: f"{report['digits']['train']:,}"),
    ("neighbours", lambda report: _without_sequence(report, "k nearest neighbours")),
    ("logistic", lambda report: _without_sequence(report, "logistic regression")),
    (
        "one_to_one",
        lambda report: _without_sequence(report, "one-to-one network, all pixels at once"),
    ),
):
    FIGURES[f"sequential_digits.{_name}"] = lambda read=_read: read(_sequential_digits())


def _without_sequence(report: dict[str, Any], name: str) -> str:
    return f"{report['baselines'][name]['accuracy']:.3f}"


def _digits_compared(place: str, *, permuted: bool, **wanted: object) -> list[float]:
    """Accuracies of the points of a group that are as wanted."""
    points = record("sequential_digits_compared/report.json")["points"]
    wanted |= {"place": place, "permuted": permuted}
    return [
        point["test"]["accuracy"]
        for point in points
        if all(point["point"][name] == value for name, value in wanted.items())
    ]


for _place, _word in (("short", "rows"), ("long", "pixels")):
    for _permuted, _order in ((False, "in_order"), (True, "permuted")):
        for _end, _choose in (("best", max), ("worst", min)):
            FIGURES[f"sequential_digits_compared.{_word}_{_order}_{_end}"] = (
                lambda place=_place, permuted=_permuted, choose=_choose: (
                    f"{choose(_digits_compared(place, permuted=permuted, seed=0)):.3f}"
                )
            )
for _name in ("lstm", "gru", "lru", "min_gru"):
    for _permuted, _order in ((False, "in_order"), (True, "permuted")):
        FIGURES[f"sequential_digits_compared.{_name}_{_order}"] = (
            lambda name=_name, permuted=_permuted: (
                f"{_digits_compared('long', permuted=permuted, recurrence=name)[0]:.3f}"
            )
        )
for _place in ("short", "long"):
    FIGURES[f"sequential_digits_compared.{_place}_steps"] = lambda place=_place: str(
        record("sequential_digits_compared/report.json")["config"][place]["training_steps"]
    )


@figure("sequential_digits_compared.recurrences")
def _() -> str:
    return str(len(_digits_compared("short", permuted=False, seed=0)))


@figure("sequential_digits_compared.gated_permuted_best")
def _() -> str:
    """The best pixel by pixel, permuted, but for the LRU."""
    names = ("lstm", "gru", "min_gru")
    found = (_digits_compared("long", permuted=True, recurrence=name)[0] for name in names)
    return f"{max(found):.3f}"


@figure("sequential_digits_compared.between_seeds")
def _() -> str:
    """By how much the seeds of the repeated recurrence differ, in order."""
    repeated = record("sequential_digits_compared/report.json")["config"]["repeated"]
    found = _digits_compared("short", permuted=False, recurrence=repeated)
    return f"{max(found) - min(found):.3f}"


# Depth and direction


def _depth_errors(task: str, half: str, **wanted: object) -> list[float]:
    """The error at the end of every seed of the networks that are as wanted."""
    return [
        math.inf if curve[-1] is None else curve[-1]
        for point in record("depth_and_direction/report.json")["points"]
        if point["task"] == task and all(point[name] == value for name, value in wanted.items())
        for curve in point["curves"][half]
    ]


for _task, _half, _both in product(("agreement", "adding"), ("past", "both"), (False, True)):
    FIGURES[
        f"depth_and_direction.{_task}_{_half}_{'both_directions' if _both else 'one_direction'}"
    ] = lambda task=_task, half=_half, both=_both: (
        f"{fmean(_depth_errors(task, half, bidirectional=both)):.3f}"
    )


def _depth_solved(task: str, half: str, **wanted: object) -> str:
    """How many of the seeds of the networks that are as wanted solved it."""
    report = record("depth_and_direction/report.json")
    level = 0.1 * report["tasks"][task]["nothing"]
    solved = [
        any(error is not None and error < level for error in curve)
        for point in report["points"]
        if point["task"] == task and all(point[name] == value for name, value in wanted.items())
        for curve in point["curves"][half]
    ]
    return str(sum(solved))


for _task, _depth in product(("agreement", "adding"), (1, 2, 3, 4)):
    FIGURES[f"depth_and_direction.{_task}_solved_by_{_depth}"] = lambda task=_task, depth=_depth: (
        _depth_solved(task, "past", depth=depth)
    )
for _name, _deep in (("dense", False), ("deep", True)):
    FIGURES[f"depth_and_direction.agreement_solved_by_{_name}"] = lambda deep=_deep: _depth_solved(
        "agreement", "past", deep_head=deep
    )
for _name, _both in (("one_direction", False), ("both_directions", True)):
    FIGURES[f"depth_and_direction.agreement_past_solved_by_{_name}"] = lambda both=_both: (
        _depth_solved("agreement", "past", bidirectional=both)
    )
FIGURES["depth_and_direction.agreement_future_solved_by_both_directions"] = lambda: _depth_solved(
    "agreement", "both", bidirectional=True
)
FIGURES["depth_and_direction.runs_of_a_depth"] = lambda: str(
    len(_depth_errors("agreement", "past", depth=1))
)
FIGURES["depth_and_direction.runs_of_a_direction"] = lambda: str(
    len(_depth_errors("agreement", "past", bidirectional=True))
)
FIGURES["depth_and_direction.distance"] = lambda: str(
    record("depth_and_direction/report.json")["config"]["distance"]
)


# Memory probes


def _probes(task: str, **wanted: object) -> list[dict[str, Any]]:
    """The points of a task that are as wanted, the one with the least loss first."""
    points = record("memory_probes/report.json")["points"]
    found = [
        point
        for point in points
        if point["task"] == task and all(point[name] == value for name, value in wanted.items())
    ]
    return sorted(found, key=lambda point: (point["loss"] is None, point["loss"]))


def _steps_to_solve(task: str, **wanted: object) -> str:
    return f"{min(point['steps'] for point in _probes(task, solved=True, **wanted)):,}"


def _best_gated_copy() -> dict[str, Any]:
    return next(point for point in _probes("copy", length=32) if "lru" not in point["network"])


for _task, _length in product(("adding", "copy"), (32, 128)):
    FIGURES[f"memory_probes.{_task}_{_length}"] = lambda task=_task, length=_length: str(
        len(_probes(task, length=length, solved=True))
    )
    FIGURES[f"memory_probes.{_task}_{_length}_first"] = lambda task=_task, length=_length: (
        _steps_to_solve(task, length=length)
    )
for _name in ("gru", "lstm", "lstm_chrono"):
    FIGURES[f"memory_probes.{_name}_adding"] = lambda name=_name: _steps_to_solve(
        "adding", network=name, length=128
    )
for _name, _read in (
    ("networks", lambda: str(len(record("memory_probes/report.json")["networks"]))),
    ("steps", lambda: f"{record('memory_probes/report.json')['config']['steps']:,}"),
    (
        "gated_diagonal_adding",
        lambda: f"{_probes('adding', network='gated_diagonal')[0]['loss']:.3f}",
    ),
    ("lru_copy", lambda: f"{_probes('copy', network='lru')[0]['loss']:.3f}"),
    ("best_gated_copy", lambda: f"{_best_gated_copy()['loss']:.2f}"),
    (
        "copy_baseline",
        lambda: f"{record('memory_probes/report.json')['tasks']['copy']['baseline']['32']:.2f}",
    ),
):
    FIGURES[f"memory_probes.{_name}"] = _read


# Activity recognition


def _told(part: str, who: str, what: str) -> str:
    report = record("activity_video/report.json")
    networks = {name: one["parts"][part] for name, one in report["networks"].items()}
    row = (networks | report["scores_without_networks"][part])[who]
    return f"{row[f'{what}_accuracy']:.3f}"


for _part in ("test", "new_kinds"):
    for _name, _who in (
        ("single", "single_frame"),
        ("bag", "bag_of_frames"),
        ("recurrent", "recurrent"),
        ("conv_lstm", "conv_lstm"),
        ("count", "how many frames the clip has"),
        ("nearest_mean", "mean frame, nearest neighbour"),
        ("nearest_ordered", "frames in order, nearest neighbour"),
    ):
        for _what in ("action", "direction"):
            FIGURES[f"activity_video.{_part}_{_name}_{_what}"] = (
                lambda part=_part, who=_who, what=_what: _told(part, who, what)
            )

for _name, _who in (("network", "recurrent network"), ("forest", "features, random forest")):
    for _mark in ("accuracy", "recording_accuracy", "deviation"):
        FIGURES[f"activity_sensors.{_name}_{_mark}"] = lambda who=_who, mark=_mark: (
            f"{record('activity_sensors/report.json')['scores'][who][mark]:.3f}"
        )


# Music


def _music(path: str) -> dict[str, Any]:
    return record(f"music_{path}/report.json")


for _path, _split, _metric in (
    ("chorales", "test", "bits_per_token"),
    ("tunes", "test", "bits_per_token"),
    ("jsb_chorales", "validation", "nats_per_frame"),
    ("jsb_chorales_mixture", "validation", "nats_per_frame"),
    ("nottingham", "validation", "nats_per_frame"),
):
    _places = 2 if _split == "validation" else 3
    FIGURES[f"music_{_path}.score"] = (
        lambda path=_path, split=_split, metric=_metric, digits=_places: (
            f"{_music(path)[split][metric]:.{digits}f}"
        )
    )
    FIGURES[f"music_{_path}.best_other"] = lambda path=_path, split=_split, digits=_places: (
        f"{min(_music(path)['baselines'][split].values()):.{digits}f}"
    )

for _path in ("chorales", "tunes"):
    for _whose, _key in (
        ("model", "this model"),
        ("n_gram", "order 6, modified Kneser–Ney"),
        ("held_out", "held-out pieces"),
    ):
        for _counted in ("valid_bars", "in_key", "ends_on_tonic", "longest_share"):
            FIGURES[f"music_{_path}.{_whose}_{_counted}"] = (
                lambda path=_path, key=_key, share=_counted: (
                    f"{100 * _music(path)['counts'][key][share]:.0f}"
                )
            )
        for _run in ("median_run", "longest_run"):
            FIGURES[f"music_{_path}.{_whose}_{_run}"] = lambda path=_path, key=_key, run=_run: (
                f"{_music(path)['counts'][key][run]:.0f}"
            )


# Speech recognition


def _speech(path: str) -> dict[str, Any]:
    return record(f"speech_recognition_{path}/report.json")


for _name, _whose in (
    ("greedy", "this model, the likeliest path"),
    ("beam", "this model, beam of prefixes"),
    ("with_language_model", "this model, beam and character language model"),
    ("template", "nearest template, time warped"),
):
    for _rate, _short in (("character_error_rate", "cer"), ("word_error_rate", "wer")):
        FIGURES[f"speech_recognition.prompts_{_name}_{_short}"] = lambda whose=_whose, rate=_rate: (
            f"{100 * _speech('prompts')['scores']['alone'][whose][rate]:.1f}"
        )
    if _name != "with_language_model":
        FIGURES[f"speech_recognition.digits_{_name}"] = lambda whose=_whose: (
            f"{100 * (1 - _speech('digits')['scores']['alone'][whose]['wrong']):.1f}"
        )
        FIGURES[f"speech_recognition.strings_{_name}"] = lambda whose=_whose: (
            f"{100 * _speech('digits')['scores']['joined'][whose]['character_error_rate']:.1f}"
        )


@figure("speech_recognition.digits_logistic")
def _() -> str:
    value = _speech("digits")["one_of_all"]["logistic regression of pooled cepstra"]
    return f"{100 * value:.1f}"


for _name, _key in (
    ("alone", "alone"),
    ("logistic", "logistic regression of pooled cepstra"),
    ("template", "nearest template, time warped"),
):
    for _what, _of in (("mean", lambda values: sum(values) / len(values)), ("worst", min)):
        FIGURES[f"speech_recognition.unseen_{_name}_{_what}"] = lambda key=_key, of=_of: (
            f"{100 * of([row[key] for row in _speech('speakers')['rows']]):.1f}"
        )


def _latency(bidirectional: bool, deadline: float | None) -> dict[str, Any]:
    for row in _speech("latency")["rows"]:
        if (row["bidirectional"], row["deadline"]) == (bidirectional, deadline):
            return row
    raise KeyError(deadline)


FIGURES["speech_recognition.both_directions"] = lambda: (
    f"{100 * _latency(True, None)['character_error_rate']:.1f}"
)
FIGURES["speech_recognition.both_directions_wait"] = lambda: (
    f"{1000 * _latency(True, None)['delay']:,.0f}"
)
FIGURES["speech_recognition.one_direction"] = lambda: (
    f"{100 * _latency(False, None)['character_error_rate']:.1f}"
)


def _best_in_time() -> dict[str, Any]:
    rows = [row for row in _speech("latency")["rows"] if row["deadline"] is not None]
    return min(rows, key=lambda row: row["character_error_rate"])


FIGURES["speech_recognition.best_in_time"] = lambda: (
    f"{100 * _best_in_time()['character_error_rate']:.1f}"
)
FIGURES["speech_recognition.best_in_time_wait"] = lambda: f"{1000 * _best_in_time()['delay']:.0f}"


# Translation


def _of_translation(attended: bool, decoding: str = "greedy") -> dict[str, Any]:
    """Scores of the network without attention, or of the last with it that was compared."""
    variants = record("translation/report.json")["variants"]
    name = list(variants)[-1] if attended else "without attention"
    found = variants[name]["decodings"]
    return next(scores for name, scores in found.items() if name.endswith(decoding))


def _number_of_translation(attended: bool, decoding: str, quantity: str, digits: int) -> str:
    return f"{_of_translation(attended, decoding)[quantity]:.{digits}f}"


for _name, _attended, _decoding, _quantity, _digits in (
    ("none", False, "greedy", "bleu", 1),
    ("attention", True, "greedy", "bleu", 1),
    ("beam", True, "α = 0.7", "bleu", 1),
    ("unnormalised", True, "α = 0", "bleu", 1),
    ("none_chrf", False, "greedy", "chrf", 1),
    ("attention_chrf", True, "greedy", "chrf", 1),
    ("beam_length", True, "α = 0.7", "length", 2),
    ("unnormalised_length", True, "α = 0", "length", 2),
):
    FIGURES[f"translation.{_name}"] = partial(
        _number_of_translation, _attended, _decoding, _quantity, _digits
    )


for _name, _whose in (
    ("by_word", "word by word (IBM model 1)"),
    ("nearest", "nearest training sentence (TF-IDF)"),
):
    FIGURES[f"translation.{_name}"] = lambda whose=_whose: (
        f"{record('translation/report.json')['baselines']['test'][whose]:.1f}"
    )


@figure("translation.verses")
def _() -> str:
    return f"{record('translation/report.json')['pairs']['test']:,}"


@figure("translation.learned")
def _() -> str:
    return f"{record('translation/report.json')['pairs']['train']:,}"


def _translated_by_length(attended: bool, place: int) -> str:
    """BLEU of the shortest or of the longest sources."""
    found = record("translation/report.json")
    name = list(found["variants"])[-1] if attended else "without attention"
    return f"{found['by_length'][name][place]['bleu']:.1f}"


for _name, _attended in (("none", False), ("attention", True)):
    for _end, _place in (("short", 0), ("long", -1)):
        FIGURES[f"translation.{_name}_{_end}"] = partial(_translated_by_length, _attended, _place)


# DNA


def _dna(task: str, whose: str | None) -> dict[str, Any]:
    """The scores of one in the table of a task; of the network itself if nobody else is named."""
    report = record(f"dna_{task}/report.json")
    if whose is None:
        return report["test"]
    if task == "genome":
        return report["scores"][whose]
    if whose == "the same in one direction":
        return report["one_direction"]
    return report["baseline_scores"]["test"][whose]


for _name, _whose in (
    ("accuracy", None),
    ("one_direction", "the same in one direction"),
    ("positions", "base at each position, logistic regression"),
    ("kmers", "k-mers, logistic regression"),
    ("majority", "the most frequent class"),
):
    FIGURES[f"dna_splice.{_name}"] = lambda whose=_whose: (
        f"{100 * _dna('splice', whose)['accuracy']:.1f}"
    )
for _name in ("train", "test"):
    FIGURES[f"dna_splice.{_name}"] = lambda name=_name: (
        f"{record('dna_splice/report.json')['sequences'][name]:,}"
    )
for _name, _whose in (
    ("accuracy", None),
    ("one_direction", "the same in one direction"),
    ("hexamers", "hexamers of a window"),
    ("hidden_markov", "hexamers along a chain of hidden states"),
    ("glimmer", "GLIMMER 3"),
):
    FIGURES[f"dna_genome.{_name}"] = lambda whose=_whose: (
        f"{100 * _dna('genome', whose)['accuracy']:.1f}"
    )
for _name, _whose in (("both", "this network"), ("one", "the same in one direction")):
    for _place, _bin in (("after", 0), ("beyond", -1)):

        def _after_changes(whose: str = _whose, place: int = _bin) -> str:
            shares = record("dna_genome/report.json")["after_changes"][whose]
            return f"{100 * list(shares.values())[place]:.1f}"

        FIGURES[f"dna_genome.{_name}_{_place}"] = _after_changes


@figure("dna_promoters.errors")
def _() -> str:
    return str(record("dna_promoters/report.json")["test"]["errors"])


for _name, _whose in (
    ("positions", "base at each position, logistic regression"),
    ("kmers", "k-mers, logistic regression"),
):

    def _promoter_errors(whose: str = _whose) -> str:
        report = record("dna_promoters/report.json")
        return str(round((1 - report["baselines"]["test"][whose]) * report["sequences"]))

    FIGURES[f"dna_promoters.{_name}"] = _promoter_errors
