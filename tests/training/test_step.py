import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnnjax.training.loss_scale import (
    FIRST_SCALE,
    LARGEST_SCALE,
    STEPS_TO_GROW,
    LossScale,
    initial_loss_scale,
    next_loss_scale,
)
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer, learning_rate_at
from rnnjax.training.step import STEP_METRICS, initial_train_state, make_train_step


def test_a_step_is_the_truncated_gradient_and_the_optimizer_chain(leaky):
    optimizer = build_optimizer(leaky.config)
    state = leaky.state()
    params, memory = state.params, state.memory
    optimizer_state, key = optimizer.init(params), state.key
    state = leaky.state()
    for t in range(3):
        state, metrics = leaky.step(state, leaky.batch(t))
        key, loss_key = jax.random.split(key)
        batch = jax.tree.map(jnp.asarray, leaky.batch(t))
        # Memory is data here: nothing differentiates the second batch by the first.
        (loss, (memory, _)), gradient = jax.value_and_grad(leaky.loss, has_aux=True)(
            params, memory, batch, loss_key
        )
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, params)
        params = optax.apply_updates(params, updates)
        norm = np.sqrt(sum(np.sum(np.square(g)) for g in leaky.numpy_tree(gradient)))
        np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
        np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-5)
        np.testing.assert_allclose(metrics["clipped_gradient_norm"], min(norm, 0.5), rtol=1e-5)
        assert float(metrics["clipped"]) == float(norm > 0.5)
        assert float(metrics["learning_rate"]) == float(learning_rate_at(leaky.config, t))
        assert float(metrics["skipped"]) == 0.0
        assert set(metrics) == {*STEP_METRICS, "mean_error"} - {"loss_scale"}
    for mine, reference in zip(
        leaky.numpy_tree(state.params), leaky.numpy_tree(params), strict=True
    ):
        np.testing.assert_allclose(mine, reference, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state.memory["h"], memory["h"], rtol=1e-5, atol=1e-6)
    assert int(state.step) == int(state.memory["batches"]) == 3


def test_training_lowers_the_loss_and_compiles_once(leaky):
    traces = 0

    def counted_loss(*arguments):
        nonlocal traces
        traces += 1
        return leaky.loss(*arguments)

    step, state = make_train_step(counted_loss, build_optimizer(leaky.config)), leaky.state()
    losses = []
    for _ in range(20):
        state, metrics = step(state, leaky.batch(0))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.5 * losses[0]
    assert traces == 1


@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e38])
def test_a_step_that_is_not_finite_changes_nothing_but_step_and_key(leaky, poison):
    state, _ = leaky.step(leaky.state(), leaky.batch(0))
    before = jax.tree.map(jnp.copy, state)
    state, metrics = leaky.step(state, leaky.batch(1, scale=poison))
    assert float(metrics["skipped"]) == 1.0
    leaky.assert_equal(
        (state.params, state.optimizer_state, state.memory),
        (before.params, before.optimizer_state, before.memory),
    )
    assert int(state.step) == 2
    assert (int(state.counters.skipped), int(state.counters.skipped_in_a_row)) == (1, 1)
    assert float(metrics["skipped_in_a_row"]) == 1.0
    assert not np.array_equal(jax.random.key_data(state.key), jax.random.key_data(before.key))
    state, metrics = leaky.step(state, leaky.batch(2))
    assert float(metrics["skipped"]) == 0.0
    assert np.isfinite(float(metrics["loss"]))
    assert (int(state.counters.skipped), int(state.counters.skipped_in_a_row)) == (1, 0)


def test_a_finite_loss_with_an_infinite_gradient_is_skipped():
    def square_root(params, memory, batch, key):
        return jnp.sqrt(params) * batch, (memory, {})

    optimizer = build_optimizer(OptimizerConfig())
    state = initial_train_state(jnp.float32(0), optimizer, (), jax.random.key(0))
    state, metrics = make_train_step(square_root, optimizer)(state, jnp.float32(1))
    assert float(metrics["loss"]) == 0.0
    assert float(metrics["skipped"]) == 1.0
    assert float(state.params) == 0.0


def test_the_callers_arrays_survive_donation_and_may_be_shared():
    shared = jnp.ones((4, 5), jnp.float32)
    key = jax.random.key(1)

    def loss(params, memory, batch, key):
        return jnp.sum(params * memory[0]), (memory, {})

    optimizer = optax.sgd(0.1)
    pair = initial_train_state(shared, optimizer, (shared, shared), key)
    pair, metrics = make_train_step(loss, optimizer)(pair, ())
    assert float(shared.sum()) == 20.0
    np.testing.assert_allclose(pair.params, 0.9)
    jax.random.normal(key)
    # A chain that records nothing gives no learning rate, and norms that agree.
    assert "learning_rate" not in metrics
    assert float(metrics["clipped_gradient_norm"]) == float(metrics["gradient_norm"])


def test_the_norm_of_each_parameter_is_a_metric_where_asked(leaky):
    step = make_train_step(leaky.loss, build_optimizer(leaky.config), parameter_norms=True)
    _, metrics = step(leaky.state(), leaky.batch(0))
    state, plain = leaky.step(leaky.state(), leaky.batch(0))
    for name, leaf in state.params.items():
        np.testing.assert_allclose(
            metrics[f"parameter_norm/{name}"], np.linalg.norm(np.ravel(leaf)), rtol=1e-5
        )
    of_gradients = [metrics[f"gradient_norm/{name}"] for name in state.params]
    np.testing.assert_allclose(np.linalg.norm(of_gradients), plain["gradient_norm"], rtol=1e-5)
    assert len(metrics) == len(plain) + 2 * len(state.params)


def through_float16(params, memory, batch, key):
    """A loss whose gradient is too small for float16, where it passes, unless it is scaled."""
    small = (params * jnp.float32(2.0**-20)).astype(jnp.float16).astype(jnp.float32)
    return jnp.sum(small * small) * batch, (memory, {})


def test_a_loss_scale_lets_a_gradient_pass_through_float16():
    optimizer = optax.sgd(2.0**49)
    params = jnp.full(2, 2.0**10, jnp.float32)

    def one_step(loss_scale):
        state = initial_train_state(params, optimizer, (), jax.random.key(0), loss_scale)
        return make_train_step(through_float16, optimizer)(state, jnp.float32(2.0**-20))

    lost, without = one_step(None)
    kept, metrics = one_step(initial_loss_scale())
    assert float(without["gradient_norm"]) == 0.0
    np.testing.assert_array_equal(lost.params, params)
    np.testing.assert_allclose(metrics["gradient_norm"], np.sqrt(2) * 2.0**-49)
    np.testing.assert_array_equal(kept.params, params - 1)
    assert float(metrics["loss"]) == float(without["loss"])
    assert float(metrics["loss_scale"]) == FIRST_SCALE


def test_a_loss_scale_too_large_is_halved_until_the_gradient_is_finite():
    def steep(params, memory, batch, key):
        return (params.astype(jnp.float16) * jnp.float16(100)).astype(jnp.float32), (memory, {})

    optimizer = optax.sgd(1e-3)
    step = make_train_step(steep, optimizer)
    state = initial_train_state(
        jnp.float32(1), optimizer, (), jax.random.key(0), initial_loss_scale()
    )
    scales, kept = [], []
    for _ in range(8):
        state, metrics = step(state, ())
        scales.append(float(metrics["loss_scale"]))
        kept.append(not metrics["skipped"])
        assert float(metrics["skipped_in_a_row"]) == 0.0, "the search is no divergence"
    # 100·s must stay below 65520, the first number that float16 does not hold.
    assert scales == [2.0**k for k in (15, 14, 13, 12, 11, 10, 9, 9)]
    assert kept == [False] * 6 + [True] * 2
    assert int(state.counters.skipped) == 6


def test_a_loss_scale_grows_after_many_finite_steps_and_stays_within_bounds():
    @jax.jit
    def after(scale, finite):
        start = LossScale(jnp.float32(scale), jnp.int32(0))
        return jax.lax.scan(lambda s, f: (next_loss_scale(s, f), s.scale), start, finite)[0].scale

    finite = np.ones(STEPS_TO_GROW, bool)
    assert float(after(8.0, finite)) == 16.0
    interrupted = finite.copy()
    interrupted[500] = False
    assert float(after(8.0, interrupted)) == 4.0
    assert float(after(LARGEST_SCALE, finite)) == LARGEST_SCALE
    assert float(after(8.0, ~finite)) == 1.0


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda p, m, b, k: (p * jnp.ones(3, jnp.float32), (m, {})), r"a loss of shape \(3,\)"),
        (lambda p, m, b, k: (jnp.int32(1), (m, {})), "a loss of shape .* dtype int32"),
        (lambda p, m, b, k: (p, (m, {"loss": p})), "a metric named 'loss'"),
        (lambda p, m, b, k: (p, (m, {"norms": jnp.ones(2)})), r"metric 'norms' of shape \(2,\)"),
        (lambda p, m, b, k: (p, ((m, m), {})), "got memory PyTreeDef"),
        (lambda p, m, b, k: (p, (m.astype(jnp.bfloat16), {})), "dtype bfloat16, expected"),
    ],
)
def test_a_bad_loss_function_is_named_before_compilation(loss, message):
    optimizer = optax.sgd(0.1)
    state = initial_train_state(jnp.float32(1), optimizer, jnp.zeros(2), jax.random.key(0))
    with pytest.raises(ValueError, match=f"^loss_function: .*{message}"):
        make_train_step(loss, optimizer)(state, ())


@pytest.mark.parametrize(
    "key", [np.zeros(2, np.uint32), jax.ShapeDtypeStruct((), np.uint32), 0, None]
)
def test_an_untyped_key_is_refused(key):
    with pytest.raises(ValueError, match=r"^key: got .*, expected one typed key"):
        initial_train_state(jnp.float32(1), optax.sgd(0.1), (), key)
