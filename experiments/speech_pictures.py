"""Pictures of speech recognition: what is said at which step, and what a wait buys."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.speech_decoding import Transcriber, score_sounds, write_greedily
from experiments.speech_features import Features, Heard, steps_of
from experiments.speech_pages import name_of
from experiments.speech_scores import METRIC

SHOWN = Features("log_mel", 40, 1)
COLOURS = ("#4477aa", "#cc6633", "#228833", "#aa3377", "#66ccee", "#ccbb44", "#555555")


def draw_writing(png_path: Path, transcriber: Transcriber, sound: Heard) -> None:
    """Draw a sound as energies of mel bands, and below it what is probable at each step.

    Args:
        png_path: Replaced by the picture.
        transcriber: Whose probabilities these are.
        sound: What it hears.
    """
    scored = score_sounds(transcriber, [steps_of(transcriber.features, sound.samples)])
    (written,) = write_greedily(transcriber, scored)
    count = int(scored[0].lengths[0])
    logits = scored[0].logits[:count, 0]
    p = np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))
    known = transcriber.features.known_at(np.arange(count))
    figure, (above, below) = _figure((9.0, 5.0), 2, sharex=True, height_ratios=[1, 1])
    mel = steps_of(SHOWN, sound.samples)
    end = float(SHOWN.known_at(len(mel) - 1))
    above.imshow(mel.T, origin="lower", aspect="auto", extent=(0, end, 0, 40), cmap="magma")
    above.set_ylabel("Mel band")
    title = f"said “{_short(sound.text)}”\nwritten “{_short(written.text)}”"
    above.set_title(title, fontsize=10, loc="left")
    below.plot(known, p[:, 0], color="#bbbbbb", linewidth=1)
    for number, label in enumerate(sorted({int(k) for k in p[:, 1:].argmax(-1) + 1})):
        if p[:, label].max() > 0.1:
            below.plot(known, p[:, label], color=COLOURS[number % len(COLOURS)], linewidth=1.2)
    for step, character in zip(written.steps, written.text, strict=True):
        if character != " ":
            below.annotate(character, (known[step], 1.02), ha="center", fontsize=8)
    for begin, stop in sound.spans if len(sound.spans) > 1 else ():
        for axes in (above, below):
            axes.axvline(begin, color="#999999", linewidth=0.6, linestyle="dotted")
            axes.axvline(stop, color="#999999", linewidth=0.6)
    below.set(xlabel="Seconds heard", ylabel="Probability", ylim=(0, 1.12), xlim=(0, end))
    below.set_title("grey: nothing is said (blank)", fontsize=9, loc="right", color="#777777")
    _save(figure, png_path)


def draw_latency(png_path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw the wait of each model against its errors; a model that wrote nothing right is left out.

    Args:
        png_path: Replaced by the picture.
        rows: Of the report.
    """
    figure, (axes,) = _figure((8.0, 4.6), 1)
    shown = [row for row in rows if row["delay"] is not None]
    for number, row in enumerate(shown):
        x, y = 1000 * row["delay"], 100 * row[METRIC]
        axes.plot(x, y, "o", color=COLOURS[number % len(COLOURS)])
        axes.annotate(name_of(row), (x, y), xytext=(7, 5), textcoords="offset points", fontsize=8.5)
    axes.axvline(0, color="#999999", linewidth=0.8)
    axes.set_xlabel("Mean wait from the end of a digit until it is written (ms)")
    axes.set_ylabel("Digit error rate (%)")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.18, y=0.12)
    _save(figure, png_path)


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"


def _figure(size: tuple[float, float], count: int, **options: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = np.atleast_1d(figure.subplots(count, 1, **options))
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _save(figure: Figure, png_path: Path) -> None:
    temporary = png_path.with_name(f".{png_path.name}.incomplete")
    figure.savefig(temporary, format="png")
    temporary.replace(png_path)
