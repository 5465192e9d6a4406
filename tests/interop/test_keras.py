"""Weights from and to Keras as lists of arrays, without Keras."""

import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.testing as npt
import pytest
from support.tolerances import assert_close

import rnnjax
from rnnjax.interop.keras import from_keras, from_keras_weights, to_keras, to_keras_weights
from rnnjax.interop.network import Network
from rnnjax.layers.bidirectional import (
    BidirectionalParams,
    add,
    average,
    concatenate,
    multiply,
)
from rnnjax.layers.deep import Layer, scan_deep

FROZEN = json.loads((Path(__file__).parent / "frozen" / "keras.json").read_text(encoding="utf-8"))
REGISTRY = rnnjax.recurrences.REGISTRY
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "elman": ("SimpleRNN", {}),
    "elman_relu": ("SimpleRNN", {"activation": "relu"}),
    "gru": ("GRU", {}),
    "gru_reset_before": ("GRU", {"reset_after": False}),
    "lstm": ("LSTM", {}),
}
MERGES = {"concat": concatenate, "sum": add, "ave": average, "mul": multiply}
I, H = 3, 2  # noqa: E741 - the letters of the documentation


def network_of(name: str, merge_mode: str | None = None, dtype: str = "float32") -> Network:
    """One layer with random weights everywhere, biases too."""
    recurrence = REGISTRY[name]
    rng = np.random.default_rng(0)

    def record() -> Any:
        shapes = jax.eval_shape(lambda: recurrence.init(jax.random.key(0), I, H, dtype=dtype))
        return jax.tree.map(
            lambda leaf: jnp.asarray(rng.normal(size=leaf.shape).astype(leaf.dtype)), shapes
        )

    if merge_mode is None:
        return Network((Layer(recurrence),), (record(),))
    layer = Layer(recurrence, recurrence, MERGES[merge_mode])
    return Network((layer,), (BidirectionalParams(record(), record()),))


def assert_same(actual: Any, expected: Any) -> None:
    """The same tree of the same arrays, bit by bit."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == e.dtype
        npt.assert_array_equal(np.asarray(a), np.asarray(e))


def stored_network(case: str) -> Network:
    """The layers of a case, which Keras computes one after the other."""
    layers, params = (), ()
    for stored in FROZEN[case]["layers"]:
        options = {
            key: value
            for key, value in stored["options"].items()
            if key not in ("use_bias", "go_backwards")
        }
        weights = [np.asarray(array, np.float32) for array in stored["weights"]]
        network = from_keras_weights(stored["kind"], weights, **options)
        layers, params = layers + network.layers, params + network.params
    return Network(layers, params)


def test_networks_compute_what_keras_computed():
    networks = {case: stored_network(case) for case in FROZEN}

    @jax.jit(compiler_options={"xla_backend_optimization_level": 0})
    def run(inputs: Any) -> Any:
        results = {}
        for case, (params, xs, lengths) in inputs.items():
            _, ys = scan_deep(
                networks[case].layers,
                params,
                jnp.moveaxis(xs, 1, 0),
                lengths=lengths,
                reverse=case == "backwards",
                plan="reference",
            )
            results[case] = jnp.moveaxis(ys, 0, 1)
        return results

    inputs = {
        case: (
            networks[case].params,
            jnp.asarray(stored["xs"], jnp.float32),
            jnp.asarray(stored["lengths"]),
        )
        for case, stored in FROZEN.items()
    }
    for case, ys in run(inputs).items():
        expected = np.asarray(FROZEN[case]["ys"])
        if case == "backwards":  # in order of running
            expected = expected[:, ::-1]
        assert_close(ys, expected, "float32", case)


@pytest.mark.parametrize("case", FROZEN)
def test_in_and_out_again_are_the_same_arrays(case):
    expected = []
    for stored in FROZEN[case]["layers"]:
        weights = [np.asarray(array, np.float32) for array in stored["weights"]]
        if len(weights) == 2:
            weights.append(np.zeros((2, weights[0].shape[1]), np.float32))
        expected += weights
    assert_same(to_keras_weights(stored_network(case)), expected)


@pytest.mark.parametrize(
    ("merge_mode", "dtype"),
    [
        (None, "float32"),
        (None, "float16"),
        ("concat", "bfloat16"),
        ("sum", "float64"),
        ("ave", "float32"),
        ("mul", "float32"),
    ],
)
@pytest.mark.parametrize("name", KINDS)
def test_out_and_in_again_is_the_same_network(name, merge_mode, dtype):
    network = network_of(name, merge_mode, dtype)
    kind, options = KINDS[name]
    weights = to_keras_weights(network)
    again = from_keras_weights(kind, weights, merge_mode=merge_mode, **options)
    assert again.layers == network.layers
    assert_same(again.params, network.params)


def test_a_missing_bias_is_zero():
    weights = to_keras_weights(network_of("lstm"))
    (record,) = from_keras_weights("LSTM", weights[:2]).params
    npt.assert_array_equal(record.b, np.zeros(4 * H, np.float32))
    both = from_keras_weights("LSTM", weights[:2] * 2, merge_mode="sum").params[0]
    npt.assert_array_equal(both.backward.b, np.zeros(4 * H, np.float32))


def test_what_is_written_is_its_own_and_contiguous():
    network = network_of("gru", "concat")
    for array in to_keras_weights(network):
        assert array.flags.c_contiguous
        assert array.flags.writeable
        array[...] = 0
    assert all(np.all(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(network.params))


GRU = to_keras_weights(network_of("gru"))


def with_array(index: int, array: Any) -> list[Any]:
    return [array if i == index else other for i, other in enumerate(GRU)]


@pytest.mark.parametrize(
    ("kind", "weights", "options", "error", "text"),
    [
        ("RNN", GRU, {}, ValueError, "kind: got 'RNN', expected one of SimpleRNN, GRU, LSTM"),
        ("GRU", "model.keras", {}, TypeError, "weights: got str, expected a list of arrays"),
        ("GRU", GRU[0], {}, TypeError, "weights: got ndarray, expected a list of arrays"),
        ("GRU", GRU[:1], {}, ValueError, r"got 1 arrays .*, expected 3: weights.kernel, weights.r"),
        ("GRU", [*GRU, GRU[0]], {}, ValueError, "weights: got 4 arrays of weights, expected 3"),
        (
            "GRU",
            GRU,
            {"merge_mode": "sum"},
            ValueError,
            "got 3 arrays .*, expected 6: weights.forw",
        ),
        (
            "GRU",
            GRU,
            {"merge_mode": "max"},
            ValueError,
            "merge_mode: got 'max', expected one of co",
        ),
        (
            "GRU",
            GRU,
            {"activation": "relu"},
            ValueError,
            "weights: got activation 'relu', expected",
        ),
        (
            "SimpleRNN",
            GRU,
            {"activation": "selu"},
            ValueError,
            "'selu', expected tanh or relu in S",
        ),
        (
            "GRU",
            GRU,
            {"reset_after": False},
            ValueError,
            r"weights.bias: got shape \(2, 6\), expected \(3H\) in GRU with I = 3, H = 2",
        ),
        (
            "GRU",
            with_array(2, np.ones((3, 6), np.float32)),
            {},
            ValueError,
            r"weights.bias: got shape \(3, 6\), expected \(2, 3H\)",
        ),
        ("LSTM", GRU, {}, ValueError, r"weights.kernel: got shape \(3, 6\), expected \(I, 4H\)"),
        (
            "GRU",
            with_array(1, np.ones((3, 6), np.float32)),
            {},
            ValueError,
            r"weights.recurrent_kernel: got shape \(3, 6\), expected \(H, 3H\)",
        ),
        ("GRU", with_array(1, np.ones((2, 6))), {}, TypeError, "got arrays of float32, float64"),
        ("GRU", with_array(1, "text"), {}, TypeError, "weights.recurrent_kernel: got dtype <U4"),
    ],
)
def test_weights_that_are_no_layer_are_refused(kind, weights, options, error, text):
    with pytest.raises(error, match=text):
        from_keras_weights(kind, weights, **options)


def test_float64_needs_x64():
    weights = to_keras_weights(network_of("lstm", dtype="float64"))
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"weights: got float64 .*x64"):
        from_keras_weights("LSTM", weights)


def of_two_sizes() -> Network:
    network = network_of("elman", "concat")
    (both,) = network.params
    wider = jax.eval_shape(lambda: REGISTRY["elman"].init(jax.random.key(0), I, H + 1))
    backward = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), wider)
    return Network(network.layers, (both._replace(backward=backward),))


def residual() -> Network:
    square = jax.eval_shape(lambda: REGISTRY["elman"].init(jax.random.key(0), H, H))
    record = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), square)
    return Network((Layer(REGISTRY["elman"], residual=True),), (record,))


LSTM = network_of("lstm", "concat")


@pytest.mark.parametrize(
    ("network", "error", "text"),
    [
        (LSTM.params, TypeError, "network: got tuple, expected a Network"),
        (Network(LSTM.layers, ()), ValueError, "network: got parameters of 0 layers"),
        (
            network_of("minimal_gru"),
            ValueError,
            "network.0: got minimal_gru, expected one of elman",
        ),
        (
            Network((Layer(REGISTRY["lstm"], REGISTRY["lstm"], jnp.maximum),), LSTM.params),
            ValueError,
            "network.0: got the merge .*maximum.*, expected one of concatenate, add, average, mult",
        ),
        (residual(), ValueError, "network.0: got a residual connection, expected none"),
        (of_two_sizes(), ValueError, "network.0: got directions of 2 and 3 units"),
        (
            Network((LSTM.layers[0],) * 2, LSTM.params * 2),
            ValueError,
            r"params\[1\]: takes inputs of shape \(3,\), expected \(4,\)",
        ),
    ],
)
def test_a_network_that_keras_cannot_hold_is_refused(network, error, text):
    with pytest.raises(error, match=text):
        to_keras_weights(network)


@pytest.mark.parametrize(("function", "argument"), [(from_keras, None), (to_keras, LSTM)])
def test_what_needs_keras_asks_for_it(function, argument, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ImportError, match=f"keras.{function.__name__} needs Keras 3: pip install"):
        function(argument)
