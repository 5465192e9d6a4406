"""What must hold of any recurrence run along time; the contract suite carries it to every plan."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.contract import BATCH, EVERY_OPTION, HIDDEN, INPUT, Options, case, outputs, program
from support.tolerances import assert_close

import rnnjax

RECURRENCES = tuple(rnnjax.recurrences.REGISTRY.values())
PLANS = tuple(rnnjax.plans.REGISTRY)
DTYPE = "float64"
T = 7

each_recurrence = pytest.mark.parametrize("recurrence", RECURRENCES, ids=lambda r: r.name)


def scan(recurrence, this, xs, carry=None, **options):
    return rnnjax.scan(recurrence, this.params, xs, carry, plan="reference", **options)


@each_recurrence
def test_streaming_equals_whole(recurrence):
    this = case(recurrence, T, DTYPE)
    whole = scan(recurrence, this, this.xs, this.carry)
    middle, early = scan(recurrence, this, this.xs[:4], this.carry)
    carry, late = scan(recurrence, this, this.xs[4:], middle)
    assert_close((carry, jnp.concatenate([early, late])), whole, DTYPE)

    carry, ys, one = this.carry, [], jax.jit(rnnjax.one_step, static_argnums=0)
    for x in this.xs:
        carry, y = one(recurrence, this.params, carry, x)
        ys.append(y)
    assert_close((carry, jnp.stack(ys)), whole, DTYPE)


@each_recurrence
def test_reverse_is_flip(recurrence):
    this = case(recurrence, T, DTYPE)
    carry, ys = scan(recurrence, this, this.xs, this.carry, resets=this.resets, reverse=True)
    flipped = scan(recurrence, this, this.xs[::-1], this.carry, resets=this.resets[::-1])
    assert_close((carry, ys[::-1]), flipped, DTYPE)


@each_recurrence
@pytest.mark.parametrize("reverse", [False, True])
def test_a_row_of_a_given_length_is_that_row_alone(recurrence, reverse):
    this = case(recurrence, T, DTYPE)
    carry, ys = scan(recurrence, this, this.xs, this.carry, lengths=this.lengths, reverse=reverse)
    for row, length in enumerate(np.asarray(this.lengths)):
        alone = jax.tree.map(lambda c, row=row: c[row : row + 1], this.carry)
        expected_ys = jnp.zeros_like(ys[:0, :1])
        if length:
            xs = this.xs[:length, row : row + 1]
            alone, expected_ys = scan(recurrence, this, xs, alone, reverse=reverse)
        got = jax.tree.map(lambda c, row=row: c[row : row + 1], carry)
        assert_close((got, ys[:length, row : row + 1]), (alone, expected_ys), DTYPE)
        assert not np.asarray(ys[length:, row]).any()


@each_recurrence
@pytest.mark.parametrize("reverse", [False, True])
def test_packed_with_resets_equals_separate_rows(recurrence, reverse):
    this = case(recurrence, T, DTYPE)
    starts = jnp.zeros((T, BATCH), bool).at[jnp.array([0, 4])].set(True)
    resets = rnnjax.sequence_ends(starts) if reverse else starts
    # The carry brought along is another's: the resets must clear it.
    _, packed = scan(recurrence, this, this.xs, this.carry, resets=resets, reverse=reverse)
    _, early = scan(recurrence, this, this.xs[:4], reverse=reverse)
    _, late = scan(recurrence, this, this.xs[4:], reverse=reverse)
    assert_close(packed, jnp.concatenate([early, late]), DTYPE)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", ["lstm", "gru_reset_before"])
def test_any_number_of_batch_axes(name, plan):
    recurrence = rnnjax.recurrences.REGISTRY[name]
    two, none = case(recurrence, T, DTYPE), case(recurrence, T, DTYPE)
    options = Options(lengths=True, resets=True, reverse=True)
    carry, ys = outputs(recurrence, plan, options, two)

    def split(array, axis):  # a batch of 3 as a batch of (3, 1)
        return jnp.expand_dims(array, axis + 1)

    apart = two._replace(
        xs=split(two.xs, 1),
        carry=jax.tree.map(lambda c: split(c, 0), two.carry),
        lengths=split(two.lengths, 0),
        resets=split(two.resets, 1),
    )
    expected = jax.tree.map(lambda c: split(c, 0), carry), split(ys, 1)
    assert_close(outputs(recurrence, plan, options, apart), expected, DTYPE)

    for row in range(BATCH):
        alone = none._replace(
            xs=none.xs[:, row],
            carry=jax.tree.map(lambda c, row=row: c[row], none.carry),
            lengths=none.lengths[row],
            resets=none.resets[:, row],
        )
        expected = jax.tree.map(lambda c, row=row: c[row], carry), ys[:, row]
        assert_close(outputs(recurrence, plan, options, alone), expected, DTYPE)


@pytest.mark.parametrize(
    "plan",
    [
        rnnjax.plans.fused_by(2),
        rnnjax.plans.fused_by(3),
        rnnjax.plans.unrolled_by(3),
        rnnjax.plans.checkpointed_in(1),
        rnnjax.plans.checkpointed_in(2),
        rnnjax.plans.checkpointed_in(100),
    ],
    ids=lambda plan: plan.name,
)
def test_a_plan_with_options_equals_the_reference(plan):
    """Whole segments, a remainder, one segment for all, more segments than steps."""
    this = case(rnnjax.lstm, T, DTYPE)
    few = EVERY_OPTION if plan.name == "fused_by(3)" else EVERY_OPTION[::7]
    pairs = tuple((p, option) for option in few for p in ("reference", plan))
    results = program("lstm", pairs)(this)
    for p, option in pairs:
        assert_close(results[p, option], results["reference", option], DTYPE, f"{p} {option}")


@pytest.mark.parametrize("plan", PLANS)
def test_one_trace_for_repeated_calls_of_one_shape(plan):
    traces = []

    def counted(params, carry, z):
        traces.append(None)
        return rnnjax.gru.step(params, carry, z)

    recurrence = dataclasses.replace(rnnjax.gru, step=counted, mix=None, gate=None)
    this = case(recurrence, 3, DTYPE)
    options = Options(lengths=True, resets=False, reverse=False)
    outputs(recurrence, plan, options, this)
    once = len(traces)
    assert once > 0
    for seed in (1, 2, 3):
        other = case(recurrence, 3, DTYPE, seed)
        outputs(recurrence, plan, options, other._replace(lengths=jnp.array([3, 0, 1], jnp.int32)))
    assert len(traces) == once


def test_a_factory_gives_one_plan_for_one_option():
    assert rnnjax.plans.unrolled_by(4) is rnnjax.plans.unrolled_by(4)
    assert rnnjax.plans.checkpointed_in(4) is rnnjax.plans.checkpointed_in(4)
    assert rnnjax.plans.fused_by(4) is rnnjax.plans.fused_by(4)


@pytest.mark.parametrize("plan", PLANS)
def test_vmap_over_parameters_equals_one_after_another(plan):
    first, second = case(rnnjax.gru, 3, DTYPE, 0), case(rnnjax.gru, 3, DTYPE, 1)

    def gradient(params, xs):
        return jax.grad(lambda p: jnp.sum(jnp.sin(rnnjax.scan(rnnjax.gru, p, xs, plan=plan)[1])))(
            params
        )

    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second)
    together = jax.vmap(gradient)(both.params, both.xs)
    one = jax.jit(gradient)
    separately = [one(c.params, c.xs) for c in (first, second)]
    assert_close(together, jax.tree.map(lambda *g: jnp.stack(g), *separately), DTYPE)


def test_an_initial_carry_of_the_parameters_is_learned_through_resets():
    """A reset puts back `initial_carry(params)`: its gradient reaches the parameters."""

    def learned_carry(params, batch_shape):
        return jnp.broadcast_to(jnp.tanh(params.b[:HIDDEN]), (*batch_shape, HIDDEN))

    recurrence = dataclasses.replace(rnnjax.minimal_gru, initial_carry=learned_carry)
    this = case(recurrence, T, DTYPE)

    def gradient(params, plan):
        def loss(p):
            masks = {"lengths": this.lengths, "resets": this.resets}
            return jnp.sum(jnp.sin(rnnjax.scan(recurrence, p, this.xs, plan=plan, **masks)[1]))

        return jax.grad(loss)(params)

    expected = gradient(this.params, "reference")
    for plan in PLANS[1:]:
        assert_close(gradient(this.params, plan), expected, DTYPE, plan)


def test_lengths_may_be_unknown_while_tracing():
    this = case(rnnjax.elman, 3, DTYPE)

    @jax.jit
    def traced(lengths):
        return rnnjax.scan(rnnjax.elman, this.params, this.xs, lengths=lengths, plan="reference")

    beyond = jnp.array([-2, 3, 9], jnp.int32)
    within = jnp.array([0, 3, 3], jnp.int32)
    expected = rnnjax.scan(rnnjax.elman, this.params, this.xs, lengths=within, plan="reference")
    assert_close(traced(beyond), expected, DTYPE)
    assert this.xs.shape == (3, BATCH, INPUT)
