"""Music as tokens, bars and files, and what is counted of it."""

import io
from fractions import Fraction

import mido
import numpy as np
import pytest
from scipy.io import wavfile

from experiments.baselines import character_ngram
from experiments.music import abc_notation, checks, files, windows
from experiments.music.abc_notation import Tune, play
from experiments.music.events import Sounding, bars_of_tokens, notes_of_bars, transposed

BARS = ("d4 67 60 64 48", "d8 69 ~ 65 53 d8 ~ r ~ ~", "d16 72 64 55 48", "d12 72 64 55 48")
CHORALE = [token for bar in BARS for token in ("|", *bar.split())]


def test_events_are_read_and_what_is_none_spoils_its_bar_alone():
    bars = bars_of_tokens(CHORALE)
    assert [bar.duration for bar in bars] == [4, 16, 16, 12]
    assert all(bar.is_well_formed for bar in bars)
    broken = [*CHORALE[:7], "d8", "69", "~", *CHORALE[12:]]
    assert [bar.is_well_formed for bar in bars_of_tokens(broken)] == [True, False, True, True]
    assert bars_of_tokens([]) == []
    assert [bar.is_well_formed for bar in bars_of_tokens(["|", "|", "~"])] == [False, False]


def test_held_notes_last_until_something_else_begins():
    notes = notes_of_bars(bars_of_tokens(CHORALE))
    alto = [(n.onset, n.duration, n.pitch) for n in notes if n.voice == 1]
    assert alto == [(0, 3, 60), (5, 4, 64), (9, 3, 64)]
    moved = notes_of_bars(transposed(bars_of_tokens(CHORALE), -2))
    assert [n.pitch for n in moved] == [n.pitch - 2 for n in notes]


def of(music: str, metre: str = "4/4", key: str = "C") -> abc_notation.Played:
    return play(Tune(metre, "1/8", key, music))


def pitches(music: str, key: str = "C") -> list[int]:
    return [note.pitch for note in of(music, key=key).notes]


@pytest.mark.parametrize(
    ("music", "key", "expected"),
    [
        ("C c C, c'", "C", [60, 72, 48, 84]),
        ("F =F F | F", "G", [66, 65, 65, 66]),
        ("B b", "Dm", [70, 82]),
        ("^c _B ^^F", "C", [73, 70, 67]),
        ("F [K:D] F", "C", [65, 66]),
        ("[CEG] {ab}c", "C", [60, 64, 67, 72]),
        ("C-C D", "C", [60, 62]),
        ("FC", "HP", [66, 61]),
    ],
)
def test_pitches_of_abc(music, key, expected):
    assert pitches(music, key) == expected


@pytest.mark.parametrize(
    ("music", "durations"),
    [
        ("C C2 C/ C// C3/2", [4, 8, 2, 1, 6]),
        ("C>C C<C C>>C", [6, 2, 2, 6, 7, 1]),
        ("(3CCC C", [Fraction(8, 3)] * 3 + [4]),
        ("C-C", [8]),
        ("[C2E2]", [8, 8]),
    ],
)
def test_durations_of_abc_in_thirty_seconds(music, durations):
    assert [note.duration * 8 for note in of(music).notes] == durations


def test_bars_of_abc_are_counted_between_plain_lines():
    played = of("G|CDEF GABc|C2E2 G3|CD EF GA Bc:|", key="C")
    assert [bar.is_inner for bar in played.bars] == [False, True, True, False]
    assert [bar.duration == bar.expected for bar in played.bars] == [False, True, False, True]
    assert all(bar.is_well_formed for bar in played.bars)
    assert not of("C|D?E|F").bars[1].is_well_formed
    assert not of("C|D[E|F").bars[1].is_well_formed
    endings = of("CDEF GABc|1 C8:|2 C8|]")
    assert [bar.is_inner for bar in endings.bars] == [False, False, False]
    assert all(bar.is_well_formed for bar in endings.bars)


@pytest.mark.parametrize("text", ["", "H", "G foo", "B# lyd"])
def test_what_is_no_key_is_refused(text):
    with pytest.raises(ValueError, match=r"^K: got"):
        abc_notation.key_of(text)
    with pytest.raises(ValueError, match=r"^M: got '0/4'"):
        abc_notation.metre_of("0/4")


def test_keys_have_one_name():
    names = {"E Minor": "Em", "Emin": "Em", "Dmaj": "D", "D Mix": "Dmix", "Bb": "Bb", "Hp": "HP"}
    assert {text: abc_notation.key_name(text) for text in names} == names
    for name in names.values():
        assert abc_notation.key_name(name) == name


@pytest.mark.parametrize("seed", range(3))
def test_any_text_is_read_to_its_end(seed):
    """A network may write anything."""
    rng = np.random.default_rng(seed)
    letters = "ABCabcdefg'/,2340|[]:(){}<>-^_=zx \n\"!~KML\\.uvT?&"
    played = of("".join(rng.choice(list(letters), 2000)))
    assert all(0 <= note.pitch < 128 and note.duration >= 0 for note in played.notes)


def test_a_chorale_is_asked_for_bars_key_and_end():
    heard = checks.heard_chorale("major 4/4", CHORALE)
    assert (heard.bars, heard.valid_bars) == (2, 2)
    assert heard.ends_on_tonic
    assert heard.in_key == len(heard.notes)
    spoilt = [token.replace("69", "70").replace("d8", "d7") for token in CHORALE]
    heard = checks.heard_chorale("major 4/4", spoilt)
    assert (heard.bars, heard.valid_bars) == (2, 1)
    assert heard.in_key == len(heard.notes) - 1
    assert not checks.heard_chorale("minor 4/4", CHORALE).ends_on_tonic


def test_steps_of_a_tune_do_not_depend_on_its_key():
    heard = checks.heard_tune("4/4 1/8 C", list("CDEF GABc|cBAG F^EDC|"))
    other = checks.heard_tune("4/4 1/8 D", list("DEFG ABcd|dcBA G^FED|"))
    assert heard.items[:7] == other.items[:7]
    assert heard.ends_on_tonic
    assert (heard.in_key, len(heard.notes)) == (16, 16)  # E sharp is F
    assert checks.heard_tune("4/4 1/8 C", list("C^CD")).in_key == 2


def test_the_longest_run_is_that_of_brute_force():
    rng = np.random.default_rng(0)
    training = [list(rng.integers(0, 3, 40)) for _ in range(3)]
    corpus = checks.Corpus(training)
    for _ in range(20):
        piece = list(rng.integers(0, 4, 15))
        runs = [
            end - begin
            for begin in range(len(piece))
            for end in range(begin + 1, len(piece) + 1)
            for one in training
            if any(one[at : at + end - begin] == piece[begin:end] for at in range(len(one)))
        ]
        assert corpus.longest_run(piece) == max(runs, default=0)
    assert corpus.longest_run(training[1]) == 40
    assert corpus.longest_run([*training[0], *training[1]]) < 80  # no run goes past a piece
    with pytest.raises(ValueError, match="pieces: got none"):
        checks.counted([], corpus)


NOTES = [
    Sounding(Fraction(0), Fraction(1), 69, 0),
    Sounding(Fraction(1), Fraction(2), 69, 0),
    Sounding(Fraction(0), Fraction(3), 57, 1),
]


def test_a_midi_file_has_the_notes_at_their_times():
    file = mido.MidiFile(file=io.BytesIO(files.midi_bytes(NOTES, 120)))
    found = []
    for voice, track in enumerate(file.tracks[1:]):
        time, begun = 0, {}
        for message in track:
            time += message.time
            if message.type == "note_on":
                begun[message.note] = time
            elif message.type == "note_off":
                begin = begun.pop(message.note)
                times = Fraction(begin, files.TICKS), Fraction(time - begin, files.TICKS)
                found.append(Sounding(*times, message.note, voice))
        assert not begun
    assert sorted(found) == sorted(NOTES)
    assert file.length == pytest.approx(1.5)
    assert mido.MidiFile(file=io.BytesIO(files.midi_bytes([]))).length == 0


def test_a_sound_lasts_and_has_the_pitch(monkeypatch):
    rate, sound = wavfile.read(io.BytesIO(files.wav_bytes(NOTES[:1], 60)))
    assert rate == files.SAMPLE_RATE
    assert len(sound) == pytest.approx(1.5 * rate)
    spectrum = np.abs(np.fft.rfft(sound[:rate]))
    assert spectrum.argmax() == pytest.approx(440, abs=1)
    assert np.abs(sound).max() == pytest.approx(0.8 * 32767, rel=0.01)
    assert not files.synthesized([]).any()
    monkeypatch.setattr(files, "LONGEST_SOUND", 2.0)
    endless = Sounding(Fraction(0), Fraction(10_000), 60, 0)
    assert len(files.synthesized([endless])) == 2.5 * rate
    for make in (files.midi_bytes, files.wav_bytes):
        with pytest.raises(ValueError, match=r"^quarters_per_minute: got 0, expected 10\.0"):
            make(NOTES, 0)


def test_pieces_are_drawn_even_without_a_note(tmp_path):
    picture = files.piano_roll_bytes([("notes", NOTES, 4.0), ("none", [], 4.0)])
    assert picture.startswith(b"\x89PNG")
    written = files.write_piece(tmp_path, "piece", NOTES)
    assert sorted(path.name for path in written) == ["piece.mid", "piece.wav"]
    assert all(path.stat().st_size > 20 for path in written)


@pytest.fixture(scope="module")
def steps():
    lengths = np.asarray([3, 9, 1, 6, 4])
    count = lengths.sum()
    return windows.Steps(np.arange(count), 100 + np.arange(count), lengths)


def test_an_epoch_of_training_has_each_step_once_and_each_epoch_another_order(steps):
    batches = windows.training_windows(steps, 4, 3, seed=0)
    epochs = []
    for epoch in (0, 1):
        parts = [batches.make(epoch, index) for index in range(batches.per_epoch)]
        assert all(part.resets.shape == (3, 4) for part in parts)
        joined = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
        inputs, targets, resets, weights = joined
        kept = weights > 0
        assert sorted(targets[kept]) == list(steps.targets)
        np.testing.assert_array_equal(inputs[kept] + 100, targets[kept])
        starts = np.cumsum(steps.lengths) - steps.lengths
        np.testing.assert_array_equal(resets[1:][kept[1:]], np.isin(inputs[1:][kept[1:]], starts))
        assert resets[0].all()
        epochs.append(targets)
    assert not np.array_equal(*epochs)
    np.testing.assert_array_equal(batches(0).inputs, batches.make(0, 0).inputs)


def test_rows_are_transposed_by_one_number_for_an_epoch():
    rng = np.random.default_rng(0)
    rolls = np.zeros((40, 88), np.uint8)
    rolls[:, 20:60] = rng.random((40, 40)) < 0.2
    plain = windows.training_windows(
        windows.Steps(rolls, rolls[::-1].copy(), np.asarray([25, 15])), 20, 1, seed=0
    )
    moved = windows.transposed(plain, 2, seed=0)
    found = set()
    for row in range(20):
        parts = [(plain(step), moved(step)) for step in range(plain.per_epoch)]
        fits = [
            shift
            for shift in range(-2, 3)
            if all(
                np.array_equal(
                    np.roll(getattr(a, name)[:, row], shift, -1), getattr(b, name)[:, row]
                )
                for a, b in parts
                for name in ("inputs", "targets")
            )
        ]
        assert len(fits) == 1
        found |= set(fits)
    assert 0 in found
    assert len(found) > 2
    np.testing.assert_array_equal(moved(0).weights, plain(0).weights)


def test_whole_windows_cut_no_piece(steps):
    parts = windows.whole_windows(steps, 3, 4)
    inputs, targets, resets, weights = (
        np.concatenate(columns) for columns in zip(*parts, strict=True)
    )
    assert sorted(targets[weights > 0]) == list(steps.targets)
    found = []
    for row in range(3):
        column = inputs[:, row][weights[:, row] > 0]
        for piece in np.split(column, np.flatnonzero(resets[:, row])):
            found += [piece.tolist()] if len(piece) else []
    expected = np.split(steps.inputs, np.cumsum(steps.lengths)[:-1])
    assert sorted(found) == sorted(piece.tolist() for piece in expected)
    for call in (
        lambda: windows.whole_windows(steps, 0, 4),
        lambda: windows.training_windows(steps, 24, 4, 0),
    ):
        with pytest.raises(ValueError, match=r"^batch_size, window: got"):
            call()


def test_a_document_is_drawn_from_the_n_gram():
    """Each character with the probability that the model gives it after those before."""
    model = character_ngram.fit(["abac$", "abab$", "acab$"], 2)
    rng = np.random.default_rng(0)
    drawn = [character_ngram.sample_document(model, "a", "$", 3, rng) for _ in range(1000)]
    assert max(map(len, drawn)) == 3
    second = np.mean([text.startswith("b") for text in drawn])
    expected = character_ngram.distribution(model, "a")
    known = expected[:-1].sum()
    assert second == pytest.approx(expected[model.characters.index("b")] / known, abs=0.08)
    after = [text[1:2] for text in drawn if text.startswith("b")]
    expected = character_ngram.distribution(model, "ab")
    share = expected[model.characters.index("a")] / expected[:-1].sum()
    assert np.mean([one == "a" for one in after]) == pytest.approx(share, abs=0.08)
