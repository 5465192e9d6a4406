"""What can be counted of music that was made up: bars, keys, endings, and what is copied."""

from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from experiments.data import abc_tunes, chorales
from experiments.music.abc_notation import play
from experiments.music.events import MAJOR, Sounding, bars_of_tokens, notes_of_bars

_SCALES = {
    "major": frozenset((0, 2, 4, 5, 7, 9, 11)),
    # In minor the sixth and the seventh may be raised.
    "minor": frozenset((0, 2, 3, 5, 7, 8, 9, 10, 11)),
}


class Heard(NamedTuple):
    """A piece as it is counted."""

    notes: list[Sounding]
    bars: int  # those that are asked whether they are valid
    valid_bars: int
    in_key: int  # notes
    ends_on_tonic: bool
    items: list[Hashable]  # what is compared with the corpus, one after the other


def heard_chorale(group: str, tokens: Sequence[str]) -> Heard:
    """A chorale, its bars, and its events as items.

    A bar is valid if its tokens are events that fill the metre. The first and the last are not
    asked: they may be an upbeat and what it leaves.

    Raises:
        ValueError: as `chorales.bar_length`.
    """
    bars = bars_of_tokens(tokens)
    length = chorales.bar_length(group)
    inner = bars[1:-1]
    notes = notes_of_bars(bars)
    mode, tonic = group.split()[0], chorales.TONICS[group.split()[0]]
    scale = {(tone + tonic) % 12 for tone in _SCALES["major" if mode == MAJOR else "minor"]}
    last = max(notes, key=lambda note: (note.onset + note.duration, note.voice), default=None)
    return Heard(
        notes,
        len(inner),
        sum(bar.is_well_formed and bar.duration == length for bar in inner),
        sum(note.pitch % 12 in scale for note in notes),
        last is not None and last.pitch % 12 == tonic,
        [event for bar in bars for event in bar.events],
    )


def heard_tune(group: str, tokens: Sequence[str]) -> Heard:
    """A tune, its bars, and its steps from note to note as items, so that the key does not matter.

    A bar is valid if all in it can be read and it fills the metre. Asked are bars with a plain line
    on either side: beside a repeat or a double line one may be shorter.

    Raises:
        ValueError: as `abc_tunes.tune_in` and `play`.
    """
    played = play(abc_tunes.tune_in(group, "".join(tokens)))
    inner = [bar for bar in played.bars if bar.is_inner]
    notes = played.notes
    return Heard(
        notes,
        len(inner),
        sum(bar.is_well_formed and bar.duration == bar.expected for bar in inner),
        sum(note.pitch % 12 in played.scale for note in notes),
        bool(notes) and notes[-1].pitch % 12 == played.tonic,
        [(after.pitch - before.pitch, after.duration) for before, after in pairwise(notes)],
    )


class Corpus:
    """Sequences of items, asked for the longest run that another sequence has from one of them."""

    def __init__(self, sequences: Sequence[Sequence[Hashable]]) -> None:
        self._characters: dict[Hashable, str] = {}
        for sequence in sequences:
            for item in sequence:
                # Above the surrogates; a sequence ends with a character that stands for no item.
                self._characters.setdefault(item, chr(0x10000 + len(self._characters)))
        self._text = "\n".join(self._spelled(sequence) for sequence in sequences)

    def longest_run(self, sequence: Sequence[Hashable]) -> int:
        """How many items in a row, at most, stand so in one sequence of the corpus."""
        spelled, longest = self._spelled(sequence), 0
        for begin in range(len(spelled)):
            while begin + longest < len(spelled):
                if spelled[begin : begin + longest + 1] not in self._text:
                    break
                longest += 1
        return longest

    def _spelled(self, sequence: Sequence[Hashable]) -> str:
        return "".join(self._characters.get(item, "\0") for item in sequence)


def counted(pieces: Sequence[Heard], corpus: Corpus) -> dict[str, float]:
    """Shares of bars, notes and pieces, and the longest runs that the corpus has too.

    Raises:
        ValueError: there is no piece.
    """
    if not pieces:
        raise ValueError("pieces: got none, expected at least one")
    runs = [corpus.longest_run(piece.items) for piece in pieces]
    shares = [run / max(1, len(piece.items)) for run, piece in zip(runs, pieces, strict=True)]
    notes = sum(len(piece.notes) for piece in pieces)
    return {
        "pieces": len(pieces),
        "valid_bars": sum(p.valid_bars for p in pieces) / max(1, sum(p.bars for p in pieces)),
        "in_key": sum(piece.in_key for piece in pieces) / max(1, notes),
        "ends_on_tonic": float(np.mean([piece.ends_on_tonic for piece in pieces])),
        "length": float(np.median([len(piece.items) for piece in pieces])),
        "median_run": float(np.median(runs)),
        "longest_run": max(runs),
        "longest_share": max(shares),
    }


def counts_table(counts: Mapping[str, Mapping[str, float]], item: str) -> str:
    """Whose pieces they are -> `counted`, as a table."""
    lines = [
        f"| | pieces | valid bars | notes in key | last note is the tonic | {item} a piece, median "
        f"| longest run of {item} that the training part has too, median (greatest) | of the "
        "piece at most |",
        "| --- |" + " ---: |" * 7,
    ]
    for name, of_name in counts.items():
        lines.append(
            f"| {name} | {of_name['pieces']} | {of_name['valid_bars']:.1%} | "
            f"{of_name['in_key']:.1%} | {of_name['ends_on_tonic']:.0%} | {of_name['length']:.0f} | "
            f"{of_name['median_run']:.0f} ({of_name['longest_run']}) | "
            f"{of_name['longest_share']:.0%} |"
        )
    return "\n".join(lines) + "\n"
