import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnjax.text.vocabulary import Vocabulary, from_counts, from_json, from_tokens

texts = st.text(min_size=1, max_size=50)


@given(texts)
def test_a_text_of_known_tokens_comes_back(text: str):
    vocabulary = from_tokens(text)
    ids = vocabulary.encode(text)
    assert ids.dtype == np.int32
    assert "".join(vocabulary.decode(ids)) == text
    assert vocabulary.unknown_rate(text) == 0


@given(texts, st.text(max_size=50))
def test_a_text_is_encoded_as_the_list_of_its_characters(corpus: str, text: str):
    vocabulary = from_tokens(corpus, maximum_size=6, begin="<s>")
    np.testing.assert_array_equal(vocabulary.encode(text), vocabulary.encode(list(text)))


@given(st.dictionaries(texts, st.integers(1, 5), min_size=1), st.integers(3, 9), st.integers(1, 4))
def test_the_most_frequent_tokens_are_kept_whatever_order_they_were_counted_in(
    counts: dict[str, int], size: int, minimum: int
):
    vocabulary = from_counts(counts, maximum_size=size, minimum_count=minimum, padding="<pad>")
    backwards = from_counts(
        dict(reversed(counts.items())), maximum_size=size, minimum_count=minimum, padding="<pad>"
    )
    assert vocabulary == backwards
    assert len(vocabulary) <= size
    assert vocabulary.tokens[:2] == ("<pad>", "<unk>")
    kept = vocabulary.tokens[2:]
    assert all(counts[token] >= minimum for token in kept)
    left = [token for token in counts if counts[token] >= minimum and token not in kept]
    assert not left or len(vocabulary) == size
    assert max((counts[token] for token in left), default=0) <= min(
        (counts[token] for token in kept), default=minimum
    )
    assert list(kept) == sorted(kept, key=lambda token: (-counts[token], token))


@given(st.lists(texts, min_size=1))
def test_json_returns_the_same_vocabulary(tokens: list[str]):
    vocabulary = from_tokens(tokens, begin="<s>", end="</s>")
    assert from_json(vocabulary.to_json()) == vocabulary


def test_unknown_and_special_tokens():
    vocabulary = from_counts(
        Counter(["the", "cat", "the", "dog", "<unk>"]),
        maximum_size=5,
        padding="<pad>",
        begin="<s>",
        end="</s>",
    )
    assert vocabulary.tokens == ("<pad>", "<unk>", "<s>", "</s>", "the")
    ids = (vocabulary.padding_id, vocabulary.unknown_id, vocabulary.begin_id, vocabulary.end_id)
    assert ids == (0, 1, 2, 3)
    assert vocabulary.encode(["<s>", "the", "<unk>", "cat"]).tolist() == [2, 4, 1, 1]
    assert vocabulary.unknown_rate(["the", "cat", "the", "dog"]) == 0.5
    assert vocabulary.decode([]) == []


def test_a_vocabulary_can_be_a_static_argument():
    assert hash(from_tokens("ab")) == hash(from_tokens("ab"))
    assert from_tokens("ab") != from_tokens("abc")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: from_tokens(""), "corpus: got no tokens"),
        (lambda: from_tokens("ab", maximum_size=1), "maximum_size: got 1, expected more than"),
        (lambda: Vocabulary(("a",)), "'<unk>' is missing"),
        (lambda: Vocabulary(("<unk>", "a", "a")), "got 'a' more than once"),
        (lambda: from_tokens("ab", begin="<unk>"), "<unk>"),
        (lambda: from_tokens("ab").begin_id, "begin: this vocabulary has no begin token"),
        (lambda: from_tokens("ab").unknown_rate([]), "tokens: got none"),
        (lambda: from_tokens("ab").decode([0, 3]), "from 0 to 3, expected 0..2"),
        (lambda: from_tokens("ab").decode([-1]), "from -1 to -1, expected 0..2"),
        (lambda: from_tokens("ab").decode([0.0]), "dtype float64, expected an integer"),
        (lambda: from_tokens("ab").decode([[0]]), "got shape (1, 1), expected one axis"),
    ],
)
def test_bad_input_is_refused_in_one_line(build, message: str):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        build()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


GOOD = json.loads(from_tokens("ab").to_json())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "got JSON with format None"),
        (json.dumps({"format": "other"}), "got JSON with format 'other'"),
        (json.dumps({**GOOD, "more": 1}), "got fields"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "end"}), "got fields"),
        (json.dumps({**GOOD, "tokens": ["<unk>", 3]}), "not a list of strings"),
        (json.dumps({**GOOD, "tokens": ["a"]}), "'<unk>' is missing"),
        (json.dumps({**GOOD, "unknown": None}), "expected strings or null"),
        (GOOD and from_tokens("ab").to_json()[:-9], "not JSON"),
    ],
)
def test_bad_or_foreign_json_is_refused(text: str, message: str):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        from_json(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
