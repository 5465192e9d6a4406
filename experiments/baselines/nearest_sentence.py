"""Translation from memory: what stood beside the most similar sentence that was learned from."""

from collections.abc import Sequence

import numpy as np


def translate(sources: Sequence[str], targets: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Of each text the target of the nearest source, by the cosine of TF-IDF of words and pairs.

    Args:
        sources: Sentences to learn from.
        targets: Their translations.
        texts: What is translated.

    Raises:
        ValueError: There are not as many sources as targets.
    """
    if len(sources) != len(targets):
        raise ValueError(
            f"sources: got {len(sources)} and {len(targets)} targets, expected as many"
        )
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectoriser = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+")
    known = vectoriser.fit_transform(sources)
    nearest = (vectoriser.transform(texts) @ known.T).toarray().argmax(axis=1)
    places: list[int] = np.asarray(nearest).tolist()
    return [targets[place] for place in places]
