"""What is told of DNA without a neural net."""

import random

import numpy as np
import pytest

from experiments.baselines import nucleotides

CODONS = ("AAG", "GAA", "GCT", "CTG")  # of the genes that are made up here


def _made_up(seed, stretches=24):
    """A sequence of stretches that code on no strand, on this one or on the other; and its states.

    Without a codon's own letters at its own places the strand could not be told.
    """
    rng = random.Random(seed)
    letters, states = [], []
    for number in range(stretches):
        kind = number % 3
        size = rng.randrange(30, 50)
        if kind == 0:
            letters.append("".join(rng.choice("ACGT") for _ in range(3 * size)))
            states.append(np.zeros(3 * size, int))
        else:
            gene = "".join(rng.choice(CODONS) for _ in range(size))
            letters.append(gene if kind == 1 else nucleotides.complement(gene))
            along = np.arange(3 * size)
            states.append(along % 3 + 1 if kind == 1 else along[::-1] % 3 + 4)
    return "".join(letters), np.concatenate(states)


def test_k_mers_are_counted_and_unknown_bases_not():
    counts = nucleotides.kmer_counts(["ACACG", "NACN"])
    assert counts.shape == (2, 4 + 16 + 64 + 256)
    assert counts[0, :4].tolist() == [2, 2, 1, 0]
    assert counts[0, 4 + 1] == 2  # AC
    assert counts.sum(axis=1).tolist() == [5 + 4 + 3 + 2, 2 + 1]


def test_the_other_strand_of_the_other_strand_is_this_one():
    sequence, states = _made_up(0, 3)
    assert nucleotides.complement(nucleotides.complement(sequence)) == sequence
    assert (nucleotides.other_strand(nucleotides.other_strand(states)) == states).all()
    assert nucleotides.complement("AACN") == "NGTT"
    assert nucleotides.other_strand(np.asarray([0, 1, 2, 3, -1])).tolist() == [-1, 6, 5, 4, 0]


def test_contexts_are_the_five_bases_before():
    contexts, bases = nucleotides.contexts_of("AAAACGT")
    assert contexts.tolist() == [-1, -1, -1, -1, -1, 1, 6]
    assert bases.tolist() == [0, 0, 0, 0, 1, 2, 3]
    contexts, bases = nucleotides.contexts_of("ANCGTACGT")
    assert bases[1] == -1
    assert (contexts[:7] == -1).all()
    assert (contexts[7:] >= 0).all()


def test_a_chain_of_states_tells_strands_better_than_windows_and_both_are_probabilities():
    model = nucleotides.fit_hidden_markov(*_made_up(0, 90))
    for part in model:
        assert np.isfinite(part).all()
    assert np.exp(model.emissions).sum(axis=1) == pytest.approx(np.ones((4**5, 7)))
    sequence, states = _made_up(1)
    labels = nucleotides.CLASS_OF_STATE[states]
    chain = nucleotides.hidden_markov_probabilities(model, sequence)
    window = nucleotides.window_probabilities(model, sequence)
    right = {}
    for name, found in (("chain", chain), ("window", window)):
        assert found.shape == (len(sequence), 3)
        assert found.sum(axis=1) == pytest.approx(np.ones(len(sequence)), abs=1e-4)
        right[name] = (found.argmax(axis=1) == labels).mean()
    assert right["chain"] > 0.95
    assert 0.8 < right["window"] < right["chain"]


@pytest.mark.slow
def test_pieces_of_a_sequence_tell_what_the_whole_does():
    model = nucleotides.fit_hidden_markov(*_made_up(0, 90))
    sequence, _ = _made_up(1)
    whole = nucleotides.hidden_markov_probabilities(model, sequence, size=10_000)
    pieces = nucleotides.hidden_markov_probabilities(model, sequence, size=600, margin=250)
    assert pieces == pytest.approx(whole, abs=1e-3)
