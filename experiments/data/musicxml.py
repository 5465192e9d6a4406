"""Scores out of MusicXML, plain or compressed (.mxl); a file is never trusted.

A compressed score is a zip archive with a list of what is in it. Sizes are looked at before
anything is unpacked, and entities are refused by `defusedxml`, so that a small file cannot become a
large one. Read are parts, bars, notes, rests and ties of one voice a part; ornaments, repeats and
words are passed over.
"""

import io
import xml.etree.ElementTree as ElementTree
import zipfile
import zlib
from fractions import Fraction
from typing import NamedTuple

import defusedxml
import defusedxml.ElementTree

LARGEST_SCORE = 10_000_000
"""Bytes of a score when unpacked; the longest of Bach's four-part chorales has a tenth of it."""

_CONTAINER = "META-INF/container.xml"
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


class Note(NamedTuple):
    """A note or a rest; times in quarter notes from the beginning of the score."""

    onset: Fraction
    duration: Fraction
    pitch: int | None  # MIDI number, middle C is 60; None is a rest


class Score(NamedTuple):
    """Parts, from the top of the page, and where their bars begin."""

    parts: tuple[tuple[Note, ...], ...]
    bars: tuple[tuple[Fraction, ...], ...]  # of each part, in quarter notes; the last is the end
    metres: tuple[tuple[int, int], ...]  # (beats, beat type) in the order they are written


def read_score(name: str, content: bytes) -> Score:
    """The score of a file's content.

    Tied notes are one. A part's notes of a second voice and those of a chord but its first are left
    out.

    Args:
        name: what an error calls the file; a name that ends in .mxl is a compressed score.
        content: of the file.

    Raises:
        ValueError: the file is empty, damaged, too large when unpacked, or no such score.
    """
    if not content:
        raise ValueError(f"{name}: got an empty file, expected a score in MusicXML")
    document = _unpacked(name, content) if name.lower().endswith(".mxl") else content
    if len(document) > LARGEST_SCORE:
        raise ValueError(
            f"{name}: got {len(document):,} bytes, expected at most {LARGEST_SCORE:,} of a score"
        )
    root = _parsed(name, document)
    if root.tag != "score-partwise":
        raise ValueError(f"{name}: got <{root.tag}>, expected a MusicXML score by parts")
    parts = [_Part(name, element) for element in root.findall("part")]
    if not any(note.pitch is not None for part in parts for note in part.notes):
        raise ValueError(f"{name}: got a score without a note, expected some")
    return Score(
        tuple(tuple(part.notes) for part in parts),
        tuple((*part.bars, part.end) for part in parts),
        tuple(parts[0].metres),
    )


def _unpacked(name: str, content: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.namelist()
            inside = [m for m in members if m.endswith((".xml", ".musicxml")) and m != _CONTAINER]
            if _CONTAINER in members:
                root = _parsed(name, _member(name, archive, _CONTAINER))
                files = [e.get("full-path") for e in root.iter() if e.tag.endswith("rootfile")]
                inside = [file for file in files if file in members]
            if not inside:
                raise ValueError(f"{name}: got {members[:5]}, expected a score among them")
            return _member(name, archive, inside[0])
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        NotImplementedError,  # an unknown kind of compression
        RuntimeError,  # encrypted
    ) as error:
        raise ValueError(f"{name}: damaged, or no zip archive ({error}), expected .mxl") from None


def _member(name: str, archive: zipfile.ZipFile, member: str) -> bytes:
    size = archive.getinfo(member).file_size
    if size > LARGEST_SCORE:
        raise ValueError(
            f"{name}: {member!r} has {size:,} bytes when unpacked, "
            f"expected at most {LARGEST_SCORE:,} of a score"
        )
    # A size that is a lie does no harm: no more is unpacked, and then the checksum is wrong.
    return archive.read(member)


def _parsed(name: str, document: bytes) -> ElementTree.Element:
    try:
        return defusedxml.ElementTree.fromstring(document)
    except defusedxml.DefusedXmlException as error:
        raise ValueError(f"{name}: {type(error).__name__}, expected XML without entities") from None
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ValueError(f"{name}: no XML ({error}), expected MusicXML") from None


class _Part:
    """Notes of one part, read measure after measure."""

    def __init__(self, name: str, element: ElementTree.Element) -> None:
        self.name = name
        self.notes: list[Note] = []
        self.bars: list[Fraction] = []
        self.metres: list[tuple[int, int]] = []
        self.end = Fraction(0)
        self._divisions = 0
        self._voice: str | None = None
        for measure in element.findall("measure"):
            self.bars.append(self.end)
            self.end = self._read_measure(measure)

    def _read_measure(self, measure: ElementTree.Element) -> Fraction:
        time = end = self.end
        for element in measure:
            if element.tag == "attributes":
                self._read_attributes(element)
            elif element.tag in ("backup", "forward"):
                duration = self._duration(element)
                time += duration if element.tag == "forward" else -duration
                if time < self.end:
                    raise ValueError(f"{self.name}: a bar goes back before its beginning")
            elif element.tag == "note":
                is_grace = element.find("grace") is not None
                if not is_grace and element.find("chord") is None:
                    time = self._read_note(element, time)
            end = max(end, time)
        return end

    def _read_attributes(self, element: ElementTree.Element) -> None:
        if element.find("divisions") is not None:
            self._divisions = self._integer(element, "divisions", 1)
        time = element.find("time")
        if time is not None and time.find("beats") is not None:
            metre = self._integer(time, "beats", 1), self._integer(time, "beat-type", 1)
            self.metres.append(metre)

    def _read_note(self, element: ElementTree.Element, time: Fraction) -> Fraction:
        duration = self._duration(element)
        voice = element.findtext("voice")
        if self._voice is None:
            self._voice = voice
        if voice == self._voice:
            pitch = None if element.find("rest") is not None else self._pitch(element)
            tied = any(tie.get("type") == "stop" for tie in element.findall("tie"))
            before = self.notes[-1] if self.notes else None
            if tied and before and before.pitch == pitch and before.onset + before.duration == time:
                self.notes[-1] = before._replace(duration=before.duration + duration)
            else:
                self.notes.append(Note(time, duration, pitch))
        return time + duration

    def _pitch(self, element: ElementTree.Element) -> int:
        pitch = element.find("pitch")
        step = None if pitch is None else pitch.findtext("step")
        if pitch is None or step not in _STEPS:
            raise ValueError(f"{self.name}: a note has no pitch, expected a step from A to G")
        alter = self._integer(pitch, "alter", -3) if pitch.find("alter") is not None else 0
        found = 12 * (self._integer(pitch, "octave", 0) + 1) + _STEPS[step] + alter
        if not 0 <= found < 128:
            raise ValueError(f"{self.name}: got a note of MIDI number {found}, expected 0 … 127")
        return found

    def _duration(self, element: ElementTree.Element) -> Fraction:
        if not self._divisions:
            raise ValueError(f"{self.name}: got notes without <divisions>, expected MusicXML")
        return Fraction(self._integer(element, "duration", 0), self._divisions)

    def _integer(self, element: ElementTree.Element, tag: str, least: int) -> int:
        text = element.findtext(tag)
        try:
            number = int(text or "")
        except ValueError:
            number = least - 1
        if not least <= number < 2**31:
            raise ValueError(
                f"{self.name}: got <{tag}> {text!r}, expected an integer of at least {least}"
            )
        return number
