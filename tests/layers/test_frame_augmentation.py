import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.layers.frame_augmentation import (
    FrameAugmentation,
    augment_frames,
    draw_frame_augmentation,
)

T, B, H, W, C = 2, 3, 5, 4, 2
FRAMES = jnp.asarray(np.random.default_rng(0).random((T, B, H, W, C), np.float32))
augment = jax.jit(augment_frames)


def drawn(flipped=False, down=0, right=0, brightness=1.0):
    return FrameAugmentation(
        jnp.full(B, flipped), jnp.full(B, down, jnp.int32), jnp.full(B, right, jnp.int32),
        jnp.full(B, brightness, jnp.float32),
    )  # fmt: skip


def test_what_is_drawn_is_done_to_all_frames_of_a_clip():
    frames = np.asarray(FRAMES)
    np.testing.assert_array_equal(augment(drawn(), FRAMES), frames)
    np.testing.assert_array_equal(augment(drawn(flipped=True), FRAMES), frames[..., ::-1, :])
    moved = np.asarray(augment(drawn(down=2, right=-1), FRAMES))
    np.testing.assert_array_equal(moved[..., 2:, :-1, :], frames[..., :-2, 1:, :])
    np.testing.assert_array_equal(moved[..., 0, :-1, :], frames[..., 0, 1:, :])  # the nearest pixel
    np.testing.assert_array_equal(moved[..., -1, :], moved[..., -2, :])
    bright = np.asarray(augment(drawn(brightness=1.5), FRAMES))
    np.testing.assert_allclose(bright, np.minimum(frames * 1.5, 1), rtol=1e-6)
    of_one = drawn()._replace(flipped=jnp.arange(B) == 1)
    changed = (np.asarray(augment(of_one, FRAMES)) != frames).any((0, 2, 3, 4))
    np.testing.assert_array_equal(changed, [False, True, False])


def test_draws_are_of_the_key_and_keep_to_their_limits():
    many = draw_frame_augmentation(jax.random.key(0), (4000,), shift=2, brightness=0.25)
    again = draw_frame_augmentation(jax.random.key(0), (4000,), shift=2, brightness=0.25)
    assert all(np.array_equal(a, b) for a, b in zip(many, again, strict=True))
    for moved in (many.down, many.right):
        assert np.unique(np.asarray(moved)).tolist() == [-2, -1, 0, 1, 2]
    light = np.asarray(many.brightness)
    assert 0.75 <= light.min() < 0.76
    assert 1.24 < light.max() <= 1.25
    assert 0.45 < np.asarray(many.flipped).mean() < 0.55


def test_bad_arguments_are_refused():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="shift: got -1, expected at least 0"):
        draw_frame_augmentation(key, (B,), shift=-1)
    with pytest.raises(ValueError, match=r"brightness: got 1\.0, expected 0 ≤ brightness < 1"):
        draw_frame_augmentation(key, (B,), brightness=1.0)
    with pytest.raises(
        ValueError, match=r"frames: got shape \(2, 2, 5, 4, 2\), expected \(T, \(3,"
    ):
        augment_frames(drawn(), FRAMES[:, :2])
    with pytest.raises(TypeError, match="frames: got uint8, expected a floating dtype"):
        augment_frames(drawn(), FRAMES.astype(jnp.uint8))
