"""What a text is by a list of words with strengths, and rules: VADER, which learns nothing.

The rules (negation, "very", "but", capitals, exclamation marks) are NLTK's implementation; the
word list comes with the data.
"""

from collections.abc import Sequence

import numpy as np


def compounds(lexicon: str, texts: Sequence[str]) -> np.ndarray:
    """How favourable each text is, −1 … 1; 0 where no word of the list is in it.

    Args:
        lexicon: a line is a word and its strength, by a tab; further fields are not read.
        texts: as they are written: capitals and marks count.

    Returns:
        `(N,)` float64.

    Raises:
        ValueError: the lexicon is empty, or a line of it has no strength.

    References:
        Hutto and Gilbert (2014), "VADER: a parsimonious rule-based model for sentiment analysis of
        social media text", ICWSM.
    """
    from nltk.sentiment.vader import SentimentIntensityAnalyzer, VaderConstants

    strengths: dict[str, float] = {}
    for number, line in enumerate(lexicon.strip().splitlines(), start=1):
        word, *fields = line.strip().split("\t")
        try:
            strengths[word] = float(fields[0])
        except (IndexError, ValueError):
            raise ValueError(
                f"lexicon: got {line[:40]!r} in line {number}, expected a word and its strength"
            ) from None
    if not strengths:
        raise ValueError("lexicon: got no word, expected at least one")
    # Its own constructor reads the list from a file, and refuses files outside NLTK's folders.
    analyzer = SentimentIntensityAnalyzer.__new__(SentimentIntensityAnalyzer)
    analyzer.lexicon, analyzer.constants = strengths, VaderConstants()
    return np.asarray([analyzer.polarity_scores(text)["compound"] for text in texts])
