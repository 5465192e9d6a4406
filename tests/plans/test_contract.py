"""Every plan computes what the reference computes: values and gradients, under every option."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.contract import DTYPES, EVERY_PAIR, FEW_PAIRS, LENGTHS, MOST_PAIRS, case, program
from support.tolerances import assert_close

import rnnjax

RECURRENCES = tuple(rnnjax.recurrences.REGISTRY)


@pytest.mark.parametrize("recurrence_name", RECURRENCES)
@pytest.mark.parametrize(
    ("dtype", "time_steps", "pairs"),
    [
        pytest.param("float64", 7, MOST_PAIRS, id="float64-7"),
        pytest.param("float64", 2, FEW_PAIRS, id="float64-2"),
        pytest.param("float64", 1, FEW_PAIRS, id="float64-1"),
        pytest.param("float32", 7, FEW_PAIRS, id="float32-7"),
        *(
            pytest.param(dtype, T, EVERY_PAIR, id=f"{dtype}-{T}-every", marks=pytest.mark.slow)
            for dtype in DTYPES
            for T in LENGTHS
        ),
    ],
)
def test_every_plan_equals_the_reference(recurrence_name, dtype, time_steps, pairs):
    this = case(rnnjax.recurrences.REGISTRY[recurrence_name], time_steps, dtype)
    run = program(recurrence_name, pairs)
    results = run(this)
    for plan, option in results:
        actual = results[plan, option]
        assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(actual))
        assert_close(actual, results["reference", option], dtype, f"{plan} {option}")
    _nothing_leaks_from_padding(run, this, dtype)
    _nothing_leaks_through_a_reset(run, this, dtype)


def _nothing_leaks_from_padding(run, this, dtype):
    """NaN in padding and in an unused row's carry changes no output and no other gradient."""
    padding = jnp.arange(len(this.xs), dtype=jnp.int32)[:, None] >= this.lengths
    spoiled = this._replace(
        xs=jnp.where(padding[:, :, None], jnp.nan, this.xs),
        carry=jax.tree.map(lambda c: c.at[0].set(jnp.nan), this.carry),  # row 0 has length 0
    )
    clean, results = run(this), run(spoiled)
    for plan, option in results:
        if not option.lengths:
            continue
        carry, ys = results[plan, option]["outputs"]
        clean_carry, clean_ys = clean[plan, option]["outputs"]
        assert_close(ys, clean_ys, dtype, f"{plan} {option}")
        for leaf, clean_leaf in zip(
            jax.tree.leaves(carry), jax.tree.leaves(clean_carry), strict=True
        ):
            assert np.isnan(leaf[0]).all()  # length 0 returns the initial carry as it is
            assert_close(leaf[1:], clean_leaf[1:], dtype, f"{plan} {option}")
        dparams, dxs, _ = results[plan, option]["gradients"]
        clean_dparams, clean_dxs, _ = clean[plan, option]["gradients"]
        assert_close((dparams, dxs), (clean_dparams, clean_dxs), dtype, f"{plan} {option}")
        assert not np.asarray(dxs)[np.asarray(padding)].any()


def _nothing_leaks_through_a_reset(run, this, dtype):
    """With a reset where a row begins to run, NaN in its carry changes nothing at all."""
    at_both_ends = this.resets.at[0].set(True).at[-1].set(True)
    this = this._replace(resets=at_both_ends, lengths=jnp.full_like(this.lengths, len(this.xs)))
    spoiled = this._replace(carry=jax.tree.map(lambda c: jnp.full_like(c, jnp.nan), this.carry))
    clean, results = run(this), run(spoiled)
    for plan, option in results:
        if option.resets:
            assert_close(results[plan, option], clean[plan, option], dtype, f"{plan} {option}")
