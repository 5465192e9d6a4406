"""The pages and tables of the experiment on sequential digits, written from its reports."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report import markdown_table
from experiments.trained_run import made_by

METRIC = "cross_entropy"
ORDERS = ("in order", "permuted")

PUBLISHED: Mapping[str, tuple[float, float]] = {
    "Elman's network (Bai et al. 2018, arXiv:1803.01271, table 1)": (0.215, 0.253),
    "LSTM (Bai et al. 2018)": (0.872, 0.857),
    "GRU (Bai et al. 2018)": (0.962, 0.873),
    "temporal convolutional network, not recurrent (Bai et al. 2018)": (0.990, 0.972),
    "LSTM (Gu et al. 2022, arXiv:2111.00396, sequential images)": (0.989, 0.951),
    "GRU with uniform and refine gates (Gu et al. 2022)": (0.993, 0.965),
    "relu network begun from the identity (Le et al. 2015, arXiv:1504.00941)": (0.97, 0.82),
    "IndRNN, 6 layers (Li et al. 2018, arXiv:1803.04831)": (0.990, 0.960),
    "S5, complex and diagonal as the LRU (Smith et al. 2023, arXiv:2208.04933)": (0.997, 0.987),
}
"""Accuracy pixel by pixel, T = 784, in order and permuted: MNIST's 60,000 digits to learn from."""

NOT_PUBLISHED = """The papers of the LRU (Orvieto et al. 2023, arXiv:2303.06349) and of minGRU (Feng
et al. 2024, arXiv:2410.01201) have no figure for these two tasks: the one is tried on the Long
Range Arena, where it is right on 0.890 of pixel-by-pixel colour images of CIFAR-10, the other on
selective copying, reinforcement learning and Shakespeare. The nearest relative of the LRU that has
been tried is S5."""


def percent_interval(score: Mapping[str, Any]) -> str:
    """An accuracy and how far it may be off by chance: "0.912 (0.896 … 0.926)"."""
    low, high = score["interval"]
    return f"{score['accuracy']:.3f} ({low:.3f} … {high:.3f})"


def reading_in_words(step: str) -> str:
    """What x^<t> is, and how many there are."""
    return {
        "pixels": "pixel by pixel, T = 784",
        "averages": "by the means of 2 × 2 pixels, T = 196",
        "rows": "row by row, T = 28",
    }[step]


def table_of_scores(summary: Mapping[str, Any]) -> list[str]:
    """Scores of a network and of the baselines on the test part as lines, the most accurate first.

    Behind an accuracy stands its interval.
    """
    rows = {"this network": summary["test"]} | summary["baselines"]
    ranked = sorted(rows.items(), key=lambda row: -row[1]["accuracy"])
    cells = [[name, percent_interval(score), _nats(score)] for name, score in ranked]
    table = markdown_table(["", "accuracy", "cross-entropy (nats)"], cells, labels=1)
    return table.rstrip("\n").split("\n")


def _nats(score: Mapping[str, Any]) -> str:
    return f"{score[METRIC]:.3f}" if score.get(METRIC) is not None else ""


def published_section(published: Mapping[str, Sequence[float]]) -> str:
    """What others published as a section of a page; nothing if there is none."""
    if not published:
        return ""
    rows = [[name, *(f"{value:.3f}" for value in both)] for name, both in published.items()]
    table = markdown_table(["accuracy on MNIST, T = 784", *ORDERS], rows, labels=1)
    return f"""
## Published

Pixel by pixel, of networks that learned from all 60,000 digits of MNIST for many epochs, and on its
own test part. Here there is a sixth of the digits to learn from, with another split, and minutes of
two cores; the permuted order is another too.

{table}
{NOT_PUBLISHED}
"""


def digits_in_words(digits: Mapping[str, int]) -> str:
    """How many digits each part has."""
    return (
        f"{digits['train']:,} digits to learn from, {digits['validation']:,} for validation and "
        f"{digits['test']:,} for the test"
    )


def report_page(summary: Mapping[str, Any]) -> str:
    """The report of one network as a page."""
    model, reading = summary["model"], summary["reading"]
    order = "in a permuted order" if reading["permuted"] else "in order"
    blocks = "one block" if model["blocks"] == 1 else f"{model['blocks']} blocks"
    chosen = ", ".join(
        f"{name}: {score['chosen']:g}"
        for name, score in summary["baselines"].items()
        if "chosen" in score
    )
    return f"""# Sequential digits: one network

{made_by(summary)}

{digits_in_words(summary["digits"])}.
An image is read {reading_in_words(reading["step"])}, {order},
by {blocks} of `{model["recurrence"]}`, H = {model["hidden_size"]}, E = {model["width"]},
pooling {model["pooling"]}: {summary["parameters"]:,} parameters,
the best by validation cross-entropy (step {summary["step"]:,}).

{chr(10).join(table_of_scores(summary))}

In brackets the interval with 95 % confidence by the number of test digits. The others have no
sequence and do not mind the order; validation chose k and C
({chosen}).

![loss, learning rate and gradient norm](training.png)

## A digit as a sequence

![a digit, in order and permuted](sequences.png)

## How a verdict grows

P(y | x^<1>, …, x^<t>): what the network would say if the sequence ended there. These are the first
digits of the test part.

![probability of each digit along the sequence](verdicts.png)
{published_section(summary["published"])}"""


def of_first_seed(
    summary: Mapping[str, Any], place: str
) -> dict[str, dict[bool, Mapping[str, Any]]]:
    """Recurrence -> whether permuted -> record, of the seed that all have."""
    found: dict[str, dict[bool, Mapping[str, Any]]] = {}
    for record in summary["points"]:
        point = record["point"]
        if point["place"] == place and point["seed"] == summary["config"]["seed"]:
            found.setdefault(point["recurrence"], {})[point["permuted"]] = record
    return found


def comparison_tables(summary: Mapping[str, Any]) -> list[str]:
    """Lines of a table for each group, the most accurate in order first, and of the baselines."""
    lines = []
    for place in ("short", "long"):
        networks = of_first_seed(summary, place)
        if not networks:
            continue
        ranked = sorted(networks.items(), key=lambda item: -item[1][False]["test"]["accuracy"])
        rows = [
            [
                name,
                *(percent_interval(of_one[permuted]["test"]) for permuted in (False, True)),
                str(of_one[False]["hidden_size"]),
                f"{of_one[False]['parameters']:,}",
                of_one[False]["plan"],
                f"{1e3 * min(record['step_seconds'] for record in of_one.values()):.0f}",
            ]
            for name, of_one in ranked
        ]
        words = reading_in_words(summary["config"][place]["step"])
        header = [words, *ORDERS, "H", "parameters", "plan", "ms a step"]
        lines += [*markdown_table(header, rows, labels=1).rstrip("\n").split("\n"), ""]
    rows = [[name, percent_interval(score)] for name, score in summary["baselines"].items()]
    return lines + markdown_table(["no sequence", "any order"], rows, labels=1).split("\n")


def of_seeds(summary: Mapping[str, Any]) -> str:
    """What the seeds of the repeated recurrence differ by, in a sentence."""
    repeated, found = summary["config"]["repeated"], []
    for permuted, words in zip((False, True), ORDERS, strict=True):
        accuracies = [
            record["test"]["accuracy"]
            for record in summary["points"]
            if record["point"]["place"] == "short"
            and record["point"]["recurrence"] == repeated
            and record["point"]["permuted"] == permuted
        ]
        if len(accuracies) > 1:
            found.append(f"{', '.join(f'{a:.3f}' for a in accuracies)} {words}")
    if not found:
        return "No network was trained with several seeds."
    return f"`{repeated}` with other seeds: {'; '.join(found)}."


def group_in_words(config: Mapping[str, Any], place: str) -> str:
    """How the networks of a group were trained."""
    group = config[place]
    return (
        f"{reading_in_words(group['step'])}: {group['training_steps']:,} training steps of "
        f"B = {group['batch_size']}, about {group['parameters']:,} parameters, learning rate "
        f"{group['learning_rate']:g} for all"
    )


def comparison_page(summary: Mapping[str, Any]) -> str:
    """The comparison as a page."""
    config = summary["config"]
    skipped = [
        f"`{record['point']['recurrence']}` {record['skipped_steps']}"
        for record in summary["points"]
        if record["skipped_steps"]
    ]
    return f"""# Sequential digits: recurrences compared

{made_by(summary)}

{digits_in_words(summary["digits"])}.
Every recurrence stands in the same network: {config["blocks"]} blocks, E = {config["width"]},
pooling {config["pooling"]}.

- {group_in_words(config, "short")}
- {group_in_words(config, "long")}

Accuracy on the {summary["digits"]["test"]:,} test digits, in brackets its interval with 95 %
confidence by their number: two networks whose intervals lie apart do differ on such digits, as they
were trained here. How far another seed goes is another question. {of_seeds(summary)}
Guessing gives 0.1. The time of a step is with its data and without compilation, the lesser one of
the two orders.

{chr(10).join(comparison_tables(summary))}
Steps skipped, since loss or gradient was not finite: {", ".join(skipped) or "none"}.

![accuracy of each network](accuracies.png)

![accuracy on validation digits along training](curves.png)
{published_section(summary["published"])}"""
