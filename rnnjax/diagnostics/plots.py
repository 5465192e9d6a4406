"""Pictures of diagnostics, one function each."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from rnnjax.diagnostics.gates import GateSaturation
from rnnjax.diagnostics.memory import effective_memory_length

try:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
except ImportError as error:
    raise ImportError(
        "rnnjax.diagnostics.plots needs matplotlib: pip install 'rnnjax-lib[train]'"
    ) from error

COLORS = ("#4477aa", "#cc6633", "#228833", "#aa3377", "#66aacc", "#997700", "#555555")
"""Of lines side by side, in this order."""


@contextmanager
def picture(
    png_path: Path, rows: int = 1, columns: int = 1, *, width: float = 9.0, height: float = 4.0
) -> Iterator[np.ndarray]:
    """Axes `(rows, columns)` to draw on; the file is replaced when the block ends well.

    Args:
        png_path: Where the picture goes.
        rows: Of axes.
        columns: Of axes.
        width: Of all of it, inches of 150 pixels.
        height: Of all of it.

    Raises:
        OSError: `png_path` cannot be written.
    """
    figure = Figure(
        figsize=(width, height), dpi=150, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False)
    yield panels
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    temporary = png_path.with_name(f".{png_path.name}.incomplete")
    figure.savefig(temporary, format="png")
    temporary.replace(png_path)


def draw_with_quartiles(
    axes: Axes, places: ArrayLike, values: ArrayLike, color: str, label: str
) -> None:
    """The median over rows as a line, and the middle half of them as a band.

    Args:
        axes: Where.
        places: `(N,)`.
        values: `(N, *B)`; what is not finite is a gap.
        color: Of both.
        label: For the legend.
    """
    places, values = np.asarray(places), np.asarray(values, np.float64)
    values = np.where(np.isfinite(values), values, np.nan).reshape(len(values), -1)
    known = ~np.all(np.isnan(values), axis=1)
    low, middle, high = np.full((3, len(values)), np.nan)
    if known.any():
        low[known], middle[known], high[known] = np.nanquantile(
            values[known], (0.25, 0.5, 0.75), axis=1
        )
    axes.plot(places, middle, color=color, label=label, linewidth=1.6)
    if values.shape[1] > 1:
        axes.fill_between(places, low, high, color=color, alpha=0.2, linewidth=0)


def plot_gradient_norms(norms: Mapping[str, ArrayLike], png_path: Path) -> None:
    """Draw ‖∂L/∂h^<t>‖ over t, on a logarithmic axis: a straight line is a power a^t.

    Args:
        norms: Name -> `(T + 1, *B)` of `gradient_norms_through_time`; of several rows the median
            and the middle half. Zeros are gaps.
        png_path: Replaced by the picture.

    Raises:
        ValueError: There is nothing to draw.
        OSError: `png_path` cannot be written.
    """
    _require("norms", norms)
    with picture(png_path) as panels:
        axes = panels[0, 0]
        for (name, values), color in zip(norms.items(), _colors(len(norms)), strict=True):
            values = _positive(values)
            draw_with_quartiles(axes, np.arange(len(values)), values, color, name)
        axes.set_yscale("log")
        axes.set_xlabel("Step t")
        axes.set_ylabel("Norm of ∂L/∂h<t>")
        axes.legend(frameon=False)


def plot_gate_saturation(gates: Mapping[str, GateSaturation], png_path: Path) -> None:
    """Draw each gate's histogram, and below it how often each of its units is shut and open.

    A unit at the lower right is nearly always shut, one at the upper left nearly always open, one
    at the lower left neither.

    Args:
        gates: Name -> what `gate_saturation` found.
        png_path: Replaced by the picture.

    Raises:
        ValueError: There is nothing to draw.
        OSError: `png_path` cannot be written.

    References:
        Karpathy, Johnson and Li (2015), arXiv:1506.02078, figure 3, for the lower row.
    """
    _require("gates", gates)
    width = max(4.5, 3.2 * len(gates))
    with picture(png_path, 2, len(gates), width=width, height=6) as panels:
        colors = _colors(len(gates))
        for column, ((name, found), color) in enumerate(zip(gates.items(), colors, strict=True)):
            above, below = panels[:, column]
            edges = np.asarray(found.edges)
            above.stairs(np.asarray(found.shares), edges, fill=True, color=color, alpha=0.8)
            above.set_title(name, fontsize=11)
            above.set_xlabel("Value of the gate")
            below.plot(found.shut, found.open, linestyle="none", marker="o", color=color, alpha=0.5)
            below.plot([0, 1], [1, 0], color="#555555", linewidth=0.8, linestyle=(0, (5, 3)))
            below.set_xlim(-0.04, 1.04)
            below.set_ylim(-0.04, 1.04)
            below.set_aspect("equal")
            below.set_xlabel("Shut (share of steps)")
        panels[0, 0].set_ylabel("Share of values")
        panels[1, 0].set_ylabel("Open (share of steps)")


def plot_memory_profiles(
    profiles: Mapping[str, ArrayLike], png_path: Path, *, share: float = 0.95
) -> None:
    """Draw how much of the state k steps ago is left, with the effective memory length marked.

    Args:
        profiles: Name -> `(T + 1, *B)` of `memory_profile`; of several rows the median and the
            middle half. Zeros are gaps.
        png_path: Replaced by the picture.
        share: Of `effective_memory_length`; the mark is the median over rows.

    Raises:
        ValueError: There is nothing to draw, or `share` is out of range.
        OSError: `png_path` cannot be written.
    """
    _require("profiles", profiles)
    lengths = {
        name: float(np.median(np.asarray(effective_memory_length(np.asarray(values), share))))
        for name, values in profiles.items()
    }
    with picture(png_path) as panels:
        axes = panels[0, 0]
        for (name, values), color in zip(profiles.items(), _colors(len(profiles)), strict=True):
            values, length = _positive(values), lengths[name]
            label = f"{name}: {share:.0%} within {length:g} steps"
            draw_with_quartiles(axes, np.arange(len(values)), values, color, label)
            axes.axvline(length - 1, color=color, linewidth=0.9, linestyle=(0, (5, 3)))
        axes.set_yscale("log")
        axes.set_xlabel("Steps back k")
        axes.set_ylabel("Norm of ∂h<Tx> / ∂h<Tx−k>")
        axes.legend(frameon=False)


def plot_singular_values(values: ArrayLike, png_path: Path) -> None:
    """Draw the largest, the middle and the least singular value of every step's Jacobian.

    Args:
        values: `(T, *B, D)` of `singular_values_of_steps`; of several rows the median and the
            middle half. Zeros are gaps.
        png_path: Replaced by the picture.

    Raises:
        ValueError: The values have no time axis or no D.
        OSError: `png_path` cannot be written.
    """
    values = np.asarray(values)
    if values.ndim < 2 or not values.size:
        raise ValueError(f"values: got shape {values.shape}, expected (T, *B, D)")
    ranked = np.sort(values, axis=-1)
    parts = {
        "largest": ranked[..., -1],
        "median": np.median(ranked, axis=-1),
        "least": ranked[..., 0],
    }
    with picture(png_path) as panels:
        axes = panels[0, 0]
        for (name, part), color in zip(parts.items(), COLORS, strict=False):
            draw_with_quartiles(axes, np.arange(1, len(values) + 1), _positive(part), color, name)
        axes.axhline(1, color="#555555", linewidth=0.9, linestyle=(0, (5, 3)))
        axes.set_yscale("log")
        axes.set_xlabel("Step t")
        axes.set_ylabel("Singular values of ∂h<t> / ∂h<t−1>")
        axes.legend(frameon=False)


def plot_lyapunov_exponents(exponents: Mapping[str, ArrayLike], png_path: Path) -> None:
    """Draw spectra of Lyapunov exponents, the largest first: above zero a direction explodes.

    Args:
        exponents: Name -> `(*B, count)` of `lyapunov_exponents`; of several rows the median and
            the middle half. −∞ is a gap.
        png_path: Replaced by the picture.

    Raises:
        ValueError: There is nothing to draw.
        OSError: `png_path` cannot be written.
    """
    _require("exponents", exponents)
    with picture(png_path) as panels:
        axes = panels[0, 0]
        for (name, values), color in zip(exponents.items(), _colors(len(exponents)), strict=True):
            values = np.moveaxis(np.asarray(values), -1, 0)
            draw_with_quartiles(axes, np.arange(1, len(values) + 1), values, color, name)
        axes.axhline(0, color="#555555", linewidth=0.9, linestyle=(0, (5, 3)))
        axes.set_xlabel("Direction, the fastest growing first")
        axes.set_ylabel("Lyapunov exponent (nats per step)")
        axes.legend(frameon=False)


def plot_clipping(norms_before: ArrayLike, norms_after: ArrayLike, png_path: Path) -> None:
    """Draw the norm of the gradient before and after clipping, step by step.

    Args:
        norms_before: `(N,)`.
        norms_after: `(N,)`.
        png_path: Replaced by the picture.

    Raises:
        ValueError: The shapes are not one such, or there is no step.
        OSError: `png_path` cannot be written.
    """
    before, after = np.asarray(norms_before), np.asarray(norms_after)
    if before.ndim != 1 or not before.size or after.shape != before.shape:
        raise ValueError(
            f"norms_before, norms_after: got shapes {before.shape}, {after.shape}, "
            "expected (N,) for both"
        )
    share = float(np.mean(after < before))
    with picture(png_path) as panels:
        axes, steps = panels[0, 0], np.arange(1, len(before) + 1)
        axes.plot(steps, _positive(before), color=COLORS[0], label="before clipping", linewidth=1)
        label = f"after clipping ({share:.0%} of the steps are)"
        axes.plot(steps, _positive(after), color=COLORS[1], label=label, linewidth=1.4)
        axes.set_yscale("log")
        axes.set_xlabel("Training step")
        axes.set_ylabel("Gradient norm")
        axes.legend(frameon=False)


def _positive(values: ArrayLike) -> np.ndarray:
    """NaN for what a logarithmic axis has no place for."""
    values = np.asarray(values, np.float64)
    return np.where(values > 0, values, np.nan)


def _colors(count: int) -> tuple[str, ...]:
    return (COLORS * math.ceil(count / len(COLORS)))[:count]


def _require(name: str, values: Mapping[str, object]) -> None:
    if not values:
        raise ValueError(f"{name}: got none, expected at least one to draw")
