"""What is said of each recurrence that is linear in its carry, and of `sru`, which is not."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.testing as npt
import pytest
from recurrences.linear_equations import EQUATIONS, cut, sigmoid
from support.contract import normal
from support.tolerances import assert_close

import rnnjax
from rnnjax.recurrences.linear import AFFINE, MAX_PLUS
from rnnjax.recurrences.lru import eigenvalues

REGISTRY = rnnjax.recurrences.REGISTRY
I, H = 3, 4  # noqa: E741 - the letters of the documentation


LINEAR = {name: r.linear for name, r in REGISTRY.items() if r.linear is not None}


def fast(function: Any) -> Any:
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def random_params(
    recurrence: Any, input_size: int = I, dtype: str = "float64", **options: Any
) -> Any:
    drawn = jax.eval_shape(
        lambda: recurrence.init(jax.random.key(0), input_size, H, dtype=dtype, **options)
    )
    return normal(np.random.default_rng(1), drawn)


def random_inputs(*shape: int) -> Any:
    return jnp.asarray(np.random.default_rng(2).normal(size=shape))


@pytest.mark.parametrize(
    ("name", "input_size", "options"),
    [
        ("sru", H, {}),
        ("sru_linear", H, {}),
        ("lru", I, {"output_size": 5}),
        ("mlstm", I, {"heads": 2}),
    ],
)
def test_one_step_is_the_equation_for_other_sizes(name, input_size, options):
    recurrence = REGISTRY[name]
    params, x = random_params(recurrence, input_size, **options), random_inputs(2, input_size)
    carry = normal(np.random.default_rng(3), recurrence.initial_carry(params, (2,)))
    actual = fast(partial(rnnjax.one_step, recurrence))(params, carry, x)
    assert_close(actual, EQUATIONS[name](*jax.tree.map(np.asarray, (params, carry, x))), "float64")


def is_linear_in_leaf(recurrence: Any, leaf: int, semiring: Any = AFFINE) -> bool:
    """Whether a combination of two carries that differ in one leaf alone is the same one after."""

    def combined(first: Any, second: Any) -> Any:
        if semiring is MAX_PLUS:
            return jnp.maximum(first, second - 0.5)
        return 3.0 * second - 2.0 * first  # the weights' sum is 1: affine

    params, x = random_params(recurrence), random_inputs(I)
    carry = normal(np.random.default_rng(4), recurrence.initial_carry(params, (2,)))
    leaves, structure = jax.tree.flatten(carry)
    points = [jnp.stack([a[0], a[0], a[0]]) for a in leaves]
    first, second = leaves[leaf]
    points[leaf] = jnp.stack([first, second, combined(first, second)])
    step = fast(jax.vmap(partial(rnnjax.one_step, recurrence), (None, 0, None)))
    after, _ = step(params, jax.tree.unflatten(structure, points), x)
    first, second, third = jax.tree.leaves(after)[leaf]
    return bool(jnp.allclose(third, combined(first, second), rtol=1e-10, atol=1e-12))


@pytest.mark.parametrize("name", LINEAR)
def test_the_new_carry_is_linear_in_the_old_one(name):
    """In the leaf itself, the others given; in (max, +) the drive is what a maximum adds."""
    for leaf, stage in enumerate(LINEAR[name].stages):
        assert is_linear_in_leaf(REGISTRY[name], leaf, stage.semiring), leaf


def test_that_of_the_published_sru_is_not():
    assert not is_linear_in_leaf(rnnjax.sru, 0)


def test_sru_without_peepholes_has_the_cell_of_the_first_sru():
    params, xs = random_params(rnnjax.sru), random_inputs(4, 2, I)
    of_first = random_params(rnnjax.sru_linear)._replace(w_x=params.w_x, b=params.b)
    without = params._replace(v=jnp.zeros_like(params.v))
    expected, _ = rnnjax.scan(rnnjax.sru_linear, of_first, xs, plan="associative")
    c, _ = rnnjax.scan(rnnjax.sru, without, xs, plan="reference")
    assert_close(c, expected, "float64")


def test_closed_gates_of_the_min_lstm_still_sum_to_one():
    """Both are exp(−200), which is 0 in float32; the quotient is that of exp(1) and 1 + exp(1)."""
    recurrence = rnnjax.min_lstm
    biases = jnp.array([-199.0, -200.0, 7.0], "float32")
    params = type(random_params(recurrence))(jnp.zeros((1, 3), "float32"), biases)
    z = recurrence.project(params, jnp.zeros(1, "float32"))
    assert_close(z.decay, sigmoid(np.ones(1)), "float32")
    assert_close(z.drive, 7 * sigmoid(-np.ones(1)), "float32")


@pytest.mark.parametrize("window", [1, 3])
def test_qrnn_is_a_convolution_and_then_pooling(window):
    recurrence = rnnjax.qrnn_by(window)
    params, xs = random_params(recurrence), random_inputs(5, 2, I)
    carry, ys = rnnjax.scan(recurrence, params, xs, plan="associative")
    assert len(carry) == window
    p, x = jax.tree.map(np.asarray, (params, xs))
    padded = np.concatenate([np.zeros((window - 1, 2, I)), x])
    c, expected = np.zeros((2, H)), []
    for t in range(len(x)):
        taps = padded[t : t + window][::-1]  # the present input first
        z, f, o = cut(np.einsum("kbi,ikh->bh", taps, p.w_x) + p.b, 3)
        c = sigmoid(f) * c + (1 - sigmoid(f)) * np.tanh(z)
        expected.append(sigmoid(o) * c)
    assert_close(ys, np.stack(expected), "float64")


def test_parameters_of_another_window_are_refused():
    params, xs = rnnjax.qrnn.init(jax.random.key(0), I, H), jnp.zeros((2, I), "float32")
    with pytest.raises(ValueError, match=r"params\.w_x: got shape \(3, 2, 12\), expected \(3, 3"):
        rnnjax.scan(rnnjax.qrnn_by(3), params, xs)


def test_lru_is_the_convolution_with_its_impulse_response():
    params, xs = random_params(rnnjax.lru), random_inputs(4, I)
    _, ys = rnnjax.scan(rnnjax.lru, params, xs, plan="associative")
    p, x = jax.tree.map(np.asarray, (params, xs))
    decay = np.exp(-np.exp(p.nu_log) + 1j * np.exp(p.theta_log))
    b, c = np.exp(p.gamma_log) * (p.b_re + 1j * p.b_im), p.c_re + 1j * p.c_im
    responses = [((b * decay**k) @ c).real for k in range(4)]
    responses[0] = responses[0] + np.diag(p.d)
    expected = [sum(x[t - k] @ responses[k] for k in range(t + 1)) for t in range(4)]
    assert_close(ys, np.stack(expected), "float64")


def test_lru_begins_on_the_ring_with_states_of_the_size_of_inputs():
    params = rnnjax.lru.init(jax.random.key(0), I, 512, r_min=0.9, r_max=0.99, max_phase=0.5)
    size, phase = np.abs(eigenvalues(params)), np.angle(eigenvalues(params))
    assert 0.9 <= size.min() < 0.905
    assert 0.985 < size.max() <= 0.99
    npt.assert_allclose(np.mean(size**2), (0.9**2 + 0.99**2) / 2, rtol=0.01)  # by area
    assert 0 <= phase.min() < 0.01
    assert 0.49 < phase.max() <= 0.5
    # Σ_t |λ|^2t exp(2γ) = 1: white noise of variance one makes a state of variance one.
    npt.assert_allclose(np.exp(2 * params.gamma_log), 1 - size**2, rtol=1e-4)


def test_lru_has_a_state_of_32_bit_parts_beside_16_bit_inputs():
    params = random_params(rnnjax.lru, dtype="float32")
    xs = jax.ShapeDtypeStruct((3, I), jnp.bfloat16)
    carry, ys = jax.eval_shape(partial(rnnjax.scan, rnnjax.lru), params, xs)
    assert (carry.dtype, ys.dtype) == (jnp.complex64, jnp.bfloat16)


def test_rg_lru_begins_with_decays_between_those_asked_for():
    params = rnnjax.rg_lru.init(jax.random.key(0), I, 512, fastest=0.5, slowest=0.9)
    decays = sigmoid(np.asarray(params.decay_logit, np.float64)) ** 8
    assert 0.5 <= decays.min() < 0.51
    assert 0.89 < decays.max() <= 0.9 + 1e-6
    npt.assert_allclose(decays.mean(), 0.7, rtol=0.02)


def test_rg_lru_with_a_shut_recurrence_gate_holds_its_state_and_has_finite_gradients():
    params = random_params(rnnjax.rg_lru)
    params = params._replace(b_gates=params.b_gates.at[:H].set(-1e4))
    xs, h = random_inputs(3, I), random_inputs(H)

    def total(params: Any, xs: Any, h: Any) -> Any:
        _, ys = rnnjax.scan(rnnjax.rg_lru, params, xs, h, plan="reference")
        return jnp.sum(ys), ys

    (_, ys), gradients = fast(jax.value_and_grad(total, (0, 1, 2), has_aux=True))(params, xs, h)
    assert_close(ys, jnp.broadcast_to(h, ys.shape), "float64")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    npt.assert_array_equal(gradients[2], np.full(H, 3.0))


@pytest.mark.parametrize("shift", [-300.0, 300.0])
def test_outputs_of_the_mlstm_do_not_depend_on_its_stabiliser(shift):
    recurrence, xs = rnnjax.mlstm, random_inputs(4, 2, I)
    params = random_params(recurrence, heads=2)
    carry = normal(np.random.default_rng(5), recurrence.initial_carry(params, (2,)))
    scale = jnp.exp(-shift)
    shifted = type(carry)(carry.m + shift, carry.c * scale, carry.n * scale)
    scan = fast(lambda p, xs, c: rnnjax.scan(recurrence, p, xs, c, plan="reference"))
    (after, ys), (after_shifted, of_shifted) = scan(params, xs, carry), scan(params, xs, shifted)
    assert_close(of_shifted, ys, "float64")
    memory, of_shifted = (jnp.exp(a.m)[..., None] * a.n for a in (after, after_shifted))
    assert_close(of_shifted, memory, "float64")


def test_mlstm_is_gated_linear_attention():
    """The parallel form of the paper's appendix, without a stabiliser."""
    recurrence, xs = rnnjax.mlstm, random_inputs(4, I)
    params = random_params(recurrence, heads=2)
    _, ys = rnnjax.scan(recurrence, params, xs, plan="associative")
    p, x = jax.tree.map(np.asarray, (params, xs))
    q, k, v, o = cut(x @ p.w_x + p.b, 4)
    i, f = cut(x @ p.w_gates + p.b_gates, 2)
    expected = []
    for t in range(4):
        for head, part in enumerate((slice(0, 2), slice(2, 4))):
            weights = np.array(
                [
                    np.exp(i[s, head])
                    * np.prod(sigmoid(f[s + 1 : t + 1, head]))
                    * (q[t, part] @ k[s, part] / np.sqrt(2))
                    for s in range(t + 1)
                ]
            )
            mean = weights @ v[: t + 1, part] / max(abs(weights.sum()), 1)
            expected.append(sigmoid(o[t, part]) * mean)
    assert_close(ys, np.concatenate(expected).reshape(4, H), "float64")


def test_mlstm_is_finite_whatever_its_gates():
    """exp of any of these is 0 or ∞ in float32."""
    recurrence = rnnjax.mlstm
    params = random_params(recurrence, 1, "float32")
    extremes = jnp.array([[300.0, -300.0], [-300.0, -300.0]], "float32")
    params = params._replace(w_gates=jnp.array([[1.0, 0.0]], "float32"))

    def total(params: Any, xs: Any) -> Any:
        _, ys = rnnjax.scan(recurrence, params, xs, plan="reference")
        return jnp.sum(ys)

    run = fast(jax.value_and_grad(total, (0, 1)))
    rising = jnp.array([[-100.0], [100.0]], "float32")
    for gates in extremes:
        for xs in (rising, rising[::-1]):
            values = run(params._replace(b_gates=gates), xs)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values))


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: rnnjax.qrnn_by(0), "window: got 0, expected an integer of at least 1"),
        (
            lambda: rnnjax.mlstm.init(jax.random.key(0), I, H, heads=3),
            "heads: got 3, expected a divisor of hidden_size, 4",
        ),
        (
            lambda: rnnjax.lru.init(jax.random.key(0), I, H, r_min=0.9, r_max=0.9),
            "r_min, r_max: got 0.9, 0.9, expected 0 <= r_min < r_max <= 1",
        ),
        (
            lambda: rnnjax.lru.init(jax.random.key(0), I, H, max_phase=0),
            "max_phase: got 0, expected a positive number",
        ),
        (
            lambda: rnnjax.rg_lru.init(jax.random.key(0), I, H, slowest=1.0),
            "fastest, slowest: got 0.9, 1.0, expected 0 < fastest <= slowest < 1",
        ),
    ],
)
def test_options_out_of_range_are_refused(draw, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        draw()
    assert str(caught.value) == message
