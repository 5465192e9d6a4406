import itertools

import numpy as np
import pytest

from experiments.baselines import frame_ngram

KEYS = 3


@pytest.fixture(scope="module")
def pieces():
    rng = np.random.default_rng(0)
    return [(rng.random((count, KEYS)) < 0.4).astype(np.uint8) for count in (9, 1, 7)]


def of_all_frames(before, nats_of):
    """Sum of P over all frames that may follow the frames before."""
    following = [
        np.asarray([*before, frame], np.uint8) for frame in itertools.product((0, 1), repeat=KEYS)
    ]
    return sum(np.exp(-nats[-1]) for nats in nats_of(following))


def test_the_probabilities_of_all_frames_have_the_sum_one(pieces):
    known, unknown = pieces[0][2:4], np.ones((2, KEYS), np.uint8)
    for nats_of in (
        lambda held_out: frame_ngram.by_frequency(pieces, held_out),
        lambda held_out: frame_ngram.by_last_frame(pieces, held_out),
        lambda held_out: frame_ngram.nats(frame_ngram.fit(pieces, 2), held_out),
    ):
        assert of_all_frames(known, nats_of) == pytest.approx(1)
        assert of_all_frames(unknown, nats_of) == pytest.approx(1)


def test_keys_by_frequency_are_counted():
    piece = np.asarray([[1, 0], [1, 1], [1, 0]], np.uint8)
    (nats,) = frame_ngram.by_frequency([piece], [piece[:1]])
    assert nats[0] == pytest.approx(-np.log(3.5 / 4 * 2.5 / 4))


def test_a_frame_that_was_seen_is_likelier_than_with_keys_by_themselves(pieces):
    """Two chords in turn: which keys sound together is known only to the n-gram."""
    chords = np.asarray([[1, 1, 0], [0, 0, 1]], np.uint8)
    rng = np.random.default_rng(1)
    piece = chords[rng.integers(0, 2, 200)]
    by_keys = frame_ngram.by_last_frame([piece], [piece])[0].mean()
    by_frames = frame_ngram.nats(frame_ngram.fit([piece], 1), [piece])[0].mean()
    assert by_frames < np.log(2) * 1.05 < by_keys


def test_the_order_is_that_of_witten_and_bell():
    piece = np.asarray([[1], [1], [0]], np.uint8)
    model = frame_ngram.fit([piece], 1)
    (nats,) = frame_ngram.nats(model, [piece[:1]])
    base = 1.5 / 2  # after silence a key sounded once of once
    of_0 = (2 + 2 * base) / (3 + 2)
    assert nats[0] == pytest.approx(-np.log((1 + 1 * of_0) / (1 + 1)))
    with pytest.raises(ValueError, match="got 0 pieces and 2"):
        frame_ngram.fit([])
