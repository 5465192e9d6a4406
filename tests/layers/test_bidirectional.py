import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import assert_close

import rnnjax
from rnnjax.layers.bidirectional import (
    BidirectionalParams,
    add,
    average,
    concatenate,
    init_bidirectional,
    initial_bidirectional_carry,
    multiply,
    scan_bidirectional,
)
from rnnjax.recurrences.elman import ElmanParams
from rnnjax.recurrences.lstm import LSTMParams

T, B, I, H = 6, 3, 2, 4  # noqa: E741
PAIR = (rnnjax.gru, rnnjax.elman)
LENGTHS = np.array([6, 0, 4])
DTYPE = "float64"


LEVEL_0 = {"xla_backend_optimization_level": 0}  # compiled in less time, to the same values


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(
        lambda: init_bidirectional(jax.random.key(0), PAIR, I, H, dtype=jnp.float64)
    )
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), shapes)


@pytest.fixture(scope="module")
def xs():
    return jax.random.normal(jax.random.key(1), (T, B, I), jnp.float64)


@pytest.fixture(scope="module")
def carries():
    """A carry and a fresh carry of both directions, none of them zero."""
    draw = jax.random.normal(jax.random.key(2), (4, B, H), jnp.float64)
    return (draw[0], draw[1]), (draw[2], draw[3])


def scan(params, xs, carry=None, **options):
    return scan_bidirectional(PAIR, params, xs, carry, plan="reference", **options)


def test_it_is_the_merge_of_two_scans_of_which_one_starts_at_each_rows_end(params, xs, carries):
    """Against Python's own loops over the sequences of each row, from both sides."""
    start, fresh = carries
    starts = jnp.zeros((T, B), bool).at[2, 0].set(True).at[3, 2].set(True)
    options = {"lengths": LENGTHS, "resets": starts, "fresh_carry": fresh}
    carry, ys = scan(params, xs, start, **options)
    step = jax.jit(rnnjax.one_step, static_argnums=0)
    expected = np.zeros((T, B, 2 * H))
    for row, length in enumerate(LENGTHS):
        forward, backward = start[0][row], start[1][row]
        for t in range(length):
            if starts[t, row]:
                forward = fresh[0][row]
            forward, expected[t, row, :H] = step(PAIR[0], params.forward, forward, xs[t, row])
        for t in reversed(range(length)):
            if t == length - 1 or starts[t + 1, row]:
                backward = fresh[1][row]
            backward, expected[t, row, H:] = step(PAIR[1], params.backward, backward, xs[t, row])
        assert_close((carry[0][row], carry[1][row]), (forward, backward), DTYPE, f"row {row}")
    assert_close(ys, expected, DTYPE)


def test_packed_sequences_are_read_as_if_each_stood_alone(params, xs):
    """What follows a sequence in its row has no influence on it, nor on its gradient."""
    starts = jnp.zeros((T, B), bool).at[3].set(True)

    def first_sequence(xs):
        return scan(params, xs, resets=starts)[1][:3]

    _, alone = scan(params, xs[:3])
    first, vjp = jax.vjp(first_sequence, xs)
    assert_close(first, alone, DTYPE)
    (dxs,) = vjp(jnp.ones_like(first))
    assert np.all(np.asarray(dxs[:3]) != 0)
    assert not np.asarray(dxs[3:]).any()


def test_reversing_time_and_exchanging_the_directions_changes_nothing(params, xs, carries):
    carry, ys = scan(params, xs, carries[0])
    exchanged = BidirectionalParams(params.backward, params.forward)
    back_to_front, flipped = scan_bidirectional(
        (PAIR[1], PAIR[0]), exchanged, xs[::-1], carries[0][::-1], plan="reference"
    )
    ahead, behind = jnp.split(flipped[::-1], 2, axis=-1)
    assert_close((back_to_front[::-1], jnp.concatenate([behind, ahead], -1)), (carry, ys), DTYPE)


def test_a_merge_is_of_both_outputs_and_zero_past_a_length(params, xs):
    merges = {
        add: np.add,
        multiply: np.multiply,
        average: lambda a, b: (a + b) / 2,
        lambda a, b: jnp.cos(a) + b: lambda a, b: np.cos(a) + b,  # one's own; not zero at zeros
    }

    @partial(jax.jit, compiler_options=LEVEL_0)
    def by_each(xs):
        return [
            scan(params, xs, lengths=LENGTHS, merge=merge)[1] for merge in (concatenate, *merges)
        ]

    both, *merged = by_each(xs)
    for ys, by_numpy in zip(merged, merges.values(), strict=True):
        expected = by_numpy(*np.split(np.asarray(both), 2, axis=-1))
        for row, length in enumerate(LENGTHS):
            expected[length:, row] = 0
        assert_close(ys, expected, DTYPE)


def test_padding_of_nan_reaches_neither_values_nor_gradients(params, xs):
    past = jnp.arange(T)[:, None] >= LENGTHS

    def loss(params, xs):
        return jnp.sum(jnp.sin(scan(params, xs, lengths=LENGTHS, merge=multiply)[1]))

    value = jax.jit(jax.value_and_grad(loss, (0, 1)), compiler_options=LEVEL_0)
    poisoned = value(params, jnp.where(past[..., None], jnp.nan, xs))
    assert_close(poisoned, value(params, xs), DTYPE)
    assert np.isfinite(np.asarray(poisoned[0]))


def test_inputs_of_16_bits_give_outputs_of_16_bits_near_those_of_64(params, xs):
    low = xs.astype(jnp.bfloat16)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)

    @partial(jax.jit, compiler_options=LEVEL_0)
    def both():
        options = {"lengths": LENGTHS, "merge": average}
        return scan(single, low, **options), scan(params, low.astype(jnp.float64), **options)

    (carry, ys), (_, exact) = both()
    assert {leaf.dtype for leaf in jax.tree.leaves((carry, ys))} == {jnp.dtype(jnp.bfloat16)}
    assert_close(ys, exact, "bfloat16")


def test_each_direction_begins_with_weights_and_a_carry_of_its_own():
    def init(key, *sizes, dtype):
        return jax.random.key_data(key), (*sizes, dtype)

    probe = dataclasses.replace(rnnjax.elman, init=init)
    (key, sizes), (other_key, other_sizes) = init_bidirectional(
        jax.random.key(0), probe, I, H, dtype="float64"
    )
    assert not np.array_equal(key, other_key)
    assert sizes == other_sizes == (I, H, "float64")

    w_h = jnp.zeros((H, H))
    of_both = BidirectionalParams(LSTMParams(w_h, w_h, w_h), ElmanParams(w_h, w_h, w_h))
    carry = initial_bidirectional_carry((rnnjax.lstm, rnnjax.elman), of_both, (B,))
    zero = np.zeros((B, H))
    assert_close(carry, ((zero, zero), zero), DTYPE)


def test_bad_arguments_are_refused(params, xs):
    with pytest.raises(TypeError, match=r"recurrences: got .*, expected a Recurrence or a pair"):
        init_bidirectional(jax.random.key(0), (rnnjax.gru,), I, H)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="params: got GRUParams, expected BidirectionalParams"):
        scan(params.forward, xs)
    with pytest.raises(ValueError, match="carry: got 3 carries, expected a forward and a backward"):
        scan(params, xs, (None, None, None))
    with pytest.raises(ValueError, match="fresh_carry: got ArrayImpl, expected a forward and"):
        scan(params, xs, fresh_carry=jnp.zeros((B, H)))
    with pytest.raises(ValueError, match="lengths: got 7, expected values within 0 … 6"):
        scan(params, xs, lengths=np.array([1, 7, 2]))
    with pytest.raises(ValueError, match=r"merge: gives shape .*, expected .* to come first"):
        scan(params, xs, merge=lambda a, b: a[0])
    with pytest.raises(ValueError, match=r"carry: got shape \(3, 5\)") as refused:
        scan(params, xs, (jnp.zeros((B, H)), jnp.zeros((B, H + 1))))
    assert "In the backward direction." in refused.value.__notes__
    wider = BidirectionalParams(
        params.forward, rnnjax.elman.init(jax.random.key(0), I, H + 1, dtype=jnp.float64)
    )
    with pytest.raises(ValueError, match="merge: got outputs of sizes 4 and 5, expected one size"):
        scan(wider, xs, merge=add)
