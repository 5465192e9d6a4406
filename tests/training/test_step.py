import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

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
        assert set(metrics) == {*STEP_METRICS, "mean_error"}
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
    assert not np.array_equal(jax.random.key_data(state.key), jax.random.key_data(before.key))
    state, metrics = leaky.step(state, leaky.batch(2))
    assert float(metrics["skipped"]) == 0.0
    assert np.isfinite(float(metrics["loss"]))


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
