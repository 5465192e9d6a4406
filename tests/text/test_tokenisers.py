from hypothesis import given
from hypothesis import strategies as st

from rnnjax.text.tokenisers import characters, join_characters, join_words, lower_case_words, words


@given(st.text())
def test_characters_come_back(text: str):
    assert join_characters(characters(text)) == text


@given(st.text())
def test_no_character_but_white_space_is_lost_in_words(text: str):
    assert "".join(words(text)) == "".join(text.split())


@given(st.text(alphabet="ab -'’‘“”()[],.!$%\n"))
def test_joined_words_are_the_same_words(text: str):
    tokens = words(text)
    assert words(join_words(tokens)) == tokens


def test_words_of_a_sentence():
    line = "Don't stop, the well-kept (old) garden’s gate: $5!"
    tokens = [
        "Don't",
        "stop",
        ",",
        "the",
        "well-kept",
        "(",
        "old",
        ")",
        "garden’s",
        "gate",
        ":",
        "$",
        "5",
        "!",
    ]
    assert words(line) == tokens
    assert join_words(tokens) == line
    assert lower_case_words("The CAT.") == ["the", "cat", "."]
    assert words(" \n") == []
