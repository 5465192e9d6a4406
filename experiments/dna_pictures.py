"""The pictures of `experiments.dna`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rnnjax.text.nucleotides import BASES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STRAND_COLORS = {1: "#4477aa", 2: "#cc6677"}


def draw_gradients(path: Path, gradients: Mapping[str, np.ndarray], places: Sequence[int]) -> None:
    """Draw the mean gradient of each class by each base at each place: a row a base.

    Args:
        path: The picture, replaced.
        gradients: Class -> `(T, 4)`.
        places: What each of the T places is called; the one that comes first above 0 is marked.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 0.5 + 2.0 * len(gradients)), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(gradients), 1, squeeze=False)[:, 0]
    first = next((t for t, place in enumerate(places) if place > 0), 0)
    for axes, (name, gradient) in zip(panels, gradients.items(), strict=True):
        most = float(np.abs(gradient).max()) or 1.0
        image = axes.imshow(gradient.T, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
        axes.axvline(first - 0.5, color="black", linewidth=1.2)
        shown = [t for t, place in enumerate(places) if place % 5 == 0 or abs(place) == 1]
        axes.set_xticks(shown, [f"{places[t]:+d}" for t in shown], fontsize=7)
        axes.set_yticks(range(len(BASES)), list(BASES))
        order = np.argsort(-gradient, axis=None, kind="stable")[:6]
        for t, k in zip(*np.unravel_index(order, gradient.shape), strict=True):
            axes.text(
                t, k, BASES[k], ha="center", va="center", size=8, color="white", weight="bold"
            )
        axes.set_title(f"mean gradient of log P({name} | x), nats; letters: the largest six",
                       fontsize=10)  # fmt: skip
        figure.colorbar(image, ax=axes, pad=0.01)
    _save(figure, path)


def draw_genome(
    path: Path, probabilities: Mapping[str, np.ndarray], labels: np.ndarray, start: int
) -> None:
    """Draw what is told of a stretch of a genome, a row each: this strand up, the other one down.

    Args:
        path: The picture, replaced.
        probabilities: Name -> `(T, 3)`.
        labels: `(T,)`, 0, 1 or 2: what is true, the first row.
        start: Of the stretch, counted from 0.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = {"annotation": np.eye(3)[labels], **probabilities}
    figure = Figure(figsize=(12, 0.6 + 0.95 * len(rows)), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    places = (start + 1 + np.arange(len(labels))) / 1000
    for axes, (name, told) in zip(panels, rows.items(), strict=True):
        axes.fill_between(places, told[:, 1], color=STRAND_COLORS[1], linewidth=0)
        axes.fill_between(places, -told[:, 2], color=STRAND_COLORS[2], linewidth=0)
        axes.set_ylim(-1.05, 1.05)
        axes.set_yticks([-1, 0, 1], ["−", "", "+"])
        axes.set_title(name, fontsize=9, loc="left", pad=2)
        axes.spines[["top", "right"]].set_visible(False)
        axes.axhline(0, color="black", linewidth=0.6)
    panels[-1].set_xlim(float(places[0]), float(places[-1]))
    panels[-1].set_xlabel("thousand bases; up: P(codes on this strand), down: on the other")
    _save(figure, path)


def _save(figure: "Figure", path: Path) -> None:
    temporary = path.with_name(f".{path.name}.incomplete")
    figure.savefig(temporary, format="png")
    temporary.replace(path)
