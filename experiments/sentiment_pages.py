"""The pages and tables of the sentiment experiment, written from the records of its runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.trained_run import made_by

METRIC = "cross_entropy"
COLUMNS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    METRIC: "cross-entropy (nats)",
    "mean_absolute_error": "mean absolute error (stars)",
    "mean_absolute_error_of_median": "of the median star",
}


PUBLISHED = {
    "NBSVM, words and pairs (Wang and Manning 2012)": 0.794,
    "CNN-rand, no vectors from elsewhere (Kim 2014)": 0.761,
    "CNN-non-static, word2vec (Kim 2014)": 0.815,
    "RNN, pretrained vectors (Zhao et al. 2015)": 0.772,
    "BRNN, pretrained vectors (Zhao et al. 2015)": 0.823,
}
"""Accuracy on MR, ten-fold: the same sentences, but with the critics' labels and other splits."""

PUBLISHED_DOMAINS = {
    "VADER": {"movies": 0.61, "tweets": 0.96, "amazon": 0.63, "nyt": 0.55},
    "naive Bayes, learned from the films": {
        "movies": 0.75, "tweets": 0.69, "amazon": 0.49, "nyt": 0.44,
    },
    "maximum entropy, learned from the films": {
        "movies": 0.75, "tweets": 0.69, "amazon": 0.51, "nyt": 0.45,
    },
    "a single reader": {"movies": 0.92, "tweets": 0.84, "amazon": 0.85, "nyt": 0.65},
}  # fmt: skip
"""F1 of Hutto and Gilbert (2014), tables 4 and 5: the same texts in three classes, one neutral."""


def table_of_scores(summary: Mapping[str, Any]) -> list[str]:
    """Scores on the test part as the lines of a table, the most accurate first."""
    rows = {"this model": summary["test"]} | summary["baselines"]["test"]
    names = [name for name in COLUMNS if name in summary["test"]]
    lines = [
        "| | " + " | ".join(COLUMNS[name] for name in names) + " |",
        "| --- |" + " ---: |" * len(names),
    ]
    for name in sorted(rows, key=lambda name: -rows[name]["accuracy"]):
        cells = [f"{rows[name][column]:.3f}" if column in rows[name] else "" for column in names]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def published_lines(published: Mapping[str, float]) -> str:
    """Published scores as a section of a page; nothing if there are none."""
    if not published:
        return ""
    rows = "".join(f"| {name} | {score:.3f} |\n" for name, score in published.items())
    return (
        "\nPublished accuracy on MR. These are the same sentences, but with the critics' labels, "
        "in ten-fold\ncross-validation; here the label is the mean of readers of the sentence "
        f"alone, and the split another.\n\n| on MR | accuracy |\n| --- | ---: |\n{rows}"
    )


def published_domains_lines(published: Mapping[str, Mapping[str, float]]) -> str:
    """Published scores on each kind of texts as a section of a page; nothing if there are none."""
    if not published:
        return ""
    parts = list(next(iter(published.values())))
    rows = "".join(
        f"| {name} | " + " | ".join(f"{scores[part]:.2f}" for part in parts) + " |\n"
        for name, scores in published.items()
    )
    return (
        "\nPublished on these very texts, but in three classes, one of them neutral, and half of "
        "the films to learn\nfrom (Hutto and Gilbert 2014, tables 4 and 5):\n\n"
        f"| F1 of three classes | {' | '.join(parts)} |\n| --- |{' ---: |' * len(parts)}\n{rows}"
    )


def standard_error(share: float, count: int) -> str:
    """By how much the accuracy on so many texts may differ for the choice of the texts."""
    return f"{np.sqrt(share * (1 - share) / count):.3f}"


def report_page(summary: Mapping[str, Any]) -> str:
    """The report as a page, with the command, the machine and the versions."""
    texts, words, model = summary["texts"], summary["words"], summary["model"]
    unit = scale_names(summary["classes"])[2]
    carried = ""
    for title, key in (("most for the text", "most"), ("most against it", "least")):
        listed = ", ".join(f"{word} {value:+.2f}" for word, value in words[key].items())
        carried += f"- {title}: {listed}\n"
    attention = ""
    if summary["attention_agrees"] is not None:
        attention = (
            "\nKendall's τ between the weight of attention and how much a word carries is "
            f"{summary['attention_agrees']:.2f} in the mean\nof these texts: 1 would be the same "
            "order, 0 no relation.\n"
        )
    picture = ""
    if summary["shown"]:
        picture = (
            "\nThe first short texts of the test part, right ones and wrong ones:\n\n"
            "![a few texts with coloured words](words.png)\n\n"
        )
    about, metric = summary["baselines"]["about"], COLUMNS[METRIC]
    return f"""# Sentiment

{made_by(summary)} {summary["parameters"]:,} parameters
({model["recurrence"]}, {direction(model["bidirectional"])}, pooling {model["pooling"]}),
the best model by validation {metric} (step {summary["step"]:,}).
It learned from {texts["train"]:,} texts, with {texts["validation"]:,} for validation.
The table is of {texts["test"]:,} others, the test part; for so many, one standard error of an
accuracy is {standard_error(summary["test"]["accuracy"], texts["test"])}:

{chr(10).join(table_of_scores(summary))}

The features of the bag of words are phrases of up to {about["phrase"]} words, its C is
{about["penalty"]}: what validation chose.
{published_lines(summary["published"])}
![loss, learning rate and gradient norm](training.png)

## Which words carried the verdict

A word carries what the verdict changes by if it is left out, here the {unit}.
{picture}In the mean over the first {summary["explained"]} texts of the test part, of the words that
stand there at least {words["at_least"]} times:

{carried}{attention}"""


def by_model(cells: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The cells of each model, one a seed."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        name = f"{cell['pooling']}, {direction(cell['bidirectional'])}"
        found.setdefault(name, []).append(cell)
    return found


def comparison_tables(summary: Mapping[str, Any]) -> list[str]:
    """Lines of two tables: all scores on the test part, and the accuracy on every part.

    A cell is the mean over the seeds and, of several, ± their standard deviation.
    """
    rows = {
        name: [cell["scores"] for cell in of_one]
        for name, of_one in by_model(summary["cells"]).items()
    }
    parts = list(summary["texts"])
    for name in summary["baselines"]["test"]:
        rows[name] = [{part: summary["baselines"][part][name] for part in parts}]
    columns = [name for name in COLUMNS if name in summary["cells"][0]["scores"]["test"]]

    def written(values: list[float]) -> str:
        spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
        return f"{np.mean(values):.3f}{spread}"

    lines = [
        "| pooling | " + " | ".join(COLUMNS[name] for name in columns) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for name, seeds in rows.items():
        cells = [
            written([seed["test"][column] for seed in seeds]) if column in seeds[0]["test"] else ""
            for column in columns
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if len(parts) == 1:
        return lines
    own = summary["template"]["data"]["name"]
    titles = [f"{own if part == 'test' else part} ({summary['texts'][part]:,})" for part in parts]
    lines += [
        "",
        f"| learned from {own}: balanced accuracy on | " + " | ".join(titles) + " |",
        "| --- |" + " ---: |" * len(parts),
    ]
    for name, seeds in rows.items():
        cells = [written([seed[part]["balanced_accuracy"] for seed in seeds]) for part in parts]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def comparison_page(summary: Mapping[str, Any]) -> str:
    """The comparison as a page, with the command, the machine and the versions."""
    seeds = len({cell["seed"] for cell in summary["cells"]})
    mean = float(np.mean([cell["scores"]["test"]["accuracy"] for cell in summary["cells"]]))
    count = summary["texts"]["test"]
    return f"""# Sentiment: poolings, directions, and other kinds of texts

{made_by(summary)}
The classes are {", ".join(summary["classes"])}.

Each model is trained from {seeds} seeds and stopped by its validation {COLUMNS[METRIC]};
a figure is their mean, ± the standard deviation of one. Guessing has a balanced accuracy of
{1 / len(summary["classes"]):.3f}. The choice of {count:,} texts for the test part adds a standard
error of {standard_error(mean, count)}, the same for all rows.

{chr(10).join(comparison_tables(summary))}
{published_domains_lines(summary["published_domains"])}{published_lines(summary["published"])}
![accuracy of each model](comparison.png)
"""


def direction(bidirectional: bool) -> str:
    """How the directions of a model are called."""
    return "both directions" if bidirectional else "one direction"


def scale_names(classes: Sequence[str]) -> tuple[str, str, str]:
    """What the two colours of a picture say of a word, and the unit of its scale."""
    if len(classes) == 2:
        return f"speaks for {classes[1]}", f"speaks for {classes[0]}", "change of the log-odds"
    return "raises the stars", "lowers the stars", "change of the mean, in stars"
