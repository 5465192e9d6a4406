"""Pictures of what is done in clips and recordings: filmstrips, who is taken for whom, scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.report import replace_figure

NETWORK, CHANCE = "#4477aa", "#aa3377"
DPI = 150


def draw_strips(
    png_path: Path,
    frames: Sequence[np.ndarray],
    verdicts: Sequence[Sequence[str]],
    truths: Sequence[str],
    *,
    beside: int = 1,
) -> None:
    """Draw clips as strips of frames, under each frame what is said after it.

    Args:
        png_path: replaced by the picture.
        frames: `(T, S, S, 3)` uint8 of each clip, one T for all.
        verdicts: T texts of each clip.
        truths: what stands above each clip.
        beside: how many strips stand side by side.

    Raises:
        ValueError: there is no clip.
        OSError: the picture cannot be written.
    """
    if not frames:
        raise ValueError("frames: got no clip, expected at least one")
    rows, steps = -(-len(frames) // beside), len(frames[0])
    figure = Figure(figsize=(1.35 * beside * steps, 1.75 * rows), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    blocks = figure.subfigures(rows, beside, squeeze=False).ravel()
    strips = zip(frames, verdicts, truths, strict=True)
    for block, (clip, said, truth) in zip(blocks, strips, strict=False):
        block.suptitle(truth, fontsize=9, x=0.02, ha="left")
        panels = block.subplots(1, steps, squeeze=False)[0]
        for axes, frame, verdict in zip(panels, clip, said, strict=True):
            axes.imshow(frame, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            axes.set_xlabel(verdict, fontsize=6.5, labelpad=2)
    replace_figure(png_path, figure)


def draw_confusions(
    png_path: Path, tables: Mapping[str, np.ndarray], labels: Sequence[str]
) -> None:
    """Draw what each class is taken for, in shares of the row, one table beside the other.

    Args:
        png_path: replaced by the picture.
        tables: title -> `(K, K)` counts, a row for what is true, a column for what is said.
        labels: K names.

    Raises:
        ValueError: there is no table.
        OSError: the picture cannot be written.
    """
    if not tables:
        raise ValueError("tables: got none, expected at least one")
    side = 1.8 + 0.55 * len(labels)
    figure = Figure(figsize=(side * len(tables), side + 0.4), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, counts) in zip(
        figure.subplots(1, len(tables), squeeze=False)[0], tables.items(), strict=True
    ):
        totals = np.maximum(counts.sum(1, keepdims=True), 1)
        shares = counts / totals
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.argwhere(counts > 0):
            share = shares[row, column]
            axes.text(
                column,
                row,
                f"{share:.0%}" if share >= 0.005 else "<1%",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if share > 0.55 else "black",
            )
        axes.set_xticks(range(len(labels)), labels, rotation=40, ha="right", fontsize=8)
        axes.set_yticks(range(len(labels)), labels, fontsize=8)
        axes.set_xlabel("said to be")
        axes.set_ylabel("what it is")
        axes.set_title(title, fontsize=10)
    replace_figure(png_path, figure)


def draw_scores(png_path: Path, parts: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Draw how often the action and the way it is shown are told, by part and model.

    Args:
        png_path: replaced by the picture.
        parts: part -> name -> scores, all of the same names.

    Raises:
        ValueError: there is no part.
        OSError: the picture cannot be written.
    """
    if not parts:
        raise ValueError("parts: got none, expected at least one")
    names = list(next(iter(parts.values())))
    figure = Figure(figsize=(11, 1.4 + 0.42 * len(names)), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharey=True)
    keys = {
        "action_accuracy": "What is done: accuracy",
        "direction_accuracy": "Which way: accuracy",
    }
    for axes, (key, label) in zip(panels, keys.items(), strict=True):
        height = 0.8 / len(parts)
        for place, (part, rows) in enumerate(parts.items()):
            heights = np.arange(len(names)) + (place - (len(parts) - 1) / 2) * height
            values = [rows[name][key] for name in names]
            bars = axes.barh(
                heights, values, height * 0.92, label=part, color=NETWORK, alpha=1 - 0.5 * place
            )
            axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=2, fontsize=7)
        axes.set_xlim(0, 1.08)
        axes.set_xlabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    panels[1].axvline(0.5, color=CHANCE, linewidth=1, linestyle=(0, (5, 3)))
    panels[0].set_yticks(range(len(names)), names, fontsize=9)
    panels[0].invert_yaxis()
    panels[1].legend(
        loc="upper right", bbox_to_anchor=(1, 1.12), ncols=2, frameon=False, fontsize=8
    )
    replace_figure(png_path, figure)


def draw_folds(
    png_path: Path, models: Mapping[str, Sequence[float]], levels: Mapping[str, float]
) -> None:
    """Draw the accuracy of each model on each fold, a dot each, beside published ones as lines.

    Args:
        png_path: replaced by the picture.
        models: name -> accuracy of each fold.
        levels: name -> accuracy.

    Raises:
        ValueError: there is no model.
        OSError: the picture cannot be written.
    """
    if not models:
        raise ValueError("models: got none, expected at least one")
    figure = Figure(figsize=(9, 1.9 + 0.5 * len(models)), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for row, accuracies in enumerate(models.values()):
        axes.plot(accuracies, [row] * len(accuracies), "o", color=NETWORK, alpha=0.55, ms=6)
        axes.plot([np.mean(accuracies)], [row], "|", color=NETWORK, ms=20, mew=2)
    for (name, level), style in zip(levels.items(), ("--", ":", "-."), strict=False):
        label = f"published: {name}, {level:.3f}"
        axes.axvline(level, color=CHANCE, linewidth=1.2, linestyle=style, label=label)
    if levels:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=8)
    axes.set_yticks(range(len(models)), list(models))
    axes.set_ylim(len(models) - 0.5, -0.5)
    axes.set_xlabel(
        "Accuracy on the windows of people never seen: a dot a fold, a stroke their mean"
    )
    axes.spines[["top", "right"]].set_visible(False)
    replace_figure(png_path, figure)


def draw_signals(
    png_path: Path, signals: Mapping[str, np.ndarray], axes_names: Sequence[str], rate: float
) -> None:
    """Draw some seconds of each exercise, accelerations above and rotations below.

    Args:
        png_path: replaced by the picture.
        signals: exercise -> `(T, 6)`.
        axes_names: of the six columns.
        rate: samples a second.

    Raises:
        ValueError: there is no signal.
        OSError: the picture cannot be written.
    """
    if not signals:
        raise ValueError("signals: got none, expected at least one")
    columns = len(signals)
    figure = Figure(figsize=(1.6 * columns + 0.8, 3.6), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, columns, sharex=True, sharey="row", squeeze=False)
    for column, (name, signal) in enumerate(signals.items()):
        seconds = np.arange(len(signal)) / rate
        for row, (begin, end) in enumerate(((0, 3), (3, 6))):
            lines = panels[row, column].plot(seconds, signal[:, begin:end], linewidth=0.9)
            if column == columns - 1:
                panels[row, column].legend(
                    lines,
                    axes_names[begin:end],
                    loc="center left",
                    bbox_to_anchor=(1, 0.5),
                    frameon=False,
                    fontsize=8,
                )
            panels[row, column].spines[["top", "right"]].set_visible(False)
        panels[0, column].set_title(name, fontsize=8)
    panels[0, 0].set_ylabel("Acceleration (g)", fontsize=8)
    panels[1, 0].set_ylabel("Rotation (rad/s)", fontsize=8)
    figure.supxlabel("Time (s)", fontsize=9)
    replace_figure(png_path, figure)
