"""A trained transcriber at work: all of a sound at once, or while it plays; with a language model.

Sounds come as the steps of `experiments.speech_features`, texts go as strings.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.data.audio_files import RATE
from experiments.speech_features import Features, FrameStream, Scale
from rnnjax.decoding.ctc_greedy import ctc_greedy
from rnnjax.decoding.ctc_prefix_beam import LabelScorer, ctc_prefix_beam
from rnnjax.losses.ctc import ctc_loss
from rnnjax.models.language_model import (
    LanguageModelConfig,
    initial_state,
    step_language_model,
)
from rnnjax.models.transcriber import (
    TranscriberConfig,
    apply_transcriber,
    initial_transcriber_carry,
)
from rnnjax.text.batches import pad
from rnnjax.text.vocabulary import Vocabulary

SMALLEST_STEPS = 32
"""Sounds are padded to this many steps or a power of two of them: few shapes, few compilations."""

END_OF_TEXT = "\n"
"""What parts texts of a language model."""


@dataclass(frozen=True)
class Transcriber:
    """A trained network with all that it takes to use it."""

    model: TranscriberConfig
    plan: str
    params: Any
    features: Features
    scale: Scale
    characters: str  # label k + 1 is characters[k]

    def text(self, labels: Sequence[int] | np.ndarray) -> str:
        """The characters of labels."""
        return "".join(self.characters[int(label) - 1] for label in labels)


class LanguageModel(NamedTuple):
    """A character language model of `experiments.character_language_model`."""

    model: LanguageModelConfig
    params: Any
    vocabulary: Vocabulary


class Scored(NamedTuple):
    """What the network says of some sounds side by side."""

    places: np.ndarray  # (n,): which sounds, n at most B
    logits: np.ndarray  # (T, B, V)
    lengths: np.ndarray  # (B,)


def padded_steps(count: int, smallest: int = SMALLEST_STEPS) -> int:
    """A number of steps rounded up to the smallest or a power of two times it."""
    while smallest < count:
        smallest *= 2
    return smallest


@lru_cache
def _compiled_scores(model: TranscriberConfig, plan: str) -> Any:
    def score(params: Any, frames: Any, lengths: Any) -> Any:
        return apply_transcriber(model, params, frames, lengths=lengths, plan=plan)[1]

    return jax.jit(score)


def score_sounds(
    transcriber: Transcriber, sounds: Sequence[np.ndarray], batch_size: int = 16
) -> list[Scored]:
    """The logits of all sounds, like lengths together.

    Args:
        transcriber: What reads them.
        sounds: `(T, I)` each, not scaled.
        batch_size: B.
    """
    score = _compiled_scores(transcriber.model, transcriber.plan)
    order = np.argsort([len(one) for one in sounds], kind="stable")
    found = []
    for begin in range(0, len(order), batch_size):
        places = order[begin : begin + batch_size]
        rows = [transcriber.scale(sounds[place]) for place in places]
        frames, lengths = pad(rows, padded_steps(len(rows[-1])), batch_size)
        logits = score(transcriber.params, frames, lengths)
        found.append(Scored(places, np.asarray(logits), lengths))
    return found


class Written(NamedTuple):
    """What was written of a sound, and at which step each character."""

    text: str
    steps: np.ndarray  # (Ty,)


_greedy = jax.jit(lambda logits, lengths: ctc_greedy(logits, lengths=lengths))


def write_greedily(transcriber: Transcriber, scored: Sequence[Scored]) -> list[Written]:
    """The text of the likeliest path of each sound, in the order of the sounds."""
    found: dict[int, Written] = {}
    for places, logits, lengths in scored:
        path, said, _ = jax.tree.map(np.asarray, _greedy(logits, lengths))
        for row, place in enumerate(places):
            steps = np.flatnonzero(said[:, row])
            found[int(place)] = Written(transcriber.text(path[steps, row]), steps)
    return [found[place] for place in range(len(found))]


def write_by_beam(
    transcriber: Transcriber,
    scored: Sequence[Scored],
    beam_width: int,
    language_model: LanguageModel | None = None,
    weight: float = 0.0,
    bonus: float = 0.0,
) -> list[str]:
    """The text of the best labelling of each sound, in the order of the sounds.

    Args:
        transcriber: Whose labels these are.
        scored: What it says of the sounds.
        beam_width: K.
        language_model: Of the same characters; None is none.
        weight: α of `ctc_prefix_beam`.
        bonus: β, with a language model.
    """
    model, vocabulary, params = None, None, None
    if language_model is not None:
        model, params, vocabulary = language_model
    search = _compiled_search(beam_width, transcriber.characters, model, vocabulary)
    found: dict[int, str] = {}
    for places, logits, lengths in scored:
        labels, counts = search(params, logits, lengths, np.float32(weight), np.float32(bonus))
        labels, counts = np.asarray(labels), np.asarray(counts)
        for row, place in enumerate(places):
            found[int(place)] = transcriber.text(labels[: counts[row], row])
    return [found[place] for place in range(len(found))]


@lru_cache
def _compiled_search(
    beam_width: int,
    characters: str,
    model: LanguageModelConfig | None,
    vocabulary: Vocabulary | None,
) -> Any:
    """`(params, logits, lengths, α, β) -> labels (T, B), lengths (B,)` of the best labelling."""

    def search(params: Any, logits: Any, lengths: Any, weight: Any, bonus: Any) -> Any:
        scorer = None
        if model is not None and vocabulary is not None:
            scorer = label_scorer(LanguageModel(model, params, vocabulary), characters)
        found = ctc_prefix_beam(
            logits,
            beam_width=beam_width,
            lengths=lengths,
            scorer=scorer,
            scorer_weight=weight,
            label_bonus=bonus if scorer is not None else 0.0,
        )
        return found.labels[:, :, 0], found.lengths[:, 0]

    return jax.jit(search)


def label_scorer(language_model: LanguageModel, characters: str) -> LabelScorer:
    """A character language model in the terms of a transcriber's labels.

    Its texts were a line each; a text begins after the end of a line, and ends with one. What the
    language model has never seen it scores as UNK.
    """
    model, params, vocabulary = language_model
    ids = jnp.asarray(vocabulary.encode(END_OF_TEXT + characters))  # (V,), the end for the blank

    def step(state: Any, labels: jax.Array) -> tuple[Any, jax.Array]:
        state, logits = step_language_model(model, params, state, ids[labels])
        return state, jax.nn.log_softmax(logits, axis=-1)[..., ids]

    assert vocabulary.begin_id is not None
    state = initial_state(model, params, (1,))
    state, _ = step_language_model(model, params, state, jnp.full((1,), vocabulary.begin_id))
    state, first = step(state, jnp.zeros((1,), jnp.int32))
    return LabelScorer(jax.tree.map(lambda leaf: leaf[0], state), first[0], step)


_loss_of_one_label = jax.jit(
    lambda logits, lengths, label: ctc_loss(
        logits, jnp.full((1, logits.shape[1]), label), lengths=lengths
    )
)


def likeliest_single(transcriber: Transcriber, scored: Sequence[Scored]) -> list[str]:
    """Of each sound the character c whose P(c | x), as the whole text, is largest."""
    found: dict[int, str] = {}
    for places, logits, lengths in scored:
        losses = [
            np.asarray(_loss_of_one_label(logits, lengths, np.int32(label)))
            for label in range(1, len(transcriber.characters) + 1)
        ]
        best = np.argmin(losses, axis=0)
        found |= {int(p): transcriber.characters[best[row]] for row, p in enumerate(places)}
    return [found[place] for place in range(len(found))]


class Emission(NamedTuple):
    """A character, and how many seconds of the sound had been heard when it was written."""

    seconds: float
    character: str


def stream(transcriber: Transcriber, chunks: Iterator[np.ndarray]) -> Iterator[Emission]:
    """Write while the sound plays, each character as soon as its step is complete.

    Args:
        transcriber: One that reads in one direction.
        chunks: Samples −1 … 1 at `RATE`, in pieces of any length.

    Raises:
        ValueError: It reads in both directions.
    """
    model = transcriber.model
    if model.bidirectional:
        raise ValueError(
            "streaming: got a model of both directions, which reads a sound from its end too, "
            "expected one of `train --model.no-bidirectional`"
        )
    step = _compiled_step(model, transcriber.plan)
    frames = FrameStream(transcriber.features)
    carry = initial_transcriber_carry(model, transcriber.params, (1,))
    before, heard = np.zeros(1, np.int32), 0
    for chunk in chunks:
        heard += len(chunk)
        for frame in transcriber.scale(frames.accept(chunk)):
            carry, before, said = step(transcriber.params, carry, before, frame[None, None])
            if said[0]:
                yield Emission(heard / RATE, transcriber.characters[int(before[0]) - 1])


@lru_cache
def _compiled_step(model: TranscriberConfig, plan: str) -> Any:
    def step(params: Any, carry: Any, before: Any, frame: Any) -> Any:
        carry, logits = apply_transcriber(model, params, frame, carry, plan=plan)
        found = ctc_greedy(logits, before=before)
        return carry, found.last, found.said[0]

    return jax.jit(step)


def in_chunks(samples: np.ndarray, seconds: float) -> Iterator[np.ndarray]:
    """A sound as it comes, in pieces of so many seconds; the last one may be shorter."""
    size = max(1, round(seconds * RATE))
    return (samples[begin : begin + size] for begin in range(0, len(samples), size))


def load_language_model(run: Path) -> LanguageModel:
    """The best model of a run of `experiments.character_language_model`.

    Raises:
        FileNotFoundError: There is no such run.
    """
    from experiments import character_language_model

    return LanguageModel(*character_language_model.load_trained(run))
