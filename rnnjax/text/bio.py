"""Spans of tokens as one tag a token: B begins a span, I goes on with it, O is outside of any.

The scheme is IOB2 of Ramshaw and Marcus (1995) and Tjong Kim Sang and Veenstra (1999): a tag is O,
or B or I with the kind of the span behind a hyphen, and each span begins with B.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

OUTSIDE = "O"


class Span(NamedTuple):
    """Tokens begin … end − 1, which are of a kind."""

    kind: str
    begin: int
    end: int


class AllowedTags(NamedTuple):
    """Which tags may begin a sequence, and which may follow which."""

    start: np.ndarray  # (K,) bool
    transitions: np.ndarray  # (K, K) bool, [i, j] whether j may follow i


def bio_labels(kinds: Iterable[str]) -> tuple[str, ...]:
    """All tags for spans of these kinds: O, then B and I of each kind, in order of the alphabet."""
    return (OUTSIDE, *(f"{part}-{kind}" for kind in sorted(set(kinds)) for part in "BI"))


def split_tag(tag: str) -> tuple[str, str]:
    """`("B" or "I", kind)`, or `("O", "")`.

    Raises:
        ValueError: It is no such tag.
    """
    part, hyphen, kind = tag.partition("-")
    if tag == OUTSIDE or (part in ("B", "I") and hyphen and kind):
        return part, kind
    raise ValueError(f"tag: got {tag!r}, expected 'O', 'B-KIND' or 'I-KIND'")


def encode_bio(spans: Iterable[Span], length: int) -> list[str]:
    """One tag a token.

    Args:
        spans: In any order; none may share a token with another.
        length: How many tokens.

    Raises:
        ValueError: A span is empty, outside the tokens, or overlaps another one.
    """
    tags = [OUTSIDE] * length
    for span in spans:
        if not 0 <= span.begin < span.end <= length:
            raise ValueError(f"spans: got {span}, expected 0 ≤ begin < end ≤ {length}")
        if any(tag != OUTSIDE for tag in tags[span.begin : span.end]):
            raise ValueError(f"spans: got {span}, which overlaps another one")
        tags[span.begin] = f"B-{span.kind}"
        tags[span.begin + 1 : span.end] = [f"I-{span.kind}"] * (span.end - span.begin - 1)
    return tags


def decode_bio(tags: Sequence[str]) -> list[Span]:
    """The spans, in order; tags that are malformed are read as `repair_bio` mends them.

    Raises:
        ValueError: One is no tag of the scheme.
    """
    spans: list[Span] = []
    for place, tag in enumerate(tags):
        part, kind = split_tag(tag)
        if part == OUTSIDE:
            continue
        goes_on = bool(spans) and spans[-1].end == place and spans[-1].kind == kind
        if part == "I" and goes_on:
            spans[-1] = spans[-1]._replace(end=place + 1)
        else:
            spans.append(Span(kind, place, place + 1))
    return spans


def repair_bio(tags: Sequence[str]) -> list[str]:
    """The tags with B wherever a span begins: an I that goes on with nothing becomes a B.

    It is how the evaluation program of the CoNLL shared tasks reads them, and it turns the older
    scheme IOB1, where only a span right behind another of its kind begins with B, into this one.

    Raises:
        ValueError: One is no tag of the scheme.
    """
    return encode_bio(decode_bio(tags), len(tags))


def allowed_bio(labels: Sequence[str]) -> AllowedTags:
    """What well-formed tags may be: I-X neither first nor behind anything but B-X and I-X.

    Args:
        labels: K tags in the order of their ids.

    Raises:
        ValueError: One is no tag of the scheme, or comes twice.
    """
    if len(set(labels)) != len(labels):
        raise ValueError(f"labels: got {list(labels)}, expected distinct ones")
    parts = [split_tag(label) for label in labels]
    start = np.asarray([part != "I" for part, _ in parts], np.bool_)
    transitions = np.asarray(
        [[part != "I" or before == kind for part, kind in parts] for _, before in parts], np.bool_
    )
    return AllowedTags(start, transitions.reshape(len(labels), len(labels)))
