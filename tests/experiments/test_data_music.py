"""Music files are never trusted: what is read of good ones, and what is said of bad ones."""

import io
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from support.made_up_music import (
    CONTAINER,
    mxl,
    note,
    score,
    write_chorales,
    write_piano_rolls,
    write_tunes,
)

from experiments.data import abc_tunes, chorales, musicxml, piano_rolls
from experiments.music.events import bars_of_tokens, notes_of_bars, tokens_of_bars

FOUR = [[[note(pitch, 16)]] for pitch in (67, 62, 59, 43)]


def test_a_score_has_its_notes_at_their_times_and_ties_are_one():
    tied = [note(60, 8), note(60, 8, '<tie type="start"/>')], [note(60, 4, '<tie type="stop"/>')]
    document = score([[*map(list, tied), [note(None, 4), note(61, 2)]]])
    read = musicxml.read_score("a.mxl", mxl(document))
    assert [(n.onset, n.duration, n.pitch) for n in read.parts[0]] == [
        (0, 2, 60),
        (2, 3, 60),
        (5, 1, None),
        (6, Fraction(1, 2), 61),
    ]
    assert read.bars == ((0, 4, 5, Fraction(13, 2)),)
    assert read.metres == ((4, 4),)
    assert musicxml.read_score("a.xml", document.encode()) == read
    assert musicxml.read_score("a.mxl", mxl(document, container=None)) == read


def test_second_voices_chords_and_grace_notes_are_left_out():
    inside = [
        note(60, 8, "<voice>1</voice>"),
        note(64, 8, "<chord/><voice>1</voice>"),
        "<note><grace/><pitch><step>A</step><octave>4</octave></pitch></note>",
        "<backup><duration>8</duration></backup>",
        note(48, 16, "<voice>2</voice>"),
    ]
    read = musicxml.read_score("a.xml", score([[inside]]).encode())
    assert [(n.onset, n.pitch) for n in read.parts[0]] == [(0, 60)]
    assert read.bars == ((0, 4),)


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def bomb() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("score.xml", b" " * (musicxml.LARGEST_SCORE + 1))
    return content.getvalue()


def lying_bomb() -> bytes:
    """Its directory says that it is small."""
    size = (musicxml.LARGEST_SCORE + 1).to_bytes(4, "little")
    return bomb().replace(size, (100).to_bytes(4, "little"))


ENTITIES = '<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got an empty file"),
        (b"this is not a zip archive", "damaged, or no zip archive"),
        (truncated(mxl(score(FOUR))), "damaged, or no zip archive"),
        (bomb(), "has 10,000,001 bytes when unpacked, expected at most 10,000,000"),
        (lying_bomb(), "damaged, or no zip archive"),
        (mxl(ENTITIES), "EntitiesForbidden, expected XML without entities"),
        (mxl(score(FOUR)[:90]), "no XML"),
        (mxl("<html/>"), "got <html>, expected a MusicXML score by parts"),
        (mxl(score([[[note(None, 4)]]])), "got a score without a note"),
        (mxl(score(FOUR).replace("<divisions>4</divisions>", "")), "without <divisions>"),
        (mxl(score(FOUR).replace("<duration>16", "<duration>long")), "got <duration> 'long'"),
        (mxl(score(FOUR).replace("<step>G", "<step>H")), "a note has no pitch"),
        (mxl(score(FOUR).replace("<octave>4", "<octave>14")), "MIDI number 187, expected 0 … 127"),
    ],
)
def test_a_bad_score_is_refused(content, message):
    with pytest.raises(ValueError, match=r"^bad.mxl: ") as refused:
        musicxml.read_score("bad.mxl", content)
    assert message in str(refused.value)


def test_an_archive_without_a_score_and_a_bar_that_goes_back_are_refused():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("picture.png", b"none")
        archive.writestr("META-INF/container.xml", CONTAINER)
    with pytest.raises(ValueError, match="expected a score among them"):
        musicxml.read_score("a.mxl", content.getvalue())
    back = score([[[note(60, 4), "<backup><duration>8</duration></backup>"]]])
    with pytest.raises(ValueError, match="a bar goes back before its beginning"):
        musicxml.read_score("a.xml", back.encode())


def test_a_chorale_is_moved_to_c_or_a_minor_and_its_notes_are_kept():
    """A cadence to G, and one to E minor; the bass ends on the tonic."""
    for pitches, group, moved in (
        ((67, 62, 59, 43), "major 4/4", (72, 67, 64, 48)),
        ((67, 64, 59, 40), "minor 4/4", (72, 69, 64, 45)),
    ):
        parts = [[[note(pitch, 16)], [note(pitch, 12), note(None, 4)]] for pitch in pitches]
        found, bars = chorales.chorale_of(musicxml.read_score("a.xml", score(parts).encode()))
        assert found == group
        notes = notes_of_bars(bars)
        assert [n.pitch for n in notes if n.onset == 0] == sorted(moved)
        assert {(n.onset, n.duration) for n in notes} == {(0, 4), (4, 3)}
        assert bars_of_tokens(tokens_of_bars(bars)) == bars


def test_bars_that_a_repeat_divides_are_joined_but_not_the_upbeat():
    lengths = (4, 16, 12, 4, 16, 12)
    parts = [[[note(pitch, length)] for length in lengths] for pitch in (67, 62, 59, 43)]
    _, bars = chorales.chorale_of(musicxml.read_score("a.xml", score(parts).encode()))
    assert [bar.duration for bar in bars] == [4, 16, 16, 16, 12]


def test_chorales_of_a_folder_are_split_and_equal_ones_count_once(tmp_path: Path):
    folder = write_chorales(tmp_path / "scores")
    (folder / "again.mxl").write_bytes((folder / "piece0.mxl").read_bytes())
    (folder / "solo.xml").write_text(score(FOUR[:1]))  # not four parts: left out
    rows = chorales.load("path", folder)
    assert sum(len(rows[split]) for split in rows) == 60
    assert set(rows["train"]["group"]) <= {"major 4/4", "minor 4/4"}
    assert rows["train"]["tokens"][0][0] == "|"
    three = [*FOUR[:3], [[note(43, 8)], [note(43, 8)]]]
    (folder / "bars.mxl").write_bytes(mxl(score(three)))
    with pytest.raises(ValueError, match=r"bars\.mxl: score: got parts that differ in where bars"):
        chorales.load("path", folder)
    (folder / "bars.mxl").write_bytes(b"")
    with pytest.raises(ValueError, match=r"bars\.mxl' has 0 bytes, expected 1"):
        chorales.load("path", folder)


def test_tunes_are_told_by_metre_unit_and_key_and_tidied(tmp_path: Path):
    tune = abc_tunes.tune_of('R:jig\nM:C|\nK:E Minor\nEF  "Am"G`A |\\\n\n B2 z2 |]\n')
    assert tune == ("2/2", "1/8", "Em", "EF GA |\nB2 z2 |]")
    group = abc_tunes.group_of(tune)
    assert group == "2/2 1/8 Em"
    assert abc_tunes.tune_in(group, tune.music) == tune
    assert abc_tunes.tune_of("M:2/4\nK:D\nA2").unit == "1/16"
    rows = abc_tunes.load("path", write_tunes(tmp_path / "tunes.abc"))
    assert sum(len(rows[split]) for split in rows) == 60
    assert set(rows["test"]["group"]) == {"6/8 1/8 G"}
    assert "".join(rows["test"]["tokens"][0]).count("|") == 4


@pytest.mark.parametrize("load", [chorales.load, abc_tunes.load])
def test_a_path_goes_with_its_source(load, tmp_path):
    with pytest.raises(ValueError, match="path: got None with source='path'"):
        load("path")
    with pytest.raises(ValueError, match="with source='package'"):
        load("package", tmp_path)
    with pytest.raises(ValueError, match=r"^path: got .*, expected a file or folder of"):
        load("path", tmp_path)


def test_bad_tunes_are_refused(tmp_path):
    file = tmp_path / "bad.abc"
    for content, message in (
        (b"", "has 0 bytes, expected 1"),
        (b"X:1\nT:\xff\nK:G\nabc\n", "is not UTF-8 text"),
        (b"Dear all,\n", "without a line X:"),
        (b"X:1\nT:One\nM:6/8\nK:G\nabc|\n", "got no piece of the 1 in all, expected some in each"),
    ):
        file.write_bytes(content)
        with pytest.raises(ValueError) as refused:  # noqa: PT011
            abc_tunes.load("path", file)
        assert message in str(refused.value)
    with pytest.raises(ValueError, match=r"^group: got 'Em'"):
        abc_tunes.tune_in("Em", "")
    with pytest.raises(ValueError, match=r"^group: got 'lydian 4/4'"):
        chorales.bar_length("lydian 4/4")


def test_piano_rolls_are_those_of_the_file_and_a_tenth_of_training_is_kept_apart(tmp_path):
    file = write_piano_rolls(tmp_path / "rolls.mat")
    parts = piano_rolls.read_mat(file)
    rows = piano_rolls.load(file)
    assert {str(split): len(rows[split]) for split in rows} == {
        "train": 18,
        "selection": 2,
        "validation": 6,
        "test": 5,
    }
    for split, part in (("validation", "validdata"), ("test", "testdata")):
        for roll, piece in zip(
            piano_rolls.as_rolls(rows[split]["frames"]), parts[part], strict=True
        ):
            np.testing.assert_array_equal(roll, piece)
    assert not set(rows["train"]["piece"]) & set(rows["selection"]["piece"])
    assert "test" not in piano_rolls.load(write_piano_rolls(tmp_path / "b.mat", with_test=False))


def test_bad_piano_rolls_are_refused(tmp_path, monkeypatch):
    file = write_piano_rolls(tmp_path / "rolls.mat")
    good = file.read_bytes()
    bad = tmp_path / "bad.mat"

    def refused(content: bytes | dict) -> str:
        if isinstance(content, dict):
            scipy.io.savemat(bad, content)
        else:
            bad.write_bytes(content)
        with pytest.raises(ValueError, match=r"^path: ") as error:
            piano_rolls.load(bad)
        return str(error.value)

    assert "has 0 bytes" in refused(b"")
    for part in (5, 100, 140, 1000, len(good) - 3):
        assert "is no .mat file, or a damaged one" in refused(good[:part])
    assert "is no .mat file, or a damaged one" in refused(b"no such thing" * 100)
    assert "lacks ['traindata', 'validdata']" in refused({"x": 1})
    narrow = np.empty((1, 2), object)
    narrow[0, 0] = narrow[0, 1] = np.zeros((3, 87), np.uint8)
    assert "has shape (3, 87)" in refused({"traindata": narrow, "validdata": narrow})
    loud = np.empty((1, 2), object)
    loud[0, 0] = loud[0, 1] = np.full((3, 88), 2, np.uint8)
    assert "values other than 0 and 1" in refused({"traindata": loud, "validdata": loud})
    monkeypatch.setattr(piano_rolls, "LARGEST_UNPACKED", 1000)
    assert "has more than 1,000 bytes when unpacked" in refused(good)
    with pytest.raises(ValueError, match=r"expected a \.mat file of piano rolls"):
        piano_rolls.load(tmp_path / "none.mat")
