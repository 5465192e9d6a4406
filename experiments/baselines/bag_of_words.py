"""What a text is by which words are in it, whatever their order: logistic regression."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnnjax.text.tokenisers import lower_case_words

PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Values tried of C, the inverse of the penalty on squared weights."""


@dataclass(frozen=True)
class BagOfWords:
    """A fitted model.

    Attributes:
        phrase: words of the longest phrase that counts as one feature: 1, or 2 for pairs too.
        penalty: the C chosen.
        log_probabilities: `(texts) -> (N, K)`, a column a class of the training labels, ascending.
        weights: feature -> weight, for two classes that of the second one, else of the last.
    """

    phrase: int
    penalty: float
    log_probabilities: Callable[[Sequence[str]], np.ndarray]
    weights: dict[str, float]


def fit(
    texts: Sequence[str],
    labels: Sequence[int],
    validation_texts: Sequence[str],
    validation_labels: Sequence[int],
    *,
    phrases: Sequence[int] = (1, 2),
    penalties: Sequence[float] = PENALTIES,
) -> BagOfWords:
    """The model that is right most often on the validation part; of equals the first one.

    P(y | x) = softmax(Σ_w tf-idf(w, x) · θ_w + b), with (1 + ln count) · ln((1 + N) / (1 + df)) + 1
    scaled to unit length, as scikit-learn has it; words are those of
    `rnnjax.text.tokenisers.lower_case_words`.

    Args:
        texts: of the training part.
        labels: their classes.
        validation_texts: what decides between the models.
        validation_labels: their classes.
        phrases: longest phrases to try: 1 is words, 2 words and pairs.
        penalties: values of C to try.

    Raises:
        ValueError: there is no text, or the training labels are of one class.

    References:
        Wang and Manning (2012), "Baselines and bigrams", ACL: how far such models go.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    for name, given in (("texts", texts), ("validation_texts", validation_texts)):
        if len(given) == 0:
            raise ValueError(f"{name}: got none, expected at least one")
    if len(set(labels)) < 2:
        raise ValueError(f"labels: got class {labels[0]} only, expected several")
    best: tuple[float, Any] = (-1.0, None)
    for phrase in phrases:
        vectors = TfidfVectorizer(
            tokenizer=lower_case_words,
            token_pattern=None,  # pyright: ignore[reportArgumentType]  # else it warns of it
            lowercase=False,
            ngram_range=(1, phrase),
            sublinear_tf=True,
        )
        train, held_out = vectors.fit_transform(texts), vectors.transform(validation_texts)
        for penalty in penalties:
            model = LogisticRegression(C=penalty, max_iter=1000).fit(train, labels)
            accuracy = model.score(held_out, validation_labels)
            if accuracy > best[0]:
                best = (accuracy, (vectors, model, phrase, penalty))
    vectors, model, phrase, penalty = best[1]
    names = vectors.get_feature_names_out().tolist()
    return BagOfWords(
        phrase=phrase,
        penalty=penalty,
        log_probabilities=lambda given: model.predict_log_proba(vectors.transform(given)),
        weights=dict(zip(names, model.coef_[-1].tolist(), strict=True)),
    )
