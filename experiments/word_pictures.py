"""Pictures of verdicts: texts with their words coloured, and models side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath

WIDTH, LINE, GAP, MARGIN = 9.0, 0.34, 0.16, 0.25  # inches
SPACE = 0.09
FONT = FontProperties(family="DejaVu Sans", size=11)
COLOURS = colormaps["PuOr"]  # tells apart also for those who do not see red or green


class Explanation(Protocol):
    """What is drawn of a text."""

    @property
    def words(self) -> list[str]:
        """Its words."""
        ...

    @property
    def known(self) -> list[bool]:
        """Whether the model knows each."""
        ...

    @property
    def carried(self) -> np.ndarray:
        """What each moves, of either sign."""
        ...

    @property
    def weights(self) -> np.ndarray | None:
        """How much attention each has, or None."""
        ...


class Place(NamedTuple):
    """Where a word stands, in inches from the left and in lines from the top."""

    x: float
    line: int
    width: float


def draw_texts(
    png_path: Path,
    texts: Sequence[Explanation],
    captions: Sequence[str],
    most: str,
    least: str,
    unit: str,
) -> None:
    """Draw texts with each word on the colour of what it carries, and a bar for its attention.

    The colours of all texts have one scale. Words that the model does not know are grey.

    Args:
        png_path: replaced by the picture, 1350 pixels wide.
        texts: at least one.
        captions: a line above each.
        most: what the colour of a word that carries much says.
        least: and that of one which carries much the other way.
        unit: what is on the scale.

    Raises:
        ValueError: there is no text, or not a caption for each.
        OSError: the picture cannot be written.
    """
    if not texts or len(texts) != len(captions):
        raise ValueError(f"texts: got {len(texts)} with {len(captions)} captions, expected as many")
    largest = max((float(np.abs(one.carried).max()) for one in texts if len(one.words)), default=0)
    scale = Normalize(-max(largest, 1e-6), max(largest, 1e-6))
    laid_out = [lay_out(one.words) for one in texts]
    lines = [1 + (places[-1].line + 1 if places else 0) for places in laid_out]
    height = 2 * MARGIN + 0.75 + sum(lines) * LINE + len(texts) * GAP
    figure = Figure(figsize=(WIDTH, height), dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
    axes.axis("off")
    top = MARGIN
    for one, caption, places, used in zip(texts, captions, laid_out, lines, strict=True):
        axes.text(MARGIN, top + LINE / 2, caption, va="center", fontsize=9, color="#555555")
        for t, (word, place) in enumerate(zip(one.words, places, strict=True)):
            y = top + (1 + place.line) * LINE
            colour = COLOURS(scale(float(one.carried[t])))
            box = (place.x - SPACE / 3, y + 0.03), place.width + SPACE * 2 / 3, LINE - 0.09
            axes.add_patch(Rectangle(*box, facecolor=colour, edgecolor="none"))
            light = float(np.dot(colour[:3], (0.299, 0.587, 0.114))) > 0.5
            ink = ("#777777" if not one.known[t] else "black") if light else "white"
            axes.text(
                place.x,
                y + 0.2,
                plain(word),
                va="baseline",
                color=ink,
                fontproperties=FONT,
            )
            if one.weights is not None:
                length = (place.width + SPACE * 2 / 3) * float(one.weights[t])
                bar = (place.x - SPACE / 3, y + LINE - 0.06), length, 0.045
                axes.add_patch(Rectangle(*bar, facecolor="#222222", edgecolor="none"))
        top += used * LINE + GAP
    _draw_scale(figure, height, scale, most, least, unit, any(o.weights is not None for o in texts))
    _save(figure, png_path)


def lay_out(words: Sequence[str]) -> list[Place]:
    """Words side by side in lines of the picture's width; one too long for a line overhangs."""
    places: list[Place] = []
    x, line = MARGIN, 0
    for word in words:
        width = text_width(word)
        if x > MARGIN and x + width > WIDTH - MARGIN:
            x, line = MARGIN, line + 1
        places.append(Place(x, line, width))
        x += width + SPACE
    return places


def text_width(word: str) -> float:
    """How wide a word is drawn, in inches."""
    return float(TextPath((0, 0), plain(word), prop=FONT).get_extents().x1) / 72


def plain(word: str) -> str:
    """A word with its dollar signs kept, which otherwise begin a formula."""
    return word.replace("$", r"\$")


def _draw_scale(
    figure: Figure,
    height: float,
    scale: Normalize,
    most: str,
    least: str,
    unit: str,
    has_weights: bool,
) -> None:
    axes = figure.add_axes((0.32, (MARGIN + 0.2) / height, 0.36, 0.14 / height))
    values = np.linspace(scale.vmin or 0, scale.vmax or 0, 256)
    axes.imshow(COLOURS(scale(values))[None], aspect="auto", extent=(values[0], values[-1], 0, 1))
    axes.set_yticks([])
    axes.tick_params(labelsize=8)
    bar = "; bar: attention, of full width at 1" if has_weights else ""
    axes.set_title(
        f"colour: {unit} if a word is left out; grey word: unknown{bar}", fontsize=8, pad=4
    )
    y = (MARGIN + 0.2 + 0.07) / height
    figure.text(0.31, y, least, ha="right", va="center", fontsize=9, color=to_hex(COLOURS(0.15)))
    figure.text(0.69, y, most, ha="left", va="center", fontsize=9, color=to_hex(COLOURS(0.85)))


def draw_comparison(
    png_path: Path, models: Mapping[str, Sequence[float]], levels: Mapping[str, float]
) -> None:
    """Draw the accuracy of each model, a dot a seed, beside what is not a neural net, as lines.

    Args:
        png_path: replaced by the picture, 1350 pixels wide.
        models: name -> accuracies, at least one model.
        levels: name -> accuracy.

    Raises:
        ValueError: there is no model.
        OSError: the picture cannot be written.
    """
    if not models:
        raise ValueError("models: got none, expected at least one")
    figure = Figure(figsize=(WIDTH, 1.8 + 0.36 * len(models)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for row, accuracies in enumerate(models.values()):
        axes.plot(accuracies, [row] * len(accuracies), "o", color="#4477aa", alpha=0.55, ms=6)
        axes.plot([np.mean(accuracies)], [row], "|", color="#4477aa", ms=18, mew=2)
    for name, level in levels.items():
        axes.axvline(level, color="#555555", linewidth=1, linestyle=(0, (5, 3)), label=None)
        axes.annotate(
            f"{name} {level:.3f}",
            (level, 1.01),
            xycoords=("data", "axes fraction"),
            rotation=18,
            fontsize=8,
            color="#555555",
        )
    axes.set_yticks(range(len(models)), list(models))
    axes.invert_yaxis()
    axes.set_xlabel("Accuracy on held-out texts: a dot a seed, a stroke their mean")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    _save(figure, png_path)


def _save(figure: Figure, png_path: Path) -> None:
    temporary = png_path.with_name(f".{png_path.name}.incomplete")
    figure.savefig(temporary, format="png")
    temporary.replace(png_path)
