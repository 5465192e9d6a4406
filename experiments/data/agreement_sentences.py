"""Sentences whose verb agrees with a subject k words back: "the cats which already ate … were".

    the SUBJECT [k − 1 words in between] was | were

What stands between is drawn without a look at the subject: every noun there is singular or plural
with equal probability, verbs are in the past tense, which has no number, and of each sentence the
test has both numbers. So nothing but the subject tells the verb, and who cannot remember it is
right half of the time.
"""

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

import numpy as np

NOUNS = (
    ("cat", "cats"), ("dog", "dogs"), ("bird", "birds"), ("horse", "horses"), ("girl", "girls"),
    ("boy", "boys"), ("farmer", "farmers"), ("teacher", "teachers"), ("doctor", "doctors"),
    ("friend", "friends"), ("apple", "apples"), ("cake", "cakes"),
)  # fmt: skip
TRANSITIVE = ("saw", "ate", "chased", "found", "liked", "heard", "followed", "painted")
INTRANSITIVE = ("slept", "sang", "waited", "jumped", "laughed", "worked")
PREPOSITIONS = ("near", "behind", "beside", "above", "under", "with")
ADVERBS = ("already", "often", "once", "never", "gladly", "slowly")
ADJECTIVES = ("old", "young", "small", "big", "quiet", "happy")

WORDS = (
    "the", "which", "and", *(form for forms in NOUNS for form in forms), *TRANSITIVE,
    *INTRANSITIVE, *PREPOSITIONS, *ADVERBS, *ADJECTIVES,
)  # fmt: skip
"""The vocabulary, a word an id; there is no other word."""

NUMBER_OF = {form: number for forms in NOUNS for number, form in enumerate(forms)}
"""Noun -> 0 singular, 1 plural."""

VERBS = ("was", "were")
"""What is to be told, by the number of the subject."""

SUBJECT = 1
"""The place of the subject in a sentence, 0 being the first."""

_IDS = {word: index for index, word in enumerate(WORDS)}


class Sentences(NamedTuple):
    """N sentences without their verbs, padded to T."""

    tokens: np.ndarray  # (T, N) int32
    lengths: np.ndarray  # (N,) int32: k + 1
    verbs: np.ndarray  # (N,) int32: 0 was, 1 were


def words_between(rng: Random, count: int) -> list[str]:
    """As many words to stand between subject and verb; grammatical after either number.

    Args:
        rng: What they are drawn from.
        count: k − 1.

    Raises:
        ValueError: The count is negative.
    """
    if count < 0:
        raise ValueError(f"count: got {count}, expected at least 0")
    if count == 0:
        return []
    if count == 1:
        return [rng.choice(ADVERBS)]
    if count <= 3:
        return ["which", *_some(rng, ADVERBS, count - 2), rng.choice(INTRANSITIVE)]
    sizes, rest = [], count - 4
    while rest >= 3:
        sizes.append(rng.choice([size for size in (3, 4, 4, 5) if size <= rest]))
        rest -= sizes[-1]
    words = ["which", *_some(rng, ADVERBS, rest > 0), rng.choice(TRANSITIVE)]
    words += _object(rng, with_adjective=rest > 1)
    for size in sizes:
        is_clause = size == 5 or (size == 4 and rng.random() < 0.5)
        begin = ["and", rng.choice(TRANSITIVE)] if is_clause else [rng.choice(PREPOSITIONS)]
        words += [*begin, *_object(rng, with_adjective=size - len(begin) == 3)]
    return words


def draw_pair(rng: Random, distance: int) -> tuple[list[str], list[str]]:
    """A sentence up to its verb, with a singular and with a plural subject; else the same words.

    Args:
        rng: What the words are drawn from.
        distance: k, from the subject to the verb; 1 is side by side.

    Raises:
        ValueError: The distance is below 1.
    """
    if distance < 1:
        raise ValueError(f"distance: got {distance}, expected at least 1")
    singular, plural = rng.choice(NOUNS)
    between = words_between(rng, distance - 1)
    return ["the", singular, *between], ["the", plural, *between]


def draw_sentences(rng: Random, distances: list[int], time_steps: int) -> Sentences:
    """A sentence of each distance, of either number with equal probability.

    Raises:
        ValueError: A distance is below 1, or its sentence longer than `time_steps`.
    """
    numbers = [rng.randrange(2) for _ in distances]
    drawn = [
        draw_pair(rng, distance)[number]
        for number, distance in zip(numbers, distances, strict=True)
    ]
    return encoded(drawn, numbers, time_steps)


def draw_pairs(rng: Random, distances: list[int], time_steps: int) -> Sentences:
    """Two sentences of each distance, singular and plural, one beside the other: N is even.

    Raises:
        ValueError: As `draw_sentences`.
    """
    drawn = [sentence for distance in distances for sentence in draw_pair(rng, distance)]
    return encoded(drawn, [0, 1] * len(distances), time_steps)


def encoded(sentences: list[list[str]], numbers: list[int], time_steps: int) -> Sentences:
    """Sentences as ids, padded with 0.

    Raises:
        ValueError: A word is not in the vocabulary, or a sentence is longer than `time_steps`.
    """
    tokens = np.zeros((time_steps, len(sentences)), np.int32)
    for row, words in enumerate(sentences):
        unknown = [word for word in words if word not in _IDS]
        if unknown:
            raise ValueError(f"sentence: got {unknown[0]!r}, expected words of {', '.join(WORDS)}")
        if not 1 <= len(words) <= time_steps:
            raise ValueError(f"sentence: got {len(words)} words, expected 1 … {time_steps}")
        tokens[: len(words), row] = [_IDS[word] for word in words]
    lengths = np.asarray([len(words) for words in sentences], np.int32)
    return Sentences(tokens, lengths, np.asarray(numbers, np.int32))


def sentences_as_words(sentences: Sentences) -> Iterator[list[str]]:
    """The words of each sentence."""
    for row, length in zip(sentences.tokens.T, sentences.lengths, strict=True):
        yield [WORDS[token] for token in row[:length]]


def _some(rng: Random, words: tuple[str, ...], count: int) -> list[str]:
    return [rng.choice(words) for _ in range(count)]


def _object(rng: Random, *, with_adjective: bool) -> list[str]:
    return ["the", *_some(rng, ADJECTIVES, with_adjective), rng.choice(rng.choice(NOUNS))]
