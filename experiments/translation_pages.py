"""The reports of `experiments.translation`: tables, pages, and BLEU by length."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.trained_run import made_by

METRIC = "bleu"


def report_page(summary: Mapping[str, Any]) -> str:
    """The report of one model as a page."""
    rows = [(f"this model, {name}", one) for name, one in summary["decodings"].items()]
    parts = [
        f"# Translation: {_corpus(summary)}\n\n{made_by(summary)}\n{_learned_from(summary)} "
        f"Attention: {summary['attention']}. {summary['parameters']:,} parameters, the best model "
        f"by BLEU of the validation part (step {summary['step']:,}).\n",
        scores_table(rows, summary),
        _notes(summary),
        "![BLEU, loss, learning rate and gradient norm](training.png)\n",
        _by_length(summary),
        _samples(summary),
    ]
    if summary["attention"] != "none":
        parts.insert(-1, _ATTENTION)
    return "\n".join(parts)


def comparison_page(summary: Mapping[str, Any]) -> str:
    """The report of `compare` as a page."""
    rows = [
        (f"{variant}, {name}", one)
        for variant, of in summary["variants"].items()
        for name, one in of["decodings"].items()
    ]
    variants = "".join(
        f"| {name} | {of['parameters']:,} | {of['step']:,} | {of['cross_entropy']:.3f} | "
        f"{of['seconds'] / 60:.1f} |\n"
        for name, of in summary["variants"].items()
    )
    parts = [
        f"# Translation: {_corpus(summary)}, what attention does\n\n{made_by(summary)}\n"
        f"{_learned_from(summary)} One seed each, all with the same settings.\n",
        scores_table(rows, summary),
        _notes(summary),
        "| | parameters | best step | cross-entropy, validation | minutes |\n"
        f"| --- | ---: | ---: | ---: | ---: |\n{variants}\n"
        "Cross-entropy is in nats a sub-word, the true ones before it being given. The best step "
        "is that of the highest BLEU of the validation part; minutes are those of training and "
        "evaluations.\n",
        _by_length(summary),
        _ATTENTION,
        _samples(summary),
    ]
    return "\n".join(parts)


_ATTENTION = (
    "![where the decoder looks for each sub-word that it writes](attention.png)\n\n"
    "Each row is a sub-word that was written, dark where in the source the decoder looked for it; "
    "▁ stands where a word begins, `</s>` is the end. The sentences are those of their length that "
    "come out best by chrF: where a translation is wrong, so is what a map of it shows.\n"
)


def scores_table(rows: Sequence[tuple[str, Mapping[str, Any]]], summary: Mapping[str, Any]) -> str:
    """BLEU, chrF, relative length and speed, baselines and what others published behind."""
    count = summary["pairs"][summary["split"]]
    lines = [
        f"| {count:,} sentences of the {summary['split']} part | BLEU | chrF | length | "
        "sub-words a second |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, one in [*rows, *summary["baseline_scores"].items()]:
        speed = one.get("tokens_per_second")
        lines.append(
            f"| {name} | {one[METRIC]:.1f} | {one['chrf']:.1f} | {one['length']:.2f} | "
            f"{'' if speed is None else f'{speed:,.0f}'} |"
        )
    lines += [f"| published: {name} | {bleu:.1f} | | | |" for bleu, name in summary["published"]]
    return "\n".join(lines) + "\n"


def report_text(rows: Sequence[tuple[str, Mapping[str, Any]]], summary: Mapping[str, Any]) -> str:
    """The scores in a few lines."""
    split = summary["split"]
    lines = [
        f"\n{summary['pairs'][split]:,} sentences of the {split} part",
        "   BLEU   chrF  length",
    ]
    lines += [
        f"  {one[METRIC]:5.1f}  {one['chrf']:5.1f}  {one['length']:6.2f}  {name}"
        for name, one in [*rows, *summary["baseline_scores"].items()]
    ]
    lines += [
        f"  {bleu:5.1f}                 published: {name}" for bleu, name in summary["published"]
    ]
    return "\n".join(lines) + "\n"


def draw_by_length(summary: Mapping[str, Any], path: Path) -> None:
    """Draw BLEU by words of the source, a line a model, and how long what was learned from is."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    colors = ["#cc6633", "#4477aa", "#228833", "#aa3377", "#66ccee"]
    most, bins = 0.0, dict[float, str]()
    for name, rows in summary["by_length"].items():
        middles = [(row["from"] + row["to"]) / 2 for row in rows]
        bins |= {m: f"{row['from']}–{row['to']}" for m, row in zip(middles, rows, strict=True)}
        values = [row[METRIC] for row in rows]
        most = max([most, *values])
        if name in summary["baseline_scores"]:
            axes.plot(middles, values, ":", color="#888888", linewidth=1.2)
        else:
            axes.plot(middles, values, "o-", color=colors.pop(0), markersize=4, label=name)
            continue
        if not rows:  # every bin has too few sentences
            continue
        axes.annotate(name, (middles[-1], values[-1]), fontsize=7, color="#555555", ha="right",
                      xytext=(0, 4), textcoords="offset points")  # fmt: skip
    limit = summary["longest_words"] + 0.5
    if limit < max(bins, default=0):
        axes.axvline(limit, color="#bbbbbb", linewidth=1)
        axes.text(limit, 0, " longer than learned from", fontsize=7, color="#555555", va="bottom")
    axes.set_xticks(list(bins), list(bins.values()))
    axes.set_xlabel("Words of the source")
    axes.set_ylabel(f"BLEU ({summary['split']} part, greedy)")
    axes.set_ylim(0, 1.12 * most + 0.1)
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    temporary = path.with_name(f".{path.name}.incomplete")
    figure.savefig(temporary, format="png")
    temporary.replace(path)


def _corpus(summary: Mapping[str, Any]) -> str:
    return f"{summary['corpus']}, {' to '.join(summary['languages'])}"


def _learned_from(summary: Mapping[str, Any]) -> str:
    source, target = summary["subwords"]
    return (
        f"Learned from {summary['pairs']['train']:,} pairs of at most {summary['longest_words']} "
        f"words on a side, in {source:,} and {target:,} sub-words."
    )


def _notes(summary: Mapping[str, Any]) -> str:
    return (
        f"BLEU and chrF by sacrebleu, with its defaults{_case(summary)}; length is that of "
        "all translations in words beside that of the true ones. Speed is that of up to "
        f"{summary['rows_at_a_time']} sentences side by side, reading them included, once "
        "compiled.\n"
    )


def _case(summary: Mapping[str, Any]) -> str:
    return ", all in small letters" if summary["lowercase"] else ""


def _by_length(summary: Mapping[str, Any]) -> str:
    found = summary["by_length"]
    bins = {(row["from"], row["to"]): row["pairs"] for rows in found.values() for row in rows}
    heads = " | ".join(f"{first}–{last}" for first, last in bins)
    lines = [
        f"| BLEU by words of the source, greedy | {heads} |",
        f"| --- |{' ---: |' * len(bins)}",
        f"| sentences | {' | '.join(f'{count:,}' for count in bins.values())} |",
    ]
    for name, rows in found.items():
        by_bin = {(row["from"], row["to"]): row[METRIC] for row in rows}
        lines.append(f"| {name} | {' | '.join(f'{by_bin[one]:.1f}' for one in bins)} |")
    return "\n".join(lines) + "\n\n![BLEU by words of the source](bleu_by_length.png)\n"


def _samples(summary: Mapping[str, Any]) -> str:
    rows = []
    for row in summary["samples"]:
        rows.append(f"- {in_line(row['source'])}")
        rows.append(f"  true: {in_line(row['true'])}")
        rows += [f"  {name}: {in_line(text)}" for name, text in row["found"].items()]
    return (
        "Sentences evenly spaced in what was scored, each with its translations:\n\n"
        + "  \n".join(rows).replace("  \n- ", "\n- ")
        + "\n"
    )


def in_line(text: str) -> str:
    """A text of others in a page of ours: nothing in it is markup."""
    return "`" + (text.replace("`", "ˋ") or " ") + "`"
