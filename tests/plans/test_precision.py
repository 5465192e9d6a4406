"""Inputs of 16 bits: outputs of 16 bits, sums in float32, on every plan."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.contract import FEW_OPTIONS, Options, case, normal, serving, with_gradients
from support.tolerances import TOLERANCES, assert_close

import rnnjax

LOW = "bfloat16"
WITH_MASKS = FEW_OPTIONS[-1]


def rounded(tree: Any, dtype: str) -> Any:
    """Floating leaves through bfloat16, so that all precisions begin with the same numbers."""

    def leaf(a: Any) -> Any:
        return a.astype(LOW).astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a

    return jax.tree.map(leaf, tree)


@pytest.mark.parametrize(
    "name",
    [
        "elman",
        pytest.param("lstm", marks=pytest.mark.slow),
        pytest.param("gru_reset_before", marks=pytest.mark.slow),
        "gated_diagonal",
    ],
)
def test_16_bits_in_16_bits_out_on_every_plan(name):
    recurrence = rnnjax.recurrences.REGISTRY[name]
    exact = rounded(case(recurrence, 3, "float64"), "float64")
    low = rounded(exact, LOW)
    mixed = low._replace(params=rounded(exact.params, "float32"))
    plans = serving(recurrence, LOW)

    def run(exact, low, mixed):
        expected = with_gradients(recurrence, "reference", WITH_MASKS, exact)
        return expected, {
            plan: [with_gradients(recurrence, plan, WITH_MASKS, this) for this in (low, mixed)]
            for plan in plans
        }

    # As in the contract suite: what a plan computes does not depend on how hard LLVM tries.
    compiled = jax.jit(run, compiler_options={"xla_backend_optimization_level": 0})
    expected, results = compiled(exact, low, mixed)
    for plan, (of_low, of_mixed) in results.items():
        assert {leaf.dtype.name for leaf in jax.tree.leaves(of_low)} == {LOW}, plan
        dparams, *others = of_mixed["gradients"]
        assert {leaf.dtype.name for leaf in jax.tree.leaves(dparams)} == {"float32"}, plan
        others = (others, of_mixed["outputs"])
        assert {leaf.dtype.name for leaf in jax.tree.leaves(others)} == {LOW}, plan
        assert_close(of_low, expected, LOW, f"{plan} low")
        assert_close(of_mixed, expected, LOW, f"{plan} mixed")


def test_a_gradient_of_many_steps_is_summed_in_float32():
    """A sum of ones in bfloat16 ends at 256."""
    T = 2000
    this = case(rnnjax.elman, T, "float64")
    plans, params_dtypes = ("reference", "fused", "checkpointed"), ("float32", LOW)

    def gradient(plan, params, xs):
        def loss(params):
            return jnp.sum(rnnjax.scan(rnnjax.elman, params, xs, plan=plan)[1].astype("float32"))

        return jax.grad(loss)(params)

    def run(params, xs):
        low = xs.astype(LOW)
        results = {
            (plan, dtype): gradient(plan, type(params)(*(a.astype(dtype) for a in params)), low)
            for plan in plans
            for dtype in params_dtypes
        }
        return gradient("reference", params, xs), results

    compiled = jax.jit(run, compiler_options={"xla_backend_optimization_level": 0})
    expected, results = compiled(this.params, this.xs[:, :1])
    assert float(jnp.max(jnp.abs(expected.b))) > 512
    for (plan, dtype), actual in results.items():
        assert {leaf.dtype.name for leaf in actual} == {dtype}
        assert_close(actual, expected, LOW, f"{plan} {dtype}")


def test_a_carry_of_float32_goes_on_exactly_between_pieces_of_16_bits():
    params = rnnjax.lstm.init(jax.random.key(0), 4, 5)
    xs = normal(np.random.default_rng(0), jax.ShapeDtypeStruct((9, 3, 4), LOW))
    start = rnnjax.lstm.initial_carry(params, (3,))
    whole, ys = rnnjax.scan(rnnjax.lstm, params, xs, start)
    middle, early = rnnjax.scan(rnnjax.lstm, params, xs[:5], start)
    assert {leaf.dtype.name for leaf in (*whole, *middle)} == {"float32"}
    carry, late = rnnjax.scan(rnnjax.lstm, params, xs[5:], middle)
    assert_close(carry, whole, "float32")
    np.testing.assert_array_equal(jnp.concatenate([early, late]), ys)
    for x in xs[5:]:
        middle, y = rnnjax.one_step(rnnjax.lstm, params, middle, x)
        assert y.dtype == LOW
    assert_close(middle, whole, "float32")


def test_the_accumulation_dtype_is_a_choice():
    this = case(rnnjax.gru, 5, "float32")
    options = Options(lengths=False, resets=False, reverse=False)
    exact = jax.tree.map(lambda a: a.astype("float64") if a.dtype == "float32" else a, this)
    expected = with_gradients(rnnjax.gru, "reference", options, exact)["outputs"]

    def error(accumulation_dtype):
        _, ys = rnnjax.scan(
            rnnjax.gru, this.params, this.xs, this.carry, accumulation_dtype=accumulation_dtype
        )
        assert ys.dtype == "float32"
        return float(jnp.max(jnp.abs(ys.astype("float64") - expected[1])))

    assert error("float64") < error(None) < TOLERANCES["float32"]
    for refused in ("float16", "int32", "no dtype"):
        with pytest.raises(TypeError, match=r"^accumulation_dtype: got .*, expected a floating"):
            error(refused)
