"""What must hold of any recurrence run along time; the contract suite carries it to every plan."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.contract import (
    BATCH,
    EVERY_OPTION,
    HIDDEN,
    INPUT,
    Options,
    case,
    outputs,
    program,
    serving,
)
from support.tolerances import assert_close

import rnnjax

RECURRENCES = tuple(rnnjax.recurrences.REGISTRY.values())
DTYPE = "float64"
T = 7
COMPILED_FAST = {"xla_backend_optimization_level": 0}

# What follows from how a plan treats the carry, whatever it holds: one kind of carry each, and the
# rest in `make test-all`.
KINDS_OF_CARRY = ("gru", "lstm", "qrnn", "lru")
each_kind_of_carry = pytest.mark.parametrize(
    "recurrence",
    [
        pytest.param(r, id=r.name, marks=() if r.name in KINDS_OF_CARRY else pytest.mark.slow)
        for r in RECURRENCES
    ],
)


def scan(recurrence, this, xs, carry=None, **options):
    return rnnjax.scan(recurrence, this.params, xs, carry, plan="reference", **options)


@each_kind_of_carry
def test_streaming_equals_whole(recurrence):
    """In two pieces, and the last two steps one by one."""
    this = case(recurrence, T, DTYPE)

    def both(this):
        whole = scan(recurrence, this, this.xs, this.carry)
        carry, early = scan(recurrence, this, this.xs[:2], this.carry)
        carry, late = scan(recurrence, this, this.xs[2:-2], carry)
        ys = [*early, *late]
        for x in this.xs[-2:]:
            carry, y = rnnjax.one_step(recurrence, this.params, carry, x)
            ys.append(y)
        return (carry, jnp.stack(ys)), whole

    streamed, whole = jax.jit(both, compiler_options=COMPILED_FAST)(this)
    assert_close(streamed, whole, DTYPE)


@each_kind_of_carry
def test_reverse_is_flip(recurrence):
    this = case(recurrence, T, DTYPE)
    carry, ys = scan(recurrence, this, this.xs, this.carry, resets=this.resets, reverse=True)
    flipped = scan(recurrence, this, this.xs[::-1], this.carry, resets=this.resets[::-1])
    assert_close((carry, ys[::-1]), flipped, DTYPE)


@each_kind_of_carry
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


@each_kind_of_carry
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


def served(*names):
    """Each of the recurrences with each plan that serves it."""
    return [
        pytest.param(name, plan, id=f"{name}-{plan}")
        for name in names
        for plan in serving(rnnjax.recurrences.REGISTRY[name], DTYPE)
    ]


@pytest.mark.parametrize(("name", "plan"), served("gru", "qrnn"))
def test_any_number_of_batch_axes(name, plan):
    recurrence = rnnjax.recurrences.REGISTRY[name]
    this = case(recurrence, 3, DTYPE)
    options = Options(lengths=True, resets=True, reverse=True)

    def split(array, axis):  # a batch of 3 as a batch of (3, 1)
        return jnp.expand_dims(array, axis + 1)

    def everything(this):
        carry, ys = outputs(recurrence, plan, options, this)
        apart = this._replace(
            xs=split(this.xs, 1),
            carry=jax.tree.map(lambda c: split(c, 0), this.carry),
            lengths=split(this.lengths, 0),
            resets=split(this.resets, 1),
        )
        alone = this._replace(
            xs=this.xs[:, 1],
            carry=jax.tree.map(lambda c: c[1], this.carry),
            lengths=this.lengths[1],
            resets=this.resets[:, 1],
        )
        two = jax.tree.map(lambda c: split(c, 0), carry), split(ys, 1)
        none = jax.tree.map(lambda c: c[1], carry), ys[:, 1]
        return (
            (outputs(recurrence, plan, options, apart), two),
            (outputs(recurrence, plan, options, alone), none),
        )

    for actual, expected in jax.jit(everything, compiler_options=COMPILED_FAST)(this):
        assert_close(actual, expected, DTYPE)


@pytest.mark.parametrize(
    ("name", "plans"),
    [
        (
            "elman",
            (
                rnnjax.plans.fused_by(2),
                rnnjax.plans.fused_by(3),
                rnnjax.plans.unrolled_by(3),
                rnnjax.plans.checkpointed_in(1),
                rnnjax.plans.checkpointed_in(2),
                rnnjax.plans.checkpointed_in(100),
            ),
        ),
        ("qrnn", (rnnjax.plans.associative_by(1), rnnjax.plans.associative_by(3))),
    ],
)
def test_plans_with_options_equal_the_reference(name, plans):
    """Whole segments, a remainder, one segment for all, more segments than steps."""
    this = case(rnnjax.recurrences.REGISTRY[name], T, DTYPE)
    every = EVERY_OPTION[-1]
    results = program(name, tuple((p, every) for p in ("reference", *plans)))(this)
    for p, _ in results:
        assert_close(results[p, every], results["reference", every], DTYPE, str(p))


@pytest.mark.parametrize(("name", "plan"), [*served("gru"), ("min_gru", "associative")])
def test_one_trace_for_repeated_calls_of_one_shape(name, plan):
    traces = []
    of_name = rnnjax.recurrences.REGISTRY[name]

    def counted(params, xs):
        traces.append(None)
        return of_name.project(params, xs)

    recurrence = dataclasses.replace(of_name, project=counted)
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
    assert rnnjax.plans.associative_by(4) is rnnjax.plans.associative_by(4)


@pytest.mark.parametrize(("name", "plan"), [*served("gru"), ("min_gru", "associative")])
def test_vmap_over_parameters_equals_one_after_another(name, plan):
    recurrence = rnnjax.recurrences.REGISTRY[name]
    first, second = case(recurrence, 3, DTYPE, 0), case(recurrence, 3, DTYPE, 1)

    def gradient(params, xs):
        return jax.grad(lambda p: jnp.sum(jnp.sin(rnnjax.scan(recurrence, p, xs, plan=plan)[1])))(
            params
        )

    def everything(first, second):
        both = jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second)
        separately = [gradient(c.params, c.xs) for c in (first, second)]
        return (
            jax.vmap(gradient)(both.params, both.xs),
            jax.tree.map(lambda *g: jnp.stack(g), *separately),
        )

    together, expected = jax.jit(everything, compiler_options=COMPILED_FAST)(first, second)
    assert_close(together, expected, DTYPE)


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

    plans = serving(recurrence, DTYPE)
    gradients = jax.jit(
        lambda params: {plan: gradient(params, plan) for plan in plans},
        compiler_options=COMPILED_FAST,
    )(this.params)
    for plan in plans:
        assert_close(gradients[plan], gradients["reference"], DTYPE, plan)


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
