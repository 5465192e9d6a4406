"""How parameters begin: bounds and orthogonality gate by gate, biases, keys, dtypes and errors."""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.testing as npt
import pytest
from support.tolerances import TOLERANCES

import rnnjax
from rnnjax.precision import counterpart
from rnnjax.recurrences.initializers import Initializers

I, H = 24, 32  # noqa: E741 - the letters of the documentation
RECURRENCES = pytest.mark.parametrize("name", rnnjax.recurrences.REGISTRY)
# Those whose parameters are w_x, w_h and biases, and nothing else.
PLAIN = ("elman", "elman_relu", "minimal_gru", "gru", "gru_reset_before", "lstm")
PLAIN_RECURRENCES = pytest.mark.parametrize("name", PLAIN)


@lru_cache
def drawn(name: str, seed: int = 0) -> Any:
    return rnnjax.recurrences.REGISTRY[name].init(jax.random.key(seed), I, H)


def gates(weight: jax.Array) -> list[np.ndarray]:
    return np.split(np.asarray(weight, np.float64), weight.shape[-1] // H, axis=-1)


@PLAIN_RECURRENCES
def test_input_weights_fill_the_glorot_bounds_of_one_gate(name):
    bound = np.sqrt(6 / (I + H))
    for block in gates(drawn(name).w_x):
        assert block.shape == (I, H)
        assert 0.98 * bound < np.abs(block).max() <= bound
        npt.assert_allclose(block.std(), bound / np.sqrt(3), rtol=0.1)  # of a uniform law


@PLAIN_RECURRENCES
def test_recurrent_weights_are_orthogonal_gate_by_gate(name):
    for block in gates(drawn(name).w_h):
        npt.assert_allclose(block.T @ block, np.eye(H), rtol=0, atol=TOLERANCES["float32"])


@PLAIN_RECURRENCES
def test_no_two_gates_begin_alike(name):
    params = drawn(name)
    for weight in (params.w_x, params.w_h):
        blocks = gates(weight)
        assert len({block.tobytes() for block in blocks}) == len(blocks)


def biases(params: Any) -> dict[str, Any]:
    return {field: value for field, value in params._asdict().items() if field.startswith("b")}


@pytest.mark.parametrize("name", sorted(set(PLAIN) - {"lstm"}))
def test_biases_begin_at_zero(name):
    assert biases(drawn(name))
    for bias in biases(drawn(name)).values():
        assert not bias.any()


@pytest.mark.parametrize("forget_bias", [None, 0.0, 2.5])
def test_forget_bias_of_the_lstm_is_added_to_the_forget_gate_alone(forget_bias):
    options = {} if forget_bias is None else {"forget_bias": forget_bias}
    params = rnnjax.lstm.init(jax.random.key(0), I, H, **options)
    expected = 1.0 if forget_bias is None else forget_bias
    of_gates = np.asarray(params.b).reshape(4, H)
    npt.assert_array_equal(of_gates[1], np.full(H, expected))
    assert not of_gates[[0, 2, 3]].any()


@PLAIN_RECURRENCES
def test_initializers_that_are_given_are_used_gate_by_gate(name):
    shapes = []

    def constant(value: float) -> Any:
        def initializer(key: Any, shape: Any, dtype: Any) -> Any:
            shapes.append(shape)
            return jnp.full(shape, value, dtype)

        return initializer

    given = Initializers(constant(2.0), constant(3.0), constant(4.0))
    options = {"forget_bias": 0.0} if name == "lstm" else {}
    params = rnnjax.recurrences.REGISTRY[name].init(
        jax.random.key(0), 3, 2, initializers=given, **options
    )
    assert (params.w_x == 2.0).all()
    assert (params.w_h == 3.0).all()
    assert all((bias == 4.0).all() for bias in biases(params).values())
    assert set(shapes) == {(3, 2), (2, 2), (2,)}


@RECURRENCES
def test_the_key_decides(name):
    init = rnnjax.recurrences.REGISTRY[name].init
    again, other = init(jax.random.key(0), I, H), drawn(name, seed=1)
    assert jax.tree.all(jax.tree.map(np.array_equal, again, drawn(name)))
    for leaf, of_other in zip(jax.tree.leaves(again), jax.tree.leaves(other), strict=True):
        if leaf.ndim > 1 and leaf.any():
            assert not np.array_equal(of_other, leaf)


@RECURRENCES
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_is_that_asked_for_and_float32_by_default(name, dtype):
    recurrence = rnnjax.recurrences.REGISTRY[name]
    of_dtype = jax.eval_shape(lambda: recurrence.init(jax.random.key(0), I, H, dtype=dtype))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(of_dtype)} == {dtype}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(drawn(name))} == {"float32"}
    for leaf in jax.tree.leaves(recurrence.initial_carry(drawn(name), (2,))):
        assert leaf.dtype == counterpart(leaf.dtype, "float32")
        assert leaf.shape[0] == 2
        # The stabiliser of an sLSTM begins where nothing has been seen yet.
        assert name == "slstm" or not leaf.any()


@RECURRENCES
@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 2), "input_size: got 0, expected an integer of at least 1"),
        ((3, -1), "hidden_size: got -1, expected an integer of at least 1"),
        ((2.5, 2), "input_size: got 2.5, expected an integer of at least 1"),
        ((3, True), "hidden_size: got True, expected an integer of at least 1"),
        (("3", 2), "input_size: got '3', expected an integer of at least 1"),
    ],
)
def test_sizes_that_are_none_are_refused(name, sizes, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        rnnjax.recurrences.REGISTRY[name].init(jax.random.key(0), *sizes)
    assert str(caught.value) == message


@RECURRENCES
@pytest.mark.parametrize("dtype", ["int32", "bool", "complex64"])
def test_dtypes_that_are_not_floating_are_refused(name, dtype):
    with pytest.raises(TypeError) as caught:
        rnnjax.recurrences.REGISTRY[name].init(jax.random.key(0), 3, 2, dtype=dtype)
    assert str(caught.value) == f"dtype: got {dtype}, expected a floating dtype"


@RECURRENCES
def test_a_dtype_that_is_none_is_refused(name):
    with pytest.raises(TypeError) as caught:
        rnnjax.recurrences.REGISTRY[name].init(jax.random.key(0), 3, 2, dtype="float99")
    assert str(caught.value) == "dtype: got 'float99', expected a floating dtype"


@RECURRENCES
def test_sizes_of_numpy_are_integers(name):
    recurrence = rnnjax.recurrences.REGISTRY[name]
    of_numpy = jax.eval_shape(lambda: recurrence.init(jax.random.key(0), np.int64(I), np.int8(H)))
    shapes = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(of_numpy)]
    assert shapes == [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(drawn(name))]


@RECURRENCES
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_is_float32_rounded(name, dtype):
    """A QR decomposition is there only from float32 on."""
    low = rnnjax.recurrences.REGISTRY[name].init(jax.random.key(0), I, H, dtype=dtype)
    for leaf, full in zip(low, drawn(name), strict=True):
        assert leaf.dtype == dtype
        npt.assert_array_equal(leaf, full.astype(dtype))
