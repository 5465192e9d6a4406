"""ONNX models beside onnxruntime, which runs them, and PyTorch, which writes them too."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.testing as npt
import onnx
import pytest
from onnx import numpy_helper
from support import onnx_specification
from support.onnx_nodes import B, Case, H, I, T, drawn, every_attribute, in_layout, model_of
from support.tolerances import assert_close

import rnnjax
from rnnjax.interop.network import Network
from rnnjax.interop.onnx import from_onnx, operators_from_onnx, to_onnx, write_onnx
from rnnjax.interop.onnx_operator import cell_of, weights_of
from rnnjax.interop.torch import to_torch_state_dict
from rnnjax.layers.bidirectional import BidirectionalParams
from rnnjax.layers.deep import Layer, scan_deep

pytestmark = pytest.mark.peers

REGISTRY = rnnjax.recurrences.REGISTRY
FROZEN = Path(__file__).parents[1] / "interop" / "frozen"
UNOPTIMISED = {"xla_backend_optimization_level": 0}
LAYERS = [((3,), 1), ((4, 2, 3), 1), ((3, 4), 2)]
RECURRENCES = ("elman", "elman_relu", "gru", "gru_reset_before", "lstm", "lstm_peephole")


@pytest.fixture(scope="module")
def torch() -> Any:
    return import_module("torch")


def session(model: onnx.ModelProto | bytes) -> Any:
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # a refusal is an exception as well
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run_onnxruntime(model: onnx.ModelProto | bytes, inputs: Any) -> dict[str, np.ndarray]:
    of_model = session(model)
    names = [output.name for output in of_model.get_outputs()]
    return dict(zip(names, of_model.run(names, dict(inputs)), strict=True))


def test_nodes_of_every_attribute_compute_what_onnxruntime_does():
    cases = [case._replace(layout=0) for case in every_attribute()]
    models = [model_of(case, drawn(case, "float32")[0]) for case in cases]
    operators = [operators_from_onnx(model)["node"] for model in models]
    every_argument = [drawn(case, "float32")[1] for case in cases]

    def run(operators: Any, every_argument: Any) -> Any:
        return [
            operator(**arguments, plan="reference")
            for operator, arguments in zip(operators, every_argument, strict=True)
        ]

    results = jax.jit(run, compiler_options=UNOPTIMISED)(operators, every_argument)
    for case, model, arguments, got in zip(cases, models, every_argument, results, strict=True):
        expected = run_onnxruntime(model, arguments)
        assert_close(got, tuple(expected.values()), "float32", str(case))


@pytest.mark.parametrize("opset", [7, 14, 22])
def test_every_opset_is_the_same_to_onnxruntime(opset):
    for operator in ("RNN", "GRU", "LSTM"):
        case = Case(operator, "bidirectional", clip=0.5)
        weights, arguments = drawn(case, "float32")
        model = model_of(case, weights, opset)
        got = operators_from_onnx(model)["node"](*arguments.values())
        assert_close(got, tuple(run_onnxruntime(model, arguments).values()), "float32", operator)


def test_what_onnxruntime_writes_again_is_read(tmp_path):
    """Its optimiser changes the graph around the nodes, not what they compute."""
    runtime = import_module("onnxruntime")
    network = drawn_network("lstm", (3, 4), 2)
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    runtime.InferenceSession(
        to_onnx(network).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    read = from_onnx(tmp_path / "optimised.onnx")
    assert read.layers == network.layers
    for a, e in zip(jax.tree.leaves(read.params), jax.tree.leaves(network.params), strict=True):
        npt.assert_array_equal(a, e)


def test_gradients_of_every_attribute_are_those_of_torch(torch):
    cases = every_attribute()
    rng = np.random.default_rng(1)
    models = [model_of(case, drawn(case)[0]) for case in cases]
    operators = [operators_from_onnx(model)["node"] for model in models]
    results, inputs, cotangents, expected = [], [], [], []
    for case in cases:
        weights, arguments = drawn(case)
        leaves = {
            name: torch.from_numpy(array.copy()).requires_grad_()
            for name, array in (weights._asdict() | arguments).items()
            if array is not None and name != "sequence_lens"
        }
        outputs = onnx_specification.run(
            case.operator,
            case.specified,
            onnx_specification.Weights(*(leaves.get(name) for name in "WRBP")),
            leaves["X"],
            [int(length) for length in arguments["sequence_lens"]],
            leaves["initial_h"],
            leaves.get("initial_c", leaves["initial_h"]),
            torch,
        )
        weighed = [rng.normal(size=tuple(output.shape)) for output in outputs]
        torch.autograd.backward(outputs, [torch.from_numpy(array) for array in weighed])
        expected.append(
            {
                name: np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy()
                for name, leaf in leaves.items()
            }
        )
        results.append([output.detach().numpy() for output in outputs])
        names = ("Y", "Y_h", "Y_c")
        cotangents.append(
            tuple(in_layout(case, n, a) for n, a in zip(names, weighed, strict=False))
        )
        inputs.append({name: in_layout(case, name, a) for name, a in arguments.items()})

    def everything(operators: Any, inputs: Any, cotangents: Any) -> Any:
        found = []
        for operator, given, cotangent in zip(operators, inputs, cotangents, strict=True):
            lengths = given.pop("sequence_lens")
            outputs, pullback = jax.vjp(
                lambda operator, given, lengths=lengths: operator(
                    sequence_lens=lengths, **given, plan="fused"
                ),
                operator,
                given,
            )
            found.append((outputs, *pullback(cotangent)))
        return found

    found = jax.jit(everything, compiler_options=UNOPTIMISED)(operators, inputs, cotangents)
    for case, (outputs, by_operator, by_inputs), of_torch, gradients in zip(
        cases, found, results, expected, strict=True
    ):
        names = ("Y", "Y_h", "Y_c")
        got = [in_back(case, n, a) for n, a in zip(names, outputs, strict=False)]
        assert_close(got, of_torch, "float64", str(case))
        for name, gradient in by_inputs.items():
            of_text = in_layout(case, name, gradients[name])
            assert_close(gradient, of_text, "float64", f"{case} {name}")
        layer, params = by_operator.layer, by_operator.params
        records = tuple(params) if layer.backward is not None else (params,)
        for index, record in enumerate(records):
            cell = cell_of((layer.recurrence, layer.backward or layer.recurrence)[index])
            assert cell is not None
            for name, gradient in weights_of(cell, record).items():
                of_text = gradients[name][index]
                if name == "B" and not case.linear_before_reset:  # the one bias stands for both
                    gradient, of_text = np.split(gradient, 2)[0], np.split(of_text, 2)[0]
                assert_close(gradient, of_text, "float64", f"{case} {name}")


def in_back(case: Case, name: str, array: Any) -> Any:
    """A result in the layout 0."""
    if not case.layout:
        return array
    return array.transpose((1, 2, 0, 3) if name == "Y" else (1, 0, 2))


def drawn_network(
    name: str, sizes: tuple[int, ...], directions: int, dtype: str = "float32"
) -> Network:
    """Random weights everywhere, biases too."""
    recurrence = REGISTRY[name]
    rng = np.random.default_rng(0)

    def record(inputs: int, size: int) -> Any:
        shapes = jax.eval_shape(lambda: recurrence.init(jax.random.key(0), inputs, size))
        return jax.tree.map(
            lambda leaf: jnp.asarray(0.75 * rng.normal(size=leaf.shape), dtype), shapes
        )

    params, inputs = [], I
    for size in sizes:
        of_layer = [record(inputs, size) for _ in range(directions)]
        params.append(of_layer[0] if directions == 1 else BidirectionalParams(*of_layer))
        inputs = directions * size
    layer = Layer(recurrence, recurrence if directions == 2 else None)
    return Network((layer,) * len(sizes), tuple(params))


def by_names(network: Network, carry: Any, ys: Any) -> dict[str, Any]:
    """What a scan returns, as the written model calls and stacks it."""
    outputs = {"Y": ys}
    for index, of_layer in enumerate(carry):
        directions = of_layer if network.layers[index].backward is not None else (of_layer,)
        leaves = [one if isinstance(one, tuple) else (one,) for one in directions]
        for state, parts in zip("hc", zip(*leaves, strict=True), strict=False):
            outputs[f"Y_{state}_{index}"] = jnp.stack(parts)
    return outputs


@pytest.mark.parametrize("name", RECURRENCES)
def test_onnxruntime_computes_what_the_network_does(name, tmp_path):
    networks = [drawn_network(name, sizes, directions) for sizes, directions in LAYERS]
    rng = np.random.default_rng(1)
    xs = rng.normal(size=(T, B, I)).astype(np.float32)
    lengths = np.array([3, 1, 2], np.int32)
    carries = [
        jax.tree.map(
            lambda leaf: rng.normal(size=leaf.shape).astype(np.float32),
            jax.eval_shape(
                lambda n=network: scan_deep(n.layers, n.params, xs, plan="reference")[0]
            ),
        )
        for network in networks
    ]

    def run(all_params: Any, xs: Any, lengths: Any, carries: Any) -> Any:
        return [
            [
                by_names(network, *scan_deep(network.layers, params, xs, plan="reference")),
                by_names(
                    network,
                    *scan_deep(
                        network.layers, params, xs, carry, lengths=lengths, plan="reference"
                    ),
                ),
            ]
            for network, params, carry in zip(networks, all_params, carries, strict=True)
        ]

    all_params = [network.params for network in networks]
    results = jax.jit(run, compiler_options=UNOPTIMISED)(all_params, xs, lengths, carries)
    for network, carry, (alone, with_all) in zip(networks, carries, results, strict=True):
        path = tmp_path / "network.onnx"
        write_onnx(path, network)
        content = path.read_bytes()
        assert_close(run_onnxruntime(content, {"X": xs}), alone, "float32", name)
        states = by_names(network, carry, xs)
        del states["Y"]
        inputs = {name.replace("Y_", "initial_"): np.asarray(a) for name, a in states.items()}
        # Lengths above T count as T.
        given = {"X": xs, "sequence_lens": np.where(lengths == T, T + 5, lengths)} | inputs
        assert_close(run_onnxruntime(content, given), with_all, "float32", name)
        # Other T and B by the same file.
        short = run_onnxruntime(content, {"X": xs[:1, :1]})
        assert short["Y"].shape == (1, 1, alone["Y"].shape[-1])


@pytest.mark.parametrize("name", RECURRENCES)
def test_onnxruntime_computes_the_same_of_16_bits(name):
    network = drawn_network(name, (3, 4), 2, "float16")
    xs = np.random.default_rng(1).normal(size=(T, B, I)).astype(np.float16)
    carry, ys = scan_deep(*network, xs)
    expected = by_names(network, carry, ys)
    got = run_onnxruntime(to_onnx(network), {"X": xs})
    assert got.keys() == expected.keys()
    for output, array in got.items():
        assert array.dtype == np.float16
        # Both compute in float32 and round at the same places, so one last bit may differ.
        of_network = np.asarray(expected[output])
        scale = max(1.0, float(np.abs(of_network).max()))
        npt.assert_allclose(array / scale, of_network / scale, rtol=0, atol=2e-3)


def test_nodes_that_came_in_are_the_same_to_onnxruntime_when_they_go_out():
    for case in every_attribute():
        if case.direction == "reverse":
            continue
        case = case._replace(layout=0)
        weights, arguments = drawn(case, "float32")
        model = model_of(case, weights)
        expected = run_onnxruntime(model, arguments)
        given = {
            f"{name}_0" if name.startswith("initial") else name: array
            for name, array in arguments.items()
        }
        got = run_onnxruntime(to_onnx(from_onnx(model)), given)
        for state in ("h", "c")[: len(expected) - 1]:
            npt.assert_array_equal(got[f"Y_{state}_0"], expected[f"Y_{state}"], str(case))
        ys = expected["Y"].transpose(0, 2, 1, 3).reshape(T, B, -1)
        npt.assert_array_equal(got["Y"], ys, str(case))


def test_one_alpha_of_two_directions_is_the_same_to_onnxruntime():
    """Its RNN reads one for each direction; the text has one for each that takes it."""
    case = Case("RNN", "bidirectional", ("Tanh", "LeakyRelu"))
    weights, arguments = drawn(case, "float32")
    arguments["initial_h_0"] = arguments.pop("initial_h")
    got = run_onnxruntime(to_onnx(from_onnx(model_of(case, weights))), arguments)
    _, last = onnx_specification.run(
        *("RNN", case.specified, weights, arguments["X"], arguments["sequence_lens"]),
        *(arguments["initial_h_0"], arguments["initial_h_0"]),
    )
    assert_close(got["Y_h_0"], last, "float32")


def test_what_the_documentation_says_that_onnxruntime_has_not():
    refused = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    errors = (refused.Fail, refused.NotImplemented, refused.RuntimeException)
    for operator in ("RNN", "GRU", "LSTM"):
        case = Case(operator, layout=1)
        weights, arguments = drawn(case, "float32")
        with pytest.raises(errors, match="layout == 1"):
            session(model_of(case, weights))
        case = Case(operator)
        weights, arguments = drawn(case)
        with pytest.raises(errors, match=r"double|NOT_IMPLEMENTED"):
            run_onnxruntime(model_of(case, weights), arguments)
        weights, _ = drawn(case, "bfloat16")
        with pytest.raises(errors, match=r"bfloat16|NOT_IMPLEMENTED"):
            session(model_of(case, weights, opset=22))
        if operator != "RNN":
            weights, arguments = drawn(case, "float32")
            arguments["sequence_lens"] = np.array([0, 3, 1], np.int32)
            states = list(run_onnxruntime(model_of(case, weights), arguments).values())[1:]
            for state, initial in zip(states, ("initial_h", "initial_c"), strict=False):
                assert arguments[initial][:, 0].any()
                npt.assert_array_equal(state[:, 0], 0)


MODULES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "lstm": ("LSTM", {"num_layers": 2, "bidirectional": True}, {}),
    "lstm unfolded": ("LSTM", {"num_layers": 2}, {"do_constant_folding": False}),
    "gru, batch first": ("GRU", {"num_layers": 3, "batch_first": True}, {}),
    "gru unfolded": (
        *("GRU", {"bidirectional": True, "num_layers": 2}),
        {"do_constant_folding": False},
    ),
    "rnn": ("RNN", {"num_layers": 2, "nonlinearity": "relu", "bias": False}, {}),
    "lstm, dynamo": ("LSTM", {"num_layers": 2}, {"dynamo": True, "verbose": False}),
    "gru, dynamo": (
        *("GRU", {"batch_first": True, "bidirectional": True}),
        {"dynamo": True, "verbose": False},
    ),
}


@pytest.mark.parametrize("with_states", [False, True])
def test_exports_of_torch_compute_the_same_here(with_states, torch):
    script = import_module("peers.write_frozen_interop_onnx")
    torch.manual_seed(0)
    rng = np.random.default_rng(2)
    cases = []
    for kind, options, export in MODULES.values():
        module = getattr(torch.nn, kind)(I, H, dtype=torch.float64, **options)
        first_axes = (B, T) if module.batch_first else (T, B)
        xs = torch.from_numpy(rng.normal(size=(*first_axes, I)))
        states = ()
        if with_states:
            count = module.num_layers * (2 if module.bidirectional else 1)
            h, c = (torch.from_numpy(rng.normal(size=(count, B, H))) for _ in range(2))
            states = ((h, c),) if kind == "LSTM" else (h,)
        content = script.exported(module, xs, *states, **export)
        network = from_onnx(content)
        inputs = xs.clone().requires_grad_()
        ys, last = module(inputs, *states)
        outputs = [ys, *(last if isinstance(last, tuple) else (last,))]
        weighed = [rng.normal(size=tuple(output.shape)) for output in outputs]
        module.zero_grad()
        torch.autograd.backward(outputs, [torch.from_numpy(array) for array in weighed])
        cases.append((module, network, inputs, states, outputs, weighed))

    def time_first(module: Any, array: Any) -> Any:
        return array.swapaxes(0, 1) if module.batch_first else array

    def run(all_params: Any, all_xs: Any, cotangents: Any) -> Any:
        found = []
        for (module, network, _, states, outputs, _), params, xs, cotangent in zip(
            cases, all_params, all_xs, cotangents, strict=True
        ):
            parts = len(outputs) - 1
            carry = carry_of(network, states)

            def outputs_of(
                params: Any, xs: Any, n: Any = network, c: Any = carry, p: int = parts
            ) -> Any:
                carry, ys = scan_deep(n.layers, params, xs, c, plan="reference")
                leaves = jax.tree.leaves(carry)
                return [ys, *(jnp.stack(leaves[part::p]) for part in range(p))]

            results, pullback = jax.vjp(outputs_of, params, xs)
            found.append((results, *pullback(cotangent)))
            del module
        return found

    results = jax.jit(run, compiler_options=UNOPTIMISED)(
        [case[1].params for case in cases],
        [time_first(case[0], case[2].detach().numpy()) for case in cases],
        [[time_first(case[0], case[5][0]), *case[5][1:]] for case in cases],
    )
    for name, case, (got, dparams, dxs) in zip(MODULES, cases, results, strict=True):
        module, network, inputs, _, outputs, _ = case
        expected = [output.detach().numpy() for output in outputs]
        expected[0] = time_first(module, expected[0])
        assert_close(got, expected, "float64", name)
        assert_close(dxs, time_first(module, inputs.grad.numpy()), "float64", name)
        written = to_torch_state_dict(Network(network.layers, dparams))
        for key, parameter in module.named_parameters():
            if module.mode != "GRU":  # the one bias stands for both
                key = key.replace("bias_hh", "bias_ih")
            assert_close(written[key], parameter.grad.numpy(), "float64", f"{name} {key}")


def carry_of(network: Network, states: Any) -> Any:
    """PyTorch's states as the carries of a deep network."""
    if not states:
        return None
    of_torch = states[0] if isinstance(states[0], tuple) else states
    leaves = [list(state.numpy()) for state in of_torch]
    carries = [parts if len(parts) == 2 else parts[0] for parts in zip(*leaves, strict=True)]
    if network.layers[0].backward is None:
        return tuple(carries)
    return tuple(zip(carries[::2], carries[1::2], strict=True))


def test_script_reproduces_the_stored_files():
    script = import_module("peers.write_frozen_interop_onnx")
    expected = json.loads((FROZEN / "onnx.json").read_text(encoding="utf-8"))
    assert expected.keys() == script.CASES.keys()
    for case, stored in expected.items():
        model, content = script.frozen(case)
        assert content.keys() == stored.keys()
        for key, value in stored.items():
            npt.assert_allclose(np.asarray(content[key]), np.asarray(value), rtol=0, atol=1e-14)
        of_file = onnx.load(FROZEN / f"{case}.onnx").graph.initializer
        made = {t.name: t for t in onnx.load_from_string(model).graph.initializer}
        for tensor in of_file:
            array = numpy_helper.to_array(made[tensor.name])
            npt.assert_array_equal(array, numpy_helper.to_array(tensor))
