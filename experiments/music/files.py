"""Notes as files: MIDI, a piano roll to look at, and a sound to listen to."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.music.events import Sounding
from rnnjax.training.files import replace_bytes

TICKS = 480
"""Of a MIDI file, in a quarter note."""

SAMPLE_RATE = 16_000
"""Of the sound, in Hz; the highest overtone of what people sing or fiddle is below half of it."""

LONGEST_SOUND = 300.0
"""Seconds; what comes later is not heard."""

TEMPOS = (10.0, 1000.0)
"""The slowest and the fastest, in quarter notes a minute."""

_OVERTONES = (1.0, 0.5, 0.3, 0.15)
_PROGRAM = 19  # church organ, in General MIDI
_VOICES_DRAWN = 4
MOST_DRAWN = 6
"""Pieces on one picture."""


def midi_bytes(notes: Sequence[Sounding], quarters_per_minute: float = 90.0) -> bytes:
    """A MIDI file of format 1, a track for each voice.

    Args:
        notes: with onsets and durations in quarter notes.
        quarters_per_minute: the tempo.

    Raises:
        ValueError: the tempo is outside `TEMPOS`.
    """
    import mido

    check_tempo(quarters_per_minute)
    file = mido.MidiFile(type=1, ticks_per_beat=TICKS)
    tempo = mido.MidiTrack()
    tempo.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(quarters_per_minute)))
    file.tracks.append(tempo)
    for voice in sorted({note.voice for note in notes}):
        changes: list[tuple[int, int, int]] = []
        for note in notes:
            begin, end = round(note.onset * TICKS), round((note.onset + note.duration) * TICKS)
            if note.voice == voice and end > begin:
                changes += [(begin, 1, note.pitch), (end, 0, note.pitch)]
        track, time = mido.MidiTrack(), 0
        # Channel 9 is percussion.
        channel = min(voice, 8)
        track.append(mido.Message("program_change", program=_PROGRAM, channel=channel))
        for tick, is_on, pitch in sorted(changes):  # at one time ends come before beginnings
            kind, velocity = ("note_on", 80) if is_on else ("note_off", 0)
            track.append(
                mido.Message(kind, note=pitch, velocity=velocity, time=tick - time, channel=channel)
            )
            time = tick
        file.tracks.append(track)
    content = io.BytesIO()
    file.save(file=content)
    return content.getvalue()


def synthesized(notes: Sequence[Sounding], quarters_per_minute: float = 90.0) -> np.ndarray:
    """The sound of notes: a few overtones that fade, at `SAMPLE_RATE`, `(samples,)` in −1 … 1.

    It ends after `LONGEST_SOUND` at the latest.

    Args:
        notes: with onsets and durations in quarter notes.
        quarters_per_minute: the tempo.

    Raises:
        ValueError: the tempo is outside `TEMPOS`.
    """
    check_tempo(quarters_per_minute)
    seconds = 60 / quarters_per_minute
    notes = [note for note in notes if float(note.onset) * seconds < LONGEST_SOUND]
    end = max((float(note.onset + note.duration) for note in notes), default=0.0) * seconds
    sound = np.zeros(int((min(end, LONGEST_SOUND) + 0.5) * SAMPLE_RATE), np.float64)
    for note in notes:
        begin = int(float(note.onset) * seconds * SAMPLE_RATE)
        duration = min(float(note.duration) * seconds, LONGEST_SOUND)
        times = np.arange(int((duration + 0.05) * SAMPLE_RATE)) / SAMPLE_RATE
        frequency = 440.0 * 2 ** ((note.pitch - 69) / 12)
        wave = np.zeros_like(times)
        for number, strength in enumerate(_OVERTONES, 1):
            if number * frequency < SAMPLE_RATE / 2:
                wave += strength * np.sin(2 * np.pi * number * frequency * times)
        # It sets in within 10 ms, fades slowly, and is gone 50 ms after its end: no clicks.
        envelope = np.minimum(times / 0.01, 1) * np.exp(-times)
        envelope *= np.clip((duration + 0.05 - times) / 0.05, 0, 1)
        until = min(len(sound), begin + len(times))
        sound[begin:until] += (wave * envelope)[: until - begin]
    loudest = np.abs(sound).max(initial=0.0)
    return sound * (0.8 / loudest) if loudest else sound


def wav_bytes(notes: Sequence[Sounding], quarters_per_minute: float = 90.0) -> bytes:
    """A WAV file of `synthesized` notes, 16 bits, mono.

    Raises:
        ValueError: as `synthesized`.
    """
    from scipy.io import wavfile

    content = io.BytesIO()
    samples = np.round(32767 * synthesized(notes, quarters_per_minute)).astype(np.int16)
    wavfile.write(content, SAMPLE_RATE, samples)
    return content.getvalue()


def check_tempo(quarters_per_minute: float) -> None:
    """Refuse a tempo that is outside `TEMPOS`.

    Raises:
        ValueError: it is.
    """
    slowest, fastest = TEMPOS
    if not slowest <= quarters_per_minute <= fastest:
        raise ValueError(
            f"quarters_per_minute: got {quarters_per_minute}, expected {slowest} … {fastest}"
        )


def piano_roll_bytes(
    pieces: Sequence[tuple[str, Sequence[Sounding], float]], quarters: float = 64.0
) -> bytes:
    """A picture (PNG) of pieces one below the other: pitch against time, a colour for each voice.

    Args:
        pieces: title, notes, and quarter notes between two of the vertical lines; of many pieces
            the first `MOST_DRAWN`.
        quarters: how much of the beginning is drawn.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pieces = pieces[:MOST_DRAWN]
    figure = Figure(figsize=(11, 2.6 * len(pieces)), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(len(pieces), squeeze=False)[:, 0]
    for axis, (title, notes, between) in zip(axes, pieces, strict=True):
        drawn = [note for note in notes if note.onset < quarters]
        for note in drawn:
            axis.broken_barh(
                [(float(note.onset), float(note.duration) * 0.95)],
                (note.pitch - 0.4, 0.8),
                facecolors=f"C{note.voice % _VOICES_DRAWN}",
            )
        end = max((float(note.onset + note.duration) for note in drawn), default=1.0)
        axis.set_xlim(0, min(end, quarters))
        axis.set_title(title, fontsize=9, loc="left")
        axis.set_ylabel("MIDI number")
        axis.set_xticks(np.arange(0, min(end, quarters), between))
        axis.grid(axis="x", linewidth=0.4)
        axis.tick_params(labelsize=7)
    axes[-1].set_xlabel("quarter notes")
    content = io.BytesIO()
    canvas.print_png(content)
    return content.getvalue()


def write_piece(
    folder: Path, name: str, notes: Sequence[Sounding], quarters_per_minute: float = 90.0
) -> list[Path]:
    """Write `name.mid` and `name.wav` into a folder that is there; each whole or not at all.

    Raises:
        ValueError: as `synthesized`.
        OSError: a file cannot be written.
    """
    files = {
        folder / f"{name}.mid": midi_bytes(notes, quarters_per_minute),
        folder / f"{name}.wav": wav_bytes(notes, quarters_per_minute),
    }
    for path, content in files.items():
        replace_bytes(path, content)
    return list(files)
