"""Bases as vectors."""

import numpy as np
import pytest
from Bio.Seq import reverse_complement as other_strand

from rnnjax.text.nucleotides import AMBIGUOUS, BASES, encode_bases, reverse_complement

ALL = BASES + "".join(AMBIGUOUS)


def test_a_base_is_one_hot_and_one_that_is_not_known_equal_shares():
    assert (encode_bases("ACGT") == np.eye(4)).all()
    assert (encode_bases("N") == 0.25).all()
    assert encode_bases("R").tolist() == [[0.5, 0, 0.5, 0]]
    assert encode_bases(ALL).sum(axis=1) == pytest.approx(np.ones(len(ALL)))
    assert encode_bases(ALL).dtype == np.float32


def test_case_does_not_matter_and_u_is_t():
    assert (encode_bases("acgun") == encode_bases("ACGTN")).all()


def test_the_other_strand_is_that_of_the_letters():
    sequence = "ACGTTGCAR" + ALL
    assert (
        reverse_complement(encode_bases(sequence)) == encode_bases(other_strand(sequence))
    ).all()


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        ("", "^record: got no letter, expected at least one base"),
        ("ACX", "^record: got 'X' at place 3, expected letters of ACGT, or of RYSWKMBDHVN"),
        ("A-C", "^record: got '-' at place 2"),
        ("ACé", "^record: got 'é' at place 3"),
        ("AC GT", "^record: got ' ' at place 3"),
    ],
)
def test_what_is_no_base_is_refused(sequence, message):
    with pytest.raises(ValueError, match=message):
        encode_bases(sequence, "record")
