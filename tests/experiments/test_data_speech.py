"""Files of sound that are not trusted, and the corpora made of them."""

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from scipy.io import wavfile

from experiments.data import speech_corpus, speech_hub, transcribed_files
from experiments.data.audio_files import RATE, as_int16, decode_wav
from experiments.data.speech_rows import split_of, spoken


def tone(seconds=0.5, rate=RATE, hertz=440.0):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


def wav(samples, rate=RATE):
    content = io.BytesIO()
    wavfile.write(content, rate, samples)
    return content.getvalue()


GOOD = wav(as_int16(tone()))


@pytest.mark.parametrize(
    ("samples", "tolerance"),
    [
        (as_int16(tone()), 1e-4),
        (as_int16(tone()).astype(np.int32) << 16, 1e-4),
        (np.round(tone() * 127 + 128).astype(np.uint8), 1e-2),
        (tone().astype(np.float32), 1e-6),
        (tone(), 1e-6),
    ],
)
def test_every_width_of_samples_is_the_same_sound(samples, tolerance):
    sound = decode_wav(wav(samples), "a.wav")
    assert sound.conversions == ()
    assert sound.samples.dtype == np.float32
    np.testing.assert_allclose(sound.samples, tone(), atol=tolerance)


def test_channels_are_averaged_and_other_rates_resampled():
    stereo = np.stack([as_int16(tone()), as_int16(0 * tone())], axis=1)
    sound = decode_wav(wav(stereo), "a.wav")
    assert sound.conversions == ("2 channels to their mean",)
    np.testing.assert_allclose(sound.samples, tone() / 2, atol=1e-4)
    for rate in (16_000, 44_100, 6_000):
        sound = decode_wav(wav(as_int16(tone(rate=rate)), rate), "a.wav")
        assert sound.conversions == (f"{rate:,} Hz to 8,000 Hz",)
        assert abs(len(sound.samples) - len(tone())) <= 1
        middle = slice(200, -200)  # the filter has no sound before the first sample
        np.testing.assert_allclose(
            sound.samples[middle], tone()[: len(sound.samples)][middle], atol=5e-3
        )


def header(**changes):
    """A WAV file with fields of its header overwritten."""
    content = bytearray(GOOD)
    for place, (kind, value) in changes.items():
        struct.pack_into(kind, content, int(place.removeprefix("at")), value)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.wav: got an empty file"),
        (b"this is no sound", r"a\.wav: is no WAV file"),
        (b"ID3\x03" + bytes(500), r"a\.wav: is no WAV file"),
        (b"RIFF" + bytes(100), r"a\.wav: is no WAV file"),
        (GOOD[:20], r"a\.wav: is no WAV file, or a damaged one"),
        (GOOD[:43], r"a\.wav: is no WAV file, or a damaged one"),
        (GOOD[:44], r"a\.wav: is truncated"),
        (GOOD[:501], r"a\.wav: is no WAV file, or a damaged one"),
        (GOOD[:500], r"a\.wav: is truncated"),
        (wav(as_int16(tone(0.0))), r"a\.wav: got 0 ms of sound, expected at least 25 ms"),
        (wav(as_int16(tone(0.01))), r"a\.wav: got 10 ms of sound"),
        (wav(np.full(800, np.nan, np.float32)), r"a\.wav: got samples that are not finite"),
        (wav(as_int16(tone(rate=1_000)), 1_000), r"a\.wav: got a rate of 1000 Hz, expected 2000"),
        (header(at22=("<H", 0)), r"a\.wav: is no WAV file, or a damaged one"),
        (header(at20=("<H", 7)), r"a\.wav: is no WAV file, or a damaged one"),
        (header(at24=("<I", 0)), r"a\.wav: is no WAV file, or a damaged one"),
    ],
)
def test_what_is_no_whole_sound_is_refused_by_name(content, message):
    with pytest.raises(ValueError, match=message):
        decode_wav(content, "a.wav")


def test_headers_changed_at_random_are_refused_or_read():
    rng = np.random.default_rng(0)
    read = 0
    for _ in range(300):
        content = bytearray(GOOD)
        for place in rng.integers(0, 60, 3):
            content[place] = rng.integers(0, 256)
        try:
            samples = decode_wav(bytes(content), "a.wav").samples
        except ValueError:
            continue
        read += 1
        assert np.isfinite(samples).all()
    assert read > 0


@pytest.mark.parametrize(
    ("transcript", "said"),
    [
        ("Press 1 to listen, or 9...", "press one to listen or nine"),
        ("I'm sorry!", "i'm sorry"),
        ("dash [-]", "dash"),
        ("IAX (note: does not say 2)", "iax"),
        ("press * to cancel, # to go on", "press star to cancel pound to go on"),
        ("A.M.", "a m"),
        ("visit www.asterisk.org.", "visit www dot asterisk dot org"),
        ("3D audio", "three d audio"),
        ("dial 500", None),
        ("[beep]", None),
        ("¿Qué?", None),
    ],
)
def test_what_is_said_is_told_from_what_is_written(transcript, said):
    assert spoken(transcript) == said


@pytest.fixture
def digits(tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    for digit in range(2):
        for speaker in ("ann", "ben"):
            for index in (0, 5, 10, 11):
                place = folder / f"{digit}_{speaker}_{index}.wav"
                place.write_bytes(wav(as_int16(tone(0.1, hertz=300 + 200 * digit))))
    (folder / "README.txt").write_text("Digits.")
    return folder


def test_digits_are_split_by_the_number_of_the_recording(digits, tmp_path):
    archive = tmp_path / "recordings.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for file in digits.iterdir():
            zipped.write(file, f"recordings/{file.name}")
    for place in (digits, archive):
        rows = speech_corpus.load("path", path=place)
        assert {part: len(rows[part]) for part in rows} == {"train": 8, "validation": 4, "test": 4}
        assert sorted(set(rows["test"]["text"])) == ["0", "1"]
        assert sorted(set(rows["train"]["speaker"])) == ["ann", "ben"]
        assert len(rows["train"][0]["samples"]) == 800
    for file in digits.glob("*_0.wav"):
        file.unlink()
    assert len(speech_corpus.load("path", path=digits)["test"]) == 0


def test_recordings_with_a_table_are_split_by_what_is_said(tmp_path):
    table = ["; a remark", "", "beep: [a tone]", "lost: There is no such file."]
    for number in range(60):
        name = f"ann/{number}"
        (tmp_path / "ann").mkdir(exist_ok=True)
        (tmp_path / f"{name}.wav").write_bytes(GOOD)
        text = f"word {'abcdefghij'[number % 10]} {'abc'[number // 10 % 3]}"
        table.append(f"{name}: {text}.")
    (tmp_path / "transcripts.txt").write_text("\n".join(table))
    rows = speech_corpus.load("path", path=tmp_path)
    assert sum(len(rows[part]) for part in rows) == 60
    for part in rows:
        assert all(split_of(text) == part for text in rows[part]["text"])
        assert set(rows[part]["speaker"]) == {"ann"}
    with pytest.raises(ValueError, match=r"transcripts\.txt line 2: got no colon"):
        transcribed_files.transcripts("a: b\nc d\n")


def test_rows_of_the_hub_become_ours_and_what_is_no_wav_is_refused():
    def rows(content, **more):
        columns = {"audio": [{"bytes": content, "path": "a"}], "transcription": ["Press 1"]}
        return datasets.Dataset.from_dict(columns | {name: [one] for name, one in more.items()})

    (one,) = speech_hub.utterances(rows(GOOD, speaker_id=7), "train")
    assert (one.text, one.speaker, len(one.samples)) == ("press one", "7", len(tone()))
    with pytest.raises(ValueError, match="train row 0: is no WAV file"):
        speech_hub.utterances(rows(b"fLaC" + bytes(100)), "train")
    with pytest.raises(ValueError, match="columns: got audio, expected audio, and text or"):
        speech_hub.utterances(rows(GOOD).remove_columns("transcription"), "train")


def test_what_is_no_corpus_is_refused(tmp_path, digits):
    empty = tmp_path / "empty"
    empty.mkdir()
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"PK no")
    refused: list[tuple[Any, str]] = [
        (("path",), "path: got None with source='path'"),
        (("package", "prompts", empty), "path: got .* with source='package'"),
        (("elsewhere",), "source: got 'elsewhere'"),
        (("package", "songs"), "name: got 'songs', expected one of prompts"),
        (("path", "", empty), "path: got .*empty' with 0 files, expected a folder or .zip of"),
        (("path", "", bad), "path: got .*bad.zip', expected a folder or a .zip"),
        (("path", "", Path("nowhere")), "path: got 'nowhere', expected a folder or a .zip"),
    ]
    for arguments, message in refused:
        with pytest.raises(ValueError, match=message):
            speech_corpus.load(*arguments)
    (digits / "1_ann_11.wav").write_bytes(GOOD[:600])
    with pytest.raises(ValueError, match=r"1_ann_11\.wav: is truncated"):
        speech_corpus.load("path", path=digits)
    (digits / "what.wav").write_bytes(GOOD)
    with pytest.raises(ValueError, match="DIGIT_SPEAKER_INDEX"):
        speech_corpus.load("path", path=digits)
