"""Which frames are shown, what the classes are, and what is reported of verdicts."""

import numpy as np
import pytest

from experiments.baselines import mean_frames
from experiments.clips import (
    Clips,
    action_probabilities,
    backwards_probability,
    both_ways,
    classes_of,
    scores,
    shown_frames,
    take,
)

ACTIONS = ("stand", "jump", "fall")
CLASSES = classes_of(ACTIONS, ("stand",))


def clips_of(counts, actions, size=4):
    """Every pixel of frame i is i, so that a picture says which one it is."""
    total = int(np.sum(counts))
    frames = np.broadcast_to(
        np.arange(total, dtype=np.uint8)[:, None, None, None], (total, size, size, 3)
    )
    counts = np.asarray(counts)
    return Clips(
        frames, np.cumsum(counts) - counts, counts, np.asarray(actions, np.int32),
        [f"clip {i}" for i in range(len(counts))],
    )  # fmt: skip


def test_of_each_part_of_a_clip_one_frame_is_shown():
    rng = np.random.default_rng(0)
    for count in range(1, 12):
        for steps in (1, 3, 4, 8):
            shown = shown_frames(count, rng.random(steps))
            bounds = np.arange(steps + 1) * count / steps
            assert (np.diff(shown) >= 0).all()
            assert (shown >= np.floor(bounds[:-1])).all()
            assert (shown < np.ceil(bounds[1:])).all()
            if count >= steps > 1 and count % steps == 0:
                assert len(set(shown)) == steps
    np.testing.assert_array_equal(shown_frames(1, rng.random(4)), 0)
    np.testing.assert_array_equal(shown_frames(4, rng.random(4)), range(4))
    np.testing.assert_array_equal(shown_frames(8, np.full(4, 0.5)), [1, 3, 5, 7])
    np.testing.assert_array_equal(shown_frames(2, np.full(4, 0.5)), [0, 0, 1, 1])


def test_backwards_is_the_same_frames_the_other_way():
    clips = clips_of([5, 8], [1, 2])
    places, middle = np.array([1, 0, 1]), np.full((4, 3), 0.5)
    shown = take(clips, places, middle, np.array([False, False, True]))
    assert shown.shape == (4, 3, 4, 4, 3)
    np.testing.assert_array_equal(shown[:, 0, 0, 0, 0], [6, 8, 10, 12])
    np.testing.assert_array_equal(shown[:, 1, 0, 0, 0], [0, 1, 3, 4])
    np.testing.assert_array_equal(shown[:, 2], shown[::-1, 0])


def test_classes_are_actions_and_their_ways():
    assert CLASSES.names == ("stand", "jump", "fall", "jump, backwards", "fall, backwards")
    assert CLASSES.has_direction.tolist() == [False, True, True]
    p = np.random.default_rng(0).dirichlet(np.ones(5), 7)
    np.testing.assert_allclose(action_probabilities(CLASSES, p).sum(-1), 1)
    np.testing.assert_allclose(action_probabilities(CLASSES, p)[:, 1], p[:, 1] + p[:, 3])
    way = (p[:, 3] + p[:, 4]) / p[:, 1:].sum(-1)
    np.testing.assert_allclose(backwards_probability(CLASSES, p), way)
    assert backwards_probability(CLASSES, np.eye(5)[0]) == 0.5  # it stands
    with pytest.raises(ValueError, match=r"data\.still: got 'swim', expected some of stand, jump"):
        classes_of(ACTIONS, ("swim",))
    with pytest.raises(ValueError, match="actions: got \\['stand'\\], expected at least two"):
        classes_of(("stand",), ())


def test_scores_are_those_of_verdicts_counted_by_hand():
    clips = clips_of([2, 2, 2], [0, 1, 2])
    shown = both_ways(clips, CLASSES)
    assert shown.labels.tolist() == [0, 1, 2, 0, 3, 4]
    verdicts = np.array([0, 3, 2, 1, 3, 0])  # as classes
    p = np.where(np.eye(5)[verdicts] > 0, 0.96, 0.01)
    found = scores(CLASSES, np.log(p), clips, shown)
    assert found["accuracy"] == 3 / 6
    assert found["action_accuracy"] == pytest.approx(4 / 6)
    assert found["balanced_action_accuracy"] == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)
    # Of the four with a direction: wrong, right, right, and even odds.
    assert found["direction_accuracy"] == pytest.approx((0 + 1 + 1 + 0.5) / 4)
    assert found["cross_entropy"] == pytest.approx(-(3 * np.log(0.96) + 3 * np.log(0.01)) / 6)


def test_what_says_the_same_both_ways_is_half_right_about_the_way():
    clips = clips_of([2] * 6, [0, 1, 2] * 2)
    p = np.random.default_rng(1).dirichlet(np.ones(5), 6)
    found = scores(CLASSES, np.log(np.tile(p, (2, 1))), clips, both_ways(clips, CLASSES))
    assert found["direction_accuracy"] == 0.5


def moving_bars(seed, count):
    """A bar that goes down or stays, at some height; of 4 frames, or of 2 where it stays."""
    rng = np.random.default_rng(seed)
    frames, counts, actions = [], [], []
    for place in range(count):
        action = place % 2
        counts.append(4 if action else 2)
        top, left = rng.integers(0, 8, 2)
        for t in range(counts[-1]):
            picture = np.zeros((20, 20, 3), np.uint8)
            picture[top + 3 * t * action : top + 3 * t * action + 3, left : left + 8] = 200
            frames.append(picture)
        actions.append(action)
    counts = np.asarray(counts)
    names = [str(place) for place in range(count)]
    return Clips(
        np.stack(frames), np.cumsum(counts) - counts, counts, np.asarray(actions, np.int32), names
    )


def test_frames_in_order_tell_the_way_and_their_mean_only_what_is_done():
    classes = classes_of(("stay", "fall"), ("stay",))
    found = mean_frames.scores(moving_bars(0, 120), {"test": moving_bars(1, 40)}, classes, 4)[
        "test"
    ]
    assert found[mean_frames.MAJORITY]["action_accuracy"] == 0.5
    assert found[mean_frames.COUNT]["action_accuracy"] == 1
    assert found[mean_frames.NEAREST_MEAN]["action_accuracy"] > 0.9
    assert found[mean_frames.LINEAR_MEAN]["action_accuracy"] > 0.9
    ordered = found.pop(mean_frames.NEAREST_ORDERED)
    assert ordered["action_accuracy"] > 0.9
    assert ordered["direction_accuracy"] > 0.9
    assert {row["direction_accuracy"] for row in found.values()} == {0.5}
