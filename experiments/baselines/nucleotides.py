"""What is told of DNA without a neural net: k-mers, positions, and a chain of hidden states."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rnnjax.text.nucleotides import BASES, encode_bases, reverse_complement
from rnnjax.text.pieces import cut, cut_points, join

PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # C of scikit-learn
KMER_SIZES = (1, 2, 3, 4)


class LinearModel(NamedTuple):
    """A logistic regression, and how sequences become what it reads."""

    features: Any
    regression: Any
    penalty: float

    def accuracy(self, sequences: Sequence[str], labels: np.ndarray) -> float:
        """The share of sequences that it tells right."""
        return float((self.regression.predict(self.features(sequences)) == labels).mean())


def fit_kmers(
    sequences: Sequence[str],
    labels: np.ndarray,
    held_out: Sequence[str],
    held_out_labels: np.ndarray,
) -> LinearModel:
    """A logistic regression of how often each k-mer comes, k from 1 to 4, wherever it stands."""
    return _fit(kmer_counts, sequences, labels, held_out, held_out_labels)


def kmer_counts(sequences: Sequence[str]) -> np.ndarray:
    """How often each k-mer comes in each sequence, `(N, 340)`.

    k is 1 to 4. K-mers with a letter that is not A, C, G or T are not counted.
    """
    counts = np.zeros((len(sequences), sum(len(BASES) ** k for k in KMER_SIZES)))
    for row, sequence in enumerate(sequences):
        shares = encode_bases(sequence)
        bases = np.where(shares.max(axis=1) == 1, shares.argmax(axis=1), -1)
        begin = 0
        for k in KMER_SIZES:
            number, known = np.zeros(max(0, len(bases) - k + 1), np.int64), True
            for offset in range(k):
                here = bases[offset : offset + len(number)]
                number, known = number * len(BASES) + np.maximum(here, 0), known & (here >= 0)
            size = len(BASES) ** k
            counts[row, begin : begin + size] = np.bincount(number[known], minlength=size)
            begin += size
    return counts


def fit_positions(
    sequences: Sequence[str],
    labels: np.ndarray,
    held_out: Sequence[str],
    held_out_labels: np.ndarray,
) -> LinearModel:
    """A logistic regression of which base stands at each place, all of one length."""
    return _fit(one_hot_rows, sequences, labels, held_out, held_out_labels)


def one_hot_rows(sequences: Sequence[str]) -> np.ndarray:
    """`(N, 4 T)`."""
    return np.stack([encode_bases(sequence).reshape(-1) for sequence in sequences])


def _fit(
    features: Any,
    sequences: Sequence[str],
    labels: np.ndarray,
    held_out: Sequence[str],
    held_out_labels: np.ndarray,
) -> LinearModel:
    """The penalty is the one that is best on what was held out."""
    from sklearn.linear_model import LogisticRegression

    known = features(sequences)
    fitted = [
        LinearModel(
            features, LogisticRegression(C=penalty, max_iter=2000).fit(known, labels), penalty
        )
        for penalty in PENALTIES
    ]
    return max(fitted, key=lambda one: one.accuracy(held_out, held_out_labels))


# A genome base by base

CONTEXT = 5
"""Bases before one that its probability depends on: hexamers in all."""
STATES = 7
"""0: codes on no strand; 1, 2, 3: the places of a codon; 4, 5, 6: those of the other strand."""
CLASS_OF_STATE = np.asarray([0, 1, 1, 1, 2, 2, 2])


class HiddenMarkovModel(NamedTuple):
    """Log probabilities of a base after five others in each state, and of the next state."""

    emissions: np.ndarray  # (4^5, 4, 7)
    transitions: np.ndarray  # (7, 7), from and to
    start: np.ndarray  # (7,)


def contexts_of(sequence: str) -> tuple[np.ndarray, np.ndarray]:
    """Of each base the number of the five before it, `(T,)`, and its own, `(T,)`; −1 if unknown."""
    shares = encode_bases(sequence)
    bases = np.where(shares.max(axis=1) == 1, shares.argmax(axis=1), -1)
    contexts = np.zeros(len(bases), np.int64)
    known = np.ones(len(bases), bool)
    for back in range(CONTEXT, 0, -1):
        before = np.concatenate([np.full(back, -1), bases[:-back]])[: len(bases)]
        known &= before >= 0
        contexts = contexts * len(BASES) + np.maximum(before, 0)
    return np.where(known, contexts, -1), bases


def fit_hidden_markov(sequence: str, states: np.ndarray) -> HiddenMarkovModel:
    """Count, in a sequence and in its other strand, what follows what.

    A base is drawn given the five before it and its state, as in the gene finder GeneMark
    (Borodovsky and McIninch 1993, Computers & Chemistry 17: 123–133). Counts begin at the
    frequencies of the base in the state, 16 in all; states −1 are not counted.
    """
    emissions = np.zeros((len(BASES) ** CONTEXT, len(BASES), STATES))
    transitions = np.full((STATES, STATES), 1e-6)
    start = np.full(STATES, 1e-6)
    for letters, of_each in (
        (sequence, states),
        (complement(sequence), other_strand(states)),
    ):
        contexts, bases = contexts_of(letters)
        counted = (contexts >= 0) & (bases >= 0) & (of_each >= 0)
        np.add.at(emissions, (contexts[counted], bases[counted], of_each[counted]), 1)
        pairs = (of_each[:-1] >= 0) & (of_each[1:] >= 0)
        np.add.at(transitions, (of_each[:-1][pairs], of_each[1:][pairs]), 1)
        start += np.bincount(of_each[of_each >= 0], minlength=STATES)
    alone = emissions.sum(axis=0) + 1  # (4, 7)
    emissions += 4 * len(BASES) * alone / alone.sum(axis=0)
    return HiddenMarkovModel(
        np.log(emissions / emissions.sum(axis=1, keepdims=True)),
        np.log(transitions / transitions.sum(axis=1, keepdims=True)),
        np.log(start / start.sum()),
    )


def complement(sequence: str) -> str:
    """The other strand as it is read; unknown bases become N."""
    shares = reverse_complement(encode_bases(sequence))
    letters = np.frombuffer((BASES + "N").encode(), np.uint8)
    known = shares.max(axis=1) == 1
    return letters[np.where(known, shares.argmax(axis=1), len(BASES))].tobytes().decode()


def other_strand(states: np.ndarray) -> np.ndarray:
    """The states of the other strand as it is read."""
    swapped = np.asarray([0, 4, 5, 6, 1, 2, 3, -1])  # the last one for −1
    return swapped[states][::-1]


def emission_scores(model: HiddenMarkovModel, sequence: str) -> np.ndarray:
    """Log P(base | five before it, state), `(T, 7)` float32; zeros where a base is not known."""
    contexts, bases = contexts_of(sequence)
    scores = model.emissions[np.maximum(contexts, 0), np.maximum(bases, 0)]
    return np.where(((contexts >= 0) & (bases >= 0))[:, None], scores, 0).astype(np.float32)


def class_probabilities(of_states: np.ndarray) -> np.ndarray:
    """`(..., 7) -> (..., 3)`: no strand, this one, the other one."""
    return np.stack([of_states[..., k == CLASS_OF_STATE].sum(axis=-1) for k in range(3)], axis=-1)


def window_probabilities(model: HiddenMarkovModel, sequence: str, width: int = 96) -> np.ndarray:
    """How probable each class is at each base, by the hexamers of a window around it, `(T, 3)`.

    Seven hypotheses, as of GeneMark: the window lies in no gene, or in one of six frames; within
    it the state of a base is that of its place in the frame.
    """
    scores = emission_scores(model, sequence).astype(np.float64)
    size, half = len(scores), width // 2
    places = np.arange(size)

    def summed(values: np.ndarray) -> np.ndarray:
        total = np.concatenate([[0.0], np.cumsum(values)])
        return total[np.minimum(places + half, size)] - total[np.maximum(places - half, 0)]

    by_frame = [summed(scores[:, 0])]
    by_frame += [summed(scores[places, 1 + (places + shift) % 3]) for shift in range(3)]
    by_frame += [summed(scores[places, 4 + (shift - places) % 3]) for shift in range(3)]
    prior = np.exp(model.start)
    weights = [prior[0], *[prior[1:4].sum() / 3] * 3, *[prior[4:].sum() / 3] * 3]
    logs = np.stack(by_frame, axis=-1) + np.log(weights)
    of_frames = np.exp(logs - logs.max(axis=-1, keepdims=True))
    return class_probabilities(of_frames / of_frames.sum(axis=-1, keepdims=True))


def hidden_markov_probabilities(
    model: HiddenMarkovModel, sequence: str, size: int = 4096, margin: int = 1024
) -> np.ndarray:
    """How probable each class is at each base, given all of the sequence, `(T, 3)`.

    P(state at t | x), forward and backward: the marginals of a linear chain whose scores are log
    probabilities. The sequence is read in pieces of `size` bases that overlap by twice `margin`.
    """
    import jax.numpy as jnp

    from rnnjax.losses.conditional_random_field import ConditionalRandomFieldParams, marginals

    chain = ConditionalRandomFieldParams(
        transitions=jnp.asarray(model.transitions, jnp.float32),
        start=jnp.asarray(model.start, jnp.float32),
        end=jnp.zeros(STATES, jnp.float32),
    )
    pieces = cut_points(len(sequence), size, min(margin, (size - 1) // 2))
    scores = cut(emission_scores(model, sequence), pieces)
    return class_probabilities(join(np.asarray(marginals(chain, scores)), pieces))
