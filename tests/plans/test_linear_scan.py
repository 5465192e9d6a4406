"""A chunked parallel scan is the loop, whatever the chunks, in values and gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.contract import normal
from support.tolerances import TOLERANCES, assert_close

from rnnjax.plans.linear_scan import default_chunk_steps, linear_scan, semiring_scan
from rnnjax.recurrences.linear import MAX_PLUS

T, B, H = 7, 2, 3
CHUNKS = (1, 3, T)


def arrays(dtype):
    rng = np.random.default_rng(0)
    shapes = ((T, B, H), (T, B, H), (B, H))
    decay, drive, initial = normal(rng, [jax.ShapeDtypeStruct(s, dtype) for s in shapes])
    return decay, drive, initial, jnp.asarray(rng.random((T, B)) < 0.3)


def loop(decay, drive, initial, blocked, reverse, apply=lambda h, a, b: a * h + b):
    """The definition."""
    states, state = [jnp.zeros(0)] * T, initial
    for t in reversed(range(T)) if reverse else range(T):
        state = apply(state, decay[t], drive[t])
        if blocked is not None:
            state = jnp.where(blocked[t][:, None], drive[t], state)
        states[t] = state
    return jnp.stack(states)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_it_is_the_loop_in_values_and_gradients(dtype):
    *values, blocked = arrays(dtype)
    variants = [(b, r, k) for b in (False, True) for r in (False, True) for k in CHUNKS]

    def with_gradients(solve):
        def scalar(*values):
            states = solve(*values)
            weights = jnp.cos(jnp.arange(states.size, dtype="float64")).reshape(states.shape)
            return jnp.sum(weights * (jnp.sin(states.real) + jnp.cos(2 * states.imag))), states

        (_, states), gradients = jax.value_and_grad(scalar, (0, 1, 2), has_aux=True)(*values)
        return states, gradients

    def everything(values, blocked):
        results = []
        for with_blocks, reverse, chunk in variants:
            mask = blocked if with_blocks else None
            options = {"reverse": reverse, "chunk_steps": chunk}
            results.append(with_gradients(partial(linear_scan, blocked=mask, **options)))
            results.append(with_gradients(partial(loop, blocked=mask, reverse=reverse)))
        return list(zip(results[::2], results[1::2], strict=True))

    compiled = jax.jit(everything, compiler_options={"xla_backend_optimization_level": 0})
    pairs = compiled(values, blocked)
    for variant, (actual, expected) in zip(variants, pairs, strict=True):
        assert_close(actual, expected, "float64", str(variant))


@pytest.mark.parametrize("chunk_steps", [1, 3])
def test_it_is_the_loop_over_another_semiring(chunk_steps):
    decay, drive, initial, blocked = arrays("float64")
    for reverse in (False, True):
        actual = semiring_scan(
            MAX_PLUS, decay, drive, initial, blocked, reverse=reverse, chunk_steps=chunk_steps
        )
        expected = loop(
            decay, drive, initial, blocked, reverse, lambda h, a, b: jnp.maximum(h + a, b)
        )
        assert_close(actual, expected, "float64")


@pytest.mark.parametrize("chunk_steps", [1, 3, T])
def test_nan_before_a_block_stays_there(chunk_steps):
    decay, drive, initial, _ = arrays("float64")
    blocked = jnp.zeros((T, B), bool).at[4].set(True)
    states = linear_scan(decay, drive.at[1].set(jnp.nan), initial, blocked, chunk_steps=chunk_steps)
    assert np.isnan(states[1:4]).all()
    clean = linear_scan(decay, drive, initial, blocked, chunk_steps=chunk_steps)
    np.testing.assert_array_equal(states[4:], clean[4:])
    assert_close(states[:1], clean[:1], "float64")


@pytest.mark.parametrize(
    ("dtype", "chunk_steps"),
    [
        ("float32", 300),
        pytest.param("float32", 1, marks=pytest.mark.slow),
        pytest.param("complex64", 300, marks=pytest.mark.slow),
        pytest.param("complex64", 1, marks=pytest.mark.slow),
        pytest.param("float32", 100_000, marks=pytest.mark.slow),
    ],
)
def test_float32_is_sound_over_a_hundred_thousand_steps(dtype, chunk_steps):
    """Decays from instant to never, against float64: no worse than the rounding of a loop."""
    steps = 100_000
    rng = np.random.default_rng(0)
    shape = (steps, 4)
    size = 1 - 10.0 ** rng.uniform(-6, 0, size=shape)
    size[:, 0], size[:, 1] = 1.0, 0.0  # a pure sum, and no memory at all
    phase = rng.uniform(0, 2 * np.pi, size=shape)
    decay = (size * np.exp(1j * phase) if dtype == "complex64" else size).astype(dtype)
    drive = rng.normal(size=shape).astype(dtype)
    weights = rng.normal(size=shape).astype("float32")

    def solved(decay, drive, weights):
        solve = partial(linear_scan, initial=jnp.zeros_like(drive[0]), chunk_steps=chunk_steps)
        states, vjp = jax.vjp(solve, decay, drive)
        return states, vjp(weights.astype(states.dtype))

    wide = {"float32": "float64", "complex64": "complex128"}[dtype]
    expected = jax.jit(solved)(decay.astype(wide), drive.astype(wide), weights.astype("float64"))
    actual = jax.jit(solved)(decay, drive, weights)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == dtype
        scale = np.max(np.abs(e), axis=0)  # of each unit by itself
        error = np.max(np.abs(np.asarray(a, wide) - np.asarray(e)), axis=0)
        assert np.all(error <= TOLERANCES["float32"] * np.maximum(scale, 1)), error / scale


def test_shapes_that_do_not_fit_are_refused():
    ones = jnp.ones((T, B, H))
    with pytest.raises(ValueError, match=r"^decay, drive, initial: got shapes"):
        linear_scan(ones, ones[1:], ones[0])
    with pytest.raises(ValueError, match=r"^blocked: got shape \(3, 2\)"):
        linear_scan(ones, ones, ones[0], jnp.ones((3, B), bool))


def test_a_loop_is_taken_on_a_cpu_and_chunks_of_the_root_elsewhere():
    assert default_chunk_steps(1000, "cpu") == 1000
    assert default_chunk_steps(1024, "gpu") == 32
