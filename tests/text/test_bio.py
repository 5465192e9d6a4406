import itertools

import numpy as np
import pytest
from seqeval.metrics.sequence_labeling import get_entities

from rnnjax.text.bio import (
    Span,
    allowed_bio,
    bio_labels,
    decode_bio,
    encode_bio,
    repair_bio,
    split_tag,
)

LABELS = bio_labels(["PER", "LOC"])
SEQUENCES = [list(tags) for n in range(5) for tags in itertools.product(LABELS, repeat=n)]


def is_well_formed(tags):
    before = ["O", *tags]
    return all(a[2:] == b[2:] for a, b in itertools.pairwise(before) if b[0] == "I")


def test_labels_are_in_the_order_of_the_alphabet():
    assert LABELS == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert bio_labels([]) == ("O",)


def test_tags_are_read_as_seqeval_reads_them():
    """All sequences of up to four tags, malformed ones too."""
    for tags in SEQUENCES:
        expected = [Span(kind, begin, last + 1) for kind, begin, last in get_entities(tags)]
        assert decode_bio(tags) == expected, tags


def test_repaired_tags_are_well_formed_mean_the_same_and_are_left_alone_if_they_were():
    malformed = 0
    for tags in SEQUENCES:
        repaired = repair_bio(tags)
        assert is_well_formed(repaired)
        assert decode_bio(repaired) == decode_bio(tags)
        assert (repaired == tags) == is_well_formed(tags)
        malformed += repaired != tags
    assert malformed > 100


def test_spans_come_back_from_their_tags():
    spans = [Span("PER", 0, 2), Span("PER", 2, 3), Span("LOC", 5, 6)]
    tags = encode_bio(reversed(spans), 7)
    assert tags == ["B-PER", "I-PER", "B-PER", "O", "O", "B-LOC", "O"]
    assert decode_bio(tags) == spans


def test_iob1_becomes_iob2():
    assert repair_bio(["I-PER", "I-PER", "B-PER", "O", "I-LOC"]) == [
        "B-PER", "I-PER", "B-PER", "O", "B-LOC",
    ]  # fmt: skip


def test_what_is_allowed_is_what_is_well_formed():
    allowed = allowed_bio(LABELS)
    number = {label: place for place, label in enumerate(LABELS)}
    for tags in SEQUENCES:
        ids = [number[tag] for tag in tags]
        fits = all(allowed.start[i] for i in ids[:1]) and all(
            allowed.transitions[pair] for pair in itertools.pairwise(ids)
        )
        assert fits == is_well_formed(tags), tags
    assert allowed.start.dtype == allowed.transitions.dtype == np.bool_


def test_bad_tags_and_spans_are_refused():
    for tag in ("", "B", "B-", "I", "PER", "X-PER", "o", "O-PER"):
        with pytest.raises(ValueError, match=r"^tag: got .*, expected 'O', 'B-KIND' or 'I-KIND'"):
            split_tag(tag)
    for spans, message in (
        ([Span("PER", 1, 1)], r"expected 0 ≤ begin < end ≤ 3"),
        ([Span("PER", 2, 4)], r"expected 0 ≤ begin < end ≤ 3"),
        ([Span("PER", 0, 2), Span("LOC", 1, 2)], "overlaps another one"),
    ):
        with pytest.raises(ValueError, match=message):
            encode_bio(spans, 3)
    with pytest.raises(ValueError, match=r"labels: got .* expected distinct ones"):
        allowed_bio(["O", "O"])
