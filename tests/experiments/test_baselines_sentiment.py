import numpy as np
import pytest

from experiments.baselines import bag_of_words, word_list_rules

TEXTS = ["a superb film", "superb", "a dull film", "dull and dull", "a film", "not superb"]
LABELS = [1, 1, 0, 0, 0, 0]


def test_words_decide_and_their_order_does_not_unless_pairs_count():
    model = bag_of_words.fit(TEXTS, LABELS, TEXTS, LABELS, phrases=(1,), penalties=(100.0,))
    assert model.weights["superb"] > 0 > model.weights["dull"]
    p = model.log_probabilities(["a superb film", "film a superb", "dull film", ""])
    np.testing.assert_allclose(np.exp(p).sum(-1), 1)
    np.testing.assert_array_equal(p[0], p[1])
    assert p[0, 1] > p[0, 0]
    assert p[2, 0] > p[2, 1]
    pairs = bag_of_words.fit(TEXTS, LABELS, TEXTS, LABELS, phrases=(2,), penalties=(100.0,))
    assert pairs.weights["not superb"] < 0


def test_validation_chooses_and_of_equals_takes_the_first():
    model = bag_of_words.fit(
        TEXTS, LABELS, ["dull", "superb"], [0, 1], penalties=(1e-6, 100.0, 1e3)
    )
    assert (model.phrase, model.penalty) == (1, 100.0)


def test_a_bag_of_three_classes_has_a_column_each():
    model = bag_of_words.fit(["a", "bb", "cc"], [0, 1, 2], ["bb"], [1], phrases=(1,))
    assert model.log_probabilities(["cc", "bb"]).shape == (2, 3)
    assert model.weights["cc"] > 0


def test_bad_corpora_are_refused():
    with pytest.raises(ValueError, match="labels: got class 1 only, expected several"):
        bag_of_words.fit(["a", "b"], [1, 1], ["a"], [1])
    with pytest.raises(ValueError, match="texts: got none, expected at least one"):
        bag_of_words.fit([], [], ["a"], [1])
    with pytest.raises(ValueError, match="validation_texts: got none"):
        bag_of_words.fit(TEXTS, LABELS, [], [])


def test_rules_turn_and_strengthen_the_words_of_a_list():
    lexicon = "good\t1.9\t0.9\t[2, 2]\nbad\t-2.5\n"
    good, very, negated, bad, loud, nothing = word_list_rules.compounds(
        lexicon,
        ["a good film", "a very good film", "not a good film", "bad", "a good film!!!", "a film"],
    )
    assert very > good > 0 > negated
    assert bad < 0
    assert loud > good
    assert nothing == 0
    for text, message in (
        ("  \n", "lexicon: got no word"),
        ("good\n", "lexicon: got 'good' in line 1"),
        ("bad\t-1\ngood\tx", "in line 2, expected a word and its strength"),
    ):
        with pytest.raises(ValueError, match=message):
            word_list_rules.compounds(text, ["good"])
