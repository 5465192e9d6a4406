"""Plans that solve for all states at once: they find them, and say so where they do not."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.contract import BATCH, HIDDEN, case
from support.tolerances import assert_close

import rnnjax
from rnnjax.convergence import scan_with_convergence
from rnnjax.plans.matrix_scan import dense_scan, unit_scan
from rnnjax.plans.newton import is_affine, newton, newton_with
from rnnjax.plans.quasi_newton import quasi_newton, quasi_newton_with
from rnnjax.recurrences.elman import with_activation

DTYPE = "float64"
T = 4


def compiled(function):
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def elman_case(time_steps, scale, recurrence=rnnjax.elman):
    """Recurrent weights with singular values of `scale`."""
    params = recurrence.init(jax.random.key(0), 3, 4, dtype=DTYPE)
    params = params._replace(w_h=params.w_h * scale)
    return params, jax.random.normal(jax.random.key(1), (time_steps, 2, 3), DTYPE)


def test_a_recurrence_that_forgets_takes_few_iterations():
    params, xs = elman_case(100, 0.3)
    plans = {
        "exact": newton,
        "own": quasi_newton,
        "damped": newton_with(damping=0.5),
        "coarse": newton_with(tolerance=1e-3),
    }

    @compiled
    def everything(params, xs):
        return rnnjax.scan(rnnjax.elman, params, xs, plan="reference"), {
            name: scan_with_convergence(rnnjax.elman, params, xs, plan=plan)
            for name, plan in plans.items()
        }

    expected, found = everything(params, xs)
    iterations = {name: int(report.iterations) for name, (_, _, report) in found.items()}
    assert iterations["coarse"] < iterations["exact"] <= 6
    assert iterations["exact"] < iterations["own"] <= 40
    assert iterations["exact"] < iterations["damped"] <= 40
    del found["coarse"]
    for name, (carry, ys, report) in found.items():
        assert_close((carry, ys), expected, DTYPE, name)
        assert np.asarray(report.converged).all()
        assert np.asarray(report.residual).max() <= 16 * np.finfo(DTYPE).eps


def sine_of_much(values):
    return jnp.sin(300 * values)


@pytest.mark.parametrize(
    ("recurrence", "time_steps", "scale", "plan"),
    [
        (rnnjax.elman, 60, 3.0, newton),
        (rnnjax.elman, 60, 3.0, quasi_newton),
        # A product of 150 Jacobians has entries of about 200^150, more than float64 holds.
        (with_activation("sine", sine_of_much), 150, 1.0, newton),
    ],
)
def test_chaos_takes_many_iterations_and_is_solved(recurrence, time_steps, scale, plan):
    """Each state is one step on from that before; a chaotic trajectory is not comparable beyond."""
    params, xs = elman_case(time_steps, scale, recurrence)
    _, ys, report = compiled(partial(scan_with_convergence, recurrence, plan=plan))(params, xs)
    assert np.asarray(report.converged).all()
    assert time_steps / 2 < int(report.iterations) <= time_steps
    before = jnp.concatenate([jnp.zeros_like(ys[:1]), ys[:-1]])
    _, expected = recurrence.step(params, before, recurrence.project(params, xs))
    assert_close(ys, expected, DTYPE)


def test_a_row_that_did_not_converge_is_nan_and_said_to_be():
    """One iteration is enough for a row of one step, and for one of none."""
    few = newton_with(max_iterations=1)
    this = case(rnnjax.elman, T, DTYPE)
    lengths = jnp.array([0, T, 1], jnp.int32)
    weights = jnp.cos(jnp.arange(T * BATCH * HIDDEN, dtype=DTYPE)).reshape(T, BATCH, HIDDEN)

    @compiled
    def everything(params, xs, carry):
        def loss(params, xs, carry, plan, rows):
            last, ys = rnnjax.scan(rnnjax.elman, params, xs, carry, lengths=lengths, plan=plan)
            return jnp.sum(weights[:, rows] * ys[:, rows]) + jnp.sum(jnp.sin(last[rows]))

        def gradients(plan, rows):
            return jax.grad(loss, (0, 1, 2))(params, xs, carry, plan, rows)

        return (
            scan_with_convergence(rnnjax.elman, params, xs, carry, lengths=lengths, plan=few),
            rnnjax.scan(rnnjax.elman, params, xs, carry, lengths=lengths, plan="reference"),
            gradients(few, slice(None)),
            gradients(few, slice(2, 3)),
            gradients("reference", slice(2, 3)),
        )

    found, (expected_last, expected_ys), every, of_third, expected = everything(
        this.params, this.xs, this.carry
    )
    last, ys, report = found
    assert int(report.iterations) == 1
    np.testing.assert_array_equal(np.asarray(report.converged), [True, False, True])
    assert float(report.residual[1]) > 1e-6
    assert np.isnan(last[1]).all()
    assert np.isnan(ys[:, 1]).all()
    others = np.array([0, 2])
    assert_close(
        (last[others], ys[:, others]), (expected_last[others], expected_ys[:, others]), DTYPE
    )

    dparams, dxs, dcarry = every
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(dparams))
    assert np.isnan(dxs[:, 1]).all()
    assert np.isnan(dcarry[1]).all()
    assert np.isfinite(dxs[:, others]).all()
    # Of what is not asked of the lost row, the gradient is right.
    assert_close(of_third, expected, DTYPE)


def test_a_gradient_that_was_not_found_is_nan():
    """States of zero are found at once; their cotangents are not, in one iteration."""
    params, _ = elman_case(4, 1.0)
    xs = jnp.zeros((4, 3), DTYPE)
    plan = quasi_newton_with(max_iterations=1)

    @compiled
    def value_and_gradient(params):
        return jax.value_and_grad(
            lambda p: jnp.sum(rnnjax.scan(rnnjax.elman, p, xs, plan=plan)[1])
        )(params)

    value, gradient = value_and_gradient(params)
    assert float(value) == 0.0
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_a_nan_stops_its_row_at_once_and_no_other():
    params, xs = elman_case(50, 0.3)
    spoiled = xs.at[3, 0, 0].set(jnp.nan)
    run = compiled(partial(scan_with_convergence, rnnjax.elman))
    (last, ys, _), (spoiled_last, spoiled_ys, report) = run(params, xs), run(params, spoiled)
    np.testing.assert_array_equal(np.asarray(report.converged), [False, True])
    assert int(report.iterations) < 10
    assert np.isnan(spoiled_ys[:, 0]).all()
    assert_close((spoiled_last[1], spoiled_ys[:, 1]), (last[1], ys[:, 1]), DTYPE)


def test_one_step_takes_one_iteration():
    params, xs = elman_case(1, 1.0)
    run = compiled(partial(scan_with_convergence, rnnjax.elman, plan=quasi_newton))
    _, _, report = run(params, xs)
    assert int(report.iterations) == 1
    assert np.asarray(report.converged).all()


def test_matrix_scans_equal_a_loop():
    rng = np.random.default_rng(0)
    units = rng.normal(size=(5, 3, 2, 2, 4))
    vectors = rng.normal(size=(5, 3, 2, 4))
    dense = np.moveaxis(units, -1, -3)  # (T, B, H, K, K)
    by_time = vectors.swapaxes(-1, -2)

    @compiled
    def solved(units, vectors):
        return [
            (
                dense_scan(jnp.moveaxis(units, -1, -3), vectors.swapaxes(-1, -2), reverse=reverse),
                unit_scan(units, vectors, reverse=reverse).swapaxes(-1, -2),
            )
            for reverse in (False, True)
        ]

    for reverse, found in zip((False, True), solved(units, vectors), strict=True):
        at, expected = np.zeros((3, 4, 2)), np.zeros((5, 3, 4, 2))
        for t in reversed(range(5)) if reverse else range(5):
            at = np.einsum("bhij,bhj->bhi", dense[t], at) + by_time[t]
            expected[t] = at
        assert_close(found, (expected, expected), DTYPE)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda c: {"a": c @ jnp.ones((3, 2), DTYPE) + 1, "b": -c}, True),
        (jnp.ones_like, True),
        (lambda c: c * c, False),
        (lambda c: (c, jnp.tanh(c)), False),
    ],
)
def test_affine_is_read_off_the_program(function, expected):
    assert is_affine(function, jax.ShapeDtypeStruct((3,), DTYPE)) is expected


def test_what_quasi_newton_refuses():
    def refused(recurrence):
        this = case(recurrence, 2, DTYPE)
        with pytest.raises(ValueError, match="plan: 'quasi_newton' cannot serve this: ") as error:
            rnnjax.scan(recurrence, this.params, this.xs, plan=quasi_newton)
        return str(error.value)

    assert "gru_reset_before states no `mix`" in refused(rnnjax.gru_reset_before)

    def two_sizes(params, batch_shape):
        h = jnp.zeros((*batch_shape, 5), params.w_h.dtype)
        return h, h[..., :2]

    unequal = dataclasses.replace(rnnjax.lstm, initial_carry=two_sizes)
    assert "a carry of vectors of one size, got shapes [(2,), (5,)]" in refused(unequal)


def test_newton_refuses_a_complex_carry():
    def initial_carry(params, batch_shape):
        return jnp.zeros((*batch_shape, 5), jnp.complex128)

    this = case(rnnjax.elman, 2, DTYPE)
    recurrence = dataclasses.replace(rnnjax.elman, initial_carry=initial_carry)
    with pytest.raises(
        ValueError, match=r"'newton' cannot serve .* real carry, got one of complex"
    ):
        rnnjax.scan(recurrence, this.params, this.xs, plan=newton)


@pytest.mark.parametrize("factory", [newton_with, quasi_newton_with])
def test_options_are_checked_and_named(factory):
    for options, message in (
        ({"tolerance": 0.0}, "tolerance: got 0.0"),
        ({"tolerance": "small"}, "tolerance: got 'small'"),
        ({"max_iterations": 0}, "max_iterations: got 0"),
        ({"max_iterations": 2.0}, "max_iterations: got 2.0"),
        ({"damping": 1.0}, "damping: got 1.0"),
        ({"damping": float("nan")}, "damping: got nan"),
    ):
        with pytest.raises(ValueError, match=message):
            factory(**options)
    plan = factory(max_iterations=5, damping=0.5)
    assert factory(max_iterations=5, damping=0.5) is plan
    assert plan.name == f"{factory().name}_with(max_iterations=5, damping=0.5)"


def test_only_a_plan_that_iterates_has_a_report():
    params, xs = elman_case(2, 1.0)
    with pytest.raises(TypeError, match="plan: got 'fused', expected one that iterates"):
        scan_with_convergence(rnnjax.elman, params, xs, plan="fused")
