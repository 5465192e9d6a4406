"""Pictures of attention: where in the source a decoder looks for each token that it writes."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

FONT = "DejaVu Sans"  # comes with Matplotlib
NOT_IN_FONT = "□"
CELL, LETTER = 0.16, 0.07  # inches


class AttentionMap(NamedTuple):
    """One source and what was written of it."""

    title: str
    source: Sequence[str]  # Tx tokens
    target: Sequence[str]  # Ty tokens
    weights: np.ndarray  # (Ty, Tx), α^<t,t'>


def draw_attention(png_path: Path, maps: Sequence[AttentionMap], columns: int = 1) -> None:
    """Draw maps, a row for each written token, dark where it looks; all of one scale, 0 to 1.

    A character that the font lacks is drawn as □.

    Args:
        png_path: replaced by the picture.
        maps: at least one; they fill the rows of the picture one after the other.
        columns: how many stand side by side.

    Raises:
        ValueError: there is no map, the weights of one are not those of its tokens, or there is no
            column.
        OSError: the picture cannot be written.
    """
    if not maps or columns < 1:
        raise ValueError(f"maps: got {len(maps)} in {columns} columns, expected at least one each")
    for one in maps:
        if one.weights.shape != (len(one.target), len(one.source)):
            raise ValueError(
                f"weights: got shape {one.weights.shape} of {one.title!r}, "
                f"expected {(len(one.target), len(one.source))} (Ty, Tx)"
            )
    rows = -(-len(maps) // columns)
    widest, tallest = (
        max(len(getattr(one, name)) for one in maps) for name in ("source", "target")
    )
    longest = max(len(token) for one in maps for token in (*one.source, *one.target))
    room = LETTER * longest
    size = (
        columns * (CELL * widest + 0.43 + room) + 0.2,
        rows * (CELL * tallest + 0.68 + room) + 0.1,
    )
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(maps) :]:
        axes.axis("off")
    for axes, one in zip(panels, maps, strict=False):
        axes.imshow(one.weights, cmap="Blues", vmin=0, vmax=1, aspect="equal")
        # Every panel has cells of one size; a short source leaves room at its right.
        axes.set_anchor("NW")
        axes.set_xticks(
            range(len(one.source)),
            [_shown(token) for token in one.source],
            rotation=90 if longest > 1 else 0,
        )
        if longest > 1:  # beside the first row, which all panels have at one height
            axes.xaxis.tick_top()
        axes.set_yticks(range(len(one.target)), [_shown(token) for token in one.target])
        axes.tick_params(length=0, labelsize=8, labelfontfamily=FONT)
        axes.set_title(_shown(one.title), fontsize=8, loc="left", fontfamily=FONT)
        axes.set_xlim(-0.5, widest - 0.5)
        axes.set_ylim(tallest - 0.5, -0.5)
        axes.spines[:].set_visible(False)
    temporary = png_path.with_name(f".{png_path.name}.incomplete")
    figure.savefig(temporary, format="png")
    temporary.replace(png_path)


def in_font(text: str) -> bool:
    """Whether the font has each character of a text."""
    return all(ord(character) in _characters() for character in text)


def _shown(text: str) -> str:
    return "".join(c if in_font(c) else NOT_IN_FONT for c in text).replace("$", r"\$")


@cache
def _characters() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties(family=FONT))).get_charmap())
