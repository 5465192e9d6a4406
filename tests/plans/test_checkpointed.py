"""The checkpointed plans: values and gradients, and the memory they promise."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import pytest
from support.contract import FEW_OPTIONS, case, program
from support.tolerances import assert_close

import rnnjax
from rnnjax.plans.checkpointed import (
    Cut,
    checkpointed_nested,
    checkpointed_within,
    cut_by_levels,
    cut_within,
    held_bytes,
)
from rnnjax.plans.fused import STEPS_A_BLOCK, STEPS_A_PRODUCT
from rnnjax.plans.protocol import Inputs

BATCH, INPUT, HIDDEN = 8, 32, 32


def sizes(recurrence, time_steps):
    """Parameters and xs without values."""
    params = jax.eval_shape(lambda: recurrence.init(jax.random.key(0), INPUT, HIDDEN))
    return params, jax.ShapeDtypeStruct((time_steps, BATCH, INPUT), jnp.float32)


@lru_cache
def held(recurrence, time_steps):
    def count(params, xs):
        carry = recurrence.initial_carry(params, (BATCH,))
        counts.append(held_bytes(recurrence, params, Inputs(xs, carry, carry, None, None)))

    counts = []
    jax.eval_shape(count, *sizes(recurrence, time_steps))
    return counts[0]


def temporary_bytes(recurrence, plan, time_steps):
    def loss(params, xs):
        carry, _ = rnnjax.scan(recurrence, params, xs, plan=plan)
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(carry))

    lowered = jax.jit(jax.grad(loss, (0, 1))).lower(*sizes(recurrence, time_steps))
    # How buffers share memory is settled before LLVM has its turn.
    compiled = lowered.compile(compiler_options={"xla_backend_optimization_level": "0"})
    memory = compiled.memory_analysis()
    assert memory is not None
    return memory.temp_size_in_bytes


@pytest.mark.parametrize(
    ("time_steps", "options"),
    [
        (11, FEW_OPTIONS[2:]),
        *(pytest.param(T, FEW_OPTIONS, marks=pytest.mark.slow) for T in (7, 11, 32)),
    ],
)
def test_segments_of_segments_equal_the_reference(time_steps, options):
    """At 11 and 32 some are run twice again, at 7 and 11 there is a remainder."""
    this = case(rnnjax.lstm, time_steps, "float64")
    pairs = tuple(
        (plan, option) for option in options for plan in ("reference", checkpointed_nested(2))
    )
    results = program("lstm", pairs)(this)
    for plan, option in pairs:
        assert_close(results[plan, option], results["reference", option], "float64", f"{option}")


def test_sixteen_times_the_steps_take_about_four_times_the_memory():
    few, many = (temporary_bytes(rnnjax.lstm, "checkpointed", T) for T in (256, 4096))
    assert many < 5 * few
    assert many < temporary_bytes(rnnjax.lstm, "reference", 4096) / 10


def test_levels_keep_few_carries_and_few_steps():
    for time_steps in (1, 2, 7, 100, 1000, 4096, 10007):
        for levels in (1, 2, 3):
            cut = cut_by_levels(time_steps, levels)
            root = next(r for r in range(1, time_steps + 1) if r ** (levels + 1) >= time_steps)
            block = STEPS_A_BLOCK if root < STEPS_A_PRODUCT else STEPS_A_PRODUCT
            assert cut.slots + cut.length <= (levels + 1) * root + block
    assert cut_by_levels(4096, 1) == Cut(length=64, slots=64)


@pytest.mark.parametrize("name", ["lstm", "gru"])
@pytest.mark.parametrize("time_steps", [1024, pytest.param(4096, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "kept_part",
    [1, 16, pytest.param(2, marks=pytest.mark.slow), pytest.param(24, marks=pytest.mark.slow)],
)
def test_a_budget_is_kept(name, time_steps, kept_part):
    recurrence = rnnjax.recurrences.REGISTRY[name]
    count = held(recurrence, time_steps)
    budget = count.by_fused(time_steps) // kept_part
    assert (cut_within(time_steps, count, budget) is None) == (kept_part == 1)
    assert temporary_bytes(recurrence, checkpointed_within(budget), time_steps) <= budget


def test_a_budget_is_spent_on_the_fewest_levels_then_on_the_longest_segments():
    time_steps = 4096
    count = held(rnnjax.lstm, time_steps)
    cuts = [cut_within(time_steps, count, budget * 2**20) for budget in (32, 16, 4, 1)]
    assert cuts[0] is None
    lengths = [cut.length for cut in cuts if cut is not None]
    assert lengths == sorted(lengths, reverse=True)
    for budget, cut in zip((16, 4, 1), cuts[1:], strict=True):
        assert cut is not None
        assert count.by(cut) <= budget * 2**20
        assert cut.slots == -(-time_steps // cut.length)  # each carry: one level
    cut = cut_within(time_steps, count, 2**19)
    assert cut is not None
    assert cut.slots < time_steps // cut.length  # not each: more levels


def test_a_budget_that_cannot_be_kept_is_refused_with_the_least_that_can():
    time_steps = 100
    with pytest.raises(ValueError, match=r"bytes_limit: got 10, expected at least \d+ ") as error:
        jax.eval_shape(
            lambda params, xs: rnnjax.scan(rnnjax.lstm, params, xs, plan=checkpointed_within(10)),
            *sizes(rnnjax.lstm, time_steps),
        )
    least = int(str(error.value).split("at least ")[1].split()[0])
    count = held(rnnjax.lstm, time_steps)
    assert cut_within(time_steps, count, least) is not None
    with pytest.raises(ValueError, match=f"expected at least {least} "):
        cut_within(time_steps, count, least - 1)


def test_a_higher_derivative_is_refused_by_name():
    this = case(rnnjax.elman, 3, "float64")

    def last(xs):
        h, _ = rnnjax.scan(rnnjax.elman, this.params, xs, plan=checkpointed_nested(2))
        return jnp.sum(h)

    with pytest.raises(NotImplementedError, match="plan: 'checkpointed' has no forward-mode"):
        jax.jvp(last, (this.xs,), (this.xs,))
    with pytest.raises(NotImplementedError, match="plan: 'checkpointed' has no derivative of its"):
        jax.grad(lambda xs: jnp.sum(jax.grad(last)(xs)))(this.xs)


@pytest.mark.parametrize("value", [0, 1.5, True])
def test_a_factory_refuses_what_is_no_size(value):
    with pytest.raises(ValueError, match=r"levels: got .*, expected an integer of at least 1"):
        checkpointed_nested(value)
    with pytest.raises(ValueError, match=r"bytes_limit: got .*, expected an integer of at least 1"):
        checkpointed_within(value)
