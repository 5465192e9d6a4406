"""Pictures of a run, drawn from its metrics file."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rnnjax.training.metrics import read_metrics

try:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
except ImportError as error:
    raise ImportError(
        "rnnjax.training.plots needs matplotlib: pip install 'rnnjax-lib[train]'"
    ) from error

TRAIN, HELD_OUT, BASELINE, LIMIT = "#4477aa", "#cc6633", "#555555", "#aa3377"
LABELS = {
    "loss": "Loss (nats)",
    "cross_entropy": "Cross-entropy (nats per step)",
    "accuracy": "Accuracy (share)",
    "gradient_norm": "Gradient norm before clipping",
    "clipped_gradient_norm": "Gradient norm after clipping",
    "clipped": "Clipped steps (share)",
    "skipped": "Skipped steps (number)",
    "skipped_in_a_row": "Skipped in a row (steps)",
    "steps_per_second": "Rate (steps per second)",
    "waiting_for_data": "Waiting for data (share of time)",
}


def label_of(quantity: str) -> str:
    """What an axis says of a metric: its name in words, with the unit where it has one."""
    return LABELS.get(quantity, quantity.replace("_", " ").capitalize())


def plot_training(
    jsonl_path: Path,
    png_path: Path,
    baselines: Mapping[str, float],
    *,
    quantity: str = "loss",
    clip_norm: float | None = None,
) -> None:
    """Draw `train/QUANTITY` and `held_out/QUANTITY`, the loss, learning rate and gradient norm.

    Args:
        jsonl_path: what `rnnjax.training.metrics.JsonLines` wrote.
        png_path: replaced by the picture, 1350 pixels wide.
        baselines: name -> value in the unit of `quantity`, drawn as labelled lines.
        quantity: a metric name, as "loss" or "bits_per_character".
        clip_norm: the level that gradients are clipped to, or None.

    Raises:
        OSError: `jsonl_path` cannot be read or `png_path` not written.
        ValueError: there is no value of `quantity`.
    """
    records = read_metrics(jsonl_path)
    if not any(column(records, f"{part}/{quantity}")[0] for part in ("train", "held_out")):
        raise ValueError(
            f"quantity: got {quantity!r}, expected a metric logged in {jsonl_path} "
            "as train/NAME or held_out/NAME"
        )
    quantities = [quantity] if quantity == "loss" else [quantity, "loss"]
    heights = [3.0, *[1.5] * (len(quantities) - 1), 1.0, 1.0]
    figure = Figure(
        figsize=(9, 2 + sum(heights)),
        dpi=150,
        layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08),
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    for axes, name in zip(panels[:-2], quantities, strict=True):
        train, held_out = (column(records, f"{part}/{name}") for part in ("train", "held_out"))
        levels = baselines if name == quantity else {}
        _draw_quantity(axes, train, held_out, levels, label_of(name))
    _draw_learning_rate(panels[-2], *column(records, "train/learning_rate"))
    _draw_gradient_norm(panels[-1], records, clip_norm)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    figure.align_ylabels()
    temporary = png_path.with_name(f".{png_path.name}.incomplete")
    figure.savefig(temporary, format="png")
    temporary.replace(png_path)


def column(records: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """Steps and values, NaN where the log has null, so that a line has a gap there."""
    found = [(record["step"], record[name]) for record in records if name in record]
    return [step for step, _ in found], [math.nan if v is None else float(v) for _, v in found]


def _marker(values: Sequence[float]) -> str:
    """A dot where a line would be invisible."""
    return "." if len(values) == 1 else ""


def _draw_quantity(
    axes: Axes,
    train: tuple[list[int], list[float]],
    held_out: tuple[list[int], list[float]],
    baselines: Mapping[str, float],
    label: str,
) -> None:
    labels = [(value, f"{name} {value:.3g}", BASELINE) for name, value in baselines.items()]
    if train[0]:
        axes.plot(*train, color=TRAIN, linewidth=1.2, marker=_marker(train[1]))
    if held_out[0]:
        axes.plot(*held_out, color=HELD_OUT, linewidth=1.8, marker="o", markersize=3.5)
        finite = [value for value in held_out[1] if math.isfinite(value)]
        if finite:
            labels.append((held_out[1][-1], f"held-out {held_out[1][-1]:.3g}", HELD_OUT))
    if train[0] and math.isfinite(train[1][-1]):
        labels.append((train[1][-1], f"train {train[1][-1]:.3g}", TRAIN))
    for value in baselines.values():
        axes.axhline(value, color=BASELINE, linewidth=1, linestyle=(0, (5, 3)))
    axes.set_ylabel(label)
    _label_at_the_right(axes, [entry for entry in labels if math.isfinite(entry[0])])


def _label_at_the_right(axes: Axes, labels: list[tuple[float, str, str]]) -> None:
    """Write labels beside the axes at their values, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    gap = 0.055 * (high - low)
    labels = sorted(labels)
    places = [value for value, _, _ in labels]
    for _ in range(200):  # Push close neighbours apart by equal parts until none is too close.
        is_crowded = False
        for i in range(len(places) - 1):
            overlap = gap - (places[i + 1] - places[i])
            if overlap > 1e-3 * gap:
                places[i] -= overlap / 2
                places[i + 1] += overlap / 2
                is_crowded = True
        if not is_crowded:
            break
    right = axes.get_yaxis_transform()
    for place, (value, text, color) in zip(places, labels, strict=True):
        axes.plot([1.0, 1.025], [value, place], transform=right, clip_on=False, color=color, lw=0.7)
        axes.text(1.03, place, text, transform=right, color=color, va="center", fontsize=9)
    axes.set_ylim(low, high)


def _draw_learning_rate(axes: Axes, steps: list[int], rates: list[float]) -> None:
    axes.plot(steps, rates, color=TRAIN, linewidth=1.4, marker=_marker(rates))
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)
    axes.set_ylabel("Learning rate")


def _draw_gradient_norm(
    axes: Axes, records: Sequence[Mapping[str, Any]], clip_norm: float | None
) -> None:
    steps, norms = column(records, "train/gradient_norm")
    axes.plot(steps, norms, color=TRAIN, linewidth=1.0, marker=_marker(norms))
    if clip_norm is not None:
        axes.axhline(clip_norm, color=LIMIT, linewidth=1, linestyle=(0, (5, 3)))
        right = axes.get_yaxis_transform()
        axes.text(
            1.03,
            clip_norm,
            f"clipped to {clip_norm:.3g}",
            transform=right,
            color=LIMIT,
            va="center",
            fontsize=9,
        )
    skipped = [r["step"] for r in records if (r.get("train/skipped") or 0) > 0]
    if skipped:
        axes.plot(
            skipped,
            [0.06] * len(skipped),
            transform=axes.get_xaxis_transform(),
            linestyle="none",
            marker="x",
            color=LIMIT,
            label="steps skipped (not finite)",
        )
        axes.legend(loc="upper right", fontsize=8, frameon=False)
    positive = [norm for norm in norms if math.isfinite(norm) and norm > 0]
    if positive:
        is_wide = max(positive) > 30 * min(positive)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1,) if is_wide else (1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda norm, _: f"{norm:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("Gradient norm\nbefore clipping")
    axes.set_xlabel("Training step")
