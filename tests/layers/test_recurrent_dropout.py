import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.contract import BATCH, HIDDEN, case
from support.numpy_lstm import scan_rows
from support.tolerances import assert_close

import rnnjax
from rnnjax.layers import recurrent_dropout
from rnnjax.layers.dropout import dropout_mask, per_sequence
from rnnjax.layers.recurrent_dropout import scan_with_recurrent_dropout
from rnnjax.plans import fused
from rnnjax.plans.protocol import Inputs

T = 4
DTYPE = "float64"
EVERY_PLAN = ("reference", "fused", "checkpointed", "unrolled")


@pytest.fixture(scope="module")
def this():
    return case(rnnjax.lstm, T, DTYPE)


@pytest.fixture(scope="module")
def fresh(this):
    return jax.tree.map(lambda c: 0.5 - c, this.carry)


@pytest.fixture(scope="module")
def mask():
    return dropout_mask(jax.random.key(1), 0.4, (BATCH, HIDDEN), dtype=DTYPE)


@pytest.fixture(scope="module")
def masks():
    return dropout_mask(jax.random.key(2), 0.4, (T, BATCH, HIDDEN), dtype=DTYPE)


@pytest.mark.parametrize(
    ("reverse", "each_step", "plans"),
    [
        pytest.param(True, True, EVERY_PLAN[:2], id="reverse-each-fused"),
        pytest.param(False, False, EVERY_PLAN[:2], id="forward-one-fused"),
        *(
            pytest.param(
                reverse,
                each_step,
                EVERY_PLAN,
                id=f"{direction}-{masks}-every",
                marks=pytest.mark.slow,
            )
            for reverse, direction in ((False, "forward"), (True, "reverse"))
            for each_step, masks in ((False, "one"), (True, "each"))
        ),
    ],
)
def test_plans_agree_and_are_a_loop_written_out(
    this, fresh, mask, masks, reverse, each_step, plans
):
    """Packed rows of several lengths, one mask or one a sequence, values and gradients."""
    resets = np.asarray(this.resets)
    drawn = per_sequence(masks, this.resets) if each_step else mask

    def loss(params, xs, carry, fresh, plan):
        out = scan_with_recurrent_dropout(
            rnnjax.lstm,
            params,
            xs,
            drawn,
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

    every = np.broadcast_to(drawn, masks.shape)
    expected = scan_rows(
        this.params,
        this.xs,
        this.carry,
        lengths=this.lengths,
        resets=resets,
        fresh_carry=fresh,
        reverse=reverse,
        seen=lambda t, row, h: every[t, row] * h,
    )
    assert_close(out, expected, DTYPE)


def test_masks_of_ones_and_of_zeros(this):
    """All units seen: the plain scan. None: recurrent weights of zero."""
    ones, zeros = (jnp.full((BATCH, HIDDEN), value) for value in (1.0, 0.0))
    blind = this.params._replace(w_h=jnp.zeros_like(this.params.w_h))
    for mask, params in ((ones, this.params), (zeros, blind)):
        expected = rnnjax.scan(rnnjax.lstm, params, this.xs, this.carry, plan="reference")
        actual = scan_with_recurrent_dropout(
            rnnjax.lstm, this.params, this.xs, mask, this.carry, plan="reference"
        )
        assert_close(actual, expected, DTYPE)


def test_a_mask_of_a_batch_is_that_mask_at_every_step(mask):
    this = case(rnnjax.gru, T, DTYPE)

    def run(mask):
        return scan_with_recurrent_dropout(
            rnnjax.gru, this.params, this.xs, mask, this.carry, plan="reference"
        )

    actual = run(mask)
    assert_close(actual, run(jnp.broadcast_to(mask, (T, *mask.shape))), DTYPE)
    # The update of a GRU reads the whole h: equal to one with the mask in its weights, row by row.
    for row in range(BATCH):
        scaled = this.params._replace(w_h=mask[row][:, None] * this.params.w_h)
        expected = rnnjax.scan(
            rnnjax.gru, scaled, this.xs[:, row], this.carry[row], plan="reference"
        )
        assert_close(jax.tree.map(lambda a, r=row: a[..., r, :], actual), expected, DTYPE)


def test_sixteen_bits_stay_sixteen_bits(this, mask):
    params = jax.tree.map(lambda a: a.astype(jnp.float32), this.params)
    xs = this.xs.astype(jnp.bfloat16)

    def run(xs):
        return scan_with_recurrent_dropout(rnnjax.lstm, params, xs, mask, plan="reference")

    actual = run(xs)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(actual))
    assert_close(actual, run(xs.astype(jnp.float32)), "bfloat16")


def test_fused_saves_no_more_than_the_mask_besides(this):
    """With one mask, as without: sums before the gates 4 H and c H; and the mask H."""
    masked = recurrent_dropout._with_one_mask(rnnjax.lstm, 0)
    carry = masked.initial_carry(this.params, (BATCH,))
    _, (*_, saved) = jax.eval_shape(
        lambda params, inputs: fused._fused_forward("", masked, False, 4, params, inputs),
        this.params,
        Inputs(jnp.zeros((8, *this.xs.shape[1:])), carry, carry, None, None),
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(saved)) == 8 * BATCH * 6 * HIDDEN


def test_bad_arguments_are_refused(this, mask):
    def run(recurrence, mask, **options):
        params = recurrence.init(jax.random.key(0), 4, HIDDEN, dtype=DTYPE)
        return scan_with_recurrent_dropout(recurrence, params, this.xs, mask, **options)

    with pytest.raises(ValueError, match="recurrence: got gru_reset_before, which states no `mix`"):
        run(rnnjax.gru_reset_before, mask)
    with pytest.raises(ValueError, match=r"mask: got shape \(3, 4\), expected one that broadcasts"):
        run(rnnjax.lstm, jnp.ones((BATCH, 4)))
    with pytest.raises(ValueError, match=r"broadcasts to \(4, 3, 5\)"):
        run(rnnjax.lstm, jnp.ones((2, T, BATCH, HIDDEN)))
    with pytest.raises(TypeError, match="mask: got bool, expected a floating dtype"):
        run(rnnjax.lstm, mask > 0)
    with pytest.raises(ValueError, match=r"lengths: got 6, expected values within 0 … 4"):
        run(rnnjax.lstm, mask, lengths=[6, 0, 0])
    params = rnnjax.lstm.init(jax.random.key(0), 3, HIDDEN, dtype=DTYPE)
    with pytest.raises(ValueError, match=r"xs: got shape \(4, 3, 4\), expected \(T, \*B, 3\)"):
        scan_with_recurrent_dropout(rnnjax.lstm, params, this.xs, mask)
