from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.layers.dropout import dropout_mask, per_sequence

RATE = 0.3


def test_units_are_dropped_at_the_rate_and_the_mean_is_one():
    mask = np.asarray(dropout_mask(jax.random.key(0), RATE, (200, 500), dtype=jnp.float64))
    np.testing.assert_array_equal(np.unique(mask), [0, 1 / (1 - RATE)])
    deviation = np.sqrt(RATE * (1 - RATE) / mask.size)
    assert abs((mask == 0).mean() - RATE) < 4 * deviation
    assert abs(mask.mean() - 1) < 4 * deviation / (1 - RATE)
    # Independent: neighbours along either axis do not go together.
    for one, other in ((mask[1:], mask[:-1]), (mask[:, 1:], mask[:, :-1])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 4 / np.sqrt(mask.size)


def test_a_rate_of_zero_drops_nothing():
    np.testing.assert_array_equal(dropout_mask(jax.random.key(0), 0, (3, 2)), 1)


def test_the_dtype_does_not_change_what_is_dropped():
    key = jax.random.key(1)
    masks = [dropout_mask(key, 0.5, (9, 9), dtype=d) for d in ("float64", "float32", "bfloat16")]
    assert [mask.dtype.name for mask in masks] == ["float64", "float32", "bfloat16"]
    for mask in masks:
        np.testing.assert_array_equal(mask.astype(jnp.float64), masks[0])


def test_each_sequence_of_a_row_keeps_the_mask_of_its_first_step():
    time_steps, batch, size = 7, 3, 2
    masks = dropout_mask(jax.random.key(2), RATE, (time_steps, batch, size))
    masks *= jnp.arange(1.0, masks.size + 1, dtype=masks.dtype).reshape(masks.shape)  # all differ
    starts = np.zeros((time_steps, batch), bool)
    starts[[0, 3], 0] = starts[[2, 3, 6], 1] = True  # row 2 is marked nowhere
    held = per_sequence(masks, jnp.asarray(starts))
    for row in range(batch):
        first = 0
        for t in range(time_steps):
            first = t if starts[t, row] else first
            np.testing.assert_array_equal(held[t, row], masks[first, row])


def test_bad_arguments_are_refused():
    key = jax.random.key(0)
    for rate in (-0.1, 1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"rate: got .*, expected 0 ≤ rate < 1"):
            dropout_mask(key, rate, (2,))
    no_numbers: tuple[Any, ...] = (True, "0.1", None)
    for rate in no_numbers:
        with pytest.raises(TypeError, match=r"rate: got .*, expected a number"):
            dropout_mask(key, rate, (2,))
    with pytest.raises(TypeError, match="dtype: got int32, expected a floating dtype"):
        dropout_mask(key, 0.1, (2,), dtype=jnp.int32)
    with pytest.raises(TypeError, match="starts: got dtype int32, expected bool"):
        per_sequence(jnp.ones((3, 2)), jnp.zeros(3, jnp.int32))
    with pytest.raises(ValueError, match=r"starts: got shape \(4,\), expected \(3,\)"):
        per_sequence(jnp.ones((3, 2)), jnp.zeros(4, bool))
