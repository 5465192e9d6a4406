import datasets
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tolerances import assert_close

import rnnjax
from rnnjax.recurrences.elman import ElmanParams
from rnnjax.text.packing import pack, packed_batches

T = 12
some_lengths = st.lists(st.integers(1, T), min_size=1, max_size=40)
epochs = st.integers(0, 3)


@given(some_lengths, epochs)
def test_every_example_stands_in_exactly_one_row_and_rows_are_few(lengths, epoch):
    lengths = np.asarray(lengths)
    rows = pack(lengths, T, seed=2, epoch=epoch)
    assert sorted(np.concatenate(rows)) == list(range(len(lengths)))
    assert all(1 <= lengths[row].sum() <= T for row in rows)
    assert len(rows) == 1 or len(rows) < 2 * lengths.sum() / T
    assert len(rows) == len(pack(lengths, T)), "each epoch has as many rows"


def test_of_many_examples_little_is_padding():
    lengths = np.random.default_rng(0).lognormal(3, 0.6, 5000).astype(int).clip(1, 128)
    assert lengths.sum() / (128 * len(pack(lengths, 128))) > 0.99


def test_rows_are_a_function_of_the_seed_and_the_epoch():
    lengths = np.random.default_rng(0).integers(1, T, 200)

    def rows(**which):
        return [row.tolist() for row in pack(lengths, T, **which)]

    assert rows(seed=3, epoch=2) == rows(seed=3, epoch=2)
    assert rows(seed=3, epoch=2) != rows(seed=3, epoch=1) != rows(seed=2, epoch=1)
    together = [{frozenset(row) for row in rows(epoch=epoch)} for epoch in (0, 1)]
    assert together[0] != together[1], "not only the order of the rows"


@pytest.fixture(scope="module")
def sequences():
    rng = np.random.default_rng(1)
    lengths = rng.integers(1, T + 1, 20)
    xs = [rng.normal(size=(n, 3)) for n in lengths]
    ids = [(100 * i + np.arange(n)).tolist() for i, n in enumerate(lengths)]
    return datasets.Dataset.from_dict({"xs": xs, "ids": ids})


def test_rows_hold_their_sequences_with_a_reset_at_each_start(sequences):
    batches = packed_batches(sequences, ["ids", "xs"], steps=T, batch_size=4, seed=1)
    seen = []
    for batch in batches.epoch(1):
        assert batch.columns["xs"].shape == (T, 4, 3)
        np.testing.assert_array_equal(batch.weights, batch.examples >= 0)
        for t, b in zip(*np.nonzero(batch.resets), strict=True):
            place = batch.examples[t, b]
            seen.append(place)
            n = len(sequences[int(place)]["ids"])
            assert np.all(batch.examples[t : t + n, b] == place)
            np.testing.assert_array_equal(
                batch.columns["ids"][t : t + n, b], sequences[int(place)]["ids"]
            )
        assert not batch.columns["ids"][batch.weights == 0].any()
        starts = np.diff(batch.examples, axis=0, prepend=-1) != 0
        np.testing.assert_array_equal(batch.resets, starts & (batch.examples >= 0))
    assert sorted(seen) == list(range(20))


def test_a_packed_scan_is_the_scan_of_each_sequence_alone(sequences):
    """Outputs and the gradient of a loss of all of them."""
    batches = packed_batches(sequences, ["xs"], steps=T, batch_size=4)
    packed = [batch for batch in batches.epoch() if batch.weights.any()]
    rng = np.random.default_rng(0)
    params = ElmanParams(
        *(jnp.asarray(rng.normal(size=shape) / 2) for shape in ((3, 4), (4, 4), (4,)))
    )
    target = np.linspace(-1, 1, 4)

    def loss(params, xs, weights, **options):
        _, ys = rnnjax.scan(rnnjax.elman, params, xs, plan="reference", **options)
        return jnp.sum(weights[..., None] * jnp.square(ys - target)), ys

    @jax.jit
    def of_packed(params, xs, weights, resets):
        return jax.value_and_grad(loss, has_aux=True)(params, xs, weights, resets=resets)

    def add(sums, terms):
        return jax.tree.map(np.add, sums, terms)

    total, outputs = (0.0, jax.tree.map(np.zeros_like, params)), {}
    for batch in packed:
        xs, weights = batch.columns["xs"].astype(np.float64), batch.weights.astype(np.float64)
        (value, ys), gradient = of_packed(params, xs, weights, batch.resets)
        total = add(total, (value, gradient))
        for place in np.unique(batch.examples[batch.examples >= 0]):
            outputs[int(place)] = np.asarray(ys)[batch.examples == place]
    alone = np.zeros((T, 20, 3))
    lengths = np.zeros(20, np.int32)
    for place, row in enumerate(sequences["xs"]):
        lengths[place] = len(row)
        alone[: len(row), place] = np.asarray(row, np.float32)
    weights = (np.arange(T)[:, None] < lengths).astype(np.float64)
    (value, ys), gradient = jax.jit(
        lambda params, xs: jax.value_and_grad(loss, has_aux=True)(
            params, xs, weights, lengths=lengths
        )
    )(params, alone)
    assert_close(total, (value, gradient), "float64")
    for place, n in enumerate(lengths):
        assert_close(outputs[place], np.asarray(ys)[:n, place], "float64", f"sequence {place}")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: pack(np.asarray([], int), 3), "lengths: got shape (0,), expected at least one"),
        (lambda s: pack(np.asarray([1, 4]), 3), "lengths: got 4 of example 1, expected 1..3"),
        (lambda s: pack(np.asarray([0]), 3), "lengths: got 0 of example 0, expected 1..3"),
        (lambda s: packed_batches(s, [], steps=T, batch_size=1), "sequences: got none"),
        (lambda s: packed_batches(s, ["xs"], steps=T, batch_size=0), "batch_size: got 0"),
        (
            lambda s: packed_batches(
                s.add_column("short", [[1]] * 20), ["xs", "short"], steps=T, batch_size=4
            ),
            "sequences: in example 0 'short' is not as long as 'xs'",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message, sequences):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        call(sequences)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
