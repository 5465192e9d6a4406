import numpy as np
import pytest
from nltk.translate import AlignedSent, IBMModel1

from experiments.baselines import nearest_sentence, word_by_word

ENGLISH = ["the house", "the book", "a book", "a small house , the small book"]
GERMAN = ["das Haus", "das Buch", "ein Buch", "ein kleines Haus , das kleine Buch"]


def test_probabilities_are_those_of_nltk():
    lexicon = word_by_word.fit(ENGLISH, GERMAN, iterations=4)
    # Its `words` is what is generated, its `mots` what generates.
    pairs = [AlignedSent(g.split(), e.split()) for e, g in zip(ENGLISH, GERMAN, strict=True)]
    theirs = IBMModel1(pairs, 4).translation_table
    assert len(lexicon.probabilities) > 20
    for s, t, p in zip(lexicon.source_ids, lexicon.target_ids, lexicon.probabilities, strict=True):
        source = lexicon.sources[s] or None
        assert p == pytest.approx(theirs[lexicon.targets[t]][source], rel=1e-6)
    totals = np.bincount(lexicon.source_ids, lexicon.probabilities)
    np.testing.assert_allclose(totals, 1, rtol=1e-12)


def test_each_word_is_translated_where_it_stands():
    lexicon = word_by_word.fit(ENGLISH, GERMAN)
    assert word_by_word.translate(lexicon, ["a house! the zoo", ""]) == ["ein Haus! das zoo", ""]
    with pytest.raises(ValueError, match="got 2 and 1 targets"):
        word_by_word.fit(["a", "b"], ["c"])


def test_the_nearest_sentence_is_found():
    texts = ["the small house", "some book"]
    found = nearest_sentence.translate(ENGLISH[:3], GERMAN[:3], texts)
    assert found == ["das Haus", "das Buch"]
    with pytest.raises(ValueError, match="got 1 and 0 targets"):
        nearest_sentence.translate(["a"], [], texts)
