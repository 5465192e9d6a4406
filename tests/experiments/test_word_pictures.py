from itertools import pairwise

import pytest

from experiments.word_pictures import (
    MARGIN,
    WIDTH,
    draw_comparison,
    draw_texts,
    lay_out,
    plain,
    text_width,
)


def test_words_stand_side_by_side_within_the_width_and_break_into_lines():
    words = ["a", "word", "and", "another"] * 12 + ["w" * 200]
    places = lay_out(words)
    for word, place in zip(words, places, strict=True):
        assert place.width == text_width(word)
    for before, after in pairwise(places):
        if after.line == before.line:
            assert after.x > before.x + before.width
        else:
            assert (after.line, after.x) == (before.line + 1, MARGIN)
            assert before.x + before.width <= WIDTH - MARGIN
    assert places[-1].line > 1
    assert lay_out([]) == []


def test_a_dollar_sign_is_no_formula():
    assert plain("$5") == r"\$5"
    assert text_width("$") == pytest.approx(text_width("0"), rel=0.5)


def test_nothing_to_draw_is_refused(tmp_path):
    with pytest.raises(ValueError, match="texts: got 0 with 0 captions"):
        draw_texts(tmp_path / "a.png", [], [], "for", "against", "unit")
    with pytest.raises(ValueError, match="models: got none"):
        draw_comparison(tmp_path / "a.png", {}, {})
    assert not list(tmp_path.iterdir())
