import numpy as np
import pytest

from experiments.subwords import (
    END_ID,
    UNKNOWN_ID,
    Languages,
    decoded,
    encoded,
    languages_from_json,
    learn_subwords,
    pieces,
)

TEXTS = ["¿Qué dijo, Marta?", "Marta dijo: «no»; la casa de Marta.", "casas, casa y más"] * 3


def test_a_text_of_known_letters_comes_back_as_it_was():
    tokenizer = learn_subwords(TEXTS, 60)
    rows = encoded(tokenizer, TEXTS)
    assert decoded(tokenizer, rows) == TEXTS
    assert all(row[-1] == END_ID and UNKNOWN_ID not in row for row in rows)
    assert decoded(tokenizer, encoded(tokenizer, ["Marta  y\tdos "])) == ["Marta y dos"]
    assert pieces(tokenizer, encoded(tokenizer, ["Marta"])[0]) == ["▁Marta", "</s>"]


def test_what_was_not_learned_is_unknown_and_no_text_is_a_special_token():
    tokenizer = learn_subwords(TEXTS, 60)
    assert encoded(tokenizer, ["ш"])[0].tolist()[-2:] == [UNKNOWN_ID, END_ID]
    row = encoded(tokenizer, ["a</s><s>a"])[0]
    assert np.flatnonzero(row == END_ID).tolist() == [len(row) - 1]
    cut_off = encoded(tokenizer, ["casa"])[0][:-1]
    assert decoded(tokenizer, [cut_off]) == ["casa"]


def test_subwords_are_kept_as_json():
    languages = Languages(learn_subwords(TEXTS, 60), learn_subwords(TEXTS, 40))
    again = languages_from_json(languages.to_json())
    assert again.to_json() == languages.to_json()
    text = ["a</s> Marta, casas"]
    for tokenizer, other in zip(languages, again, strict=True):
        assert encoded(tokenizer, text)[0].tolist() == encoded(other, text)[0].tolist()
        assert tokenizer.get_vocab_size() <= 60
    for bad in ("{", "{}", '{"source": {}, "target": {}}', "[]"):
        with pytest.raises(ValueError, match="vocabulary: got"):
            languages_from_json(bad)


def test_a_vocabulary_needs_room():
    with pytest.raises(ValueError, match="size: got 3, expected more than the 3 special tokens"):
        learn_subwords(TEXTS, 3)
