from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.tolerances import TOLERANCES

from rnnjax.models.language_model import (
    LanguageModelConfig,
    apply_language_model,
    init_language_model,
    initial_state,
    language_model_loss,
)
from rnnjax.text.streams import lay_out, window
from rnnjax.training.precision import DType, PrecisionPolicy
from rnnjax.training.step import initial_train_state, make_train_step

POLICIES = {
    "float32": PrecisionPolicy(),
    "bfloat16": PrecisionPolicy(compute="bfloat16"),
    "float16": PrecisionPolicy(compute="float16"),
}
STREAMS = lay_out(np.arange(40) % 5, batch_size=2, begin_id=5)


def model_of(policy):
    return LanguageModelConfig(
        6,
        "elman",
        hidden_sizes=(4,),
        embedding_size=3,
        dtype=policy.parameter,
        compute_dtype=policy.compute,
        output_dtype=policy.output,
        accumulation_dtype=policy.accumulation,
    )


@pytest.fixture(scope="module")
def quick_compilation():
    """Which dtype a thing has does not depend on how hard XLA tries."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def trained(quick_compilation):
    """The losses of 30 steps under each policy, and the last state and metrics."""
    results: dict[str, Any] = {}
    drawn = init_language_model(jax.random.key(0), model_of(PrecisionPolicy()))
    for name, policy in POLICIES.items():
        model = model_of(policy)
        memory = initial_state(model, drawn, (2,))
        optimizer = optax.sgd(0.05)
        loss = partial(language_model_loss, model, plan="reference")
        step = make_train_step(loss, optimizer)
        state = initial_train_state(
            drawn, optimizer, memory, jax.random.key(1), policy.loss_scale()
        )
        losses, metrics = [], {}
        for position in range(30):
            state, metrics = step(state, window(STREAMS, position, 4))
            losses.append(float(metrics["loss"]))
            assert metrics["loss"].dtype == jnp.float32
        results[name] = (losses, state, metrics)
    return results


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_training_in_16_bits_learns_as_in_32(trained, name):
    losses, state, _ = trained[name]
    expected, of_float32, _ = trained["float32"]
    assert losses[0] == pytest.approx(expected[0], rel=TOLERANCES["bfloat16"])
    assert losses[0] != expected[0], "it was computed in 16 bits"
    assert losses[-1] == pytest.approx(expected[-1], rel=0.1)
    assert losses[-1] < 0.5 * losses[0]
    kept = (state.params, state.memory, state.optimizer_state)
    of_float32 = (of_float32.params, of_float32.memory, of_float32.optimizer_state)
    for leaf, wide in zip(jax.tree.leaves(kept), jax.tree.leaves(of_float32), strict=True):
        assert leaf.dtype == wide.dtype
    assert int(state.counters.skipped) == 0


def test_the_loss_is_scaled_where_float16_is_asked_for_and_nowhere_else(trained):
    for name, (_, state, metrics) in trained.items():
        assert ("loss_scale" in metrics) == (name == "float16")
        assert (state.loss_scale is None) == (name != "float16")
    assert PrecisionPolicy(output="float16").loss_scale() is not None


def test_logits_are_of_the_output_dtype_and_activations_of_the_compute_dtype():
    outputs: tuple[DType, ...] = ("float32", "bfloat16")
    for output in outputs:
        policy = PrecisionPolicy(compute="bfloat16", output=output)
        model = model_of(policy)
        params = jax.eval_shape(partial(init_language_model, config=model), jax.random.key(0))
        state, logits = jax.eval_shape(
            lambda params, model=model: apply_language_model(
                model, params, initial_state(model, params, (2,)), jnp.zeros((4, 2), jnp.int32)
            ),
            params,
        )
        assert logits.dtype == output
        assert {leaf.dtype for leaf in jax.tree.leaves((params, state))} == {jnp.dtype("float32")}


def test_trees_are_cast_but_for_what_is_no_number_with_a_point():
    policy = PrecisionPolicy(compute="bfloat16", output="float32")
    tree = {"x": np.ones(2, np.float32), "id": np.arange(2), "z": np.ones(1, np.complex64)}
    dtypes = {name: leaf.dtype.name for name, leaf in policy.to_compute(tree).items()}
    assert dtypes == {"x": "bfloat16", "id": "int64", "z": "complex64"}
    assert policy.to_output(policy.to_compute(tree))["x"].dtype == jnp.float32
    assert policy.to_parameter(tree)["x"].dtype == jnp.float32


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"compute": "float8"}, "compute: got 'float8', expected one of bfloat16"),
        ({"parameter": None}, "parameter: got None"),
        ({"accumulation": "bfloat16"}, "accumulation: got bfloat16 with compute = float32"),
    ],
)
def test_a_bad_policy_is_named(fields, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        PrecisionPolicy(**fields)
