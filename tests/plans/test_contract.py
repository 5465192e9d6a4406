"""Every plan computes what the reference computes: values and gradients, under every option."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.contract import (
    DTYPES,
    LENGTHS,
    case,
    every_pair,
    few_pairs,
    fewest_pairs,
    most_pairs,
    native_pairs,
    program,
    serving,
)
from support.tolerances import assert_close

import rnnjax
from rnnjax.plans.native import KERNELS

RECURRENCES = tuple(rnnjax.recurrences.REGISTRY)

# One of each form a plan can find: a sum before the gates, both summands apart, no split at all,
# linear in the carry.
ONE_OF_EACH_FORM = ("lstm", "gru", "gru_reset_before", "gated_diagonal")


def cases():
    """What runs always, and what `make test-all` adds, see docs/decisions/0007."""
    for name in RECURRENCES:
        if name in ONE_OF_EACH_FORM:
            yield pytest.param(name, "float64", 7, few_pairs, id=f"{name}-float64-7")
            marks = () if name in ("lstm", "gated_diagonal") else pytest.mark.slow
            yield pytest.param(name, "float64", 1, few_pairs, id=f"{name}-float64-1", marks=marks)
        else:
            pairs = most_pairs if name == "elman" else fewest_pairs
            # A convolution over two axes is the code of that over one.
            marks = pytest.mark.slow if name == "conv_lstm_2d" else ()
            yield pytest.param(name, "float64", 5, pairs, id=f"{name}-float64-5", marks=marks)
        if rnnjax.recurrences.REGISTRY[name] in KERNELS:
            yield pytest.param(name, "float32", 5, native_pairs, id=f"{name}-float32-5-native")
        for dtype in DTYPES:
            for T in LENGTHS:
                yield pytest.param(
                    name,
                    dtype,
                    T,
                    every_pair,
                    id=f"{name}-{dtype}-{T}-every",
                    marks=pytest.mark.slow,
                )


@pytest.mark.parametrize(("recurrence_name", "dtype", "time_steps", "choose_pairs"), list(cases()))
def test_every_plan_equals_the_reference(recurrence_name, dtype, time_steps, choose_pairs):
    recurrence = rnnjax.recurrences.REGISTRY[recurrence_name]
    this = case(recurrence, time_steps, dtype)
    run = program(recurrence_name, choose_pairs(serving(recurrence, dtype)))
    results = run(this)
    for plan, option in results:
        actual = results[plan, option]
        assert all(
            leaf.dtype in (dtype, np.result_type(dtype, "complex64"))
            for leaf in jax.tree.leaves(actual)
        )
        assert_close(actual, results["reference", option], dtype, f"{plan} {option}")
    _nothing_leaks_from_padding(run, this, dtype)
    _nothing_leaks_through_a_reset(run, this, dtype)


def _nothing_leaks_from_padding(run, this, dtype):
    """NaN in padding and in an unused row's carry changes no output and no other gradient."""
    padding = jnp.arange(len(this.xs), dtype=jnp.int32)[:, None] >= this.lengths
    spoiled = this._replace(
        xs=jnp.where(padding.reshape(*padding.shape, *(1,) * (this.xs.ndim - 2)), jnp.nan, this.xs),
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
