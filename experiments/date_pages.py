"""The reports of `experiments.date_translation`: tables, pages and curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.trained_run import made_by

METRIC = "exact_match"


def scores_table(summary: Mapping[str, Any]) -> str:
    """Exact match and speed of each decoding, and of what is not a neural net."""
    lines = [
        f"| exact match, {summary['dates']['test']:,} dates of days never seen | | "
        "characters a second |",
        "| --- | ---: | ---: |",
    ]
    lines += [
        f"| this model, {name} | {per_cent(one[METRIC])} | {one['characters_per_second']:,.0f} |"
        for name, one in summary["decodings"].items()
    ]
    lines += [
        f"| {name} | {per_cent(share)} | |" for name, share in summary["baselines"]["test"].items()
    ]
    return "\n".join(lines) + "\n"


def per_cent(share: float) -> str:
    """A share in per cent; 100 only where nothing is wrong."""
    return "100 %" if share == 1 else f"{min(100 * share, 99.99):.2f} %"


def locale_table(summary: Mapping[str, Any]) -> str:
    """Exact match of each locale, with one of its dates."""
    names = ["greedy", summary["decoding"], *summary["baselines"]["test"]]
    columns = [summary["by_locale"][name] for name in dict.fromkeys(names)]
    lines = [
        f"| locale | as in | {' | '.join(dict.fromkeys(names))} |",
        f"| --- | --- |{' ---: |' * len(columns)}",
    ]
    for locale, text in summary["examples"].items():
        shares = " | ".join(f"{100 * column[locale]:.1f}" for column in columns)
        lines.append(f"| `{locale}` | {in_line(text)} | {shares} |")
    return "\n".join(lines) + "\n"


def style_table(summary: Mapping[str, Any]) -> str:
    """Exact match by how long a date is written."""
    by_style = summary["by_style"]
    styles = list(by_style[summary["decoding"]])
    lines = [f"| | {' | '.join(styles)} |", f"| --- |{' ---: |' * len(styles)}"]
    for name, shares in by_style.items():
        lines.append(f"| {name} | {' | '.join(per_cent(shares[style]) for style in styles)} |")
    return "\n".join(lines) + "\n"


def report_page(summary: Mapping[str, Any]) -> str:
    """The report of one model as a page."""
    dates = summary["dates"]
    wrong = "".join(
        f"| `{row['locale']}` | {in_line(row['text'])} | {row['true']} | "
        f"{in_line(row['written'])} |\n"
        for row in summary["samples"]
    )
    parts = [
        f"# Dates\n\n{made_by(summary)} Attention: {summary['attention']}. "
        f"{summary['parameters']:,} parameters, the best model by exact match of the validation "
        f"part (step {summary['step']:,}). Learned from {dates['train']:,} dates in "
        f"{summary['locales']} locales.\n",
        scores_table(summary),
        "The days of the test part were never seen, in no locale and no style. Speed is that of "
        f"{summary['batch_size']} dates side by side, reading them included, after compilation, "
        "the fastest of three times; the end of a date is a character.\n",
        "In per cent, by locale:\n\n" + locale_table(summary),
        style_table(summary),
        "![exact match, loss, learning rate and gradient norm](training.png)\n",
    ]
    if summary["attention_on_year"] is not None:
        parts.append(
            "![where the decoder looks](attention.png)\n\nA row is a character that is written, a "
            "column one that was read; the first is the locale. While the four digits of the year "
            f"are written, {100 * summary['attention_on_year']:.0f} % of the attention is on those "
            "of the text or right beside them.\n"
        )
    if wrong:
        parts.append(
            "The first that were written wrong:\n\n| locale | text | true | written |\n"
            f"| --- | --- | --- | --- |\n{wrong}"
        )
    return "\n".join(parts)


def comparison_table(summary: Mapping[str, Any]) -> str:
    """Every variant: exact match greedily and by a beam, by style, and speed."""
    cells = summary["cells"]
    first = next(iter(cells.values()))
    decodings, styles = list(first["decodings"]), list(first["by_style"])
    head = ["attention", *decodings, *styles, "attention on the year", "parameters"]
    head += ["minutes of training", "characters a second, greedy"]
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    for name, cell in cells.items():
        year = cell["attention_on_year"]
        row = [
            name,
            *(per_cent(cell["decodings"][decoding][METRIC]) for decoding in decodings),
            *(per_cent(cell["by_style"][style]) for style in styles),
            "" if year is None else f"{100 * year:.0f} %",
            f"{cell['parameters']:,}",
            f"{cell['minutes']:.1f}",
            f"{cell['decodings'][decodings[0]]['characters_per_second']:,.0f}",
        ]
        lines.append(f"| {' | '.join(row)} |")
    for name, share in summary["baselines"]["test"].items():
        lines.append(f"| {name} | {per_cent(share)} |{' |' * (len(head) - 2)}")
    return "\n".join(lines) + "\n"


def comparison_page(summary: Mapping[str, Any]) -> str:
    """The report of all variants as a page."""
    dates = summary["dates"]
    sampled = ""
    if summary["own_tokens"]:
        sampled = (
            "With scheduled sampling the decoder reads characters of its own, ever more often, in "
            f"the end {100 * summary['own_tokens']:.0f} % of them.\n"
        )
    parts = [
        f"# Dates: with which attention\n\n{made_by(summary)} Each learned from the same "
        f"{dates['train']:,} dates in {summary['locales']} locales, from one seed, and is tested "
        f"on the same {dates['test']:,} of days never seen.\n",
        comparison_table(summary),
        f"By style with the {summary['decoding']}.\n",
        sampled,
        "![exact match by training step](curves.png)\n",
        "![where the decoders look](attention.png)\n\nA row is a character that is written, a "
        "column one that was read; the first is the locale.\n",
    ]
    return "\n".join(part for part in parts if part)


def draw_curves(png_path: Path, logs: Mapping[str, Path]) -> None:
    """Draw exact match of the validation part by training step, a line for each variant.

    Args:
        png_path: replaced by the picture.
        logs: name -> `metrics.jsonl` of its run.

    Raises:
        OSError: a log cannot be read or the picture not written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from rnnjax.training.metrics import read_metrics
    from rnnjax.training.plots import column

    figure = Figure(figsize=(9, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, log in logs.items():
        steps, shares = column(read_metrics(log), f"held_out/{METRIC}")
        axes.plot(steps, [100 * share for share in shares], marker="o", markersize=3, label=name)
    axes.set_xlabel("Training step")
    axes.set_ylabel("Exact match on the validation part (%)")
    axes.legend(title="attention", frameon=False, loc="center right")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    temporary = png_path.with_name(f".{png_path.name}.incomplete")
    figure.savefig(temporary, format="png")
    temporary.replace(png_path)


def in_line(text: str) -> str:
    """A text in a page: nothing in it is markup."""
    return "`" + text.replace("`", "ˋ").replace("|", "¦") + "`"
