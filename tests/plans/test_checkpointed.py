"""The checkpointed plan needs memory as the root of T."""

import jax
import jax.numpy as jnp

import rnnjax


def temporary_bytes(plan, time_steps):
    params = rnnjax.lstm.init(jax.random.key(0), 4, 16)
    xs = jax.ShapeDtypeStruct((time_steps, 4), jnp.float32)

    def loss(params, xs):
        (h, _), _ = rnnjax.scan(rnnjax.lstm, params, xs, plan=plan)
        return jnp.sum(h)

    memory = jax.jit(jax.grad(loss)).lower(params, xs).compile().memory_analysis()
    assert memory is not None
    return memory.temp_size_in_bytes


def test_sixteen_times_the_steps_take_about_four_times_the_memory():
    few, many = (temporary_bytes("checkpointed", T) for T in (256, 4096))
    assert many < 6 * few
    assert many < temporary_bytes("reference", 4096) / 10
