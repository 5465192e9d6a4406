"""Tunes in ABC notation as bars of notes: what is needed to hear a tune and to count its bars.

Notes with accidentals, octaves and lengths, rests, ties, chords, tuplets, broken rhythm, and the
key, metre and unit length of the tune or changed in it are read. Ornaments, chord symbols, slurs
and grace notes are passed over, and repeats are played once. Anything else makes its bar malformed.

Source: the ABC music standard 2.1, section 4.
"""

import re
from fractions import Fraction
from typing import NamedTuple

from experiments.music.events import Sounding

_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_SHARPS = "FCGDAEB"
_FIFTHS_OF = {"F": -1, "C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5}
_MODES = {"": 0, "maj": 0, "ion": 0, "mix": -1, "dor": -2, "m": -3, "min": -3, "aeo": -3,
          "phr": -4, "loc": -5, "lyd": 1}  # fmt: skip
_ACCIDENTALS = {"^^": 2, "^": 1, "=": 0, "_": -1, "__": -2}
_TUPLETS = {2: 3, 3: 2, 4: 3, 5: 2, 6: 2, 7: 2, 8: 3, 9: 2}

_KEY = re.compile(r"([A-G])([#b]?)\s*([a-zA-Z]*)")
_NOTE = re.compile(r"(\^\^|\^|__|_|=)?([A-Ga-g])([,']*)")
_LENGTH = re.compile(r"(\d*)(/*)(\d*)")
_BAR = re.compile(r":*\|[|\]:]*|\[\||::+|:\|?")
_TUPLET = re.compile(r"\((\d)(?::(\d?))?(?::(\d?))?")
_ENDING = re.compile(r"\[?\d(?:[,-]\d)*\.?")
_BROKEN = re.compile("<+|>+")
_FIELD = re.compile(r"\[?([A-Za-z]):([^\]\n]*)\]?")
_SKIPPED = re.compile(r'"[^"]*"|![^!\n]*!|\+[a-zA-Z]+\+|\{[^}]*\}|[ \t\n\r\\~.()H-Wh-w`y!$]')


class Tune(NamedTuple):
    """A tune's header and what comes after it."""

    metre: str  # "6/8", "C", "C|"
    unit: str  # "1/8"
    key: str  # "G", "Em", "D mix"
    music: str


class AbcBar(NamedTuple):
    """What stands between two bar lines; times in whole notes."""

    duration: Fraction
    expected: Fraction  # of the metre
    begins: str  # the bar line before it, "" at the beginning of the tune
    ends: str  # the bar line after it, "" at the end of the tune
    is_well_formed: bool

    @property
    def is_inner(self) -> bool:
        """Whether plain lines are on both sides: others may be shorter than the metre."""
        return self.begins == self.ends == "|"


class Played(NamedTuple):
    """What a tune sounds like."""

    bars: list[AbcBar]
    notes: list[Sounding]
    tonic: int  # pitch class
    scale: frozenset[int]  # the pitch classes of the key


def metre_of(text: str) -> Fraction:
    """A metre as the length of its bar in whole notes; "C" is 4/4, "C|" is 2/2.

    Raises:
        ValueError: it is none.
    """
    text = {"C": "4/4", "C|": "2/2"}.get(text.strip(), text.strip())
    match = re.fullmatch(r"(\d{1,2})/(\d{1,2})", text)
    if not match or not int(match[1]) or not int(match[2]):
        raise ValueError(f"M: got {text!r}, expected a metre such as 6/8")
    return Fraction(int(match[1]), int(match[2]))


def key_of(text: str) -> tuple[int, dict[str, int]]:
    """A key as its tonic's pitch class and the accidentals of its signature.

    "G", "Gm", "G min", "G dor", … with modes in any case; "HP" and "Hp" are the bagpipe's.

    Raises:
        ValueError: it is none.
    """
    if text.strip() in ("HP", "Hp"):
        return 9, {"F": 1, "C": 1}
    match = _KEY.match(text.strip())
    mode = "" if match is None else match[3].lower()
    mode = mode if mode == "m" else mode[:3]
    if match is None or mode not in _MODES:
        raise ValueError(f"K: got {text!r}, expected a key such as G, Em or D mix")
    shift = {"#": 1, "b": -1, "": 0}[match[2]]
    fifths = _FIFTHS_OF[match[1]] + 7 * shift + _MODES[mode]
    if not -7 <= fifths <= 7:
        raise ValueError(f"K: got {text!r}, expected at most seven accidentals")
    letters = _SHARPS[:fifths] if fifths >= 0 else _SHARPS[fifths:]
    signature = dict.fromkeys(letters, 1 if fifths > 0 else -1) if fifths else {}
    return (_LETTERS[match[1]] + shift) % 12, signature


def key_name(text: str) -> str:
    """A key by one spelling: "E Minor" and "Emin" are "Em", "Dmaj" is "D".

    Raises:
        ValueError: as `key_of`.
    """
    key_of(text)
    match = _KEY.match(text.strip())
    if match is None:
        return "HP"
    mode = match[3].lower()[:3]
    plain = {"maj": "", "ion": "", "min": "m", "aeo": "m"}
    return match[1] + match[2] + plain.get(mode, match[3].lower() if mode == "m" else mode)


def play(tune: Tune) -> Played:
    """Read a tune from beginning to end.

    Raises:
        ValueError: its key, metre or unit is none.
    """
    return _Reader(tune).read()


class _Reader:
    def __init__(self, tune: Tune) -> None:
        self.text = tune.music
        self.expected = metre_of(tune.metre)
        self.unit = metre_of(tune.unit)
        self.tonic, self.signature = key_of(tune.key)
        tones = (_LETTERS[letter] + self.signature.get(letter, 0) for letter in _LETTERS)
        self.scale = frozenset(tone % 12 for tone in tones)
        self.bars: list[AbcBar] = []
        self.notes: list[Sounding] = []
        self.time = self.bar_began = Fraction(0)
        self.begins, self.well_formed = "", True
        self.accidentals: dict[str, int] = {}
        self.tied: int | None = None  # the pitch that a tie holds
        self.tuplet: tuple[int, Fraction] = (0, Fraction(1))
        self.broken = Fraction(1)  # of the next note

    def read(self) -> Played:
        place = 0
        while place < len(self.text):
            place = self._read_one(place)
        if self.time > self.bar_began:
            self._end_bar("")
        return Played(self.bars, self.notes, self.tonic, self.scale)

    def _read_one(self, place: int) -> int:
        text = self.text
        at_line_start = place == 0 or text[place - 1] == "\n"
        field = _FIELD.match(text, place)
        if field and (text[place] == "[" or at_line_start) and (field[1] not in "ABCDEFGabcdefg"):
            self._change(field[1], field[2].strip())
            return field.end()
        if ending := _ENDING.match(text, place):
            # The number of an ending, after the line that it belongs to.
            self.begins += "1" if self.time == self.bar_began else ""
            self.well_formed &= self.time == self.bar_began
            return ending.end()
        if bar := _BAR.match(text, place):
            self._end_bar(bar[0])
            return bar.end()
        if tuplet := _TUPLET.match(text, place):
            count = int(tuplet[1])
            in_time_of = int(tuplet[2] or _TUPLETS.get(count, 2))
            self.well_formed &= count in _TUPLETS
            self.tuplet = int(tuplet[3] or count), Fraction(in_time_of, max(1, count))
            return tuplet.end()
        if text[place] in "<>":
            run = _BROKEN.match(text, place)
            assert run is not None
            self._break(run[0])
            return run.end()
        if text[place] == "-":
            self.tied = self.notes[-1].pitch if self.notes else None
            return place + 1
        if text[place] in "zxZ":
            length, place = self._length(place + 1)
            self._advance(length * (self.expected / self.unit if text[place - 1] == "Z" else 1), [])
            return place
        if text[place] == "[" or _NOTE.match(text, place):
            return self._read_notes(place)
        if skipped := _SKIPPED.match(text, place):
            return skipped.end()
        self.well_formed = False
        return place + 1

    def _read_notes(self, place: int) -> int:
        """A note, or a chord, which is as long as its first note."""
        is_chord = self.text[place] == "["
        place += is_chord
        pitches: list[int] = []
        first = Fraction(1)
        while note := _NOTE.match(self.text, place):
            pitches.append(self._pitch(note))
            length, place = self._length(note.end())
            first = first if len(pitches) > 1 else length
            if not is_chord:
                break
        if is_chord:
            if not pitches or self.text[place : place + 1] != "]":
                self.well_formed = False
                return place
            length, place = self._length(place + 1)
            first *= length
        self._advance(first, pitches)
        return place

    def _pitch(self, note: re.Match[str]) -> int:
        letter, octave = note[2].upper(), 60 + 12 * note[2].islower()
        octave += 12 * (note[3].count("'") - note[3].count(","))
        name = f"{letter}{octave}"
        if note[1]:
            self.accidentals[name] = _ACCIDENTALS[note[1]]
        alter = self.accidentals.get(name, self.signature.get(letter, 0))
        pitch = octave + _LETTERS[letter] + alter
        if not 0 <= pitch < 128:
            self.well_formed = False
        return min(127, max(0, pitch))

    def _length(self, place: int) -> tuple[Fraction, int]:
        match = _LENGTH.match(self.text, place)
        assert match is not None
        above, slashes, below = match[1][:4], match[2][:6], match[3][:4]
        if below and not slashes:
            below = ""
        divisor = int(below) if below else 2 ** len(slashes)
        if not divisor or (above and not int(above)):
            self.well_formed = False
            return Fraction(1), match.end()
        return Fraction(int(above or 1), divisor), match.end()

    def _advance(self, units: Fraction, pitches: list[int]) -> None:
        left, factor = self.tuplet
        duration = units * self.unit * self.broken
        self.broken = Fraction(1)
        if left:
            duration *= factor
            self.tuplet = left - 1, factor
        for pitch in pitches:
            before = self.notes[-1] if self.notes else None
            if before is not None and self.tied == pitch and len(pitches) == 1:
                self.notes[-1] = before._replace(duration=before.duration + 4 * duration)
            else:
                self.notes.append(Sounding(4 * self.time, 4 * duration, pitch, 0))
        self.tied = None
        self.time += duration

    def _break(self, marks: str) -> None:
        """`A>B`: the first note is half as long again, the second half as long."""
        if not self.notes:
            self.well_formed = False
            return
        short = Fraction(1, 2 ** min(3, len(marks)))
        long = 2 - short
        now, self.broken = (long, short) if marks[0] == ">" else (short, long)
        last = self.notes[-1]
        grown = last.duration * (now - 1)
        self.notes[-1] = last._replace(duration=last.duration + grown)
        self.time += grown / 4

    def _end_bar(self, line: str) -> None:
        if self.time > self.bar_began or self.bars:
            if self.time > self.bar_began:
                self.bars.append(
                    AbcBar(
                        self.time - self.bar_began,
                        self.expected,
                        self.begins,
                        line,
                        self.well_formed,
                    )
                )
            elif not self.well_formed:
                self.bars[-1] = self.bars[-1]._replace(is_well_formed=False)
        # Two lines with nothing between them are one.
        self.begins = line if self.time > self.bar_began else self.begins + line
        self.bar_began, self.well_formed, self.accidentals = self.time, True, {}

    def _change(self, letter: str, value: str) -> None:
        try:
            if letter == "K":
                _, self.signature = key_of(value)
            elif letter == "M":
                self.expected = metre_of(value)
            elif letter == "L":
                self.unit = metre_of(value)
        except ValueError:
            self.well_formed = False
