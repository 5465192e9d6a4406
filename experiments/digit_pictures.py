"""Pictures of the experiment on sequential digits."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from experiments.sequential_digits_pages import ORDERS, of_first_seed, reading_in_words
from rnnjax.diagnostics.plots import COLORS, picture

SIDE = 28
DIGIT_COLORS = (*COLORS, "#ddaa33", "#bb5566", "#004488")
"""Of the ten digits."""


def draw_sequences(png_path: Path, image: np.ndarray, label: int, order: np.ndarray) -> None:
    """Draw a digit as an image and as a sequence, in order and permuted.

    Args:
        png_path: Replaced by the picture.
        image: `(28, 28)` uint8.
        label: What it is.
        order: `(784,)`, the permuted order.

    Raises:
        OSError: `png_path` cannot be written.
    """
    with picture(png_path, 2, 2, width=10, height=4.2) as panels:
        panels[0, 0].get_gridspec().set_width_ratios((1, 3.2))
        orders = (np.arange(SIDE * SIDE), order)
        for (left, right), places, name in zip(panels, orders, ORDERS, strict=True):
            sequence = image.reshape(-1)[places] / 255
            _draw_image(left, sequence.reshape(SIDE, SIDE))
            left.set_title(f"the digit {label}, {name}", fontsize=10)
            right.plot(np.arange(1, SIDE * SIDE + 1), sequence, color=COLORS[0], linewidth=0.7)
            right.set_ylabel("x<t>")
            right.set_xlim(0, SIDE * SIDE)
        panels[1, 1].set_xlabel("step t: a pixel, row by row of the image to the left")


def draw_verdicts(
    png_path: Path,
    images: np.ndarray,
    verdicts: np.ndarray,
    titles: Sequence[str],
) -> None:
    """Draw how the verdict on each image grows along its sequence.

    Args:
        png_path: Replaced by the picture.
        images: `(N, 28, 28)` uint8.
        verdicts: `(N, T, 10)`, P(y | x^<1>, …, x^<t>).
        titles: One each.

    Raises:
        OSError: `png_path` cannot be written.
    """
    count, time_steps, _ = verdicts.shape
    with picture(png_path, count, 2, width=10, height=0.6 + 1.8 * count) as panels:
        panels[0, 0].get_gridspec().set_width_ratios((1, 3.6))
        for (left, right), image, grown, title in zip(
            panels, images, verdicts, titles, strict=True
        ):
            _draw_image(left, image / 255)
            left.set_title(title, fontsize=10)
            likely = np.argsort(-grown.max(0), kind="stable")[:5]
            for digit in sorted(likely):
                right.plot(
                    np.arange(1, time_steps + 1),
                    grown[:, digit],
                    color=DIGIT_COLORS[digit],
                    linewidth=1.4,
                    label=str(digit),
                )
            right.set_ylim(-0.02, 1.02)
            right.set_xlim(0, time_steps)
            right.set_ylabel("P(y | so far)")
            right.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        panels[-1, 1].set_xlabel("step t")


def draw_accuracies(png_path: Path, summary: Mapping[str, Any]) -> None:
    """Draw the accuracy of each network in order and permuted, with intervals, and the baselines.

    Args:
        png_path: Replaced by the picture.
        summary: The report of a comparison.

    Raises:
        OSError: `png_path` cannot be written.
    """
    groups = {place: of_first_seed(summary, place) for place in ("short", "long")}
    groups = {place: networks for place, networks in groups.items() if networks}
    most = max(map(len, groups.values()))
    with picture(png_path, 1, len(groups), width=12, height=2.2 + 0.28 * most) as panels:
        for axes, (place, networks) in zip(panels[0], groups.items(), strict=True):
            ranked = sorted(networks, key=lambda name: networks[name][False]["test"]["accuracy"])
            apart = 0.12 * len(ranked) / most  # as far in every panel
            for permuted, marker, color in ((False, "o", COLORS[0]), (True, "D", COLORS[1])):
                scores = [networks[name][permuted]["test"] for name in ranked]
                values = np.asarray([score["accuracy"] for score in scores])
                ends = np.asarray([score["interval"] for score in scores]).T
                axes.errorbar(
                    values,
                    np.arange(len(ranked)) + (apart if permuted else -apart),
                    xerr=np.maximum(0, np.abs(ends - values)),
                    fmt=marker,
                    color=color,
                    markersize=4.5,
                    elinewidth=1,
                    label=ORDERS[permuted],
                )
            styles = ((0, (5, 3)), (0, (1, 1.5)), (0, (3, 1, 1, 1)))
            for (name, score), style in zip(summary["baselines"].items(), styles, strict=True):
                axes.axvline(
                    score["accuracy"], color="#555555", linewidth=1, linestyle=style, label=name
                )
            axes.set_yticks(np.arange(len(ranked)), ranked)
            axes.set_ylim(-0.7, len(ranked) - 0.3)
            axes.set_title(reading_in_words(summary["config"][place]["step"]), fontsize=11)
            axes.set_xlabel("Test digits told right (share)")
        panels[0, -1].legend(
            frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5)
        )


def draw_curves(png_path: Path, summary: Mapping[str, Any]) -> None:
    """Draw the accuracy on validation digits along training, a panel each group and order.

    Args:
        png_path: Replaced by the picture.
        summary: The report of a comparison.

    Raises:
        OSError: `png_path` cannot be written.
    """
    groups = {place: of_first_seed(summary, place) for place in ("short", "long")}
    groups = {place: networks for place, networks in groups.items() if networks}
    with picture(png_path, len(groups), 2, width=11, height=4.3 * len(groups)) as panels:
        for row, (place, networks) in zip(panels, groups.items(), strict=True):
            styles = ("-", (0, (5, 2)), (0, (1, 1)))
            for axes, permuted, order in zip(row, (False, True), ORDERS, strict=True):
                for number, (name, of_one) in enumerate(networks.items()):
                    curve = of_one[permuted]["curve"]
                    axes.plot(
                        [mark["step"] for mark in curve],
                        [mark["accuracy"] for mark in curve],
                        color=COLORS[number % len(COLORS)],
                        linestyle=styles[number // len(COLORS) % len(styles)],
                        linewidth=1.4,
                        label=name,
                    )
                words = reading_in_words(summary["config"][place]["step"])
                axes.set_title(f"{words}, {order}", fontsize=11)
                axes.yaxis.set_major_formatter(PercentFormatter(1.0))
                axes.set_xlabel("Training step")
            low = min(axes.get_ylim()[0] for axes in row)
            for axes in row:
                axes.set_ylim(low, 1.01)
            row[0].set_ylabel("Validation digits told right")
            columns = 1 + (len(networks) > 12)
            row[1].legend(
                frameon=False,
                fontsize=8,
                ncols=columns,
                loc="center left",
                bbox_to_anchor=(1.0, 0.5),
            )


def _draw_image(axes: Axes, image: np.ndarray) -> None:
    """Ink dark on white, without axes."""
    axes.imshow(image, cmap="gray_r", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
