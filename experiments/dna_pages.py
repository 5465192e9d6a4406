"""The tables and pages of reports of `experiments.dna`, and what others published."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.trained_run import made_by

THIS, ONE_DIRECTION = "this network", "the same in one direction"
MAJORITY = "the most frequent class"
KMERS = "k-mers, logistic regression"
POSITIONS = "base at each position, logistic regression"
HEXAMERS = "hexamers of a window"
HIDDEN_MARKOV = "hexamers along a chain of hidden states"
GLIMMER = "GLIMMER 3"
GENOME_CLASSES = (".", "+", "-")

UCI_SPLICE = "UCI's documentation of the data; 10 folds of 1,000 of the 3,190, duplicates and all"
PUBLISHED_SPLICE: dict[str, dict[str, Any]] = {
    "KBANN, rules refined as a network": {
        "error_N": 0.0462, "error_EI": 0.0756, "error_IE": 0.0847, "source": UCI_SPLICE},
    "backpropagation, one hidden layer": {
        "error_N": 0.0529, "error_EI": 0.0574, "error_IE": 0.1075, "source": UCI_SPLICE},
    "ID3, a decision tree": {
        "error_N": 0.0884, "error_EI": 0.1058, "error_IE": 0.1399, "source": UCI_SPLICE},
    "convolutional network": {
        "accuracy": 0.9618,
        "source": "Nguyen et al. 2016, J. Biomedical Science and Engineering 9: 280–286; 10 folds "
        "of all 3,190, duplicates and all"},
}  # fmt: skip
UCI_PROMOTERS = "UCI's documentation of the data; each of the 106 left out"
PUBLISHED_PROMOTERS: dict[str, dict[str, Any]] = {
    "KBANN, rules refined as a network": {"errors": 4, "source": UCI_PROMOTERS},
    "backpropagation, one hidden layer": {"errors": 8, "source": UCI_PROMOTERS},
    "O'Neill's consensus of promoters": {"errors": 12, "source": UCI_PROMOTERS},
    "3 nearest neighbours": {"errors": 13, "source": UCI_PROMOTERS},
    "ID3, a decision tree": {"errors": 19, "source": UCI_PROMOTERS},
}


def accuracies(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Name -> accuracy."""
    return {name: of_one["accuracy"] for name, of_one in scores.items()}


def splice_table(summary: Mapping[str, Any]) -> list[str]:
    """Accuracy, and the share of each class that is taken for another, the best first."""
    classes = summary["classes"]
    rows = {THIS: summary["test"]} | summary["baseline_scores"]["test"]
    if "one_direction" in summary:
        rows[ONE_DIRECTION] = summary["one_direction"]
    ranked = sorted(rows, key=lambda name: -rows[name]["accuracy"])
    lines = [
        "| | accuracy | " + " | ".join(f"error of {name}" for name in classes) + " |",
        "| --- |" + " ---: |" * (1 + len(classes)),
    ]
    lines += [_splice_row(name, rows[name], classes) for name in ranked]
    lines += [
        _splice_row(f"published: {name}", scores, classes)
        for name, scores in summary["published"].items()
    ]
    return lines


def _splice_row(name: str, scores: Mapping[str, Any], classes: Sequence[str]) -> str:
    columns = ["accuracy", *(f"error_{one}" for one in classes)]
    cells = [f"{scores[column]:.1%}" if column in scores else "" for column in columns]
    return f"| {name} | {' | '.join(cells)} |"


def splice_page(summary: Mapping[str, Any]) -> str:
    """The report as a page."""
    classes, sizes = summary["classes"], summary["sequences"]
    sources = sorted({scores["source"] for scores in summary["published"].values()})
    told = "\n".join(
        f"| {name} | {' | '.join(map(str, row))} |"
        for name, row in zip(classes, summary["confusion"], strict=True)
    )
    gradients = "\n".join(
        f"| {name} | "
        + ", ".join(f"{one['base']} at {one['place']:+d} ({one['nats']:.2f})" for one in of_class)
        + " |"
        for name, of_class in summary["gradients"].items()
    )
    published = "Published:\n\n" + "".join(f"- {source}\n" for source in sources)
    return "\n".join(
        part
        for part in (
            f"# DNA: splice junctions\n\n{made_by(summary)} {summary['parameters']:,} parameters, "
            f"the best network by cross-entropy of the validation part (step {summary['step']:,}).",
            f"Sequences of {summary['length']} bases, all distinct: {sizes['train']:,} to learn "
            f"from, {sizes['validation']:,} for validation; these scores are of {sizes['test']:,} "
            "held out (test).\n",
            "\n".join(splice_table(summary)) + "\n",
            published if sources else "",
            "What each class was taken for:\n\n"
            f"| | {' | '.join(classes)} |\n| --- |{' ---: |' * len(classes)}\n{told}\n",
            "Where the gradient of log P(class | x) by the input is largest, in the mean over the "
            "test sequences of the class; places are counted from the junction, -1 before it and "
            f"+1 behind it; nats:\n\n| class | base and place |\n| --- | --- |\n{gradients}\n",
            "![mean gradient at each place and base](gradients.png)\n",
            "![accuracy, loss, learning rate and gradient norm](training.png)\n",
        )
        if part
    )


def genome_table(summary: Mapping[str, Any]) -> list[str]:
    """Scores of the bases of the test region, the best first."""
    scores = summary["scores"]
    lines = [
        "| | accuracy | mean over classes | sensitivity | precision |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name in sorted(scores, key=lambda name: -scores[name]["accuracy"]):
        columns = ("accuracy", "balanced_accuracy", "sensitivity", "precision")
        cells = " | ".join(f"{scores[name][column]:.1%}" for column in columns)
        lines.append(f"| {name} | {cells} |")
    return lines


def genome_page(summary: Mapping[str, Any]) -> str:
    """The report as a page."""
    bases, after = summary["bases"], summary["after_changes"]
    bins = list(next(iter(after.values())))
    rows = "\n".join(
        f"| {name} | " + " | ".join(f"{of_one[one]:.1%}" for one in bins) + " |"
        for name, of_one in after.items()
    )
    glimmer = (
        "GLIMMER 3 (Delcher et al. 2007) finds whole genes, with their starts and stops; it was "
        "run by the makers of the package, on all of the genome: what a published gene finder "
        "says of these bases.\n"
        if GLIMMER in summary["scores"]
        else ""
    )
    return "\n".join(
        part
        for part in (
            f"# DNA: which strand each base codes on\n\n{made_by(summary)} "
            f"{summary['parameters']:,} parameters, the best network by cross-entropy of the "
            f"validation part (step {summary['step']:,}); in one direction it has layers so wide "
            "that it has as many.",
            f"The genome {summary['genome']} by region: {bases['train']:,} bases to learn from, "
            f"{bases['validation']:,} for validation; these scores are of {bases['test']:,} that "
            "follow (test). Bases in genes of both strands are not counted. Sensitivity is the "
            "share of coding bases whose strand is told, precision the share of those told to code "
            "that do, on that strand.\n",
            "\n".join(genome_table(summary)) + "\n",
            glimmer,
            "Accuracy by how many bases ago the true label last changed, reading forward:\n\n"
            f"| | {' | '.join(bins)} |\n| --- |{' ---: |' * len(bins)}\n{rows}\n",
            "The first bases of the test region:\n\n"
            "![what is told of the first bases of the test region](genome.png)\n",
            "![accuracy, loss, learning rate and gradient norm](training.png)\n",
        )
        if part
    )


def promoters_table(summary: Mapping[str, Any]) -> list[str]:
    """Errors and accuracy, the best first, and what others published."""
    count = summary["sequences"]
    errors = {THIS: summary["test"]["errors"]} | {
        name: round((1 - accuracy) * count)
        for name, accuracy in summary["baselines"]["test"].items()
    }
    errors = dict(sorted(errors.items(), key=lambda item: item[1]))
    errors |= {f"published: {n}": of["errors"] for n, of in summary["published"].items()}
    lines = [f"| | errors of {count} | accuracy |", "| --- | ---: | ---: |"]
    return lines + [f"| {name} | {n} | {1 - n / count:.1%} |" for name, n in errors.items()]


def promoters_page(summary: Mapping[str, Any]) -> str:
    """The report as a page."""
    sources = sorted({scores["source"] for scores in summary["published"].values()})
    wrong = "\n".join(
        f"| `{one['sequence']}` | {one['label']} | {one['probability']:.2f} |"
        for one in summary["wrong"]
    )
    by_seed = ", ".join(map(str, summary["errors_by_seed"]))
    return "\n".join(
        part
        for part in (
            f"# DNA: promoters, each left out\n\n{made_by(summary)} {summary['sequences']} "
            f"networks of {summary['parameters']:,} parameters from each of {summary['seeds']} "
            "seeds, each trained without one sequence and asked about it; the mean probability "
            f"decides. Errors of each seed alone: {by_seed}.\n",
            "\n".join(promoters_table(summary)) + "\n",
            "Published:\n\n" + "".join(f"- {source}\n" for source in sources),
            "The gradient of log P(promoter | x) by the input, in the mean over the promoters, "
            "each by the networks that have not seen it; places are counted from the start of "
            "transcription:\n\n![mean gradient at each place and base](gradients.png)\n",
            "Sequences that were taken for the other class, and the probability of their own:\n\n"
            f"| sequence | class | probability |\n| --- | --- | ---: |\n{wrong}\n"
            if wrong
            else "",
        )
        if part
    )
