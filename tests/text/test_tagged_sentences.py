import numpy as np
import pytest

from rnnjax.text.tagged_sentences import (
    encode_sentences,
    evaluation_batches,
    shortened,
    stack_sentences,
    tagged_batches,
)
from rnnjax.text.vocabulary import from_tokens

LABELS = ("O", "B-X", "I-X")
SENTENCES = [["a", "Bb", "a"], ["ccc"], ["a", "d", "Bb", "a", "ccc"], ["d", "d"], ["Bb"] * 4]
TAGS = [["O", "B-X", "I-X"], ["O"], ["B-X", "O", "O", "O", "B-X"], ["O", "O"], ["B-X"] * 4]
WORDS = from_tokens([word.lower() for sentence in SENTENCES for word in sentence])
CHARACTERS = from_tokens("".join(word for sentence in SENTENCES for word in sentence))


@pytest.fixture(scope="module")
def encoded():
    return encode_sentences(
        SENTENCES, TAGS, WORDS, LABELS, CHARACTERS, normalise=str.lower, longest_word=4
    )


def read_back(batch):
    """The sentences of a batch, from its words, from its spellings and from its tags."""
    words, lengths, spellings = batch.inputs
    spelled = [
        "".join(CHARACTERS.decode(spellings.characters[:length, column]))
        for column, length in enumerate(spellings.lengths)
    ]
    return [
        (
            WORDS.decode(words[:length, row]),
            [spelled[place] for place in spellings.of_words[:length, row]],
            [LABELS[tag] for tag in batch.tags[:length, row]],
        )
        for row, length in enumerate(lengths)
        if length
    ]


def expected(places):
    return [([w.lower() for w in SENTENCES[i]], SENTENCES[i], TAGS[i]) for i in places]


def test_a_batch_holds_its_sentences_and_each_distinct_word_once(encoded):
    batch = stack_sentences(encoded, [2, 0], steps=6, batch_size=3)
    assert read_back(batch) == expected([2, 0])
    assert batch.inputs.words.shape == batch.tags.shape == (6, 3)
    assert batch.inputs.spellings is not None
    lengths = np.asarray(batch.inputs.spellings.lengths)
    assert sorted(lengths[lengths > 0]) == [1, 1, 2, 3]  # a, d, Bb, ccc
    assert not batch.inputs.words[5:].any()
    assert not batch.tags[:, 2].any()


def test_an_epoch_has_every_sentence_once_and_epochs_differ(encoded):
    batches = tagged_batches(encoded, batch_size=2)
    rows = [[row for batch in batches.epoch(e) for row in read_back(batch)] for e in range(3)]
    for epoch in rows:
        assert sorted(epoch) == sorted(expected(range(5)))
    assert rows[0] != rows[1] or rows[1] != rows[2]
    np.testing.assert_array_equal(batches(4).tags, batches.make(1, 1).tags)


def test_evaluation_visits_every_sentence_once(encoded):
    members = evaluation_batches(encoded, batch_size=2)
    assert sorted(place for places, _ in members for place in places) == list(range(5))
    for places, steps in members:
        assert read_back(stack_sentences(encoded, places, steps, 2)) == expected(places)


def test_only_rare_words_become_unknown_at_the_given_rate_and_keep_their_spelling(encoded):
    rare = np.asarray([token in ("d", "ccc") for token in WORDS.tokens])
    options = {"rare": rare, "unknown_id": WORDS.unknown_id, "unknown_rate": 0.5, "seed": 3}
    batches = tagged_batches(encoded, batch_size=5, **options)
    counts = {token: [0, 0] for token in ("a", "bb", "ccc", "d")}
    for epoch in range(200):
        (batch,) = batches.epoch(epoch)
        for words, spelled, _ in read_back(batch):
            for word, spelling in zip(words, spelled, strict=True):
                assert word in (spelling.lower(), "<unk>")
                counts[spelling.lower()][word == "<unk>"] += 1
    for token, (kept, lost) in counts.items():
        share = lost / (kept + lost)
        assert share == 0 if token in ("a", "bb") else 0.4 < share < 0.6
    np.testing.assert_array_equal(batches(7).inputs.words, batches(7).inputs.words)


def test_long_words_keep_their_ends():
    assert shortened("abc", 3) == "abc"
    assert shortened("abcdefg", 3) == "abg"
    assert shortened("abcdefg", 4) == "abfg"
    assert shortened("abc", 1) == "a"
    longest = encode_sentences([["x" * 9 + "d"]], None, WORDS, LABELS, CHARACTERS, longest_word=4)
    assert longest.character_lengths is not None
    assert longest.characters is not None
    assert longest.character_lengths.tolist() == [4]
    assert CHARACTERS.decode(longest.characters[:, 0]) == ["<unk>"] * 3 + ["d"]


def test_without_characters_there_are_no_spellings():
    plain = encode_sentences(SENTENCES, TAGS, WORDS, LABELS)
    assert stack_sentences(plain, [0], 4, 1).inputs.spellings is None


def test_bad_sentences_are_refused():
    for sentences, tags, message in (
        ([["a"], []], None, "sentences: number 1 is empty"),
        ([["a", ""]], None, "sentences: number 0 is empty or has an empty word"),
        ([["a", "d"]], [["O"]], "tags: got 1 for the 2 words of sentence 0"),
        ([["a"]], [["B-Y"]], "tags: got 'B-Y', expected one of O, B-X, I-X"),
    ):
        with pytest.raises(ValueError, match=message):
            encode_sentences(sentences, tags, WORDS, LABELS)
    encoded = encode_sentences(SENTENCES, TAGS, WORDS, LABELS)
    with pytest.raises(ValueError, match="unknown_rate: got 1, expected 0 ≤ unknown_rate < 1"):
        tagged_batches(encoded, batch_size=2, unknown_rate=1)
    with pytest.raises(ValueError, match="expected at most 2 steps"):
        stack_sentences(encoded, [0], 2, 1)
