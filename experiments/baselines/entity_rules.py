"""Named entities without a neural net: a list of words, and a linear model of made features."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from experiments.data.tagged_rows import Sentence
from rnnjax.text.bio import OUTSIDE, repair_bio


def most_frequent_tags(train: Sequence[Sentence]) -> dict[str, str]:
    """The tag that each word has most often in training text: a gazetteer of one-word entries."""
    counts = defaultdict[str, Counter[str]](Counter)
    for sentence in train:
        for token, tag in zip(sentence.tokens, sentence.tags, strict=True):
            counts[token][tag] += 1
    return {token: of_token.most_common(1)[0][0] for token, of_token in counts.items()}


def tag_by_word(table: dict[str, str], tokens: Sequence[str]) -> list[str]:
    """The most frequent tag of each word, O of an unknown one, mended to be well-formed."""
    return repair_bio([table.get(token, OUTSIDE) for token in tokens])


class LinearTagger(NamedTuple):
    """A softmax over the tags of a word, linear in features of it and its neighbours."""

    vectorizer: Any
    classifier: Any


def fit_linear(train: Sequence[Sentence], *, seed: int = 0) -> LinearTagger:
    """Logistic regression of each tag against the others, by stochastic gradients, averaged.

    Each word is tagged by itself, with two words to either side in sight; its features are those
    usual before neural nets (Tjong Kim Sang and De Meulder 2003, section 4): the word, its ends,
    its shape, and the words around it.

    Args:
        train: sentences.
        seed: of the order in which examples are visited.
    """
    from sklearn.feature_extraction import FeatureHasher
    from sklearn.linear_model import SGDClassifier

    hasher = FeatureHasher(2**20, input_type="string")
    rows = (row for sentence in train for row in features(sentence.tokens))
    tags = [tag for sentence in train for tag in sentence.tags]
    passes: dict[str, Any] = {"max_iter": 6, "tol": None}  # all of them, whatever the loss does
    classifier = SGDClassifier(
        loss="log_loss", alpha=1e-6, average=True, random_state=seed, **passes
    )
    classifier.fit(hasher.transform(rows), tags)
    return LinearTagger(hasher, classifier)


def tag_linear(model: LinearTagger, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
    """The likeliest tag of each word, mended to be well-formed."""
    rows = (row for tokens in sentences for row in features(tokens))
    found = model.classifier.predict(model.vectorizer.transform(rows)).tolist()
    result, begin = [], 0
    for tokens in sentences:
        result.append(repair_bio(found[begin : begin + len(tokens)]))
        begin += len(tokens)
    return result


def features(tokens: Sequence[str]) -> Iterator[list[str]]:
    """What the linear model is told of each word."""
    words = ["<s>", "<s>", *tokens, "</s>", "</s>"]
    for place in range(2, len(words) - 2):
        word = words[place]
        lower = word.lower()
        row = ["bias", f"w={word}", f"lower={lower}", f"shape={shape(word)}"]
        row += [f"begin={lower[:n]}" for n in (1, 2, 3, 4) if len(lower) > n]
        row += [f"end={lower[-n:]}" for n in (1, 2, 3, 4) if len(lower) > n]
        for offset in (-2, -1, 1, 2):
            beside = words[place + offset]
            row += [f"{offset}:{beside.lower()}", f"{offset}:shape={shape(beside)}"]
        row += [
            f"-1,0:{words[place - 1].lower()} {lower}",
            f"0,1:{lower} {words[place + 1].lower()}",
        ]
        yield row


def shape(word: str) -> str:
    """Kinds of characters, repeated ones once: "Harry" is Xx, "McDonald's" XxXx'x, "B52" X0."""
    kinds = re.sub(r"[^\W\d_]", lambda match: "X" if match[0].isupper() else "x", word)
    return re.sub(r"(.)\1+", r"\1", re.sub(r"\d", "0", kinds))
