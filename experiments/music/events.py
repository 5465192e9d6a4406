"""Four-part scores as tokens: bar lines, and events of a duration and four voices.

    | d4 67 60 64 48 d2 69 ~ 65 53 d2 …

An event lasts `d` sixteenths. Of each voice, soprano, alto, tenor and bass, it says which note
begins (its MIDI number), `r` that a rest begins, or `~` that what was there goes on. A bar line
stands before the first event of each bar, and no event goes past one.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

VOICES = 4
BAR, HOLD, REST = "|", "~", "r"
MAJOR, MINOR = "major", "minor"

_SIXTEENTHS = 4  # in a quarter note


class Event(NamedTuple):
    """What begins at one time; of each voice a MIDI number, `REST` or `HOLD`."""

    duration: int  # sixteenths
    voices: tuple[int | str, ...]


class Bar(NamedTuple):
    """The events from one bar line to the next."""

    events: tuple[Event, ...]
    is_well_formed: bool  # whether its tokens are events and nothing else

    @property
    def duration(self) -> int:
        """In sixteenths."""
        return sum(event.duration for event in self.events)


def tokens_of_bars(bars: Iterable[Bar]) -> list[str]:
    """Bars as tokens."""
    tokens = []
    for bar in bars:
        tokens.append(BAR)
        for event in bar.events:
            tokens += [f"d{event.duration}", *map(str, event.voices)]
    return tokens


def bars_of_tokens(tokens: Sequence[str]) -> list[Bar]:
    """Tokens as bars; what is no event is left out, and its bar is not well formed.

    Undone by `tokens_of_bars` if all are well formed. Tokens before the first bar line are a bar.
    """
    bars: list[Bar] = []
    place = 0
    while place < len(tokens):
        place += tokens[place] == BAR
        events, well_formed = [], True
        while place < len(tokens) and tokens[place] != BAR:
            event = _event(tokens[place : place + 1 + VOICES])
            if event is None:
                well_formed = False
                place += 1
            else:
                events.append(event)
                place += 1 + VOICES
        bars.append(Bar(tuple(events), well_formed and bool(events)))
    return bars


def _event(tokens: Sequence[str]) -> Event | None:
    if len(tokens) < 1 + VOICES or not (tokens[0].startswith("d") and tokens[0][1:].isdecimal()):
        return None
    if not all(token in (HOLD, REST) or token.isdecimal() for token in tokens[1:]):
        return None
    voices = (token if token in (HOLD, REST) else int(token) for token in tokens[1:])
    return Event(int(tokens[0][1:]), tuple(voices))


class Sounding(NamedTuple):
    """A note that is heard; times in quarter notes."""

    onset: Fraction
    duration: Fraction
    pitch: int  # MIDI number
    voice: int  # 0 is the highest


def notes_of_bars(bars: Iterable[Bar]) -> list[Sounding]:
    """The notes of all voices by onset; held ones last until something else begins."""
    notes: list[Sounding] = []
    going: list[tuple[int, int] | None] = [None] * VOICES  # onset and pitch
    time = 0

    def end(voice: int) -> None:
        begun = going[voice]
        if begun is not None:
            onset, pitch = begun
            times = Fraction(onset, _SIXTEENTHS), Fraction(time - onset, _SIXTEENTHS)
            notes.append(Sounding(*times, pitch, voice))
        going[voice] = None

    for bar in bars:
        for event in bar.events:
            for voice, begins in enumerate(event.voices):
                if begins != HOLD:
                    end(voice)
                if isinstance(begins, int):
                    going[voice] = time, begins
            time += event.duration
    for voice in range(VOICES):
        end(voice)
    return sorted(notes)


def transposed(bars: Iterable[Bar], semitones: int) -> list[Bar]:
    """Bars with every note moved."""
    return [
        bar._replace(
            events=tuple(
                event._replace(
                    voices=tuple(
                        voice + semitones if isinstance(voice, int) else voice
                        for voice in event.voices
                    )
                )
                for event in bar.events
            )
        )
        for bar in bars
    ]
