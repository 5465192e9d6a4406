"""What the docstring of each experiment says of its recorded runs.

The last paragraph of the docstring of `experiments/NAME.py` begins with "Recorded:" and is written
by `python docs/generated.py` from the reports in docs/results, by the function of that name here.
"""

import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from figures import FIGURES, record

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
        report: A `report.json`, with "command" and "machine"; without "seconds" if the machine did
            other things too.
    """
    machine = report["machine"]
    command = re.sub(r"^\S*python\S*", "python", report["command"])
    minutes = f"{report['seconds'] / 60:.1f} minutes " if "seconds" in report else ""
    return f"`{command}`, {minutes}on {machine['cores']} cores of {machine['cpu']}"


# One function for each experiment.


def _at(path: str) -> str:
    return f"docs/results/{path}/report.md"


@recorded
def character_language_model() -> str:
    """Bits per character beside characters by frequency, order 3 and xz."""
    found = []
    for path, text in (
        ("character_language_model", "Shakespeare"),
        ("tinyshakespeare", "char-rnn's own corpus"),
    ):
        report = record(f"{path}/report.json")
        baselines = report["baselines"]["test"]
        best = min(baselines, key=lambda name: baselines[name])
        found.append(
            f"{text}: {report['test']['bits_per_character']:.3f} bits per character of test text, "
            f"against {baselines[best]:.3f} of {best}; {run_of(report)} ({_at(path)})."
        )
    return " ".join(found)


@recorded
def names() -> str:
    """Bits per character in the mean of groups, beside order 5."""
    report = record("names/report.json")
    baselines = report["baselines"]["test"]
    best = min(baselines, key=lambda name: baselines[name])
    return (
        f"{report['test']['bits_per_character']:.3f} bits per character of held-out names, against "
        f"{baselines[best]:.3f} of {best}; {run_of(report)} ({_at('names')})."
    )


@recorded
def compare_recurrences() -> str:
    """The best at equal steps and at equal time."""
    results = record("compare_recurrences/results.json")
    baselines, points = results["baselines"], results["points"]
    found = []
    for mark in ("time", "steps"):
        quantity = f"bits_at_equal_{mark}"
        scored = [point for point in points if point[quantity] is not None]
        best = min(scored, key=lambda point: point[quantity])
        bits = best[quantity]
        found.append(f"{best['recurrence']} at equal {mark}, {bits:.3f} bits per character")
    bar = min(baselines, key=lambda name: baselines[name])
    return (
        f"{', and '.join(found)}, against {baselines[bar]:.3f} of {bar}; {run_of(results)} "
        "(docs/results/compare_recurrences/table.md)."
    )


@recorded
def word_language_model() -> str:
    """Perplexity beside Kneser–Ney."""
    report = record("word_language_model/report.json")
    perplexity = report["perplexity"]
    return (
        f"perplexity {perplexity['this model']:.1f} of test text, "
        f"{perplexity['this model, each sentence by itself']:.1f} sentence by sentence, against "
        f"{perplexity['order 5, Kneser–Ney']:.1f} of Kneser–Ney of order 5; {run_of(report)} "
        f"({_at('word_language_model')})."
    )


@recorded
def sentiment() -> str:
    """Accuracy beside the bag of words, in two classes and in five."""
    found = []
    for path in ("sentiment", "sentiment_compared", "sentiment_stars_compared"):
        report = record(f"{path}/report.json")
        baselines = {name: of["accuracy"] for name, of in report["baselines"]["test"].items()}
        best = max(baselines, key=lambda name: baselines[name])
        if "test" in report:
            score = f"accuracy {report['test']['accuracy']:.3f}"
        else:
            cells = [cell["scores"]["test"]["accuracy"] for cell in report["cells"]]
            score = f"`compare`, {len(cells)} runs, accuracy {min(cells):.3f} to {max(cells):.3f}"
        found.append(
            f"{score}, against {baselines[best]:.3f} of {best}; {run_of(report)} ({_at(path)})."
        )
    return " ".join(found)


@recorded
def named_entities() -> str:
    """F1 beside the linear model: tweets, Chinese news, and without each part."""
    found = []
    for path, corpus in (("named_entities", "tweets"), ("named_entities_chinese", "Chinese news")):
        report = record(f"{path}/report.json")
        baselines = {name: of["f1"] for name, of in report["baselines"]["test"].items()}
        best = max(baselines, key=lambda name: baselines[name])
        found.append(
            f"{corpus}: F1 {report['test']['f1']:.1f}, against {baselines[best]:.1f} of {best}; "
            f"{run_of(report)} ({_at(path)})."
        )
    compared = record("named_entities_compare/report.json")
    found.append(f"`compare`: {run_of(compared)} ({_at('named_entities_compare')}).")
    return " ".join(found)


@recorded
def date_translation() -> str:
    """Exact match beside counting and babel's own parser, and by attention."""
    report = record("date_translation/report.json")
    others = report["baselines"]["test"]
    of_others = " and ".join(f"{100 * others[name]:.1f} % of {name}" for name in reversed(others))
    compared = record("date_translation_compared/report.json")
    by_attention = ", ".join(
        f"{100 * cell['decodings']['greedy']['exact_match']:.2f} % {name}"
        for name, cell in compared["cells"].items()
    )
    return (
        f"exact match {100 * report['test']['exact_match']:.2f} % of {report['dates']['test']:,} "
        f"dates of days never seen in {report['locales']} locales, against {of_others}; "
        f"{run_of(report)} ({_at('date_translation')}). `compare`, by attention: {by_attention}; "
        f"{run_of(compared)} ({_at('date_translation_compared')})."
    )


@recorded
def sequential_digits() -> str:
    """Accuracy pixel by pixel beside what has no sequence."""
    report = record("sequential_digits/report.json")
    baselines = {name: of["accuracy"] for name, of in report["baselines"].items()}
    others = ", ".join(f"{accuracy:.3f} of {name}" for name, accuracy in baselines.items())
    compared = record("sequential_digits_compared/report.json")
    scores = {"rows": [0.0], "pixels": [0.0]}
    for point in compared["points"]:
        if not point["point"]["permuted"]:
            scores[point["step"]].append(point["test"]["accuracy"])
    return (
        f"accuracy {report['test']['accuracy']:.3f} of {report['test']['count']:,} test digits "
        f"pixel by pixel, against {others}; {run_of(report)} ({_at('sequential_digits')}). "
        f"`compare`: at best {max(scores['rows']):.3f} row by row and {max(scores['pixels']):.3f} "
        f"pixel by pixel, of networks trained for {compared['config']['short']['training_steps']} "
        f"and {compared['config']['long']['training_steps']} steps; {run_of(compared)} "
        f"({_at('sequential_digits_compared')})."
    )


@recorded
def depth_and_direction() -> str:
    """Mean errors of networks in one direction and in both, where the past does not answer."""
    report = record("depth_and_direction/report.json")
    told = []
    for name, task in report["tasks"].items():
        one, both = (
            FIGURES[f"depth_and_direction.{name}_both_{directions}"]()
            for directions in ("one_direction", "both_directions")
        )
        told.append(
            f"{task['title'].lower()}: {task['error']} {one} in one direction and {both} in both, "
            f"against {task['past_only']:.3f} of who knows the past alone"
        )
    return (
        f"where the past does not answer, in the mean of all networks, {'; '.join(told)}. "
        f"{run_of(report)} ({_at('depth_and_direction')})."
    )


@recorded
def memory_probes() -> str:
    """Which networks go how far, and who is first."""
    report = record("memory_probes/report.json")
    told = []
    for name, task in report["tasks"].items():
        points = [point for point in report["points"] if point["task"] == name and point["solved"]]
        for length in report["config"]["lengths"]:
            steps = [point["steps"] for point in points if point["length"] == length]
            first = f", first in {min(steps):,} steps" if steps else ""
            told.append(
                f"{name} at T = {length} by {len(steps)}{first} (who remembers nothing loses "
                f"{task['baseline'][str(length)]:.3f})"
            )
    return (
        f"of {len(report['networks'])} networks, solved {', '.join(told)}. {run_of(report)} "
        f"({_at('memory_probes')})."
    )


@recorded
def activity_recognition() -> str:
    """Clips beside a bag of frames and nearest neighbours, a watch beside a forest."""
    video, sensors = (record(f"activity_{name}/report.json") for name in ("video", "sensors"))
    of_networks = {name: one["parts"]["test"] for name, one in video["networks"].items()}
    of_others = video["scores_without_networks"]["test"]
    rows = {
        "an LSTM over frames": of_networks["recurrent"],
        "a ConvLSTM": of_networks["conv_lstm"],
        "a bag of frames": of_networks["bag_of_frames"],
        "a single frame": of_networks["single_frame"],
        "nearest neighbours of frames in order": of_others["frames in order, nearest neighbour"],
    }
    told = ", ".join(
        f"{row['action_accuracy']:.3f} and {row['direction_accuracy']:.3f} by {name}"
        for name, row in rows.items()
    )
    network, forest = (
        sensors["scores"][name]["accuracy"]
        for name in ("recurrent network", "features, random forest")
    )
    published = " and ".join(f"{score:.3f}" for score in sensors["published"].values())
    return (
        f"clips of actors never seen, what is done and which way: {told}; {run_of(video)} "
        f"({_at('activity_video')}). A watch, windows of people never seen: accuracy "
        f"{network:.3f}, against {forest:.3f} of a random forest of features, published "
        f"{published}; {run_of(sensors)} ({_at('activity_sensors')})."
    )


@recorded
def music_generation() -> str:
    """Chorales and tunes beside n-grams; piano rolls beside what is published."""
    found = []
    for path in ("music_chorales", "music_tunes"):
        report = record(f"{path}/report.json")
        baselines = report["baselines"]["test"]
        best = min(baselines, key=lambda name: baselines[name])
        found.append(
            f"{report['corpus']}: {report['test']['bits_per_token']:.3f} bits per token of test "
            f"pieces, against {baselines[best]:.3f} of {best}; {run_of(report)} ({_at(path)})."
        )
    for path in ("music_jsb_chorales", "music_jsb_chorales_mixture", "music_nottingham"):
        report = record(f"{path}/report.json")
        baselines = report["baselines"]["validation"]
        best = min(baselines, key=lambda name: baselines[name])
        found.append(
            f"{report['corpus']}: {report['validation']['nats_per_frame']:.2f} nats per frame of "
            f"the validation part, against {baselines[best]:.2f} of an {best}; {run_of(report)} "
            f"({_at(path)})."
        )
    return " ".join(found)


@recorded
def agreement() -> str:
    """The distance at which each network breaks."""
    report = record("agreement/report.json")
    breaks = {name: network["breaks_at"] for name, network in report["networks"].items()}
    for name, accuracies in report["baselines"].items():
        wrong = (k for k, accuracy in accuracies.items() if accuracy < report["breaks_below"])
        breaks[name] = min(map(int, wrong))
    told = ", ".join(f"{name} {place or 'nowhere'}" for name, place in breaks.items())
    return (
        f"the distance at which fewer than {report['breaks_below']:.0%} of the verbs are right, "
        f"learned at that distance alone: {told}. "
        f"{run_of(report)} ({_at('agreement')})."
    )


@recorded
def exploding_gradients() -> str:
    """The share of runs that diverge from the largest weights."""
    report = record("exploding_gradients/report.json")
    told = ", ".join(
        f"{method} {outcomes['diverged'][-1]:.0%}" for method, outcomes in report["methods"].items()
    )
    return (
        f"runs that diverged from a spectral radius of {report['radii'][-1]:g}: {told}. "
        f"{run_of(report)} ({_at('exploding_gradients')})."
    )


@recorded
def dna() -> str:
    """Splice junctions, a genome and promoters."""
    splice, genome, promoters = (
        record(f"dna_{task}/report.json") for task in ("splice", "genome", "promoters")
    )
    linear = splice["baselines"]["test"]["base at each position, logistic regression"]
    chain = genome["scores"]["hexamers along a chain of hidden states"]["accuracy"]
    one = genome["scores"]["the same in one direction"]["accuracy"]
    finder = genome["scores"]["GLIMMER 3"]["accuracy"]
    return (
        f"{splice['test']['accuracy']:.1%} of {splice['sequences']['test']} splice junctions, a "
        f"linear model of positions {linear:.1%}, published 96.2% (duplicates kept), by "
        f"{run_of(splice)}. {genome['test']['accuracy']:.1%} of {genome['bases']['test']:,} bases "
        f"of a genome, {one:.1%} in one direction, a hidden Markov model {chain:.1%}, GLIMMER 3 "
        f"{finder:.1%}, by {run_of(genome)}. {promoters['test']['errors']} errors of "
        f"{promoters['sequences']} promoters, published 4 (KBANN) to 19 (ID3), by "
        f"{run_of(promoters)}. Records: docs/results/dna_splice, dna_genome and dna_promoters."
    )


@recorded
def speech_recognition() -> str:
    """Prompts and digits beside the nearest template; the price of one direction; new speakers."""
    prompts = record("speech_recognition_prompts/report.json")
    rates = {
        name: f"{100 * of_one['character_error_rate']:.1f} %"
        for name, of_one in prompts["scores"]["alone"].items()
    }
    plain, with_model, nearest = (
        rates[name]
        for name in (
            "this model, beam of prefixes",
            "this model, beam and character language model",
            "nearest template, time warped",
        )
    )
    digits = record("speech_recognition_digits/report.json")
    alone, joined = digits["scores"]["alone"], digits["scores"]["joined"]
    right = {name: f"{100 * (1 - of_one['wrong']):.1f} %" for name, of_one in alone.items()}
    latency = record("speech_recognition_latency/report.json")
    waits = []
    for row in latency["rows"]:
        side = "both directions" if row["bidirectional"] else "one direction"
        by = "" if row["deadline"] is None else f" by {1000 * row['deadline']:+.0f} ms"
        wait = "no string right" if row["delay"] is None else f"{1000 * row['delay']:+.0f} ms"
        waits.append(f"{side}{by}: {100 * row['character_error_rate']:.1f} %, {wait}")
    speakers = record("speech_recognition_speakers/report.json")
    unseen = [100 * row["alone"] for row in speakers["rows"]]
    return (
        f"telephone prompts: a character error rate of {with_model} with the language model and "
        f"{plain} without, against {nearest} of the nearest template; {run_of(prompts)} "
        f"({_at('speech_recognition_prompts')}). Spoken digits: "
        f"{right['this model, beam of prefixes']} of the {digits['split']} part written right, "
        f"against {right['nearest template, time warped']} of the nearest template, and in strings "
        f"{100 * joined['this model, beam of prefixes']['character_error_rate']:.1f} % of digits "
        f"wrong; {run_of(digits)} ({_at('speech_recognition_digits')}). Digits of strings wrong, "
        f"and the mean wait from the end of a digit on: {'; '.join(waits)}; {run_of(latency)} "
        f"({_at('speech_recognition_latency')}). Speakers never heard: "
        f"{sum(unseen) / len(unseen):.1f} % right in the mean, {min(unseen):.1f} % of the hardest; "
        f"{run_of(speakers)} ({_at('speech_recognition_speakers')})."
    )


@recorded
def translation() -> str:
    """BLEU of verses with attention and without, beside what is no network."""
    report = record("translation/report.json")
    split = report["split"]
    models = [
        f"{scores['bleu']:.1f} {name}, {decoding}"
        for name, one in report["variants"].items()
        for decoding, scores in one["decodings"].items()
    ]
    baselines = [f"{bleu:.1f} {name}" for name, bleu in report["baselines"][split].items()]
    return (
        f"BLEU of {report['pairs'][split]:,} {report['corpus']} of the {split} part: "
        f"{'; '.join(models)}. Against {' and '.join(baselines)}. {run_of(report)} "
        f"({_at('translation')})."
    )
