"""The pages of reports of speech recognition."""

from collections.abc import Mapping
from typing import Any

from experiments.speech_scores import METRIC
from experiments.trained_run import made_by

GREEDY = "this model, the likeliest path"
BEAM = "this model, beam of prefixes"
BEAM_WITH_LANGUAGE_MODEL = "this model, beam and character language model"
TEMPLATES = "nearest template, time warped"
LOGISTIC = "logistic regression of pooled cepstra"

PUBLISHED = {
    True: {
        "mteb, logistic regression of mms-1b-all, few labelled (accuracy, test part)": 0.935,
        "Adoptante et al. (2023), network of AudioMNIST on these speakers (F1)": 0.819,
    },
    False: {
        "Graves and Jaitly (2014), WSJ, 81 hours, no language model (word error rate)": 0.301,
        "Graves and Jaitly (2014), WSJ, 14 hours, no language model (word error rate)": 0.742,
    },
}
"""By whether recordings say single characters; of other data, or of another protocol."""


def percent(share: float) -> str:
    """A share in per cent."""
    return f"{100 * share:.1f}"


def report_page(summary: Mapping[str, Any]) -> str:
    """The report as a page, with the command, the machine and the versions."""
    split, counts = summary["split"], summary["recordings"]
    chosen = "the validation part" if split == "test" else "a sixteenth of the training part"
    kind = "digits" if summary["of_single_characters"] else "prompts"
    lines = [
        f"# Speech recognition: {kind}",
        "",
        f"{made_by(summary)} {summary['parameters']:,} parameters, the model of step "
        f"{summary['step']:,}, chosen by {chosen} ({counts['development']:,} recordings).",
        f"{counts['train']:,} recordings to learn from, {counts[split]:,} of the {split} part to "
        f"report on; {counts['left_out']} longer ones are left out.",
        "",
    ]
    lines += _digits(summary) if summary["of_single_characters"] else _texts(summary)
    lines += ["", "Published, of other data or by another protocol:", ""]
    lines += [f"- {name}: {percent(value)} %" for name, value in summary["published"].items()]
    lines += [
        "",
        "![error rate, loss, learning rate and gradient norm](training.png)",
        "",
        "![a sound and what the network says of it at each step](writing.png)",
        "",
    ]
    return "\n".join(lines)


def _digits(summary: Mapping[str, Any]) -> list[str]:
    alone, in_rows = summary["scores"]["alone"], summary["scores"].get("joined")
    joined = summary["joined"]
    lines = ["| | recordings written right, % |", "| --- | ---: |"]
    lines += [f"| {name} | {percent(1 - scores['wrong'])} |" for name, scores in alone.items()]
    lines += [
        f"| {name}, one of ten | {percent(value)} |"
        for name, value in summary["one_of_all"].items()
    ]
    if in_rows:
        lines += [
            "",
            f"{joined['count']} strings of {joined['recordings']} recordings of one speaker:",
            "",
            "| | digit error rate, % | strings with an error, % |",
            "| --- | ---: | ---: |",
        ]
        lines += [
            f"| {name} | {percent(scores[METRIC])} | {percent(scores['wrong'])} |"
            for name, scores in in_rows.items()
        ]
    return lines


def _texts(summary: Mapping[str, Any]) -> list[str]:
    scores, beam = summary["scores"]["alone"], summary["beam"]
    lines = [
        "| | character error rate, % | word error rate, % | texts with an error, % |",
        "| --- | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {name} | {percent(of_one[METRIC])} | {percent(of_one['word_error_rate'])} | "
        f"{percent(of_one['wrong'])} |"
        for name, of_one in scores.items()
    ]
    lines += [
        "",
        f"The beam has {beam['width']} prefixes; the weight of the language model is "
        f"{beam['weight']:g}, the bonus of a letter {beam['bonus']:g}, tuned on what chose the "
        "checkpoint.",
        "",
        "The first texts held out:",
        "",
        "| said | greedily | by the beam and the language model |",
        "| --- | --- | --- |",
    ]
    with_model = BEAM_WITH_LANGUAGE_MODEL if BEAM_WITH_LANGUAGE_MODEL in scores else BEAM
    lines += [
        f"| {sample['said']} | {sample[GREEDY]} | {sample[with_model]} |"
        for sample in summary["samples"][:12]
    ]
    return lines


def name_of(row: Mapping[str, Any]) -> str:
    """What a model of the comparison of latencies is called."""
    if row["bidirectional"]:
        return "both directions"
    if row["deadline"] is None:
        return "one direction"
    return f"one direction, by {1000 * row['deadline']:+.0f} ms"


def latency_page(summary: Mapping[str, Any]) -> str:
    """What each model waits and errs, as a page."""
    slack, rows = summary["slack"], []
    earliest = "its beginning" if slack is None else f"{1000 * slack:.0f} ms earlier"
    for row in summary["rows"]:
        waits = [
            "—" if row[name] is None else f"{1000 * row[name]:.0f}"
            for name in ("delay", "delay_95")
        ]
        factor = row["real_time_factor"]
        rows.append(
            f"| {name_of(row)} | {waits[0]} | {waits[1]} | {percent(row[METRIC])} | "
            f"{percent(row['wrong'])} | {'—' if factor is None else f'{factor:.3f}'} |"
        )
    return "\n".join(
        [
            "# Speech recognition: latency against error",
            "",
            f"{made_by(summary)} {summary['strings']} strings of "
            f"{summary['joining']['most']} digits of the {summary['split']} part, decoded "
            "greedily.",
            "",
            "| | wait, ms, mean | 95 % | digit error rate, % | strings with an error, % | "
            "computing, s a second of sound |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
            *rows,
            "",
            "The wait is from the end of a digit until it is known, in the strings written right; "
            "of both directions it is until the last digit ends. With “by” training counted only "
            f"what is written by then, from the end of a digit on, and not before {earliest}; "
            "without, the network says a digit when it likes. Computing is that of streaming, in "
            "pieces of "
            "100 ms.",
            "",
            "![wait against error](latency.png)",
            "",
        ]
    )


def speakers_page(summary: Mapping[str, Any]) -> str:
    """How a speaker who was never heard is understood, as a page."""
    rows = summary["rows"]
    names = ("alone", "one_of_all", LOGISTIC, TEMPLATES)
    lines = [
        f"| {row['speaker']} | "
        + " | ".join(percent(row[name]) for name in names)
        + f" | {percent(row['joined'][METRIC]) if 'joined' in row else '—'} |"
        for row in rows
    ]
    means = " | ".join(percent(sum(row[name] for row in rows) / len(rows)) for name in names)
    strings = [row["joined"][METRIC] for row in rows if "joined" in row]
    mean = percent(sum(strings) / len(strings)) if strings else "—"
    return "\n".join(
        [
            "# Speech recognition: speakers never heard",
            "",
            f"{made_by(summary)} Each speaker was left out of training in turn; all of the "
            "speaker's recordings that are no test part are reported on.",
            "",
            f"| speaker | this model, beam: right, % | one of ten, % | {LOGISTIC}, % | "
            f"{TEMPLATES}, % | digit error rate of strings, % |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
            *lines,
            f"| mean | {means} | {mean} |",
            "",
        ]
    )
