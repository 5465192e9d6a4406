"""Weights from and to PyTorch by its state dicts, without PyTorch."""

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
from rnnjax.interop.network import Network
from rnnjax.interop.torch import (
    from_torch,
    from_torch_state_dict,
    to_torch,
    to_torch_cell,
    to_torch_state_dict,
)
from rnnjax.layers.bidirectional import BidirectionalParams, add
from rnnjax.layers.deep import Layer, scan_deep

FROZEN = json.loads((Path(__file__).parent / "frozen" / "torch.json").read_text(encoding="utf-8"))
REGISTRY = rnnjax.recurrences.REGISTRY
KINDS = {
    "elman": "RNN_TANH",
    "elman_relu": "RNN_RELU",
    "gru": "GRU",
    "lstm": "LSTM",
    "lstm_projected": "LSTM",
}


def drawn_network(name: str, layers: int, directions: int, dtype: str = "float32") -> Network:
    """Random weights everywhere, biases too, of I = 3 and H = 4."""
    recurrence = REGISTRY[name]
    rng = np.random.default_rng(0)

    def record(input_size: int) -> Any:
        shapes = jax.eval_shape(lambda: recurrence.init(jax.random.key(0), input_size, 4))
        return jax.tree.map(
            lambda leaf: jnp.asarray(rng.normal(size=leaf.shape).astype(jnp.dtype(dtype))), shapes
        )

    output_size = 2 if name == "lstm_projected" else 4
    sizes = [3] + [directions * output_size] * (layers - 1)
    if directions == 1:
        return Network((Layer(recurrence),) * layers, tuple(record(size) for size in sizes))
    params = tuple(BidirectionalParams(record(size), record(size)) for size in sizes)
    return Network((Layer(recurrence, recurrence),) * layers, params)


def assert_same(actual: Any, expected: Any) -> None:
    """The same tree of the same arrays, bit by bit up to the sign of zero."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == e.dtype
        npt.assert_array_equal(np.asarray(a), np.asarray(e))


def test_networks_compute_what_torch_computed():
    networks = {
        case: from_torch_state_dict(stored["kind"], stored["state_dict"])
        for case, stored in FROZEN.items()
    }

    def run(inputs: Any) -> Any:
        results = {}
        for case, (params, xs, lengths) in inputs.items():
            layers = networks[case].layers
            carry, ys = scan_deep(layers, params, xs, lengths=lengths, plan="reference")
            # PyTorch stacks layers and directions, of h and of c apart.
            parts = 2 if FROZEN[case]["kind"] == "LSTM" else 1
            leaves = jax.tree.leaves(carry)
            results[case] = ys, [jnp.stack(leaves[part::parts]) for part in range(parts)]
        return results

    inputs = {
        case: (networks[case].params, jnp.asarray(stored["xs"]), jnp.asarray(stored["lengths"]))
        for case, stored in FROZEN.items()
    }
    unoptimised = {"xla_backend_optimization_level": 0}
    results = jax.jit(run, compiler_options=unoptimised)(inputs)
    for case, stored in FROZEN.items():
        expected = np.asarray(stored["ys"]), [np.asarray(leaf) for leaf in stored["carry"]]
        assert_close(results[case], expected, "float64", case)


@pytest.mark.parametrize(
    ("layers", "directions", "dtype"),
    [(1, 1, "float32"), (3, 1, "float16"), (1, 2, "bfloat16"), (2, 2, "float64")],
)
@pytest.mark.parametrize("name", KINDS)
def test_out_and_in_again_is_the_same_network(name, layers, directions, dtype):
    network = drawn_network(name, layers, directions, dtype)
    state_dict = to_torch_state_dict(network)
    again = from_torch_state_dict(KINDS[name], state_dict)
    assert again.layers == network.layers
    assert_same(again.params, network.params)


@pytest.mark.parametrize("case", FROZEN)
def test_in_and_out_again_keeps_all_but_how_a_bias_is_split(case):
    stored = {key: np.asarray(array) for key, array in FROZEN[case]["state_dict"].items()}
    written = to_torch_state_dict(from_torch_state_dict(FROZEN[case]["kind"], stored))
    biases = {key for key in written if key.startswith("bias")}
    for key in written.keys() - biases:
        npt.assert_array_equal(written[key], stored[key])
    for key in biases:
        if FROZEN[case]["kind"] == "GRU":
            npt.assert_array_equal(written[key], stored[key])
        elif key.startswith("bias_ih"):
            other = key.replace("bias_ih", "bias_hh")
            zero = np.zeros_like(written[key])
            expected = stored.get(key, zero) + stored.get(other, zero)
            npt.assert_array_equal(written[key] + written[other], expected)


def test_what_is_written_is_its_own_and_contiguous():
    network = drawn_network("gru", 1, 1)
    written = to_torch_state_dict(network)
    for array in written.values():
        assert array.flags.c_contiguous
        assert array.flags.writeable
        array[...] = 0
    assert np.all(np.asarray(network.params[0].w_x) != 0)


def test_a_cell_is_one_layer():
    network = drawn_network("lstm", 1, 1)
    cell = {key.removesuffix("_l0"): a for key, a in to_torch_state_dict(network).items()}
    assert from_torch_state_dict("LSTM", cell).layers == network.layers
    assert_same(from_torch_state_dict("LSTM", cell).params, network.params)


def test_a_prefix_picks_one_network_of_a_model():
    encoder, decoder = drawn_network("gru", 2, 2), drawn_network("gru", 1, 1)
    model = {"head.weight": np.ones((2, 4), np.float16)}
    for prefix, network in (("encoder.", encoder), ("decoder.rnn.", decoder)):
        model |= {prefix + key: a for key, a in to_torch_state_dict(network).items()}
    assert_same(from_torch_state_dict("GRU", model, "encoder.").params, encoder.params)
    assert_same(from_torch_state_dict("GRU", model, prefix="decoder.rnn.").params, decoder.params)


def without(key: str) -> Any:
    return lambda weights: {k: a for k, a in weights.items() if k != key}


def with_shape(key: str, *shape: int) -> Any:
    return lambda weights: weights | {key: np.zeros(shape, np.float32)}


LSTM_OF_TWO_LAYERS = to_torch_state_dict(drawn_network("lstm", 2, 2))


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (without("weight_hh_l1_reverse"), ValueError, "got no weight_hh_l1_reverse"),
        (without("bias_hh_l0"), ValueError, "got no bias_hh_l0,"),
        (with_shape("weight_hr_l0", 2, 4), ValueError, "got no weight_hr_l0_reverse"),
        (with_shape("weight_ih_l7", 16, 8), ValueError, "got no weight_ih_l2,"),
        (with_shape("weight_ih_l99999999999999", 16, 8), ValueError, "got no weight_ih_l2,"),
        (with_shape("head.weight", 3, 8), ValueError, "got head.weight, expected .* one LSTM net"),
        (with_shape("weight_ih", 16, 3), ValueError, "got weight_ih, expected"),
        (with_shape("weight_ih_l0", 15, 3), ValueError, r"'weight_ih_l0'.*\(15, 3\).*\(4 H, I\)"),
        (with_shape("weight_hh_l0", 16, 5), ValueError, r"_hh_l0'.*\(16, 5\), expected \(16, 4\)"),
        (with_shape("weight_ih_l1", 16, 4), ValueError, r"_ih_l1'.*\(16, 4\), expected \(16, 8\)"),
        (with_shape("bias_ih_l0", 16, 1), ValueError, r"bias_ih_l0'.*\(16, 1\), expected \(16,\)"),
        (lambda w: w | {"bias_ih_l0": w["bias_ih_l0"].astype("f8")}, TypeError, "float32, float64"),
        (lambda w: {k: a.astype("i4") for k, a in w.items()}, TypeError, "arrays of int32"),
        (lambda w: w | {"weight_ih_l0": "text"}, TypeError, "'weight_ih_l0'.: got str"),
        (lambda w: {f"rnn.{k}": a for k, a in w.items()}, ValueError, "got rnn.weight_ih_l0"),
        (lambda w: {}, ValueError, "no name that begins with ''"),
        (lambda w: "model.pt", TypeError, "got str, expected a mapping.*weights_only=True"),
    ],
)
def test_a_state_dict_that_cannot_be_read_is_refused(change, error, text):
    with pytest.raises(error, match=text):
        from_torch_state_dict("LSTM", change(LSTM_OF_TWO_LAYERS))


def test_kind_and_prefix_are_checked():
    with pytest.raises(ValueError, match="kind: got 'RNN', expected one of RNN_TANH, RNN_RELU"):
        from_torch_state_dict("RNN", LSTM_OF_TWO_LAYERS)
    with pytest.raises(ValueError, match=r"begins with 'encoder', expected .*: weight_ih_l0"):
        from_torch_state_dict("LSTM", LSTM_OF_TWO_LAYERS, "encoder")
    # The gates of a GRU are 3: 16 rows are not theirs.
    with pytest.raises(ValueError, match=r"\(16, 3\), expected \(3 H, I\)"):
        from_torch_state_dict("GRU", LSTM_OF_TWO_LAYERS)


def test_float64_needs_x64():
    weights = to_torch_state_dict(drawn_network("gru", 1, 1, "float64"))
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64 is off"):
        from_torch_state_dict("GRU", weights)


def changed(network: Network, index: int, layer: Any = None, params: Any = None) -> Network:
    layers, records = list(network.layers), list(network.params)
    layers[index] = layers[index] if layer is None else layer
    records[index] = records[index] if params is None else params
    return Network(tuple(layers), tuple(records))


GRU, LSTM, BEFORE = (REGISTRY[name] for name in ("gru", "lstm", "gru_reset_before"))
ONE_WAY, TWO_WAYS = drawn_network("gru", 2, 1), drawn_network("gru", 2, 2)
OTHER_SIZE = ONE_WAY.params[1]._replace(w_h=jnp.zeros((5, 12), jnp.float32))


@pytest.mark.parametrize(
    ("network", "error", "text"),
    [
        (ONE_WAY.params, TypeError, "network: got tuple, expected a Network"),
        (Network((), ()), ValueError, "got 0 layers"),
        (Network(ONE_WAY.layers, ONE_WAY.params[:1]), ValueError, "2 layers and parameters of 1"),
        (changed(ONE_WAY, 1, GRU), TypeError, r"layers\[1\]: got Recurrence, expected a Layer"),
        (changed(ONE_WAY, 0, Layer(BEFORE)), ValueError, "gru_reset_before, expected one of elman"),
        (changed(ONE_WAY, 1, Layer(LSTM)), ValueError, r"layers\[1\]: got lstm above gru"),
        (changed(ONE_WAY, 1, Layer(GRU, residual=True)), ValueError, "a residual connection"),
        (changed(ONE_WAY, 1, Layer(GRU, GRU)), ValueError, "two directions above layers in one"),
        (changed(TWO_WAYS, 1, Layer(GRU)), ValueError, "one direction above layers in two"),
        (changed(TWO_WAYS, 0, Layer(GRU, LSTM)), ValueError, "gru forward and lstm backward"),
        (changed(TWO_WAYS, 1, Layer(GRU, GRU, add)), ValueError, "merge .*add.*concatenate"),
        (changed(ONE_WAY, 1, None, LSTM_OF_TWO_LAYERS), TypeError, "dict, expected GRUParams"),
        (changed(TWO_WAYS, 0, None, ONE_WAY.params[0]), TypeError, "expected Bidirectional"),
        (changed(ONE_WAY, 1, None, OTHER_SIZE), ValueError, r"1\].w_h: got .*\(5, 12\).*\(4, 12\)"),
        (
            changed(ONE_WAY, 0, None, ONE_WAY.params[0]._replace(b_h=jnp.zeros(()))),
            ValueError,
            r"params\[0\].b_h: got shape \(\), expected one of length 1",
        ),
        (
            changed(ONE_WAY, 1, None, drawn_network("gru", 2, 1, "float64").params[1]),
            TypeError,
            "float32, float64, expected one",
        ),
    ],
)
def test_a_network_that_torch_cannot_hold_is_refused(network, error, text):
    with pytest.raises(error, match=text):
        to_torch_state_dict(network)


@pytest.mark.parametrize(
    ("function", "argument"),
    [(from_torch, None), (to_torch, ONE_WAY), (to_torch_cell, drawn_network("gru", 1, 1))],
)
def test_what_needs_torch_asks_for_it(function, argument, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=f"torch.{function.__name__} needs PyTorch: pip install"):
        function(argument)
