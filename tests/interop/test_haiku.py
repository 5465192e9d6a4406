"""Weights from and to Haiku by the names of its parameters, without Haiku."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.testing as npt
import pytest
from support.tolerances import assert_close

import rnnjax
from rnnjax.interop.haiku import from_haiku_params, to_haiku_params
from rnnjax.interop.network import Network
from rnnjax.layers.bidirectional import BidirectionalParams
from rnnjax.layers.deep import Layer, scan_deep

FROZEN = json.loads((Path(__file__).parent / "frozen" / "haiku.json").read_text(encoding="utf-8"))
REGISTRY = rnnjax.recurrences.REGISTRY
I, H = 3, 2  # noqa: E741 - the letters of the documentation
# Modules that have a second bias, and those that have the first.
SECONDS = {
    "vanilla_rnn/linear_1": "vanilla_rnn/linear",
    "vanilla_rnn_1/linear_1": "vanilla_rnn_1/linear",
    "conv1_dlstm/hidden_to_hidden": "conv1_dlstm/input_to_hidden",
}
CORES = {"rnn": "VanillaRNN", "model/gru": "GRU", "lstm": "LSTM"}


def arrays(tree: Any) -> Any:
    return {
        module: {name: np.asarray(array) for name, array in of_module.items()}
        for module, of_module in tree.items()
    }


def stored_network(case: str) -> Network:
    stored = FROZEN[case]
    shape = np.shape(stored["xs"])[2:-1] or None
    return from_haiku_params(stored["cores"], arrays(stored["params"]), spatial_shape=shape)


def network_of(*names: str, dtype: str = "float32", **options: Any) -> Network:
    """Layers with random weights everywhere, biases too."""
    rng = np.random.default_rng(0)
    params, size = [], I
    for name in names:
        shapes = jax.eval_shape(
            lambda name=name, size=size: REGISTRY[name].init(
                jax.random.key(0), size, H, dtype=dtype, **options
            )
        )
        size = H
        params.append(
            jax.tree.map(
                lambda leaf: jnp.asarray(rng.normal(size=leaf.shape).astype(leaf.dtype)), shapes
            )
        )
    return Network(tuple(Layer(REGISTRY[name]) for name in names), tuple(params))


def assert_same(actual: Any, expected: Any, tolerance: float = 0.0) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == e.dtype
        a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
        npt.assert_allclose(a, e, rtol=0, atol=tolerance)


def test_networks_compute_what_haiku_computed():
    networks = {case: stored_network(case) for case in FROZEN}

    @jax.jit(compiler_options={"xla_backend_optimization_level": 0})
    def run(inputs: Any) -> Any:
        results = {}
        for case, (params, xs) in inputs.items():
            carry, ys = scan_deep(networks[case].layers, params, xs, plan="reference")
            results[case] = ys, jax.tree.leaves(carry)
        return results

    results = run(
        {case: (networks[case].params, np.asarray(FROZEN[case]["xs"])) for case in FROZEN}
    )
    for case, stored in FROZEN.items():
        expected = np.asarray(stored["ys"]), [np.asarray(leaf) for leaf in stored["carry"]]
        assert_close(results[case], expected, "float64", case)


@pytest.mark.parametrize("case", FROZEN)
def test_in_and_out_again_puts_two_biases_together(case):
    expected = arrays(FROZEN[case]["params"])
    for second in expected.keys() & SECONDS.keys():
        bias = expected[SECONDS[second]]["b"]
        bias += expected[second].get("b", 0)
        expected[second]["b"] = np.zeros_like(bias)
    written = to_haiku_params(FROZEN[case]["cores"], stored_network(case))
    assert_same(written, expected, tolerance=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_out_and_in_again_is_the_same_network(dtype):
    network = network_of("elman_relu", "gru_reset_before", "lstm", dtype=dtype)
    written = to_haiku_params(CORES, network)
    assert {f"{module}.{name}" for module, a in written.items() for name in a} == {
        *("rnn/linear.w", "rnn/linear.b", "rnn/linear_1.w", "rnn/linear_1.b"),
        *("model/gru.w_i", "model/gru.w_h", "model/gru.b", "lstm/linear.w", "lstm/linear.b"),
    }
    again = from_haiku_params(CORES, written | {"head": {"w": np.ones(2, np.int32)}})
    assert again.layers == network.layers
    # f's bias less 1 is rounded, and again with 1 more; all else is as it was.
    of_f = slice(H, 2 * H)
    rounded = again.params[2].b[of_f], network.params[2].b[of_f]
    assert_same(*rounded, tolerance=4 * float(jnp.finfo(dtype).eps))
    lstm = again.params[2]._replace(b=again.params[2].b.at[of_f].set(rounded[1]))
    assert_same((*again.params[:2], lstm), network.params)


@pytest.mark.parametrize(
    ("kind", "name", "spatial_shape"),
    [("Conv1DLSTM", "conv_lstm_1d", (4,)), ("Conv2DLSTM", "conv_lstm_2d", (3, 4))],
)
def test_images_out_and_in_again(kind, name, spatial_shape):
    network = network_of(name, dtype="float64", spatial_shape=spatial_shape)
    (record,) = network.params
    with pytest.raises(ValueError, match=rf"network.0.peepholes: got some .*{kind} has none"):
        to_haiku_params({"core": kind}, network)
    record = record._replace(peepholes=jnp.zeros_like(record.peepholes))
    written = to_haiku_params({"core": kind}, Network(network.layers, (record,)))
    again = from_haiku_params({"core": kind}, written, spatial_shape=spatial_shape)
    assert again.layers == network.layers
    assert_same(again.params, (record,), tolerance=1e-15)


WRITTEN = to_haiku_params(CORES, network_of("elman_relu", "gru_reset_before", "lstm"))
LSTM = {"lstm": "LSTM"}
DOUBLE = to_haiku_params(LSTM, network_of("lstm", dtype="float64"))


def with_array(module: str, name: str, array: Any) -> Any:
    return WRITTEN | {module: WRITTEN[module] | {name: array}}


@pytest.mark.parametrize(
    ("cores", "params", "error", "text"),
    [
        ({}, WRITTEN, ValueError, r"cores: got {}, expected kinds by path, such as"),
        ("LSTM", WRITTEN, ValueError, "cores: got 'LSTM', expected kinds by path"),
        ({"lstm": "ResetCore"}, WRITTEN, ValueError, "'ResetCore' at 'lstm', expected VanillaRNN"),
        (LSTM, "params.pkl", TypeError, "params: got str, expected a mapping of modules"),
        (LSTM, {"lstm": 1}, TypeError, "params.lstm: got int, expected a mapping"),
        ({"ls": "LSTM"}, WRITTEN, ValueError, "got no module 'ls', expected one among rnn/linear"),
        ({"lstm": "GRU"}, WRITTEN, ValueError, "params.lstm: got no w_i, w_h, b, expected the arr"),
        (
            LSTM,
            WRITTEN | {"lstm/linear_1": {"w": 1}},
            ValueError,
            "params.lstm: got linear_1.w, expected the arrays of LSTM: linear.b, linear.w",
        ),
        (
            LSTM,
            with_array("lstm/linear", "w", np.ones((2, 8), np.float32)),
            ValueError,
            r"params.lstm.linear.w: got 2 rows, expected I \+ H with H = 2",
        ),
        (
            LSTM,
            with_array("lstm/linear", "w", np.ones((4, 9), np.float32)),
            ValueError,
            r"params.lstm.linear.w: got shape \(4, 9\), expected \(R, 4H\) in LSTM",
        ),
        (LSTM, with_array("lstm/linear", "w", np.ones((4, 8))), TypeError, "float32, float64, exp"),
        (
            CORES,
            WRITTEN | DOUBLE,
            TypeError,
            "params: got arrays of float32, float64, expected one",
        ),
        (LSTM, with_array("lstm/linear", "w", "text"), TypeError, "linear.w: got dtype <U4"),
        (
            {"lstm": "Conv1DLSTM"},
            {
                f"lstm/{part}_to_hidden": {"w": np.ones((3, size, 4 * H), np.float32)}
                for part, size in (("input", I), ("hidden", H))
            },
            ValueError,
            "spatial_shape: got None, expected the 1 sizes",
        ),
    ],
)
def test_parameters_that_are_no_cores_are_refused(cores, params, error, text):
    with pytest.raises(error, match=text):
        from_haiku_params(cores, params)


def test_float64_needs_x64():
    params = to_haiku_params(LSTM, network_of("lstm", dtype="float64"))
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"params.lstm: got float64 .*x64"):
        from_haiku_params(LSTM, params)


ONE = network_of("lstm")
TWO_WAYS = Network(
    (Layer(REGISTRY["lstm"], REGISTRY["lstm"]),), (BidirectionalParams(*ONE.params * 2),)
)


@pytest.mark.parametrize(
    ("cores", "network", "error", "text"),
    [
        (LSTM, ONE.params, TypeError, "network: got tuple, expected a Network"),
        (LSTM, TWO_WAYS, ValueError, "network.0.forward: got two directions, expected one"),
        (
            LSTM,
            network_of("gru"),
            ValueError,
            "network.0: got gru, expected one of elman_relu, gru_",
        ),
        (LSTM, network_of("elman_relu"), ValueError, "got LSTM at 'lstm', expected VanillaRNN for"),
        (CORES, ONE, ValueError, "cores: got 3, expected 1, one for each layer"),
    ],
)
def test_a_network_that_haiku_cannot_hold_is_refused(cores, network, error, text):
    with pytest.raises(error, match=text):
        to_haiku_params(cores, network)
