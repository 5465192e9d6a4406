import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.contract import BATCH, HIDDEN, INPUT, case
from support.tolerances import assert_close

import rnnjax
from rnnjax.layers.initial_carry import broadcast_carry, init_learned_carry
from rnnjax.recurrences.elman import ElmanParams

T = 6
DTYPE = "float64"
LEVEL_0 = {"xla_backend_optimization_level": 0}

# Every output and the last carry is the carry that the sequence began with.
keeping = dataclasses.replace(
    rnnjax.elman, step=lambda params, h, z: (h + 0 * z, h + 0 * z), mix=None, gate=None
)


@pytest.mark.parametrize("plan", ["reference", "fused"])
def test_the_gradient_counts_the_steps_of_every_sequence(plan):
    """Where the carry is kept, ∂ Σ ys / ∂ learned is the number of valid steps, in each unit."""
    lengths = np.array([0, 6, 4])
    resets = jnp.zeros((T, BATCH), bool).at[2, 1].set(True).at[5, 1].set(True).at[5, 2].set(True)
    params = ElmanParams(jnp.ones((INPUT, HIDDEN)), jnp.ones((HIDDEN, HIDDEN)), jnp.ones(HIDDEN))
    xs = jnp.ones((T, BATCH, INPUT))

    def outputs(first, again):
        return rnnjax.scan(
            keeping,
            params,
            xs,
            broadcast_carry(first, (BATCH,)),
            fresh_carry=broadcast_carry(again, (BATCH,)),
            lengths=lengths,
            resets=resets,
            plan=plan,
        )

    first, again = jnp.full(HIDDEN, 2.0), jnp.full(HIDDEN, 3.0)
    (carry, ys), vjp = jax.vjp(outputs, first, again)
    np.testing.assert_array_equal(carry[:, 0], [2, 3, 2])
    np.testing.assert_array_equal(ys[:, 1, 0], [2, 2, 3, 3, 3, 3])
    nothing, one = jax.tree.map(jnp.zeros_like, (carry, ys)), jnp.ones(HIDDEN)
    # Row 0 has no step, row 1 two before its first reset and four after, row 2 four.
    assert_close(vjp((nothing[0], jnp.ones_like(ys))), (6 * one, 4 * one), DTYPE)
    # The last carries: those of rows 0 and 2 began with the first, that of row 1 with a reset.
    assert_close(vjp((jnp.ones_like(carry), nothing[1])), (2 * one, 1 * one), DTYPE)


def test_a_learned_carry_begins_as_the_recurrences_own_and_its_gradient_is_exact():
    """The gradient along a direction is the difference of two losses by it, in forward mode."""
    this = case(rnnjax.minimal_gru, T, DTYPE)
    learned = init_learned_carry(rnnjax.minimal_gru, this.params)
    assert_close(learned, jnp.zeros(HIDDEN), DTYPE)
    direction = jnp.cos(jnp.arange(HIDDEN, dtype=learned.dtype))
    options = {"lengths": this.lengths, "resets": this.resets}

    def loss(learned, plan):
        own = broadcast_carry(learned, (BATCH,))
        carry, ys = rnnjax.scan(
            rnnjax.minimal_gru, this.params, this.xs, own, fresh_carry=own, plan=plan, **options
        )
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves((carry, ys)))

    @partial(jax.jit, compiler_options=LEVEL_0)
    def everything(learned):
        unlearned = rnnjax.scan(
            rnnjax.minimal_gru, this.params, this.xs, plan="reference", **options
        )
        value = sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(unlearned))
        forward = jax.jvp(partial(loss, plan="reference"), (learned,), (direction,))
        return value, forward, jax.grad(loss)(learned, "fused")

    value, (same_value, along), gradient = everything(learned)
    assert_close(same_value, value, DTYPE)
    assert_close(jnp.vdot(gradient, direction), along, DTYPE)
    assert abs(along) > 1e-2


def test_any_number_of_batch_axes_and_none():
    learned = {"h": jnp.arange(3.0)}
    assert broadcast_carry(learned, ())["h"].shape == (3,)
    np.testing.assert_array_equal(broadcast_carry(learned, (2, 1))["h"], [[[0, 1, 2]]] * 2)
    with pytest.raises(TypeError, match="batch_shape: got 3, expected a tuple of integers"):
        broadcast_carry(learned, 3)  # pyright: ignore[reportArgumentType]
