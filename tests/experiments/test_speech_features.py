"""Steps of sound at any pace, joined recordings, and what is hidden of them."""

import numpy as np
import pytest

from experiments.data.audio_files import RATE
from experiments.speech_features import (
    Features,
    FrameStream,
    Recording,
    at_speed,
    join,
    mask_stretches,
    scale_of,
    steps_of,
    windows_of,
)
from experiments.speech_scores import error_rates

RNG = np.random.default_rng(0)
SOUND = RNG.normal(0, 0.1, 5000).astype(np.float32)


@pytest.mark.parametrize("features", [Features(), Features("mfcc", 13, 2)])
def test_a_sound_in_pieces_makes_the_steps_of_the_whole(features):
    whole = steps_of(features, SOUND)
    assert whole.shape == (features.steps_within(len(SOUND) / RATE), features.input_size)
    stream, pieces, place = FrameStream(features), [], 0
    for size in (1, 199, 7, 1000, 0, 2000, 1793):
        pieces.append(stream.accept(SOUND[place : place + size]))
        place += size
        count = sum(map(len, pieces))
        assert count == features.steps_within(place / RATE)
        if count:
            assert features.known_at(count - 1) <= place / RATE + 1e-9
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert len(steps_of(features, SOUND[:100])) == 0
    scaled = scale_of([whole])(whole)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(0), 1, rtol=1e-3)


def test_a_louder_tone_has_more_energy_in_its_band_and_the_same_cepstrum_but_the_first():
    tone = np.sin(2 * np.pi * 1000 * np.arange(4000) / RATE) * 0.1
    soft, loud = (steps_of(Features(stacked=1), gain * tone) for gain in (1, 2))
    np.testing.assert_allclose(loud - soft, 2 * np.log(2), atol=1e-2)
    soft, loud = (steps_of(Features("mfcc", 13, 1), gain * tone) for gain in (1, 2))
    np.testing.assert_allclose(loud[:, 1:], soft[:, 1:], atol=1e-2)


def recording(name, text, seconds=0.1):
    return Recording(name, "ann", text, np.full(int(seconds * RATE), 1000, np.int16))


def test_joined_recordings_stand_where_their_spans_say():
    rows = [recording("a", "1"), recording("b", "2", 0.2)]
    heard = join(rows, np.random.default_rng(0), gap=0.3, tail=0.05, noise=0.0)
    assert heard.text == "12"
    assert len(heard.samples) == round((heard.spans[-1][1] + 0.05) * RATE)
    for (begin, end), one in zip(heard.spans, rows, strict=True):
        inside = heard.samples[round(begin * RATE) : round(end * RATE)]
        np.testing.assert_array_equal(inside, np.full(len(one.samples), 1000 / 32768, np.float32))
    assert np.count_nonzero(heard.samples) == int(0.3 * RATE)
    words = join([recording("a", "press one"), recording("b", "now")], RNG)
    assert words.text == "press one now"
    assert join([recording("a", "1")], RNG, gain=100.0, noise=0).samples.max() < 1


def test_a_digit_may_be_written_by_its_deadline_and_shortly_before():
    features = Features()
    spans = [(0.0, 0.4), (0.5, 0.9)]
    for deadline in (-0.1, 0.0, 0.2):
        first, last = windows_of(features, spans, deadline, 0.15)
        for n, (_, end) in enumerate(spans):
            known = features.known_at(np.arange(first[n] - 1, last[n] + 2))
            assert known[-2] <= end + deadline + 1e-9 < known[-1]
            assert known[0] <= end + deadline - 0.15 + 1e-9 < known[1]
        first, same = windows_of(features, spans, deadline)
        np.testing.assert_array_equal(same, last)
        for n, (begin, _) in enumerate(spans):
            assert features.known_at(first[n]) > begin
            assert n == 0 or features.known_at(first[n] - 1) <= begin
    first, last = windows_of(features, [(0.0, 0.1), (0.5, 0.9)], -0.4, 0.01)
    assert first[0] == last[0] == 0  # one step at least
    assert first[1] == last[1]


def test_speeds_change_how_long_a_recording_is():
    one = recording("a", "1", 1.0)
    assert at_speed(one, 1.0) is one
    assert len(at_speed(one, 1.25).samples) == pytest.approx(RATE / 1.25, abs=1)


def test_stretches_are_hidden_in_whole_bands_and_steps_and_nothing_else_changes():
    frames = np.ones((20, 3, 12), np.float32)
    lengths = np.array([20, 10, 0])
    hidden = mask_stretches(frames, lengths, np.random.default_rng(3), stacked=3, bands=2, steps=4)
    assert (frames == 1).all()
    assert set(np.unique(hidden)) == {0.0, 1.0}
    by_band = hidden.reshape(20, 3, 3, 4)
    for row, length in enumerate(lengths):
        gone = (by_band[:, row] == 0).all(axis=(1, 2))
        assert gone.sum() <= 2 * min(4, length // 5)
        assert not gone[length:].any()
        # Outside of hidden steps the same bands are hidden at each step and in each stacked frame.
        rest = by_band[~gone, row]
        assert (rest == rest[:1, :1]).all()
        assert (rest[0, 0] == 0).sum() <= 4
    same = mask_stretches(frames, lengths, np.random.default_rng(3), stacked=3, bands=0, steps=0)
    np.testing.assert_array_equal(same, frames)


def test_error_rates_are_edits_over_what_was_said():
    found = error_rates(["press one", "no"], ["press on two", "no"])
    assert found["character_error_rate"] == pytest.approx(4 / 11)
    assert found["word_error_rate"] == pytest.approx(2 / 3)
    assert found["wrong"] == 0.5
    for said, written in ((["a"], []), ([""], [""])):
        with pytest.raises(ValueError, match="written: got"):
            error_rates(said, written)


def test_sizes_are_checked():
    for make, message in (
        (lambda: Features(size=0), "features.size: got 0"),
        (lambda: Features(stacked=0), "features.stacked: got 0"),
        (lambda: Features("mfcc", 41), "features.size: got 41, expected at most 40"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
