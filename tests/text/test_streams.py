import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rnnjax.text.streams import (
    TextBatch,
    TokenStreams,
    evaluation_windows,
    lay_out,
    window,
    windows_per_epoch,
)

BEGIN = -1

lengths = st.lists(st.integers(0, 12), min_size=1, max_size=6)
batch_sizes = st.integers(1, 5)
window_lengths = st.integers(1, 9)


def corpus(lengths: list[int]) -> list[np.ndarray]:
    """Documents in which each token occurs once, so that it tells where it comes from."""
    ends = np.cumsum([0, *lengths])
    return [np.arange(a, b, dtype=np.int32) for a, b in itertools.pairwise(ends)]


def laid_out(lengths: list[int], batch_size: int) -> TokenStreams:
    assume(sum(lengths) >= batch_size)
    return lay_out(corpus(lengths), batch_size, BEGIN)


def epoch(streams: TokenStreams, steps: int) -> list[TextBatch]:
    return [window(streams, index, steps) for index in range(windows_per_epoch(streams, steps))]


@given(lengths, batch_sizes, window_lengths)
def test_every_token_is_a_target_exactly_once_an_epoch(lengths, batch_size, steps):
    streams = laid_out(lengths, batch_size)
    assume(steps <= len(streams.targets))
    batches = epoch(streams, steps)
    targets = np.concatenate([batch.targets[batch.weights > 0] for batch in batches])
    assert sorted(targets) == list(range(sum(lengths)))
    assert sum(batch.weights.sum() for batch in batches) == sum(lengths)
    for batch in batches:
        assert {part.shape for part in batch} == {(steps, batch_size)}
        assert [part.dtype for part in batch] == [np.int32, np.int32, np.bool_, np.float32]


@given(lengths, batch_sizes, window_lengths)
def test_inputs_are_the_tokens_before_the_targets(lengths, batch_size, steps):
    streams = laid_out(lengths, batch_size)
    assume(steps <= len(streams.targets))
    firsts = {int(document[0]) for document in corpus(lengths) if len(document)}
    for batch in epoch(streams, steps):
        valid = batch.weights > 0
        for target, read in zip(batch.targets[valid], batch.inputs[valid], strict=True):
            assert read == (BEGIN if target in firsts else target - 1)


@given(lengths, batch_sizes)
def test_a_carry_lives_just_from_one_document_or_stream_start_to_the_next(lengths, batch_size):
    streams = laid_out(lengths, batch_size)
    firsts = [int(document[0]) for document in corpus(lengths) if len(document)]
    valid = streams.weights > 0
    expected = np.isin(streams.targets, firsts) & valid
    expected[0] = True
    np.testing.assert_array_equal(streams.resets, expected)
    for column, mask in zip(streams.targets.T, valid.T, strict=True):
        assert np.all(np.diff(column[mask]) == 1)
        assert np.all(np.diff(mask.astype(int)) <= 0)
    per_stream = valid.sum(0)
    assert per_stream.max() - per_stream.min() <= 1


@given(lengths, batch_sizes, window_lengths, st.integers(0, 3), st.integers(0, 50))
def test_positions_wrap_round_to_the_same_windows(lengths, batch_size, steps, epochs, position):
    streams = laid_out(lengths, batch_size)
    assume(steps <= len(streams.targets))
    count = windows_per_epoch(streams, steps)
    here = window(streams, position, steps)
    for ours, theirs in zip(here, window(streams, position + epochs * count, steps), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert np.all(window(streams, epochs * count, steps).resets[0])


@given(lengths, batch_sizes, st.integers(1, 30))
def test_evaluation_covers_every_token_once_however_long_the_windows(lengths, batch_size, steps):
    streams = laid_out(lengths, batch_size)
    batches = list(evaluation_windows(streams, steps))
    targets = np.concatenate([batch.targets[batch.weights > 0] for batch in batches])
    assert sorted(targets) == list(range(sum(lengths)))
    assert all(batch.targets.shape == (steps, batch_size) for batch in batches)


def test_one_array_is_one_document():
    one, listed = (lay_out(documents, 2, 9) for documents in (np.arange(5), [np.arange(5)]))
    for ours, theirs in zip(one, listed, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(one.inputs.T, [[9, 0, 9], [1, 2, 3]])
    np.testing.assert_array_equal(one.targets.T, [[0, 1, 9], [2, 3, 4]])
    np.testing.assert_array_equal(one.weights.T, [[1, 1, 0], [1, 1, 1]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lay_out([], 2, 0), "documents: got an empty corpus"),
        (lambda: lay_out([np.zeros(0, np.int32)], 2, 0), "documents: got an empty corpus"),
        (lambda: lay_out(np.arange(3), 4, 0), "got 3 tokens in all, expected at least batch_size"),
        (lambda: lay_out(np.arange(3), 0, 0), "batch_size: got 0, expected at least 1"),
        (
            lambda: lay_out([np.arange(3.0)], 1, 0),
            "number 0 has dtype float64, expected an integer",
        ),
        (lambda: lay_out([np.zeros((2, 2), int)], 1, 0), "number 0 has shape (2, 2), expected one"),
        (lambda: window(lay_out(np.arange(9), 3, 0), 0, 4), "steps: got 4, expected 1..3"),
        (lambda: window(lay_out(np.arange(9), 3, 0), -1, 2), "position: got -1"),
        (lambda: windows_per_epoch(lay_out(np.arange(9), 3, 0), 0), "steps: got 0, expected 1..3"),
        (lambda: evaluation_windows(lay_out(np.arange(9), 3, 0), 0), "steps: got 0, expected at"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message: str):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        call()
    assert message in str(error.value)
    assert "\n" not in str(error.value)
