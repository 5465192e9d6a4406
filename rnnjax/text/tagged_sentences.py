"""Sentences with a tag a word, as padded batches in which each distinct word is spelled once.

A tagger reads a word as a whole and letter by letter. A word that comes several times in a batch is
spelled once, so that a network over characters runs over the distinct words of a batch, W of them,
and not over its T·B places.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import jax
import numpy as np

from rnnjax.layers.checks import check_size
from rnnjax.layers.dropout import check_rate
from rnnjax.text.batches import Batches, Members, batches_by_length, pad
from rnnjax.text.vocabulary import Vocabulary


class Spellings(NamedTuple):
    """W distinct words letter by letter, and where they stand."""

    characters: np.ndarray | jax.Array  # (C, W) int32, 0 past a word's length
    lengths: np.ndarray | jax.Array  # (W,) int32
    of_words: np.ndarray | jax.Array  # (T, *B) int32, 0 … W−1, which of them stands at a place


class TaggerInputs(NamedTuple):
    """What a tagger reads."""

    words: np.ndarray | jax.Array  # (T, *B) int32
    lengths: np.ndarray | jax.Array  # (*B,) int32
    spellings: Spellings | None  # None for a tagger without character features


class TaggedBatch(NamedTuple):
    """B sentences side by side and their tags; missing rows have length 0."""

    inputs: TaggerInputs
    tags: np.ndarray | jax.Array  # (T, *B) int32, 0 past a sentence's length


class TaggedSentences(NamedTuple):
    """N sentences as ids."""

    words: tuple[np.ndarray, ...]  # each (n,) int32
    tags: tuple[np.ndarray, ...]  # each (n,) int32
    spelled: tuple[np.ndarray, ...] | None  # each (n,) int32, places in `characters`
    characters: np.ndarray | None  # (C, U) int32, the U distinct words
    character_lengths: np.ndarray | None  # (U,) int32

    @property
    def lengths(self) -> np.ndarray:
        """Words of each sentence, `(N,)` int64."""
        return np.asarray([len(row) for row in self.words], np.int64)


def shortened(word: str, longest: int) -> str:
    """The word, or the beginning and the end of a longer one: ⌈C/2⌉ and ⌊C/2⌋ characters.

    What tells a name is at the ends of a word; the middle of a web address is not missed.
    """
    if len(word) <= longest:
        return word
    return word[: longest - longest // 2] + word[len(word) - longest // 2 :]


def encode_sentences(
    sentences: Sequence[Sequence[str]],
    tags: Sequence[Sequence[str]] | None,
    vocabulary: Vocabulary,
    labels: Sequence[str],
    characters: Vocabulary | None = None,
    *,
    normalise: Callable[[str], str] = str,
    longest_word: int = 20,
) -> TaggedSentences:
    """Sentences of words, and tags, as ids.

    Args:
        sentences: N lists of at least one word.
        tags: N lists as long; None makes all of them 0.
        vocabulary: Of normalised words.
        labels: K tags in the order of their ids.
        characters: Of the words as they are spelled; None for a tagger that reads none.
        normalise: What the vocabulary has of a word, such as `str.lower`.
        longest_word: C; longer words are `shortened`.

    Raises:
        ValueError: A sentence or a word is empty, has another number of tags than words, or a tag
            that is not among the labels.
    """
    check_size("longest_word", longest_word)
    numbers = {label: place for place, label in enumerate(labels)}
    distinct: dict[str, int] = {}
    words, tag_ids, spelled = [], [], []
    for index, sentence in enumerate(sentences):
        if not sentence or not all(sentence):
            raise ValueError(f"sentences: number {index} is empty or has an empty word")
        row = [labels[0]] * len(sentence) if tags is None else tags[index]
        if len(row) != len(sentence):
            raise ValueError(
                f"tags: got {len(row)} for the {len(sentence)} words of sentence {index}"
            )
        unknown = [tag for tag in row if tag not in numbers]
        if unknown:
            raise ValueError(f"tags: got {unknown[0]!r}, expected one of {', '.join(labels)}")
        words.append(vocabulary.encode([normalise(word) for word in sentence]))
        tag_ids.append(np.asarray([numbers[tag] for tag in row], np.int32))
        spelled.append(
            np.asarray([distinct.setdefault(word, len(distinct)) for word in sentence], np.int32)
        )
    if characters is None:
        return TaggedSentences(tuple(words), tuple(tag_ids), None, None, None)
    table, lengths = pad(
        [characters.encode(shortened(word, longest_word)) for word in distinct], longest_word
    )
    return TaggedSentences(tuple(words), tuple(tag_ids), tuple(spelled), table, lengths)


def stack_sentences(
    sentences: TaggedSentences, places: Sequence[int] | np.ndarray, steps: int, batch_size: int
) -> TaggedBatch:
    """The sentences at some places as a batch, padded to T steps and B rows.

    The number of distinct words is rounded up to one of two, so that few shapes are compiled.

    Args:
        sentences: All of them.
        places: At most B.
        steps: T.
        batch_size: B.

    Raises:
        ValueError: As `rnnjax.text.batches.pad`.
    """
    words, lengths = pad([sentences.words[place] for place in places], steps, batch_size)
    tags, _ = pad([sentences.tags[place] for place in places], steps, batch_size)
    if sentences.spelled is None:
        return TaggedBatch(TaggerInputs(words, lengths, None), tags)
    assert sentences.characters is not None
    assert sentences.character_lengths is not None
    spelled, _ = pad([sentences.spelled[place] for place in places], steps, batch_size)
    valid = np.arange(steps)[:, None] < lengths
    distinct, inverse = np.unique(spelled[valid], return_inverse=True)
    width = _rounded_up(len(distinct), steps, batch_size)
    of_words = np.zeros_like(spelled)
    of_words[valid] = inverse
    characters = np.zeros((len(sentences.characters), width), np.int32)
    characters[:, : len(distinct)] = sentences.characters[:, distinct]
    character_lengths = np.zeros(width, np.int32)
    character_lengths[: len(distinct)] = sentences.character_lengths[distinct]
    spellings = Spellings(characters, character_lengths, of_words)
    return TaggedBatch(TaggerInputs(words, lengths, spellings), tags)


def tagged_batches(
    sentences: TaggedSentences,
    *,
    batch_size: int,
    growth: float = 2.0,
    seed: int = 0,
    rare: np.ndarray | None = None,
    unknown_id: int = 0,
    unknown_rate: float = 0.0,
) -> Batches:
    """Batches of sentences by their length, shuffled anew each epoch; `TaggedBatch` each.

    Words that the training text has once are its sample of words it does not have: with
    `unknown_rate` such a word becomes UNK at some of its places, and the vector of UNK is learned
    (Lample et al. 2016, section 4). Its spelling stays.

    Args:
        sentences: All of them.
        batch_size: B.
        growth: Of `rnnjax.text.batches.bucket_steps`.
        seed: Of the shuffling, and of what becomes UNK.
        rare: `(V,)` bool, True for words that may become UNK; None is none.
        unknown_id: The id of UNK.
        unknown_rate: How probable that is, 0 ≤ rate < 1.

    Raises:
        ValueError: There are no sentences, or a number is out of range.
    """
    check_rate("unknown_rate", unknown_rate)
    lengths = sentences.lengths

    @lru_cache(2)
    def members(epoch: int) -> list[Members]:
        return batches_by_length(lengths, batch_size, growth=growth, seed=seed, epoch=epoch)

    def make(epoch: int, index: int) -> TaggedBatch:
        places, steps = members(epoch)[index]
        batch = stack_sentences(sentences, places, steps, batch_size)
        if rare is None or unknown_rate == 0:
            return batch
        rng = np.random.default_rng([seed, epoch, index])
        words = np.asarray(batch.inputs.words)
        becomes = rare[words] & (rng.random(words.shape) < unknown_rate)
        words = np.where(becomes, np.int32(unknown_id), words)
        return batch._replace(inputs=batch.inputs._replace(words=words))

    return Batches(len(members(0)), make)


def evaluation_batches(
    sentences: TaggedSentences, *, batch_size: int, growth: float = 3.0
) -> list[Members]:
    """Which sentences stand in which batch, like lengths together, for one pass of evaluation.

    Args:
        sentences: All of them.
        batch_size: B.
        growth: Of `rnnjax.text.batches.bucket_steps`.

    Raises:
        ValueError: There are no sentences, or a number is out of range.
    """
    return batches_by_length(sentences.lengths, batch_size, growth=growth)


def _rounded_up(count: int, steps: int, rows: int) -> int:
    """Two thirds of the places, which distinct words hardly ever exceed, or all of them.

    As many in each row, so that devices which share rows can share words too.
    """
    usual = rows * -(-2 * steps // 3)
    return usual if count <= usual else rows * steps
