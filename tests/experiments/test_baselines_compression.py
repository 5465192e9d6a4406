import numpy as np
import pytest

from experiments.baselines.compression import xz_bits_per_character


def noise(seed: int, length: int, alphabet: str) -> str:
    return "".join(np.random.default_rng(seed).choice(list(alphabet), length))


def test_text_that_was_in_training_costs_almost_nothing_more():
    text = noise(0, 20_000, "abcdefgh")
    score = xz_bits_per_character([noise(1, 300_000, "abcdefgh"), text], [text])
    assert score.alone > 3
    assert score.after_training < 0.05


def test_noise_costs_its_entropy_whatever_came_before():
    score = xz_bits_per_character([noise(1, 50_000, "abcd")], [noise(2, 50_000, "abcd")])
    assert 2 <= score.after_training < 2.4
    assert 2 <= score.alone < 2.4


def test_a_character_is_a_code_point_and_not_a_byte():
    train, held_out = noise(1, 20_000, "abcd"), noise(2, 20_000, "abcd")
    wide = str.maketrans("abcd", "αβγδ")
    plain = xz_bits_per_character([train], [held_out])
    greek = xz_bits_per_character([train.translate(wide)], [held_out.translate(wide)])
    # Two bytes a character, the first of them always the same: per byte it would be half.
    assert greek.after_training > 0.9 * plain.after_training


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="held_out: got no text"):
        xz_bits_per_character(["a"], [])
    with pytest.raises(ValueError, match="train: got no text"):
        xz_bits_per_character([""], ["a"])
