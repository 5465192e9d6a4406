"""What the fused plan keeps, and how it finds out what it need not keep."""

import jax
import jax.numpy as jnp
import pytest
from support.contract import BATCH, HIDDEN, INPUT, case

import rnnjax
from rnnjax.plans import fused
from rnnjax.plans.aliases import first_equal_output, used_only_as_sum
from rnnjax.plans.protocol import Inputs

NUMBERS_A_ROW_AND_STEP = {
    "elman": HIDDEN,
    "elman_relu": HIDDEN,
    "minimal_gru": 2 * HIDDEN,
    "gru": 6 * HIDDEN,
    "gru_reset_before": 3 * HIDDEN,
    "lstm": 5 * HIDDEN,
    "gated_diagonal": 2 * HIDDEN,
    "min_gru": 2 * HIDDEN,
    "min_lstm": 2 * HIDDEN,
    "sru": 5 * HIDDEN,
    "sru_linear": 5 * HIDDEN,
    "qrnn": 10 * HIDDEN,
    "lru": 2 * HIDDEN + INPUT,  # complex those of H
    "rg_lru": 2 * HIDDEN,
    "mlstm": HIDDEN**2 + 5 * HIDDEN + 3,  # of one head
    "lstm_peephole": 5 * HIDDEN,
    "lstm_projected": 5 * HIDDEN,
    "lstm_layer_norm": 5 * HIDDEN,
    "gru_layer_norm": 3 * HIDDEN,
    "indrnn": HIDDEN,
    "conv_lstm_1d": 8 * 5 * HIDDEN,
    "conv_lstm_2d": 64 * 5 * HIDDEN,
    "slstm": 7 * HIDDEN,
}


@pytest.mark.parametrize("name", rnnjax.recurrences.REGISTRY)
def test_it_keeps_what_it_says(name):
    """The figures of `Saved` and of the guide."""
    recurrence = rnnjax.recurrences.REGISTRY[name]
    this = jax.eval_shape(lambda: case(recurrence, 8, "float32"))
    inputs = Inputs(this.xs, this.carry, this.carry, None, None)
    _, (*_, saved) = jax.eval_shape(
        lambda params, inputs: fused._fused_forward("", recurrence, False, 4, params, inputs),
        this.params,
        inputs,
    )
    size = sum(leaf.size for leaf in jax.tree.leaves(saved))
    assert size == 8 * BATCH * NUMBERS_A_ROW_AND_STEP[name]


def test_equal_outputs_are_found_by_identity_not_by_value():
    def function(a, b):
        total = a + b
        return total, a + b, total, a

    ones = jnp.ones(3)
    assert first_equal_output(function, ones, ones) == (0, 1, 0, 3)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda z, m: jnp.tanh(z + m), True),
        (lambda z, m: jnp.tanh(m + z) * 2, True),
        (lambda z, m: jnp.tanh(z + m) + z, False),
        (lambda z, m: jnp.tanh(z - m), False),
        (lambda z, m: z + 2 * m, False),
        (lambda z, m: (z + m, m), False),
        (lambda z, m: jnp.tanh(z + z) + m, False),
        (lambda z, m: jnp.tanh(z), False),
    ],
)
def test_a_sum_is_recognised_only_where_nothing_else_is_read(function, expected):
    ones = jnp.ones(3)
    assert used_only_as_sum(function, ones, ones) is expected


def test_a_sum_that_broadcasts_is_not_one():
    assert not used_only_as_sum(lambda z, m: z + m, jnp.ones(3), jnp.ones(()))
