"""Sequences in pieces that overlap."""

import numpy as np
import pytest

from rnnjax.text.pieces import cut, cut_points, join

SIZES = [(t, p, m) for t in (1, 7, 8, 9, 23, 40) for p in (1, 4, 8) for m in (0, 1, 3) if 2 * m < p]


@pytest.mark.parametrize(("steps", "size", "margin"), SIZES)
def test_pieces_joined_are_the_sequence_and_each_step_has_its_margins(steps, size, margin):
    pieces = cut_points(steps, size, margin)
    xs = np.arange(3 * steps).reshape(steps, 3)
    side_by_side = cut(xs, pieces)
    assert side_by_side.shape == (min(size, steps), len(pieces.starts), 3)
    assert (join(side_by_side, pieces) == xs).all()
    assert pieces.begins[0] == 0
    assert pieces.ends[-1] == steps
    assert (pieces.begins[1:] == pieces.ends[:-1]).all()
    ends_of_pieces = pieces.starts + pieces.size
    assert ((pieces.begins - pieces.starts >= margin) | (pieces.begins == 0)).all()
    assert ((ends_of_pieces - pieces.ends >= margin) | (pieces.ends == steps)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 4, 1), "^steps: got 0"),
        ((4, 0, 0), "^size: got 0"),
        ((4, 4, 2), "^margin: got 2, expected at least 0 and below 4 / 2"),
        ((4, 4, -1), "^margin: got -1"),
    ],
)
def test_sizes_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        cut_points(*arguments)
