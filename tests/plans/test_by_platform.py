"""What a program runs depends on the platform it is lowered for, and on nothing else."""

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.plans.by_platform import on_cpu


def function(x, scale):
    return {"y": jnp.sin(x) * scale, "sum": jnp.sum(x)}


def traced_nowhere(x, scale):
    raise AssertionError("traced although nothing is lowered for another platform")


def elsewhere(x, scale):
    return {"y": jnp.cos(x) * scale, "sum": jnp.sum(x)}


X = np.linspace(-1, 1, 6).reshape(2, 3)


def lowered(call, *platforms):
    return jax.jit(call).trace(X, 2.0).lower(lowering_platforms=platforms).as_text()


def test_on_a_cpu_it_is_the_function_and_the_other_is_not_traced():
    call, expected = on_cpu(function, elsewhere=traced_nowhere), function(X, 2.0)
    mapped = jax.vmap(jax.vmap(call, (0, None)), (1, None))
    expected_mapped = jax.vmap(jax.vmap(function, (0, None)), (1, None))(X, 2.0)
    with jax.disable_jit():
        jax.tree.map(np.testing.assert_array_equal, call(X, 2.0), expected)
    jax.tree.map(np.testing.assert_array_equal, jax.jit(call)(X, 2.0), expected)
    jax.tree.map(np.testing.assert_array_equal, jax.jit(mapped)(X, 2.0), expected_mapped)


def test_elsewhere_it_is_the_other_also_batched():
    call = on_cpu(function, elsewhere=elsewhere)
    for this in (call, jax.vmap(call, (0, None))):
        on_a_cpu, on_a_tpu = lowered(this, "cpu"), lowered(this, "tpu")
        assert ("sine" in on_a_cpu, "cosine" in on_a_cpu) == (True, False)
        assert "cosine" in on_a_tpu
        assert "stablehlo.sine" not in on_a_tpu
        both = lowered(this, "cpu", "tpu")
        assert "stablehlo.sine" in both
        assert "cosine" in both
