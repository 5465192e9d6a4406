"""Layers of Keras in rnnjax, and back: outputs, last carries and gradients, live."""

import json
import random
from importlib import import_module
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
from rnnjax.layers.deep import Layer, scan_deep

pytestmark = [
    pytest.mark.peers,
    # Of Keras's own variables, under NumPy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
]

FROZEN = Path(__file__).parents[1] / "interop" / "frozen" / "keras.json"
REGISTRY = rnnjax.recurrences.REGISTRY
T, B, I, H = 4, 3, 3, 5  # noqa: E741 - the letters of the documentation
LENGTHS = np.array([2, 4, 1])
MASK = np.arange(T) < LENGTHS[:, None]
UNOPTIMISED = {"xla_backend_optimization_level": 0}
SEQUENCES = {"return_sequences": True, "zero_output_for_mask": True}


@pytest.fixture(scope="module")
def keras() -> Any:
    return import_module("peers.keras_on_jax").keras


@pytest.fixture(autouse=True)
def as_keras_expects():
    """Keras leans on promotion, and its layers of float32 do not run where x64 is on."""
    with jax.numpy_dtype_promotion("standard"), jax.enable_x64(False):
        yield


def with_weights(layer: Any) -> Any:
    """The layer, built, with random weights everywhere, biases too."""
    layer.build((None, None, I))
    rng = np.random.default_rng(0)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    return layer


def layers_of(keras: Any) -> dict[str, Any]:
    make = keras.layers
    layers = {
        "tanh": make.SimpleRNN(H, return_state=True, dropout=0.5, **SEQUENCES),
        "relu": make.SimpleRNN(H, activation="relu", return_state=True, **SEQUENCES),
        "reset after": make.GRU(H, return_state=True, recurrent_dropout=0.5, **SEQUENCES),
        "reset before": make.GRU(H, reset_after=False, return_state=True, **SEQUENCES),
        "no bias": make.GRU(H, reset_after=False, use_bias=False, return_state=True, **SEQUENCES),
        "no biases": make.GRU(H, use_bias=False, return_state=True, **SEQUENCES),
        "LSTM": make.LSTM(H, return_state=True, **SEQUENCES),
        "backwards": make.LSTM(H, go_backwards=True, return_state=True, **SEQUENCES),
        "RNN": make.RNN(make.LSTMCell(H), return_state=True, **SEQUENCES),
        "cells": make.RNN(
            [make.SimpleRNNCell(2), make.GRUCell(H), make.GRUCell(3, reset_after=False)],
            return_state=True,
            **SEQUENCES,
        ),
        "concat": make.Bidirectional(make.LSTM(H, return_state=True, **SEQUENCES)),
        "two kinds": make.Bidirectional(
            make.GRU(H, return_state=True, **SEQUENCES),
            backward_layer=make.SimpleRNN(H, go_backwards=True, return_state=True, **SEQUENCES),
            merge_mode="sum",
        ),
        "ave": make.Bidirectional(
            make.GRU(H, reset_after=False, return_state=True, **SEQUENCES), merge_mode="ave"
        ),
        "mul": make.Bidirectional(make.GRU(H, return_state=True, **SEQUENCES), merge_mode="mul"),
    }
    return {name: with_weights(layer) for name, layer in layers.items()}


def weighed(outputs: Any) -> Any:
    return sum(
        jnp.sum(output * np.cos(np.arange(output.size)).reshape(output.shape).astype(output.dtype))
        for output in outputs
    )


def in_order(name: str, ys: Any) -> Any:
    """Keras's outputs of a layer that goes backwards are in the order of running."""
    return jnp.flip(ys, 1) if name == "backwards" else ys


def run_keras(layer: Any, name: str, weights: Any, xs: Any, mask: Any) -> Any:
    """Outputs and last states of a layer, and the gradients of their weighed sum."""

    def loss(weights: Any, xs: Any) -> Any:
        (ys, *states), _ = layer.stateless_call(
            weights, [v.value for v in layer.non_trainable_variables], xs, mask=mask
        )
        outputs = [in_order(name, ys), *jax.tree.leaves(states)]
        return weighed(outputs), outputs

    (_, outputs), gradients = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(weights, xs)
    return outputs, gradients


def run_network(network: Network, name: str, params: Any, xs: Any, lengths: Any) -> Any:
    def loss(params: Any, xs: Any) -> Any:
        carry, ys = scan_deep(
            network.layers,
            params,
            jnp.moveaxis(xs, 1, 0),
            lengths=lengths,
            reverse=name == "backwards",
            plan="reference",
        )
        outputs = [jnp.moveaxis(ys, 0, 1), *jax.tree.leaves(carry)]
        return weighed(outputs), outputs

    (_, outputs), gradients = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, xs)
    return outputs, gradients


@pytest.mark.parametrize("masked", [False, True])
def test_layers_of_keras_compute_the_same_here(masked, keras):
    layers = layers_of(keras)
    networks = {
        name: from_keras(layer, reverse=name == "backwards") for name, layer in layers.items()
    }
    xs = np.random.default_rng(1).normal(size=(B, T, I)).astype(np.float32)
    mask, lengths = (MASK, LENGTHS) if masked else (None, None)

    @jax.jit(compiler_options=UNOPTIMISED)
    def everything(weights: Any, params: Any, xs: Any) -> Any:
        return {
            name: (
                run_keras(layer, name, weights[name], xs, mask),
                run_network(networks[name], name, params[name], xs, lengths),
            )
            for name, layer in layers.items()
        }

    results = everything(
        {name: [v.value for v in layer.trainable_variables] for name, layer in layers.items()},
        {name: network.params for name, network in networks.items()},
        xs,
    )
    for name, layer in layers.items():
        (expected, (dweights, dinputs)), (actual, (dparams, dxs)) = results[name]
        assert_close((actual, dxs), (expected, dinputs), "float32", name)
        # Gradients have the shape of what they are of, so they can be written as weights are.
        written = to_keras_weights(Network(networks[name].layers, dparams))
        if len(written) != len(dweights):  # without a bias
            written = written[:2]
        assert len(written) == len(layer.weights)
        assert_close(written, dweights, "float32", name)


def test_models_of_keras_compute_the_same_here_and_when_written(keras):
    make = keras.layers
    models = {
        "deep": keras.Sequential(
            [
                keras.Input((None, I)),
                make.Bidirectional(make.GRU(H, **SEQUENCES)),
                make.Dropout(0.5),
                make.RNN([make.LSTMCell(4), make.LSTMCell(2)], **SEQUENCES),
                keras.Sequential([make.SimpleRNN(H, **SEQUENCES)]),
            ]
        ),
        **{
            name: layer
            for name, layer in layers_of(keras).items()
            if name not in ("RNN", "cells", "no bias", "no biases")
        },
    }
    xs = np.random.default_rng(1).normal(size=(B, T, I)).astype(np.float32)
    for name, model in models.items():
        reverse = name == "backwards"
        network = from_keras(with_weights(model), reverse=reverse)
        before = random.getstate()
        again = to_keras(network, reverse=reverse)
        assert random.getstate() == before
        assert type(again) is type(model)
        for one, other in zip(again.weights, model.weights, strict=True):
            npt.assert_array_equal(one.value, other.value)
        expected = jax.tree.leaves(model(xs))[0]
        assert_close(again(xs), expected, "float32", name)
        if name == "deep":
            _, ys = scan_deep(*network, jnp.moveaxis(xs, 1, 0), plan="reference")
            assert_close(jnp.moveaxis(ys, 0, 1), expected, "float32", name)
            ys = again(xs, mask=None)
            assert ys.shape == (B, T, H)


def test_a_cell_is_one_layer(keras):
    cell = keras.layers.GRUCell(H)
    cell.build((None, I))
    network = from_keras(cell)
    assert network.layers == (Layer(REGISTRY["gru"]),)
    npt.assert_array_equal(to_keras_weights(network)[0], cell.kernel.value)
    stacked = keras.layers.StackedRNNCells([cell, keras.layers.LSTMCell(2)])
    stacked.build((None, I))
    assert from_keras(stacked).layers == (Layer(REGISTRY["gru"]), Layer(REGISTRY["lstm"]))


def test_the_state_of_a_stateful_layer_is_left_behind(keras):
    layer = keras.layers.LSTM(H, stateful=True, **SEQUENCES)
    xs = np.random.default_rng(1).normal(size=(B, T, I)).astype(np.float32)
    expected = layer(xs), layer(xs)
    network = from_keras(layer)
    carry, first = scan_deep(*network, jnp.moveaxis(xs, 1, 0), plan="reference")
    _, second = scan_deep(*network, jnp.moveaxis(xs, 1, 0), carry, plan="reference")
    for ys, of_keras in zip((first, second), expected, strict=True):
        assert_close(jnp.moveaxis(ys, 0, 1), of_keras, "float32")


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_weights_of_every_dtype_come_and_go_bit_by_bit(dtype, keras):
    with jax.enable_x64(True):
        layer = keras.layers.LSTM(H, recurrent_initializer="glorot_uniform", dtype=dtype)
        network = from_keras(with_weights(layer))
        assert {leaf.dtype for leaf in jax.tree.leaves(network.params)} == {jnp.dtype(dtype)}
        again = to_keras(network)
        for one, other in zip(again.weights, layer.weights, strict=True):
            assert one.value.dtype == jnp.dtype(dtype)
            npt.assert_array_equal(one.value, other.value)


def test_a_layer_trains_on_after_the_way_here_and_back(keras):
    layer = to_keras(from_keras(with_weights(keras.layers.GRU(H))))
    model = keras.Sequential([layer, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    before = np.array(layer.cell.recurrent_kernel.value)
    model.fit(np.ones((B, T, I), np.float32), np.zeros((B, T, 1), np.float32), verbose=0)
    assert not np.array_equal(before, layer.cell.recurrent_kernel.value)


def test_weights_files_hold_what_from_keras_weights_takes(keras, tmp_path):
    h5py = import_module("h5py")
    model = keras.Sequential([keras.Input((None, I)), keras.layers.LSTM(H)])
    with_weights(model)
    model.save_weights(tmp_path / "model.weights.h5")
    with h5py.File(tmp_path / "model.weights.h5") as file:
        stored = file["layers/lstm/cell/vars"]
        weights = [stored[key][()] for key in ("0", "1", "2")]
    expected = from_keras(model).params
    for one, other in zip(from_keras_weights("LSTM", weights).params[0], expected[0], strict=True):
        npt.assert_array_equal(one, other)


def layer_to_refuse(keras: Any, name: str) -> Any:
    make = keras.layers

    class GRU(make.GRU):
        """Another layer of the same name."""

    mixed = make.RNN(
        [make.LSTMCell(H), make.LSTMCell(H, recurrent_initializer="zeros", dtype="float16")]
    )
    return {
        "not built": lambda: make.GRU(H),
        "dense": lambda: make.Dense(H),
        "subclass": lambda: GRU(H),
        "activation": lambda: make.LSTM(H, activation="relu"),
        "own activation": lambda: make.SimpleRNN(H, activation=lambda x: x),
        "gates": lambda: make.GRU(H, recurrent_activation="hard_sigmoid"),
        "backwards": lambda: make.GRU(H, go_backwards=True),
        "backwards in a model": lambda: keras.Sequential(
            [make.GRU(H, go_backwards=True, **SEQUENCES), make.GRU(H)]
        ),
        "no merge": lambda: make.Bidirectional(make.GRU(H), merge_mode=None),
        "forward backwards": lambda: make.Bidirectional(
            make.GRU(H, go_backwards=True), backward_layer=make.GRU(H)
        ),
        "stacked both ways": lambda: make.Bidirectional(
            make.RNN([make.LSTMCell(H), make.LSTMCell(H)])
        ),
        "head": lambda: keras.Sequential([make.GRU(H), make.Dense(1)]),
        "nothing": lambda: keras.Sequential([make.Dropout(0.5)]),
        "mixed": lambda: mixed,
    }[name]()


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("not built", ValueError, "layer: got 'gru.*' without weights, expected one that is built"),
        ("dense", TypeError, "layer: got keras.layers.Dense, expected SimpleRNN, GRU, LSTM, RNN"),
        ("subclass", TypeError, r"layer: got .*test_interop_keras.GRU, expected SimpleRNN"),
        ("activation", ValueError, "layer: got activation 'relu', expected tanh in LSTM"),
        ("own activation", ValueError, "layer: got activation .*, expected tanh or relu in Simple"),
        ("gates", ValueError, "layer: got recurrent_activation 'hard_sigmoid', expected sigmoid"),
        ("backwards", ValueError, "layer: got go_backwards=True, expected False; one that"),
        ("backwards in a model", ValueError, r"layer.layers\[0\]: got go_backwards=True beside"),
        ("no merge", ValueError, "layer: got merge_mode None, expected concat, sum, ave, mul"),
        ("forward backwards", ValueError, "layer.forward: got go_backwards=True, expected False"),
        ("stacked both ways", ValueError, "layer.forward: got 2 layers, expected one"),
        ("head", TypeError, r"layer.layers\[1\]: got keras.layers.Dense, expected SimpleRNN"),
        ("nothing", ValueError, "layer: got no recurrent layer, expected at least one"),
        ("mixed", TypeError, r"layer: got arrays of float16, float32"),
    ],
)
@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_a_layer_that_is_no_network_is_refused(name, error, text, keras):
    layer = layer_to_refuse(keras, name)
    if name != "not built":
        layer.build((None, None, I))
    with pytest.raises(error, match=text):
        from_keras(layer)


def test_directions_and_kinds_are_checked(keras):
    with pytest.raises(TypeError, match="layer: got str, expected a layer of Keras"):
        from_keras("GRU")
    with pytest.raises(ValueError, match="got go_backwards=False, expected True"):
        from_keras(with_weights(keras.layers.GRU(H)), reverse=True)
    both = from_keras(with_weights(keras.layers.Bidirectional(keras.layers.GRU(H))))
    with pytest.raises(ValueError, match="reverse: got True, expected False unless of one layer"):
        to_keras(both, reverse=True)


def test_script_reproduces_the_stored_arrays():
    script = import_module("peers.write_frozen_interop_keras")
    stored = json.loads(FROZEN.read_text(encoding="utf-8"))
    assert stored.keys() == script.CASES.keys()
    for case, expected in stored.items():
        written = script.frozen(case)
        for key in ("layers", "xs", "lengths"):
            assert written[key] == expected[key]
        npt.assert_allclose(written["ys"], expected["ys"], rtol=0, atol=1e-6)
