"""A trained translator at work: pairs of sentences, how they are translated, and how well."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.attention_pictures import AttentionMap, draw_attention
from experiments.subwords import Languages, decoded, encoded, pieces
from experiments.translation_pages import METRIC
from rnnjax.layers.checks import check_size
from rnnjax.models.encoder_decoder import (
    EncoderDecoderConfig,
    EncoderDecoderParams,
    TranslationBatch,
    attention_weights,
    translate_greedily,
)
from rnnjax.models.encoder_decoder import translate as translate_by_beam
from rnnjax.text.batches import Batches, Members, batches_by_length, pad

ROWS_AT_A_TIME = 128  # sentences decoded in one call
STEPS_AT_A_TIME = 64  # to a multiple of which their Tx is rounded up, so that little is compiled
LENGTH_OF_SOURCE = 1.5  # a translation is cut off at so many sub-words for each of that Tx
BIN = 5  # words of a source, in BLEU by length
LEAST_IN_BIN = 20  # sentences
MAPS, MAP_WORDS = 4, (6, 12)  # sentences whose attention is drawn, and how long these are


class Pairs(NamedTuple):
    """Sentences of one split and their translations."""

    sources: list[str]
    targets: list[str]


@dataclass(frozen=True)
class Decoding:
    """How a translation is found.

    Attributes:
        beam_width: K; 1 is greedy search.
        length_exponent: The α of log P ÷ Ty^α, by which finished hypotheses are compared; 0
            compares them by log P, which favours the short.
    """

    beam_width: int = 5
    length_exponent: float = 0.7

    @property
    def name(self) -> str:
        """What a table calls it."""
        if self.beam_width == 1:
            return "greedy"
        return f"beam of {self.beam_width}, α = {self.length_exponent:g}"


GREEDY = Decoding(1)


def check_decoding(decoding: Decoding) -> None:
    """Raise ValueError unless the beam has a width and the exponent is not negative."""
    check_size("beam_width", decoding.beam_width)
    if not decoding.length_exponent >= 0:
        raise ValueError(f"length_exponent: got {decoding.length_exponent}, expected at least 0")


def of_words(pairs: Pairs, longest: int) -> Pairs:
    """The pairs whose sides have at most so many words."""
    kept = [
        texts
        for texts in zip(*pairs, strict=True)
        if all(len(text.split()) <= longest for text in texts)
    ]
    return Pairs([source for source, _ in kept], [target for _, target in kept])


def thinned(pairs: Pairs, count: int) -> Pairs:
    """At most so many, evenly spaced."""
    places = np.unique(np.linspace(0, len(pairs.sources) - 1, count).astype(int)).tolist()
    return Pairs(*([texts[place] for place in places] for texts in pairs))


def pair_batches(
    languages: Languages,
    pairs: Pairs,
    batch_size: int,
    growth: float,
    *,
    shortest: int = 1,
    longest: int | None = None,
    seed: int = 0,
) -> Batches:
    """Like lengths together, shuffled anew each epoch; both sides are padded to one T.

    That of the longer side: so there are as many shapes to compile as values of T.

    Args:
        languages: The sub-words.
        pairs: The pairs.
        batch_size: B.
        growth: As of `bucket_steps`.
        shortest: The smallest T.
        longest: Pairs of more sub-words on a side are left out; None leaves out none.
        seed: Of the shuffling.

    Raises:
        ValueError: No pair is left.
    """
    sides = [encoded(one, texts) for one, texts in zip(languages, pairs, strict=True)]
    lengths = np.asarray([max(map(len, pair)) for pair in zip(*sides, strict=True)])
    kept = np.flatnonzero(lengths <= (np.inf if longest is None else longest))
    if not kept.size:
        raise ValueError(f"longest: got {longest}, but no pair has as few sub-words")
    rounded = np.maximum(lengths[kept], shortest)

    @lru_cache(2)
    def members(epoch: int) -> list[Members]:
        return batches_by_length(rounded, batch_size, growth=growth, seed=seed, epoch=epoch)

    def make(epoch: int, index: int) -> TranslationBatch:
        places, steps = members(epoch)[index]
        sources, targets = (
            pad([side[place] for place in kept[places]], steps, batch_size) for side in sides
        )
        weights = (np.arange(batch_size) < len(places)).astype(np.float32)
        return TranslationBatch(*sources, *targets, weights)

    return Batches(-(-len(kept) // batch_size), make)


class Translator(NamedTuple):
    """A model, its parameters, what their ids stand for, and how its recurrences are run."""

    model: EncoderDecoderConfig
    params: EncoderDecoderParams
    languages: Languages
    plan: str


class Written(NamedTuple):
    """What was written of N texts, the best hypotheses of each, and how fast."""

    texts: list[list[str]]  # N of M
    scores: list[list[float]]  # log P ÷ Ty, nats a sub-word; none of greedy search
    tokens_per_second: float | None  # once compiled; None where each shape came once


def write(
    translator: Translator, texts: Sequence[str], decoding: Decoding, count: int = 1
) -> Written:
    """Translate texts, like lengths together."""
    languages = translator.languages
    sources = encoded(languages.source, texts)
    order = np.argsort([len(source) for source in sources], kind="stable")
    rows = min(ROWS_AT_A_TIME, len(sources))
    found: list[list[str]] = [[]] * len(sources)
    scores: list[list[float]] = [[]] * len(sources)
    compiled: set[int] = set()
    tokens, seconds = 0, 0.0
    for begin in range(0, len(order), rows):
        places = order[begin : begin + rows]
        steps = -(-len(sources[places[-1]]) // STEPS_AT_A_TIME) * STEPS_AT_A_TIME
        padded, lengths = pad([sources[place] for place in places], steps, rows)
        start = time.perf_counter()
        best, sizes, log_p = _best(translator, padded, lengths, decoding, count)
        if steps in compiled:
            tokens += int(sizes[: len(places), 0].sum())
            seconds += time.perf_counter() - start
        compiled.add(steps)
        for row, place in enumerate(places):
            found[place] = decoded(languages.target, best[:, row].T)
            scores[place] = (log_p[row] / sizes[row]).tolist() if log_p is not None else []
    return Written(found, scores, tokens / seconds if tokens else None)


def _best(
    translator: Translator,
    sources: np.ndarray,
    lengths: np.ndarray,
    decoding: Decoding,
    count: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Tokens `(length, N, M)`, lengths `(N, M)` and log P `(N, M)`, which greedy search has not."""
    model, params, _, plan = translator
    options: dict[str, Any] = {"length": int(LENGTH_OF_SOURCE * len(sources)), "plan": plan}
    if decoding.beam_width == 1 and count == 1:
        tokens, sizes = translate_greedily(model, params, sources, lengths, **options)
        return np.asarray(tokens)[..., None], np.asarray(sizes)[:, None], None
    found = translate_by_beam(
        model,
        params,
        sources,
        lengths,
        beam_width=decoding.beam_width,
        length_exponent=decoding.length_exponent,
        count=count,
        **options,
    )
    return np.asarray(found.tokens), np.asarray(found.lengths), np.asarray(found.log_probabilities)


def scores_of(found: Sequence[str], true: Sequence[str]) -> dict[str, float]:
    """BLEU and chrF of a corpus by sacrebleu, and its length beside that of the true one."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    bleu = BLEU().corpus_score(list(found), [list(true)])
    chrf = CHRF().corpus_score(list(found), [list(true)])
    return {METRIC: bleu.score, "chrf": chrf.score, "length": bleu.sys_len / bleu.ref_len}


def bleu_by_length(found: Sequence[str], pairs: Pairs) -> list[dict[str, float]]:
    """BLEU of sources of 1 to 5 words, of 6 to 10, …; bins of few sentences are left out."""
    bins = np.asarray([(len(source.split()) - 1) // BIN for source in pairs.sources])
    rows = []
    for number in np.unique(bins).tolist():
        places = np.flatnonzero(bins == number).tolist()
        if len(places) >= LEAST_IN_BIN:
            own = [found[place] for place in places], [pairs.targets[place] for place in places]
            rows.append(
                {
                    "from": number * BIN + 1,
                    "to": (number + 1) * BIN,
                    "pairs": len(places),
                    METRIC: scores_of(*own)[METRIC],
                }
            )
    return rows


class Measured(NamedTuple):
    """What a translator made of held-out pairs."""

    decodings: dict[str, dict[str, Any]]  # name -> scores of the scored pairs
    by_length: list[dict[str, float]]
    found: list[str]  # of the scored pairs, by the last decoding


def measured(
    translator: Translator, pairs: Pairs, scored: Pairs, decodings: Sequence[Decoding]
) -> Measured:
    """Translate held-out pairs, greedily for BLEU by length, and some of them in each way."""
    greedily = write(translator, pairs.sources, GREEDY)
    by_pair = dict(zip(zip(*pairs, strict=True), greedily.texts, strict=True))
    found = {
        one.name: greedily._replace(texts=[by_pair[pair] for pair in zip(*scored, strict=True)])
        if one == GREEDY
        else write(translator, scored.sources, one)
        for one in decodings
    }
    best = {name: [row[0] for row in one.texts] for name, one in found.items()}
    scores = {
        name: scores_of(texts, scored.targets)
        | {"tokens_per_second": found[name].tokens_per_second}
        for name, texts in best.items()
    }
    by_length = bleu_by_length([row[0] for row in greedily.texts], pairs)
    return Measured(scores, by_length, best[decodings[-1].name])


def decodings_of(decoding: Decoding) -> list[Decoding]:
    """Greedy search, the beam asked for, and the beam without length normalisation."""
    asked = [GREEDY, replace(decoding, length_exponent=0.0), decoding]
    return list(dict.fromkeys(GREEDY if one.beam_width == 1 else one for one in asked))


def attention_maps(
    translator: Translator, sources: Sequence[str], targets: Sequence[str]
) -> list[AttentionMap]:
    """Where the decoder looks for each sub-word of a translation, whoever wrote it."""
    model, params, languages, plan = translator
    ids = encoded(languages.source, sources), encoded(languages.target, targets)
    (xs, lengths), (ys, target_lengths) = (pad(rows, max(map(len, rows))) for rows in ids)
    function = jax.jit(partial(attention_weights, model, plan=plan))
    weights = np.moveaxis(np.asarray(function(params, xs, ys, lengths, target_lengths)), 1, 0)
    return [
        AttentionMap(
            "", pieces(languages.source, x), pieces(languages.target, y), one[: len(y), : len(x)]
        )
        for x, y, one in zip(*ids, weights, strict=True)
    ]


def draw_maps(translator: Translator, pairs: Pairs, found: Sequence[str], path: Path) -> None:
    """Draw the attention of the sentences of some words that come out best by chrF."""
    from sacrebleu.metrics.chrf import CHRF

    first, last = MAP_WORDS
    places = [n for n, text in enumerate(pairs.sources) if first <= len(text.split()) <= last]
    chrf = CHRF()
    best = sorted(places, key=lambda n: -chrf.sentence_score(found[n], [pairs.targets[n]]).score)
    chosen = best[:MAPS] or list(range(min(MAPS, len(found))))
    texts = [pairs.sources[n] for n in chosen], [found[n] for n in chosen]
    draw_attention(path, attention_maps(translator, *texts), columns=2)
