import datasets
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnjax.text.batches import (
    as_numbers,
    batches_by_length,
    bucket_steps,
    lengths_of,
    pad,
    padded_batches,
)

some_lengths = st.lists(st.integers(0, 60), min_size=1, max_size=40)
growths = st.sampled_from([1.01, 1.25, 2.0, 5.0])
batch_sizes = st.integers(1, 9)
epochs = st.integers(0, 3)


@given(some_lengths, growths)
def test_no_length_is_rounded_up_by_more_than_the_growth(lengths, growth):
    steps = bucket_steps(np.asarray(lengths), growth)
    assert np.all(np.diff(steps) > 0)
    rounded = steps[np.searchsorted(steps, lengths)]
    assert np.all(rounded <= np.maximum(1, growth * np.asarray(lengths)))
    assert np.all(rounded >= lengths)
    # Up to 1/(growth − 1) they are all the integers, then they grow by the factor.
    whole = 1 / (growth - 1)
    assert len(steps) <= 2 + whole + np.log(60) / np.log(growth) * 2


@given(some_lengths, batch_sizes, growths, epochs)
def test_every_example_stands_in_exactly_one_of_the_fewest_batches(lengths, size, growth, epoch):
    lengths = np.asarray(lengths)
    batches = batches_by_length(lengths, size, growth=growth, seed=1, epoch=epoch)
    assert len(batches) == -(-len(lengths) // size)
    assert sorted(np.concatenate([b.places for b in batches])) == list(range(len(lengths)))
    steps = bucket_steps(lengths, growth)
    for batch in batches:
        longest = lengths[batch.places].max()
        assert batch.steps == steps[np.searchsorted(steps, longest)]


@given(some_lengths, batch_sizes, growths)
def test_the_padding_is_bounded(lengths, size, growth):
    """By the growth, and by fewer than B rows a bucket that joined a longer one, or are missing."""
    batches = batches_by_length(np.asarray(lengths), size, growth=growth)
    steps = bucket_steps(np.asarray(lengths), growth)
    computed = sum(size * batch.steps for batch in batches)
    needed = np.maximum(lengths, 1).sum()
    assert computed <= growth * needed + (size - 1) * (steps[1:].sum() + steps[-1])


def test_of_many_examples_little_is_padding():
    lengths = np.random.default_rng(0).lognormal(3, 0.6, 5000).astype(int) + 1
    for growth in (1.1, 1.25):
        batches = batches_by_length(lengths, 32, growth=growth)
        share = 1 - lengths.sum() / sum(32 * batch.steps for batch in batches)
        assert share < 1 - 1 / growth
    in_order = sum(32 * lengths[i : i + 32].max() for i in range(0, 5000, 32))
    assert 1 - lengths.sum() / in_order > 0.5, "what it would be without"


def test_an_epoch_is_a_function_of_the_seed_and_its_number():
    lengths = np.random.default_rng(0).integers(1, 30, 200)

    def members(**which):
        return [batch.places.tolist() for batch in batches_by_length(lengths, 8, **which)]

    assert members(seed=3, epoch=2) == members(seed=3, epoch=2)
    assert members(seed=3, epoch=2) != members(seed=3, epoch=1) != members(seed=2, epoch=1)
    steps = [batch.steps for batch in batches_by_length(lengths, 8)]
    assert steps != sorted(steps), "batches do not come by length"


def test_rows_are_padded_behind_time_first():
    padded, lengths = pad([[1, 2, 3], [], [4]], 4, 5)
    assert padded.dtype == np.int32
    np.testing.assert_array_equal(padded.T, [[1, 2, 3, 0], [0] * 4, [4, 0, 0, 0], [0] * 4, [0] * 4])
    np.testing.assert_array_equal(lengths, [3, 0, 1, 0, 0])
    frames = [np.ones((n, 2)) for n in (2, 1)]
    padded, _ = pad([[], *frames], 2)
    assert (padded.shape, padded.dtype) == ((2, 3, 2), np.float32)
    np.testing.assert_array_equal(padded.sum((0, 2)), [0, 4, 2])


@pytest.fixture(scope="module")
def sentences():
    rng = np.random.default_rng(1)
    lengths = rng.integers(0, 12, 50)
    return datasets.Dataset.from_dict(
        {
            "source": [(100 * i + np.arange(n)).tolist() for i, n in enumerate(lengths)],
            "target": [[float(i)] * int(n // 2 + 1) for i, n in enumerate(lengths)],
            "label": list(range(50)),
            "name": [f"sentence {i}" for i in range(50)],
        }
    )


def test_a_data_set_in_batches_out(sentences):
    batches = padded_batches(sentences, ["source", "target"], ["label"], batch_size=8, seed=5)
    assert batches.per_epoch == 7
    for epoch in (0, 1):
        seen = []
        for batch in batches.epoch(epoch):
            for b in np.flatnonzero(batch.weights):
                place = int(batch.columns["label"][b])
                seen.append(place)
                for name in ("source", "target"):
                    n = batch.lengths[name][b]
                    np.testing.assert_array_equal(
                        batch.columns[name][:n, b], sentences[place][name]
                    )
                    assert not batch.columns[name][n:, b].any()
            missing = batch.weights == 0
            assert all(not lengths[missing].any() for lengths in batch.lengths.values())
            assert batch.columns["source"].shape[1] == 8
        assert sorted(seen) == list(range(50))
    assert {len(batch.columns["source"]) for batch in batches.epoch()} <= set(
        bucket_steps(lengths_of(sentences, "source"))
    )


def test_the_batch_of_a_step_is_that_of_its_epoch(sentences):
    batches = padded_batches(sentences, ["source"], batch_size=8, seed=5)
    of_epochs = [*batches.epoch(0), *batches.epoch(1), *batches.epoch(2)]
    for step in (20, 0, 7, 6, 13):  # in any order, as a run that goes on asks for them
        for ours, theirs in zip(
            jax.tree.leaves(batches(step)), jax.tree.leaves(of_epochs[step]), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: bucket_steps(np.asarray([])), "lengths: got [], expected one row"),
        (lambda s: bucket_steps(np.asarray([2, -1])), "lengths: got [ 2 -1], expected one row"),
        (lambda s: bucket_steps(np.asarray([2]), 1.0), "growth: got 1.0, expected above 1"),
        (lambda s: batches_by_length(np.asarray([2]), 0), "batch_size: got 0"),
        (lambda s: batches_by_length(np.asarray([2]), 1, epoch=-1), "seed, epoch: got 0, -1"),
        (lambda s: pad([[1, 2]], 1), "rows: number 0 has shape (2,), expected at most 1 steps"),
        (lambda s: pad([], 1), "rows: got 0, expected 1..0"),
        (lambda s: pad([[1]] * 3, 1, 2), "rows: got 3, expected 1..2"),
        (lambda s: pad([[1], [1.0]], 1), "rows: got shapes and dtypes"),
        (lambda s: as_numbers("x", [2**40]), "x: got 1099511627776 to 1099511627776, expected 32"),
        (lambda s: padded_batches(s, [], batch_size=1), "sequences: got none"),
        (
            lambda s: padded_batches(s, ["source"], ["name"], batch_size=4)(0),
            "name: got dtype <U11, expected numbers",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message, sentences):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        call(sentences)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_column_is_named(sentences):
    with pytest.raises(KeyError, match="words"):
        padded_batches(sentences, ["words"], batch_size=4)
