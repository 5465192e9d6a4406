import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.contract import BATCH, HIDDEN, case
from support.numpy_lstm import scan_rows
from support.tolerances import assert_close

import rnnjax
from rnnjax.layers import zoneout
from rnnjax.layers.zoneout import scan_with_zoneout, step_with_zoneout, zoneout_masks
from rnnjax.plans import fused
from rnnjax.plans.protocol import Inputs

T = 4
DTYPE = "float64"
EVERY_PLAN = ("reference", "fused", "checkpointed", "unrolled")
RATES = (0.2, 0.5)


@pytest.fixture(scope="module")
def this():
    return case(rnnjax.lstm, T, DTYPE)


@pytest.fixture(scope="module")
def fresh(this):
    return jax.tree.map(lambda c: 0.5 - c, this.carry)


@pytest.fixture(scope="module")
def masks(this):
    return zoneout_masks(jax.random.key(1), RATES, T, this.carry, dtype=DTYPE)


@pytest.mark.parametrize(
    ("reverse", "plans"),
    [
        pytest.param(True, EVERY_PLAN[:2], id="reverse-fused"),
        pytest.param(True, EVERY_PLAN, id="reverse-every", marks=pytest.mark.slow),
        pytest.param(False, EVERY_PLAN, id="forward-every", marks=pytest.mark.slow),
    ],
)
def test_plans_agree_and_are_a_loop_written_out(this, fresh, masks, reverse, plans):
    """Packed rows of several lengths, a mask for each leaf, values and gradients."""
    resets = np.asarray(this.resets)

    def loss(params, xs, carry, fresh, plan):
        out = scan_with_zoneout(
            rnnjax.lstm,
            params,
            xs,
            masks,
            carry,
            lengths=this.lengths,
            resets=resets,
            reverse=reverse,
            fresh_carry=fresh,
            plan=plan,
        )
        return sum(jnp.sum(jnp.sin(leaf + leaf**2)) for leaf in jax.tree.leaves(out)), out

    padding = np.arange(T)[:, None] >= np.asarray(this.lengths)
    xs = jnp.where(padding[:, :, None], jnp.nan, this.xs)
    value_and_grad = jax.value_and_grad(loss, (0, 1, 2, 3), has_aux=True)
    run = jax.jit(
        lambda *arguments: [value_and_grad(*arguments, plan) for plan in plans],
        compiler_options={"xla_backend_optimization_level": 0},
    )
    reference, *others = run(this.params, xs, this.carry, fresh)
    for plan, other in zip(plans[1:], others, strict=True):
        assert_close(other, reference, DTYPE, plan)
    (_, out), gradients = reference
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))

    keep_h, keep_c = (np.asarray(mask) > 0 for mask in masks)

    def kept(t, row, old, new):
        return (
            np.where(keep_h[t, row], old[0], new[0]),
            np.where(keep_c[t, row], old[1], new[1]),
        )

    expected = scan_rows(
        this.params,
        this.xs,
        this.carry,
        lengths=this.lengths,
        resets=resets,
        fresh_carry=fresh,
        reverse=reverse,
        kept=kept,
    )
    assert_close(out, expected, DTYPE)


def test_rates_for_masks_are_the_expectation_of_one_step(this):
    """In evaluation; and a mask that keeps nothing is the plain scan, one that keeps all frozen."""
    x, carry = this.xs[0], this.carry
    plain, _ = rnnjax.one_step(rnnjax.lstm, this.params, carry, x)
    after, y = step_with_zoneout(rnnjax.lstm, this.params, carry, x, RATES)
    expected = tuple(
        r * old + (1 - r) * new for r, old, new in zip(RATES, carry, plain, strict=True)
    )
    assert_close((after, y), (expected, expected[0]), DTYPE)

    def run(masks):
        return scan_with_zoneout(rnnjax.lstm, this.params, this.xs, masks, carry, plan="reference")

    whole = run(RATES)
    state, ys = carry, []
    step = jax.jit(lambda carry, x: step_with_zoneout(rnnjax.lstm, this.params, carry, x, RATES))
    for x in this.xs:
        state, y = step(state, x)
        ys.append(y)
    assert_close((state, jnp.stack(ys)), whole, DTYPE)

    plain = rnnjax.scan(rnnjax.lstm, this.params, this.xs, carry, plan="reference")
    assert_close(run((0.0, 0.0)), plain, DTYPE)
    frozen, ys = run((1.0, 1.0))
    assert_close((frozen, ys), (carry, jnp.broadcast_to(carry[0], ys.shape)), DTYPE)


def test_a_recurrence_without_mix_has_it_too():
    this = case(rnnjax.gru_reset_before, T, DTYPE)
    masks = zoneout_masks(jax.random.key(3), 0.3, T, this.carry, dtype=DTYPE)
    one_step = jax.jit(rnnjax.one_step, static_argnums=0)
    h, ys = np.asarray(this.carry), []
    for x, keep in zip(this.xs, np.asarray(masks), strict=True):
        new, _ = one_step(rnnjax.gru_reset_before, this.params, h, x)
        h = np.where(keep > 0, h, new)
        ys.append(h)
    actual = scan_with_zoneout(
        rnnjax.gru_reset_before, this.params, this.xs, masks, this.carry, plan="reference"
    )
    assert_close(actual, (h, np.stack(ys)), DTYPE)


def test_what_is_linear_in_its_carry_stays_so():
    """And runs in parallel along time, with values and gradients of the reference."""
    this = case(rnnjax.min_gru, T, DTYPE)
    masks = zoneout_masks(jax.random.key(4), 0.3, T, this.carry, dtype=DTYPE)

    @jax.jit
    def every_way(params, xs, carry):
        def loss(params, xs, carry, plan):
            options = {"lengths": this.lengths, "resets": this.resets, "plan": plan}
            out = scan_with_zoneout(rnnjax.min_gru, params, xs, masks, carry, **options)
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in out), out

        with_gradients = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)
        return [with_gradients(params, xs, carry, plan) for plan in ("associative", "reference")]

    actual, expected = every_way(this.params, this.xs, this.carry)
    assert_close(actual, expected, DTYPE)


def test_fused_saves_no_more_than_the_masks_besides(this):
    """Sums before the gates 4 H and c H as without zoneout, and the two masks 2 H."""
    zoned = zoneout._with_masks(rnnjax.lstm, 0)
    xs = jnp.zeros((8, BATCH, *zoned.input_shape(this.params)))
    _, (*_, saved) = jax.eval_shape(
        lambda params, inputs: fused._fused_forward("", zoned, False, 4, params, inputs),
        this.params,
        Inputs(xs, this.carry, this.carry, None, None),
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(saved)) == 8 * BATCH * 7 * HIDDEN


def test_units_are_kept_at_the_rate_of_their_leaf():
    carry = jnp.zeros((100, 20)), jnp.zeros((100, 30))
    masks = zoneout_masks(jax.random.key(0), RATES, 40, carry)
    for mask, rate, leaf in zip(masks, RATES, carry, strict=True):
        assert mask.shape == (40, *leaf.shape)
        np.testing.assert_array_equal(np.unique(mask), [0, 1])
        assert abs(np.asarray(mask).mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / mask.size)
        # Another draw each step.
        assert abs(np.corrcoef(mask[1:].ravel(), mask[:-1].ravel())[0, 1]) < 4 / np.sqrt(mask.size)


def test_bad_arguments_are_refused(this, masks):
    def run(masks, recurrence=rnnjax.lstm):
        return scan_with_zoneout(recurrence, this.params, this.xs, masks)

    with pytest.raises(ValueError, match=r"masks: got PyTreeDef.* one for each leaf of the carry"):
        run(masks[:1])
    with pytest.raises(ValueError, match=r"masks\[1\]: got shape \(2,\), expected one that broad"):
        run((0.1, jnp.ones(2)))
    with pytest.raises(TypeError, match=r"masks\[0\]: got bool, expected a floating dtype"):
        run((masks[0] > 0, 0.1))
    with pytest.raises(ValueError, match="rates: got PyTreeDef"):
        zoneout_masks(jax.random.key(0), 0.1, T, this.carry)
    with pytest.raises(ValueError, match=r"rate: got 1.0, expected 0 ≤ rate < 1"):
        zoneout_masks(jax.random.key(0), (0.1, 1.0), T, this.carry)
    with pytest.raises(ValueError, match="time_steps: got 0, expected an integer of at least 1"):
        zoneout_masks(jax.random.key(0), RATES, 0, this.carry)

    twice = rnnjax.Recurrence(
        "twice",
        "",
        rnnjax.lstm.init,
        rnnjax.lstm.initial_carry,
        rnnjax.lstm.project,
        lambda params, carry, z: (carry, 2 * carry[0]),
        rnnjax.lstm.input_shape,
    )
    with pytest.raises(ValueError, match="recurrence: got twice, whose output is not a part of"):
        run(masks, twice)
