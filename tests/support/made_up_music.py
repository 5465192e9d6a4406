"""Small music of our own, in the formats that are read."""

import io
import random
import zipfile
from pathlib import Path

import numpy as np
import scipy.io

CONTAINER = (
    '<?xml version="1.0"?><container><rootfiles><rootfile full-path="score.xml"/></rootfiles>'
    "</container>"
)


def note(pitch: int | None, duration: int, extra: str = "") -> str:
    """A note of MusicXML; None is a rest, durations are in sixteenths."""
    if pitch is None:
        return f"<note><rest/><duration>{duration}</duration>{extra}</note>"
    step, alter = (("C", 0), ("C", 1), ("D", 0), ("D", 1), ("E", 0), ("F", 0), ("F", 1), ("G", 0),
                   ("G", 1), ("A", 0), ("A", 1), ("B", 0))[pitch % 12]  # fmt: skip
    altered = f"<alter>{alter}</alter>" if alter else ""
    return (
        f"<note><pitch><step>{step}</step>{altered}<octave>{pitch // 12 - 1}</octave></pitch>"
        f"<duration>{duration}</duration>{extra}</note>"
    )


def score(parts: list[list[list[str]]], beats: int = 4) -> str:
    """A score of parts of measures of notes, in quarters of four divisions."""
    attributes = (
        f"<attributes><divisions>4</divisions><time><beats>{beats}</beats>"
        "<beat-type>4</beat-type></time></attributes>"
    )
    text = ""
    for number, measures in enumerate(parts):
        inside = "".join(
            f"<measure>{attributes if place == 0 else ''}{''.join(notes)}</measure>"
            for place, notes in enumerate(measures)
        )
        text += f'<part id="P{number}">{inside}</part>'
    return f'<?xml version="1.0"?><score-partwise version="3.0">{text}</score-partwise>'


def mxl(document: str, container: str | None = CONTAINER) -> bytes:
    """A compressed score."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        if container is not None:
            archive.writestr("META-INF/container.xml", container)
        archive.writestr("score.xml", document)
    return content.getvalue()


def write_chorales(folder: Path, count: int = 60) -> Path:
    """Chorales of a few chords, each .mxl another melody."""
    rng = random.Random(0)
    chords = ((72, 67, 64, 48), (71, 67, 62, 55), (69, 65, 60, 53))
    folder.mkdir()
    for number in range(count):
        parts: list[list[list[str]]] = [[] for _ in range(4)]
        for bar in range(3):
            bar_chords = [rng.choice(chords) for _ in range(4)]
            if bar == 2:
                bar_chords[-1] = chords[0]
            for voice in range(4):
                parts[voice].append([note(chord[voice], 4) for chord in bar_chords])
        (folder / f"piece{number}.mxl").write_bytes(mxl(score(parts)))
    return folder


def write_tunes(file: Path, count: int = 60) -> Path:
    """Tunes of four bars in ABC."""
    rng = random.Random(0)
    tunes = []
    for number in range(count):
        bars = ["".join(rng.choice("DEFGAB") for _ in range(6)) for _ in range(4)]
        music = "|".join(bars)
        tunes.append(f"X:{number}\nT:Tune {number}\nM:6/8\nL:1/8\nK:G\n{music}|]\n\n")
    file.write_text("".join(tunes))
    return file


def write_piano_rolls(file: Path, *, with_test: bool = True, **other: object) -> Path:
    """A .mat file of scales in chords."""
    rng = np.random.default_rng(0)

    def part(count: int) -> np.ndarray:
        pieces = np.empty((1, count), object)
        for place in range(count):
            roll = np.zeros((int(rng.integers(12, 30)), 88), np.uint8)
            start = int(rng.integers(0, 4))
            for time in range(len(roll)):
                roll[time, [30 + (time + start) % 4, 40 + (time + start) % 4]] = 1
            pieces[0, place] = roll
        return pieces

    variables: dict[str, object] = {"traindata": part(20), "validdata": part(6)}
    if with_test:
        variables["testdata"] = part(5)
    scipy.io.savemat(file, {**variables, **other}, do_compression=True)
    return file
