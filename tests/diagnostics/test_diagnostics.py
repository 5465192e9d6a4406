"""Every diagnostic beside a closed form or a brute-force computation, for every recurrence."""

import math
import subprocess
import sys
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import assert_close

import rnnjax
from rnnjax.diagnostics.gates import GATE_NAMES, gate_saturation, gate_values
from rnnjax.diagnostics.gradient_through_time import (
    gradient_norms_through_time,
    gradients_through_time,
)
from rnnjax.diagnostics.lyapunov import lyapunov_exponents
from rnnjax.diagnostics.memory import effective_memory_length, memory_profile
from rnnjax.diagnostics.spectral_radius import spectral_radius
from rnnjax.diagnostics.step_jacobian import singular_values_of_steps, step_jacobians
from rnnjax.diagnostics.vector_carry import carry_as_vector, carry_from_vector
from rnnjax.recurrences import REGISTRY
from rnnjax.recurrences.elman import with_activation

T, B = 3, 2
IDENTITY = with_activation("identity", lambda z: z)
NAMES = tuple(REGISTRY)
# By default the one of a complex carry: what is diagonal or orthogonal has a closed form below.
KINDS = ("lru",)
BY_KIND = [pytest.param(name, marks=[] if name in KINDS else [pytest.mark.slow]) for name in NAMES]
SMALL = {"conv_lstm_1d": {"spatial_shape": (2,)}, "conv_lstm_2d": {"spatial_shape": (1, 2)}}


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """What a diagnostic finds does not depend on how hard XLA tries; how long this takes does."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def normal(rng, tree):
    def leaf(a):
        values = rng.normal(size=a.shape)
        if jnp.iscomplexobj(a):
            values = values + 1j * rng.normal(size=a.shape)
        return jnp.asarray(values, a.dtype)

    return jax.tree.map(leaf, tree)


@lru_cache
def case(name):
    """A recurrence of the registry with random parameters, inputs and carry."""
    recurrence, rng = REGISTRY[name], np.random.default_rng(0)
    with jax.ensure_compile_time_eval():
        shapes = jax.eval_shape(
            lambda key: recurrence.init(key, 2, 2, dtype="float64", **SMALL.get(name, {})),
            jax.random.key(0),
        )
        params = jax.tree.map(lambda a: 0.6 * a, normal(rng, shapes))
        carry = jax.eval_shape(lambda p: recurrence.initial_carry(p, (B,)), params)
        xs = normal(rng, jax.ShapeDtypeStruct((T, B, *recurrence.input_shape(params)), "float64"))
        return recurrence, params, xs, normal(rng, carry)


def weighted(leaf):
    """A sum that weighs every number differently; real of complex ones."""
    flat = jnp.concatenate([leaf.real.ravel(), leaf.imag.ravel()])
    return jnp.sum(jnp.cos(jnp.arange(flat.size, dtype=flat.dtype)) * jnp.sin(flat))


def loss(carry, ys):
    return sum(map(weighted, jax.tree.leaves(carry)), weighted(ys))


def rest_of(recurrence, params, xs, begin, vector, like, row):
    """Of one row, by a Python loop from carry^<begin> on: the later carries, and outputs."""
    carry, carries, ys = carry_from_vector(vector, like), [vector], []
    for x in xs[begin:, row]:
        carry, y = recurrence.step(params, carry, recurrence.project(params, x))
        carries.append(carry_as_vector(carry))
        ys.append(y)
    return carries, carry, ys


@lru_cache
def brute_force(name):
    """By `jax.jacobian` and `jax.grad` of Python loops; one program a recurrence.

    For each row: ∂carry^<t>/∂carry^<t-1> (T, D, D), ∂carry^<T>/∂carry^<t> (T + 1, D, D), and
    ∂L/∂carry^<t> (T + 1, D) where L counts this row alone.
    """
    recurrence, params, xs, carry = case(name)

    def all_rows(params, xs, carry):
        after, ys = rnnjax.scan(recurrence, params, xs, carry, plan="reference")
        steps, ends, gradients = [], [], []
        for row in range(B):
            like = jax.tree.map(lambda leaf, row=row: leaf[row], carry)
            states, _, _ = rest_of(recurrence, params, xs, 0, carry_as_vector(like), like, row)

            def end(vector, begin, row=row, like=like):
                return rest_of(recurrence, params, xs, begin, vector, like, row)[0][-1]

            def one_step(vector, begin, row=row, like=like):
                return rest_of(recurrence, params, xs, begin, vector, like, row)[0][1]

            def row_loss(vector, begin, row=row, like=like):
                _, last, later = rest_of(recurrence, params, xs, begin, vector, like, row)
                whole = jax.tree.map(lambda all_, one: all_.at[row].set(one), after, last)
                outputs = ys
                for t, y in enumerate(later, start=begin):
                    outputs = outputs.at[t, row].set(y)
                return loss(whole, outputs)

            steps.append(jnp.stack([jax.jacrev(one_step)(states[t], t) for t in range(T)]))
            ends.append(jnp.stack([jax.jacrev(end)(states[t], t) for t in range(T + 1)]))
            gradients.append(jnp.stack([jax.grad(row_loss)(states[t], t) for t in range(T + 1)]))
        return jnp.stack(steps, 1), jnp.stack(ends, 1), jnp.stack(gradients, 1)

    compiled = jax.jit(all_rows, compiler_options={"xla_backend_optimization_level": 0})
    return jax.tree.map(np.asarray, compiled(params, xs, carry))


@pytest.mark.parametrize("name", BY_KIND)
def test_diagnostics_are_what_brute_force_finds(name):
    """Jacobians, memory, gradient norms and the sum of all exponents, of carries of every kind."""
    recurrence, params, xs, carry = case(name)
    steps, ends, gradients = brute_force(name)

    found = step_jacobians(recurrence, params, xs, carry)
    assert_close(found, steps, "float64")
    singular = np.linalg.svd(steps, compute_uv=False)
    assert_close(singular_values_of_steps(recurrence, params, xs, carry), singular, "float64")

    profile = np.linalg.norm(ends, ord=2, axis=(-2, -1))[::-1]
    assert_close(memory_profile(recurrence, params, xs, carry), profile, "float64")

    norms = gradient_norms_through_time(recurrence, params, xs, loss, carry)
    assert_close(norms, np.linalg.norm(gradients, axis=-1), "float64")

    exponents = lyapunov_exponents(recurrence, params, xs, jax.random.key(0), carry)
    assert exponents.shape == (B, steps.shape[-1])
    assert np.all(exponents[..., 1:] <= exponents[..., :-1])
    # Of a step that forgets a direction whole, rounding may leave something: no logarithm of it.
    whole = np.all(singular[..., -1] > 1e-6 * singular[..., 0], axis=0)
    determinants = np.mean(np.log(np.abs(np.linalg.det(steps[:, whole]))), axis=0)
    sums = np.sum(np.asarray(exponents)[whole], axis=-1)
    np.testing.assert_allclose(sums, determinants, rtol=1e-8)
    assert np.all(np.sum(np.asarray(exponents)[~whole], axis=-1) < np.log(1e-6) / T)


@pytest.mark.parametrize("name", NAMES)
def test_a_gate_is_what_its_own_bias_opens_and_shuts(name):
    """Names are told by what they do: a gate's block of the bias moves that gate and no other."""
    recurrence, params, xs, carry = case(name)
    values = gate_values(recurrence, params, xs, carry)
    names = [gate for stacked in GATE_NAMES[name] for gate in stacked]
    assert list(values) == names
    for gate, value in values.items():
        assert value.shape[:2] == (T, B), gate
        assert np.all((value >= 0) & (value <= 1)), gate
    for block, gate in BIAS_BLOCKS.get(name, {}).items():
        field, index = block
        bias = getattr(params, field)
        size = bias.shape[0] // BIAS_PARTS.get((name, field), 4)
        opened = bias.at[index * size : (index + 1) * size].add(60.0)
        moved = gate_values(recurrence, params._replace(**{field: opened}), xs, carry)
        np.testing.assert_allclose(moved[gate], 1, atol=1e-12)
        for other in set(names) - {gate, *FOLLOWING.get(name, ())}:
            np.testing.assert_array_equal(moved[other][0], values[other][0], err_msg=other)


# (field, block) of the bias -> the gate it opens. Later steps see another state: the first is
# compared.
LSTM_BLOCKS = {("b", 0): "input", ("b", 1): "forget", ("b", 3): "output"}
BIAS_BLOCKS = {
    "minimal_gru": {("b", 0): "update"},
    "gru": {("b_x", 0): "reset", ("b_x", 1): "kept"},
    "gru_reset_before": {("b", 0): "reset", ("b", 1): "kept"},
    "gru_layer_norm": {("b_x", 0): "reset", ("b_x", 1): "kept"},
    "lstm": LSTM_BLOCKS,
    "lstm_peephole": LSTM_BLOCKS,
    "lstm_projected": LSTM_BLOCKS,
    "lstm_layer_norm": LSTM_BLOCKS,
    "conv_lstm_1d": LSTM_BLOCKS,
    "conv_lstm_2d": LSTM_BLOCKS,
    "slstm": {("b", 1): "forget", ("b", 3): "output"},
    "gated_diagonal": {("b", 0): "decay"},
    "min_gru": {("b", 0): "update"},
    "min_lstm": {("b", 0): "forget", ("b", 1): "input"},
    "sru": {("b", 0): "forget", ("b", 1): "reset"},
    "sru_linear": {("b", 0): "forget", ("b", 1): "reset"},
    "qrnn": {("b", 1): "forget", ("b", 2): "output"},
    "rg_lru": {("b_gates", 0): "recurrence", ("b_gates", 1): "input"},
    "mlstm": {("b", 3): "output", ("b_gates", 1): "forget"},
}
BIAS_PARTS = {
    ("minimal_gru", "b"): 2,
    ("gru", "b_x"): 3,
    ("gru_reset_before", "b"): 3,
    ("gru_layer_norm", "b_x"): 3,
    ("gated_diagonal", "b"): 2,
    ("min_gru", "b"): 2,
    ("min_lstm", "b"): 3,
    ("sru", "b"): 2,
    ("sru_linear", "b"): 2,
    ("qrnn", "b"): 3,
    ("rg_lru", "b_gates"): 2,
    ("mlstm", "b_gates"): 2,
}
FOLLOWING = {
    "min_gru": ("kept",),
    "min_lstm": ("share_kept", "share_added"),
    # The output gate looks at the new cell through its peephole.
    "lstm_peephole": ("output",),
    "conv_lstm_1d": ("output",),
    "conv_lstm_2d": ("output",),
}


def test_every_gate_of_the_registry_is_named_or_known_to_have_none():
    assert set(GATE_NAMES) == set(REGISTRY)
    assert {name for name in NAMES if not GATE_NAMES[name]} == {
        "elman", "elman_relu", "indrnn", "lru",
    }  # fmt: skip
    assert set(BIAS_BLOCKS) == {name for name in NAMES if GATE_NAMES[name]}


def test_the_gates_of_a_recurrence_that_nobody_named_are_numbered():
    recurrence, params, xs, carry = case("qrnn")
    other = rnnjax.qrnn_by(2)
    found = gate_values(other, params, xs, carry)
    assert list(found) == ["gate 1", "gate 2"]
    np.testing.assert_array_equal(
        found["gate 1"], gate_values(recurrence, params, xs, carry)["forget"]
    )


# Closed forms


def diagonal(decays, steps):
    """h' = a h, with a from the input."""
    size = len(decays)
    params = rnnjax.gated_diagonal.init(jax.random.key(0), 1, size, dtype="float64")
    logit = np.log(decays) - np.log1p(-np.asarray(decays))
    b = jnp.concatenate([jnp.asarray(logit), jnp.zeros(size)])
    params = params._replace(w_x=jnp.zeros_like(params.w_x), b=b)
    return rnnjax.gated_diagonal, params, jnp.zeros((steps, 1))


def test_a_diagonal_recurrence_has_powers_of_its_decay():
    decays, steps = np.asarray([0.9, 0.5, 0.2]), 60
    system = diagonal(decays, steps)
    k = np.arange(steps + 1)
    gradients = gradients_through_time(*system, sum_of_carry)
    assert_close(gradients, jnp.asarray(decays ** k[::-1, None]), "float64")
    profile = memory_profile(*system)
    assert_close(profile, jnp.asarray(0.9**k), "float64")
    assert_close(singular_values_of_steps(*system), jnp.tile(decays, (steps, 1)), "float64")
    exponents = lyapunov_exponents(*system, jax.random.key(1), discarded=50)
    np.testing.assert_allclose(exponents, np.log(decays), rtol=1e-10)
    fastest = lyapunov_exponents(*system, jax.random.key(1), count=1, discarded=50)
    np.testing.assert_allclose(fastest, np.log(decays[:1]), rtol=1e-10)
    constant = int(effective_memory_length(0.9 ** np.arange(400), share=1 - 1 / math.e))
    assert constant == math.ceil(-1 / math.log(0.9))
    assert int(effective_memory_length(0.9 ** np.arange(400), share=0.95)) == math.ceil(
        math.log(0.05) / math.log(0.9)
    )


def sum_of_carry(carry, ys):
    del ys
    return jnp.sum(carry)


def test_an_orthogonal_matrix_neither_grows_nor_forgets():
    """As long as the activation is the identity; scaled by g every rate is log g."""
    steps, size = 40, 3
    params = IDENTITY.init(jax.random.key(0), 2, size, dtype="float64")
    xs = jax.random.normal(jax.random.key(1), (steps, 2), "float64")
    key = jax.random.key(2)
    assert_close(lyapunov_exponents(IDENTITY, params, xs, key), jnp.zeros(size), "float64")
    assert_close(memory_profile(IDENTITY, params, xs), jnp.ones(steps + 1), "float64")
    assert int(effective_memory_length(np.ones(steps + 1), 1.0)) == steps + 1
    assert spectral_radius(params.w_h) == pytest.approx(1, rel=1e-12)
    scaled = params._replace(w_h=1.25 * params.w_h)
    expected = jnp.full(size, math.log(1.25))
    assert_close(lyapunov_exponents(IDENTITY, scaled, xs, key), expected, "float64")
    norms = gradient_norms_through_time(IDENTITY, scaled, xs, sum_of_carry)
    expected = math.sqrt(size) * 1.25 ** np.arange(steps, -1, -1)
    np.testing.assert_allclose(norms, expected, rtol=1e-12)


def test_a_loss_of_the_last_output_alone_has_nothing_at_the_last_carry():
    recurrence, params, xs, carry = case("gru")
    norms = gradient_norms_through_time(recurrence, params, xs, last_output, carry)
    np.testing.assert_array_equal(norms[-1], 0)
    assert np.all(norms[:-1] > 0)


def last_output(carry, ys):
    del carry
    return jnp.sum(ys[-1])


def test_a_row_does_not_depend_on_the_others_nor_on_their_number():
    recurrence, params, xs, carry = case("lstm")
    alone = jax.tree.map(lambda leaf: leaf[1], carry)
    grid = jax.tree.map(lambda leaf: leaf[None], carry)
    for diagnostic in (memory_profile, singular_values_of_steps):
        rows = diagnostic(recurrence, params, xs, carry)
        assert_close(diagnostic(recurrence, params, xs[:, 1], alone), rows[:, 1], "float64")
        assert_close(diagnostic(recurrence, params, xs[:, None], grid), rows[:, None], "float64")


def test_the_spectral_radius_is_that_of_a_companion_matrix():
    """Of x² − x − 1 it is the golden ratio, whatever its singular values are."""
    companion = np.asarray([[1.0, 1.0], [1.0, 0.0]])
    rotation = np.asarray([[0.0, -2.0], [2.0, 0.0]])
    radii = spectral_radius(np.stack([companion, rotation]))
    np.testing.assert_allclose(radii, [(1 + math.sqrt(5)) / 2, 2], rtol=1e-12)


def test_saturation_counts_each_value_once_and_in_its_bin():
    values = jnp.asarray([[[0.0, 0.05], [0.95, 0.5]], [[1.0, 0.5], [0.09, 0.91]]])
    found = gate_saturation(values, bins=10)
    expected = np.zeros(10)
    for value in np.ravel(values):
        expected[min(int(value * 10), 9)] += 1 / 8
    np.testing.assert_allclose(found.shares, expected)
    np.testing.assert_allclose(found.shut, [0.5, 0.25])
    np.testing.assert_allclose(found.open, [0.5, 0.25])
    assert found.edges.shape == (11,)


def test_a_memory_of_nothing_is_one_step():
    assert int(effective_memory_length(np.zeros(5))) == 1
    rows = np.stack([[1.0, 0, 0], [1.0, 1, 1]], axis=1)
    assert effective_memory_length(rows, 0.5).tolist() == [1, 2]


def test_bad_arguments_are_named():
    recurrence, params, xs, _ = case("lstm")
    key = jax.random.key(0)
    for call, message in (
        (lambda: memory_profile(recurrence, params, xs[..., :1]), r"^xs: got shape \(3, 2, 1\)"),
        (lambda: lyapunov_exponents(recurrence, params, xs, key, count=5), r"^count: got 5, exp"),
        (lambda: lyapunov_exponents(recurrence, params, xs, key, discarded=3), r"^discarded: got"),
        (lambda: effective_memory_length(np.ones(3), 0), r"^share: got 0, expected within"),
        (lambda: effective_memory_length(np.float64(1)), r"^profile: got shape \(\)"),
        (lambda: gate_saturation(xs, low=0.9, high=0.1), r"^low, high: got 0.9, 0.1"),
        (lambda: gate_saturation(xs, bins=0), r"^bins: got 0"),
        (lambda: spectral_radius(np.ones((2, 3))), r"^matrices: got shape \(2, 3\)"),
        (
            lambda: gradients_through_time(recurrence, params, xs, lambda carry, ys: ys),
            r"^loss: got a value of shape \(3, 2, 2\)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match=r"^xs: got dtype bfloat16, expected float64"):
        memory_profile(recurrence, params, xs.astype(jnp.bfloat16))


def test_only_the_pictures_ask_for_matplotlib():
    script = (
        "import sys, importlib\n"
        "sys.modules |= dict.fromkeys(('matplotlib', 'tensorboard', 'tyro'))\n"
        "for name in ('clip_statistics', 'gates', 'gradient_through_time', 'lyapunov', 'memory',\n"
        "             'spectral_radius', 'step_jacobian'):\n"
        "    importlib.import_module(f'rnnjax.diagnostics.{name}')\n"
        "try:\n"
        "    importlib.import_module('rnnjax.diagnostics.plots')\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    expected = "rnnjax.diagnostics.plots needs matplotlib: pip install 'rnnjax-lib[train]'\n"
    assert run.stdout == expected
