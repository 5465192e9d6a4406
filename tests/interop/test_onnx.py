"""ONNX models in and out, without a runtime: against the operators' text, and bit by bit."""

import json
import pickle
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.testing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from support import onnx_specification
from support.onnx_nodes import (
    LENGTHS,
    B,
    Case,
    H,
    I,
    T,
    drawn,
    every_attribute,
    in_layout,
    model_of,
    node_of,
    stored,
)
from support.tolerances import assert_close

import rnnjax
from rnnjax.interop.network import Network
from rnnjax.interop.onnx import (
    from_onnx,
    operator_from_node,
    operators_from_onnx,
    to_onnx,
    write_onnx,
)
from rnnjax.layers.bidirectional import BidirectionalParams, add
from rnnjax.layers.deep import Layer, scan_deep

REGISTRY = rnnjax.recurrences.REGISTRY
FROZEN = Path(__file__).parent / "frozen"
UNOPTIMISED = {"xla_backend_optimization_level": 0}
EXPRESSIBLE = ("elman", "elman_relu", "gru", "gru_reset_before", "lstm", "lstm_peephole")

# Each attribute, each activation and each operator in both directions, in few programs.
FEW = [
    Case("RNN", "bidirectional", ("LeakyRelu", "Elu"), layout=1),
    Case("RNN", "reverse", ("ThresholdedRelu",), clip=0.5),
    Case("GRU", "bidirectional", ("HardSigmoid", "Softsign", "Sigmoid", "Relu"), 0.5, 1),
    Case("GRU", "reverse", ("ScaledTanh", "Tanh"), layout=1),
    Case("LSTM", "reverse", clip=0.25, layout=1),
    Case(
        *("LSTM", "bidirectional"),
        activations=("HardSigmoid", "Affine", "Softplus", "Sigmoid", "Tanh", "Relu"),
        clip=0.75,
        input_forget=1,
        peepholes=True,
    ),
]


def operator_of(case: Case, **changes: Any) -> Any:
    return operator_from_node(node_of(case, **changes), stored(drawn(case)[0]))


def arguments_of(case: Case) -> dict[str, np.ndarray]:
    return {name: in_layout(case, name, a) for name, a in drawn(case)[1].items()}


def specified(case: Case, weights: Any, arguments: Any) -> list[np.ndarray]:
    """What the text says, in the layout of the case."""
    results = onnx_specification.run(
        case.operator,
        case.specified,
        weights,
        arguments["X"],
        arguments["sequence_lens"],
        arguments["initial_h"],
        arguments.get("initial_c", arguments["initial_h"]),
    )
    return [in_layout(case, name, a) for name, a in zip(("Y", "Y_h", "Y_c"), results, strict=False)]


def assert_nodes_compute_what_the_text_says(cases: list[Case]) -> None:
    operators = [operator_of(case) for case in cases]
    every_argument = [arguments_of(case) for case in cases]

    def run(operators: Any, every_argument: Any) -> Any:
        return [
            list(operator(**arguments, plan="reference"))
            for operator, arguments in zip(operators, every_argument, strict=True)
        ]

    results = jax.jit(run, compiler_options=UNOPTIMISED)(operators, every_argument)
    for case, got in zip(cases, results, strict=True):
        assert_close(got, specified(case, *drawn(case)), "float64", str(case))


def test_nodes_compute_what_the_text_says():
    assert_nodes_compute_what_the_text_says(FEW)


def test_plans_run_a_made_recurrence_alike():
    case = FEW[2]
    operator, arguments = operator_of(case), arguments_of(case)
    plans = ("reference", "unrolled", "fused", "checkpointed")

    def run(operator: Any, arguments: Any) -> Any:
        return [operator(**arguments, plan=plan) for plan in plans]

    reference, *others = jax.jit(run, compiler_options=UNOPTIMISED)(operator, arguments)
    for plan, got in zip(plans[1:], others, strict=True):
        assert_close(got, reference, "float64", plan)


@pytest.mark.slow
def test_nodes_of_every_attribute_compute_what_the_text_says():
    assert_nodes_compute_what_the_text_says(every_attribute())


def test_the_derivative_along_a_line_is_the_central_difference_of_the_text():
    """A line through weights, inputs and initial states."""
    cases = [FEW[1], FEW[3], FEW[5]]
    rng = np.random.default_rng(1)
    here = [drawn(case) for case in cases]
    line = jax.tree.map(
        lambda a: np.zeros_like(a) if a.dtype == np.int32 else rng.normal(size=a.shape), here
    )
    results = [specified(case, *arrays) for case, arrays in zip(cases, here, strict=True)]
    weights = jax.tree.map(lambda a: rng.normal(size=a.shape), results)

    def moved(step: Any) -> Any:
        return jax.tree.map(lambda a, d: a if a.dtype == np.int32 else a + step * d, here, line)

    def weighed(results: Any) -> Any:
        pairs = zip(jax.tree.leaves(weights), jax.tree.leaves(results), strict=True)
        return sum((w * a).sum() for w, a in pairs)

    # Weights come through nodes, so the line through operators is their difference.
    ends = [
        [
            operator_from_node(node_of(case), stored(w))
            for case, (w, _) in zip(cases, at, strict=True)
        ]
        for at in (moved(0.0), moved(1.0))
    ]

    def loss(step: Any) -> Any:
        operators = jax.tree.map(lambda a, b: a + step * (b - a), *ends)
        return weighed(
            [
                operator(
                    **{name: in_layout(case, name, a) for name, a in arguments.items()},
                    plan="reference",
                )
                for case, operator, (_, arguments) in zip(
                    cases, operators, moved(step), strict=True
                )
            ]
        )

    derivative = jax.jit(jax.grad(loss), compiler_options=UNOPTIMISED)(0.0)
    eps = 1e-5
    above, below = (
        weighed([specified(case, *arrays) for case, arrays in zip(cases, moved(e), strict=True)])
        for e in (eps, -eps)
    )
    npt.assert_allclose(derivative, (above - below) / (2 * eps), rtol=1e-6)


def test_what_is_left_out_is_zero_and_full():
    weights, arguments = {}, {}
    gru, lstm = Case("GRU", "bidirectional", layout=1), Case("LSTM")
    rows = Case("LSTM", "bidirectional")
    for case in (gru, lstm, rows):
        weights[case], arguments[case] = drawn(case)
    short, bare = node_of(gru), node_of(lstm)
    del short.input[3:]
    bare.input[4], bare.input[5] = "", ""
    of_gru = weights[gru]
    operators = [
        operator_from_node(short, {"W": of_gru.W, "R": of_gru.R}),
        operator_from_node(bare, stored(weights[lstm])),
        operator_of(rows),
    ]
    lengths = np.array([0, 3, 1])

    def run(operators: Any) -> Any:
        with_layout, with_c, with_rows = operators
        return [
            list(with_layout(in_layout(gru, "X", arguments[gru]["X"]), plan="reference")),
            list(
                with_c(
                    arguments[lstm]["X"],
                    initial_c=arguments[lstm]["initial_c"],
                    plan="reference",
                )
            ),
            list(with_rows(**arguments[rows] | {"sequence_lens": lengths}, plan="reference")),
        ]

    results = jax.jit(run, compiler_options=UNOPTIMISED)(operators)
    for case in (gru, lstm):
        zeros = np.zeros_like(arguments[case]["initial_h"])
        arguments[case] |= {"initial_h": zeros, "sequence_lens": np.full(B, T)}
    arguments[rows]["sequence_lens"] = lengths
    weights[gru] = of_gru._replace(B=np.zeros_like(of_gru.B))
    for case, got in zip((gru, lstm, rows), results, strict=True):
        assert_close(got, specified(case, weights[case], arguments[case]), "float64", str(case))
    # A row without steps keeps its initial state.
    npt.assert_array_equal(results[2][1][:, 0], arguments[rows]["initial_h"][:, 0])
    npt.assert_array_equal(results[2][0][:, :, 0], 0)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_weights_of_every_dtype_are_read_bit_by_bit(dtype):
    case = Case("LSTM", "bidirectional", peepholes=True)
    weights, _ = drawn(case, dtype)
    model = model_of(case, weights, opset=22)
    (operator,) = operators_from_onnx(model.SerializeToString()).values()
    assert {leaf.dtype for leaf in jax.tree.leaves(operator)} == {jnp.dtype(dtype)}
    for index, record in enumerate(operator.params):
        blocks = np.split(weights.W[index], 4)
        w_x = np.concatenate([blocks[i] for i in (0, 2, 3, 1)])  # i, o, f, c to i, f, g, o
        npt.assert_array_equal(record.w_x, w_x.T)
        p_i, p_o, p_f = np.split(weights.P[index], 3)
        npt.assert_array_equal(record.peepholes, np.concatenate([p_i, p_f, p_o]))


@pytest.mark.parametrize(
    ("case", "names"),
    [
        (Case("RNN"), ("elman",)),
        (Case("RNN", "bidirectional", ("Relu", "Tanh")), ("elman_relu", "elman")),
        (Case("GRU"), ("gru_reset_before",)),
        (Case("GRU", "bidirectional", linear_before_reset=1), ("gru", "gru")),
        (Case("LSTM", activations=("Sigmoid", "Tanh", "Tanh")), ("lstm",)),
        (Case("LSTM", peepholes=True), ("lstm_peephole",)),
    ],
)
def test_a_node_of_the_usual_form_is_a_recurrence_of_the_registry(case, names):
    layer = operator_of(case).layer
    assert layer.recurrence is REGISTRY[names[0]]
    assert layer.backward is (REGISTRY[names[1]] if len(names) == 2 else None)


def test_a_recurrence_is_made_once_for_equal_attributes():
    case = Case("GRU", activations=("HardSigmoid", "Tanh"), clip=0.5)
    one, other = operator_of(case).layer, operator_of(case).layer
    assert one.recurrence is other.recurrence
    assert repr(one.recurrence) == "<recurrence onnx_gru>"
    assert operator_of(case, clip=0.25).layer.recurrence is not one.recurrence


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"activations": ["LeakyRelu", "Tanh", "Elu"]}, [(0.01, None), (None, None), (1, None)]),
        (
            {"activations": ["HardSigmoid", "ThresholdedRelu", "Relu"]},
            [(0.2, 0.5), (1, None), (None, None)],
        ),
        (
            {"activations": ["Sigmoid", "LeakyRelu", "Elu"], "activation_alpha": [0.5]},
            [(None, None), (0.5, None), (1, None)],
        ),
        (  # a value for each of the three, which says the same
            {"activations": ["Elu", "TANH", "tanh"], "activation_alpha": [0.5, 1.0, 1.0]},
            [(0.5, None), (None, None), (None, None)],
        ),
        ({"activation_alpha": [0.5, 0.5]}, [(None, None)] * 3),
    ],
)
def test_alpha_and_beta_go_to_the_activations_that_take_them(changes, expected):
    cell = getattr(operator_of(Case("LSTM"), **changes).layer.recurrence, "cell", None)
    if cell is None:
        assert expected == [(None, None)] * 3
        return
    assert [one[1:] for one in cell.activations] == [
        tuple(value if value is None else float(np.float32(value)) for value in pair)
        for pair in expected
    ]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"activations": ["Tanh"]}, "activations: got Tanh, expected 3"),
        ({"activations": ["Tanh", "Gelu", "Tanh"]}, "activations: got 'Gelu', expected one of Rel"),
        (
            {"activations": ["Tanh", "LeakyRelu", "Tanh"], "activation_alpha": [1.0, 0.5, 1.0]},
            "activation_alpha: got 3 values, expected 1, one for each that takes one: LeakyRelu",
        ),
        ({"activations": ["Affine"] * 3}, "activation_alpha: got none for Affine, expected a val"),
        (
            {"activations": ["ScaledTanh"] * 3, "activation_alpha": [1.0] * 3},
            "activation_beta: got none for ScaledTanh",
        ),
        ({"direction": "sideways"}, "direction: got 'sideways', expected one of forward, reverse"),
        ({"layout": 2}, "layout: got 2, expected 0 or 1"),
        ({"input_forget": -1}, "input_forget: got -1, expected 0 or 1"),
        ({"clip": 0.0}, "clip: got 0.0, expected a number above 0"),
        ({"clip": 1}, "clip: got another type, expected FLOAT"),
        ({"hidden_size": 4}, r"W: got shape \(1, 12, 2\), expected \(1, 16, 2\)"),
        ({"linear_before_reset": 1}, "got the attribute 'linear_before_reset', expected one of ac"),
    ],
)
def test_an_attribute_that_the_operator_has_not_is_refused(changes, text):
    with pytest.raises(ValueError, match=rf"LSTM 'node': {text}"):
        operator_of(Case("LSTM"), **changes)


def test_a_node_that_is_no_recurrent_one_is_refused():
    with pytest.raises(TypeError, match=r"node: got dict, expected an onnx.NodeProto"):
        operator_from_node({}, {})
    with pytest.raises(ValueError, match="node: got 'Gemm' of the domain '', expected one of RNN"):
        operator_from_node(helper.make_node("Gemm", ["a", "b"], ["c"]), {})
    node = node_of(Case("GRU"))
    node.domain = "com.example"
    with pytest.raises(ValueError, match=r"got 'GRU' of the domain 'com.example'"):
        operator_from_node(node, {})
    with pytest.raises(ValueError, match="got opset 99, expected 7 …"):
        operator_from_node(node_of(Case("GRU")), stored(drawn(Case("GRU"))[0]), opset=99)
    with pytest.raises(ValueError, match=r"got the attribute 'layout', .* those of opset 7"):
        operator_from_node(node_of(Case("GRU", layout=1)), stored(drawn(Case("GRU"))[0]), opset=7)
    weights, _ = drawn(Case("GRU"))
    with pytest.raises(ValueError, match="B: got no 'B' in tensors"):
        operator_from_node(node_of(Case("GRU")), {"W": weights.W, "R": weights.R})


GRU_CASE = Case("GRU")
GRU_WEIGHTS, GRU_ARGUMENTS = drawn(GRU_CASE)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"X": np.zeros((T, B))}, ValueError, r"X: got shape \(3, 3\), expected \(T, B, I\)"),
        ({"X": np.zeros((T, B, 5))}, ValueError, r"xs: got shape \(3, 3, 5\), expected"),
        ({"X": np.zeros((T, B, I), np.int32)}, TypeError, "xs: got dtype int32"),
        ({"initial_h": np.zeros((1, 2, H))}, ValueError, r"initial_h: .*\(1, 3, 3\) \(D, B, H\)"),
        ({"initial_c": np.zeros((1, B, H))}, TypeError, "initial_c: got an array, .* GRU has no c"),
        ({"initial_h": None}, ValueError, "initial_h: got None, .* the tensor 'initial_h'"),
        ({"sequence_lens": np.array([4, 1, 1])}, ValueError, "lengths: got 4, expected values wi"),
        ({"plan": "native"}, ValueError, "plan: 'native' cannot serve this"),
    ],
)
def test_arguments_of_a_call_are_checked(changes, error, text):
    with pytest.raises(error, match=text):
        operator_of(GRU_CASE)(**(GRU_ARGUMENTS | changes))


def shared_change(role: str, change: Any) -> Any:
    return stored(GRU_WEIGHTS) | {role: change(getattr(GRU_WEIGHTS, role))}


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        (shared_change("W", lambda a: a[:, :8]), r"W: got shape \(1, 8, 2\), expected \(1, 9, 2\)"),
        (shared_change("R", lambda a: a[0]), r"R: got shape \(9, 3\), expected \(1, 9, 3\)"),
        (shared_change("B", lambda a: a[:, 1:]), r"B: got shape \(1, 17\), expected \(1, 18\)"),
        (shared_change("W", lambda a: a[..., :0]), r"W: got shape \(1, 9, 0\).*no axis of 0"),
        (shared_change("R", lambda a: a.astype("f4")), "weights of float32, float64, expected one"),
        ({name: a.astype("i4") for name, a in stored(GRU_WEIGHTS).items()}, "weights of int32"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, text):
    with pytest.raises(ValueError, match=rf"GRU 'node': .*{text}"):
        operator_from_node(node_of(GRU_CASE), weights)


def test_weights_are_needed():
    node = node_of(GRU_CASE)
    node.input[2] = ""
    with pytest.raises(ValueError, match="GRU 'node': R: got none, expected weights"):
        operator_from_node(node, stored(GRU_WEIGHTS))


def test_float64_needs_x64():
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64 is off"):
        operator_of(GRU_CASE)


# Models


def graph_of(
    nodes: list[Any], tensors: dict[str, Any], inputs: dict[str, Any], opset: int = 14
) -> onnx.ModelProto:
    """A model of these nodes; the last one's first output is its output."""
    declared = [
        helper.make_tensor_value_info(
            name, TensorProto.INT32 if name == "lengths" else TensorProto.DOUBLE, axes
        )
        for name, axes in inputs.items()
    ]
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.DOUBLE, None)]
    stored_tensors = [
        numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()
    ]
    graph = helper.make_graph(nodes, "graph", declared, outputs, stored_tensors)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets)


def lstm_node(index: int, xs: str, directions: int = 2, **attributes: Any) -> Any:
    """A node `layer_{index}` of weights `W_{index}`, …"""
    names = [f"{role}_{index}" for role in "WRB"]
    direction = "bidirectional" if directions == 2 else "forward"
    outputs = [f"Y_{index}", f"Y_h_{index}", f"Y_c_{index}"]
    attributes = {"hidden_size": H, "direction": direction, "name": f"layer_{index}"} | attributes
    inputs = [xs, *names, *attributes.pop("more", [])]
    return helper.make_node("LSTM", inputs, outputs, **attributes)


def lstm_weights(index: int, input_size: int, directions: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(index)
    shapes = {"W": (4 * H, input_size), "R": (4 * H, H), "B": (8 * H,)}
    return {
        f"{role}_{index}": rng.normal(size=(directions, *shape)) for role, shape in shapes.items()
    }


TWO_LAYERS = lstm_weights(0, I) | lstm_weights(1, 2 * H)


def assert_is_the_stack(model: onnx.ModelProto, directions: int = 2) -> None:
    """Two layers of these weights, whatever lies between them."""
    network = from_onnx(model)
    lstm = REGISTRY["lstm"]
    assert network.layers == (Layer(lstm, lstm if directions == 2 else None),) * 2
    for index, params in enumerate(network.params):
        records = params if directions == 2 else (params,)
        for direction, record in enumerate(records):
            blocks = np.split(
                numpy_helper.to_array(
                    next(t for t in model.graph.initializer if t.name == f"R_{index}")
                )[direction],
                4,
            )
            w_h = np.concatenate([blocks[i] for i in (0, 2, 3, 1)]).T
            npt.assert_array_equal(record.w_h, w_h)


@pytest.mark.parametrize("axes", [("time", "batch", I), (None, None, I), (4, 1, I), None])
def test_a_stack_is_recognised_by_what_its_nodes_do(axes):
    """As PyTorch, keras and others write it."""
    between = {
        "transposed": [
            helper.make_node("Transpose", ["Y_0"], ["moved"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", ["moved", "shape"], ["between"]),
        ],
        "put together": [
            helper.make_node("Split", ["Y_0"], ["forward", "backward"], axis=1),
            helper.make_node("Squeeze", ["forward", "one"], ["forward_3d"]),
            helper.make_node("Squeeze", ["backward", "one"], ["backward_3d"]),
            helper.make_node("Concat", ["forward_3d", "backward_3d"], ["merged"], axis=-1),
            helper.make_node("Dropout", ["merged"], ["dropped"]),
            helper.make_node("Identity", ["dropped"], ["between"]),
        ],
    }
    tensors = TWO_LAYERS | {"shape": np.array([0, 0, 2 * H]), "one": np.array([1])}
    for nodes in between.values():
        model = graph_of([lstm_node(0, "X"), *nodes, lstm_node(1, "between")], tensors, {"X": axes})
        assert_is_the_stack(model)
    wrong = helper.make_node("Transpose", ["Y_0"], ["moved"], perm=[0, 1, 2, 3])
    nodes = [lstm_node(0, "X"), wrong, between["transposed"][1], lstm_node(1, "between")]
    with pytest.raises(ValueError, match="LSTM 'layer_0', LSTM 'layer_1', expected one stack"):
        from_onnx(graph_of(nodes, tensors, {"X": axes}))


def test_a_stack_with_the_batch_first_and_the_shape_of_its_inputs():
    """As an exporter writes `Reshape(Y, (shape of x)[0], (shape of x)[1], H)`."""
    tensors = lstm_weights(0, I, 1) | lstm_weights(1, H, 1)
    tensors |= {"zero": np.array(0), "size": np.array([H]), "axis": np.array([0])}
    tensors |= {"one": np.array([1]), "both": np.array([0, 1])}
    nodes = [
        helper.make_node("Shape", ["X"], ["shape"]),
        helper.make_node("Gather", ["shape", "both"], ["batch and time"]),
        helper.make_node("Concat", ["batch and time", "size"], ["shape of Y"], axis=0),
        lstm_node(0, "X", 1, layout=1),
        helper.make_node("Reshape", ["Y_0", "shape of Y"], ["batch first"]),
        helper.make_node("Transpose", ["batch first"], ["time first"], perm=[1, 0, 2]),
        lstm_node(1, "time first", 1),
    ]
    assert_is_the_stack(graph_of(nodes, tensors, {"X": ("batch", "time", I)}), 1)
    assert_is_the_stack(graph_of(nodes, tensors, {"X": (2, 5, I)}), 1)


@pytest.mark.parametrize(
    "between",
    [
        [helper.make_node("Max", ["flat", "lowest"], ["between"])],
        [helper.make_node("Relu", ["flat"], ["between"])],
        [helper.make_node("Add", ["flat", "flat"], ["between"])],
        [
            helper.make_node("Cast", ["flat"], ["whole"], to=TensorProto.INT64),
            helper.make_node("Cast", ["whole"], ["between"], to=TensorProto.DOUBLE),
        ],
        [helper.make_node("Slice", ["flat", "one", "many", "zero"], ["between"])],
    ],
    ids=lambda between: between[0].op_type,
)
def test_what_changes_numbers_between_layers_is_no_stack(between):
    nodes = [
        lstm_node(0, "X", 1),
        helper.make_node("Squeeze", ["Y_0", "one"], ["flat"]),
        *between,
        lstm_node(1, "between", 1),
    ]
    tensors = lstm_weights(0, I, 1) | lstm_weights(1, H, 1) | {"lowest": np.array(-9.0)}
    tensors |= {name: np.array([i]) for i, name in enumerate(("zero", "one"))}
    tensors |= {"many": np.array([99])}
    with pytest.raises(ValueError, match="expected one stack, but 'layer_1' does not take the out"):
        from_onnx(graph_of(nodes, tensors, {"X": ("time", "batch", I)}))


def test_two_nodes_beside_each_other_are_no_stack():
    nodes = [lstm_node(0, "X"), lstm_node(1, "X", name="")]
    tensors = lstm_weights(0, I) | lstm_weights(1, I)
    model = graph_of(nodes, tensors, {"X": (T, B, I)})
    with pytest.raises(
        ValueError, match=r"model: got LSTM 'layer_0', LSTM 'Y_1', .*'Y_1' does not .*name one node"
    ):
        from_onnx(model)
    assert list(operators_from_onnx(model)) == ["layer_0", "Y_1"]
    (one,) = from_onnx(model, "Y_1").params
    npt.assert_array_equal(one.forward.w_h[:, :H], tensors["R_1"][0, :H].T)
    with pytest.raises(ValueError, match="node: got 'layer_1', expected one of LSTM 'layer_0', LS"):
        from_onnx(model, "layer_1")


def test_weights_may_be_rearranged_on_their_way():
    """Gates sliced and put together, transposed, and in nodes of their own."""
    tensors = lstm_weights(0, I, 1)
    w, r, b = (tensors[f"{role}_0"] for role in "WRB")
    constant = numpy_helper.from_array(np.ascontiguousarray(r[0].T))
    nodes = [
        helper.make_node("Constant", [], ["R transposed"], value=constant),
        helper.make_node("Transpose", ["R transposed"], ["R flat"], perm=[1, 0]),
        helper.make_node("Unsqueeze", ["R flat", "axis"], ["R_0"]),
        helper.make_node("Slice", ["W reversed", "half", "end", "axis"], ["W first"]),
        helper.make_node("Slice", ["W reversed", "axis", "half", "axis"], ["W last"]),
        helper.make_node("Concat", ["W first", "W last"], ["W flat"], axis=0),
        helper.make_node("Reshape", ["W flat", "shape"], ["W_0"]),
        helper.make_node("Cast", ["B integers"], ["B_0"], to=TensorProto.DOUBLE),
        lstm_node(0, "X", 1),
    ]
    whole = np.round(b)
    others = {"axis": np.array([0]), "half": np.array([2 * H]), "end": np.array([4 * H])}
    others |= {"shape": np.array([1, -1, I]), "B integers": whole.astype(np.int8)}
    others |= {"W reversed": np.concatenate([w[0, 2 * H :], w[0, : 2 * H]])}
    got = from_onnx(graph_of(nodes, others, {"X": (T, B, I)}))
    expected = from_onnx(
        graph_of([lstm_node(0, "X", 1)], tensors | {"B_0": whole}, {"X": (T, B, I)})
    )
    for a, e in zip(jax.tree.leaves(got.params), jax.tree.leaves(expected.params), strict=True):
        npt.assert_array_equal(a, e)


def test_weights_that_are_computed_or_given_are_refused():
    tensors = lstm_weights(0, I, 1)
    w = tensors.pop("W_0")
    node = lstm_node(0, "X", 1)
    with pytest.raises(
        ValueError, match=r"LSTM 'layer_0': W: got the tensor 'W_0', an input of the model, expec"
    ):
        from_onnx(graph_of([node], tensors, {"X": (T, B, I), "W_0": w.shape}))
    halved = helper.make_node("Mul", ["half W", "half"], ["W_0"])
    with pytest.raises(ValueError, match=r"W: got the tensor 'W_0', computed by Mul, expected"):
        from_onnx(
            graph_of([halved, node], tensors | {"half W": w, "half": 0.5 * w}, {"X": (T, B, I)})
        )
    with pytest.raises(ValueError, match="W: got the tensor 'W_0', which nothing makes"):
        from_onnx(graph_of([node], tensors, {"X": (T, B, I)}))
    itself = helper.make_node("Identity", ["W_0"], ["W_0"])
    with pytest.raises(ValueError, match="'W_0'"):
        from_onnx(graph_of([itself, node], tensors, {"X": (T, B, I)}))


def test_initial_states_and_lengths_are_those_of_the_file():
    rng = np.random.default_rng(0)
    tensors, xs = lstm_weights(0, I), rng.normal(size=(T, B, I))
    states = {"h": rng.normal(size=(2, 1, H)), "c": rng.normal(size=(2, B, H))}
    expand = [
        helper.make_node("Shape", ["X"], ["rows"], start=1, end=2),
        helper.make_node("Concat", ["two", "rows", "size"], ["shape"], axis=0),
        helper.make_node("Expand", ["h", "shape"], ["h of all"]),
    ]
    node = lstm_node(0, "X", more=["lengths", "h of all", "c"])
    shapes = {"two": np.array([2]), "size": np.array([H])}
    model = graph_of(
        [*expand, node], tensors | shapes | states | {"lengths": LENGTHS}, {"X": (T, None, I)}, 17
    )
    (operator,) = operators_from_onnx(model).values()
    assert operator.expected == ()
    bare = operators_from_onnx(graph_of([lstm_node(0, "X")], tensors, {"X": None}))["layer_0"]
    h, c = np.broadcast_to(states["h"], (2, B, H)), states["c"]
    other_lengths = np.full(B, T)

    def run(operator: Any, bare: Any, lengths: Any, other_lengths: Any) -> Any:
        def total(operator: Any) -> Any:
            ys, *last = operator(xs, plan="reference")
            return ys.sum(), (ys, *last)

        # A gradient by an operator is one by its weights and its initial states.
        gradient, of_file = jax.grad(total, has_aux=True)(operator)
        given = operator(xs, other_lengths, 2 * h, 2 * c, plan="reference")
        expected = bare(xs, lengths, h, c, plan="reference")
        return (
            gradient,
            of_file,
            expected,
            given,
            bare(xs, other_lengths, 2 * h, 2 * c, plan="reference"),
        )

    gradient, of_file, expected, given, expected_given = jax.jit(run, compiler_options=UNOPTIMISED)(
        operator, bare, LENGTHS, other_lengths
    )
    assert_close(of_file, expected, "float64")
    assert_close(given, expected_given, "float64")
    assert gradient.initial_h.shape == (2, 1, H)
    assert np.abs(gradient.initial_h).min() > 0
    assert gradient.name == operator.name == "layer_0"
    with pytest.raises(ValueError, match="'layer_0': got a stored sequence_lens, expected none"):
        from_onnx(model)


def test_states_and_lengths_that_a_model_computes_are_arguments():
    tensors = lstm_weights(0, I, 1)
    nodes = [
        helper.make_node("Mul", ["state", "state"], ["squared"]),
        lstm_node(0, "X", 1, more=["lengths", "squared", "made of X"]),
    ]
    first = helper.make_node("ReduceSum", ["X", "axis"], ["made of X"], keepdims=1)
    inputs = {"X": (T, B, H), "state": (1, B, H), "lengths": (B,)}
    model = graph_of([first, *nodes], lstm_weights(0, H, 1) | {"axis": np.array([0])}, inputs)
    (operator,) = operators_from_onnx(model).values()
    assert dict(operator.expected) == {
        "sequence_lens": "lengths",
        "initial_h": "squared",
        "initial_c": "made of X",
    }
    # A network takes them as arguments of its scan.
    assert from_onnx(model).layers == (Layer(REGISTRY["lstm"]),)
    del tensors


@pytest.mark.parametrize("zeros", ["stored", "of a shape", "of the shape of X"])
def test_an_initial_state_of_zeros_is_none(zeros):
    tensors = lstm_weights(0, I, 1)
    nodes = [lstm_node(0, "X", 1, more=["", "h"])]
    if zeros == "stored":
        tensors["h"] = np.zeros((1, B, H))
    else:
        value = numpy_helper.from_array(np.zeros(1))
        nodes.insert(0, helper.make_node("ConstantOfShape", ["shape"], ["h"], value=value))
        tensors |= {"shape": np.array([1, B, H]), "one": np.array([1]), "size": np.array([H])}
    if zeros == "of the shape of X":
        del tensors["shape"]
        nodes.insert(0, helper.make_node("Concat", ["one", "rows", "size"], ["shape"], axis=0))
        nodes.insert(0, helper.make_node("Gather", ["all", "one"], ["rows"]))
        nodes.insert(0, helper.make_node("Shape", ["X"], ["all"]))
    model = graph_of(nodes, tensors, {"X": (T, None, I)})
    assert operators_from_onnx(model)["layer_0"].initial_h is None
    assert from_onnx(model).layers == (Layer(REGISTRY["lstm"]),)


def test_layers_of_other_lengths_are_no_network():
    between = helper.make_node("Squeeze", ["Y_0", "one"], ["between"])
    nodes = [
        lstm_node(0, "X", 1, more=["lengths"]),
        between,
        lstm_node(1, "between", 1),
    ]
    tensors = lstm_weights(0, I, 1) | lstm_weights(1, H, 1) | {"one": np.array([1])}
    inputs = {"X": (T, B, I), "lengths": (B,)}
    with pytest.raises(ValueError, match=r"got sequence_lens .*'lengths'.*expected the same"):
        from_onnx(graph_of(nodes, tensors, inputs))
    nodes[2] = lstm_node(1, "between", 1, more=["lengths"])
    assert_is_the_stack(graph_of(nodes, tensors, inputs), 1)


def test_a_reverse_node_is_an_operator_and_no_network():
    case = Case("GRU", "reverse")
    model = model_of(case, drawn(case)[0])
    with pytest.raises(ValueError, match="GRU 'node': got direction 'reverse', expected 'forward'"):
        from_onnx(model)
    assert operators_from_onnx(model)["node"].direction == "reverse"


def test_nodes_of_functions_and_branches():
    tensors = lstm_weights(0, I, 1)
    body = lstm_node(0, "xs", 1, name="of a function")
    body.input[1:] = ["w", "r", "b"]
    function = helper.make_function(
        "local", "Layer", ["xs", "w", "r", "b"], ["Y_0"], [body], [helper.make_opsetid("", 14)]
    )
    call = helper.make_node("Layer", ["X", "W_0", "R_0", "B_0"], ["Y"], domain="local")
    model = graph_of([call], tensors, {"X": (T, B, I)})
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
    assert from_onnx(model).layers == (Layer(REGISTRY["lstm"]),)
    body.op_type, body.domain = "Layer", "local"
    model.functions[0].node[0].CopyFrom(body)
    model.functions[0].opset_import.append(helper.make_opsetid("local", 1))
    with pytest.raises(ValueError, match="model: got functions that cannot be put in place"):
        from_onnx(model)
    branch = helper.make_graph([lstm_node(0, "X", 1)], "branch", [], [])
    choice = helper.make_node("If", ["choice"], ["Y"], then_branch=branch, else_branch=branch)
    model = graph_of([choice], tensors, {"X": (T, B, I), "choice": ()})
    with pytest.raises(ValueError, match=r"got no node RNN, GRU, LSTM, expected one; .* within If"):
        from_onnx(model)
    assert operators_from_onnx(model) == {}


def test_weights_in_a_file_of_their_own(tmp_path):
    model = graph_of([lstm_node(0, "X", 1)], lstm_weights(0, I, 1), {"X": (T, B, I)})
    expected = from_onnx(model)
    path = tmp_path / "model.onnx"
    onnx.save(*(model, path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    got = from_onnx(path)
    for a, e in zip(jax.tree.leaves(got.params), jax.tree.leaves(expected.params), strict=True):
        npt.assert_array_equal(a, e)
    with pytest.raises(ValueError, match="model: 'W_0': got data in another file, expected the pa"):
        from_onnx(path.read_bytes())
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ValueError, match=r"model.onnx: 'W_0': got a tensor that cannot be read"):
        from_onnx(path)
    elsewhere = onnx.load(path, load_external_data=False)
    for tensor in elsewhere.graph.initializer:
        tensor.external_data[0].value = "../secret"
    (tmp_path.parent / "secret").write_bytes(bytes(10_000))
    path.write_bytes(elsewhere.SerializeToString())
    with pytest.raises(ValueError, match=r"'W_0': got a tensor that cannot be read .*outside"):
        from_onnx(path)


def test_exports_of_torch_compute_what_torch_computed():
    frozen = json.loads((FROZEN / "onnx.json").read_text(encoding="utf-8"))
    networks = {case: from_onnx(FROZEN / f"{case}.onnx") for case in frozen}
    for stored_case in frozen.values():
        for name in ("xs", "ys"):
            array = np.asarray(stored_case[name])
            stored_case[name] = array.swapaxes(0, 1) if stored_case["batch_first"] else array

    def run(inputs: Any) -> Any:
        results = {}
        for case, (params, xs) in inputs.items():
            carry, ys = scan_deep(networks[case].layers, params, xs, plan="reference")
            leaves, parts = jax.tree.leaves(carry), len(frozen[case]["last"])
            results[case] = ys, [jnp.stack(leaves[part::parts]) for part in range(parts)]
        return results

    inputs = {case: (networks[case].params, frozen[case]["xs"]) for case in frozen}
    results = jax.jit(run, compiler_options=UNOPTIMISED)(inputs)
    for case, stored_case in frozen.items():
        expected = stored_case["ys"], [np.asarray(leaf) for leaf in stored_case["last"]]
        assert_close(results[case], expected, "float64", case)
    # Both exporters were given the same weights.
    one, other = (jax.tree.leaves(networks[f"torch_{name}"].params) for name in ("lstm", "dynamo"))
    for a, b in zip(one, other, strict=True):
        npt.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: m.ClearField("graph"), "got no graph with operators of ONNX"),
        (lambda m: m.ClearField("opset_import"), "got no graph with operators of ONNX"),
        (lambda m: setattr(m.opset_import[0], "version", 6), "'layer_0': got opset 6, expected 7"),
        (lambda m: setattr(m.opset_import[0], "version", 999), "got opset 999, expected at most"),
        (lambda m: setattr(m.graph.node[0], "op_type", "Gemm"), "got no node RNN, GRU, LSTM"),
        (lambda m: setattr(m.graph.node[0], "domain", "mine"), "got no node RNN, GRU, LSTM"),
        (lambda m: m.graph.node[0].ClearField("input"), "W: got none, expected weights"),
        (lambda m: setattr(m.graph.initializer[0], "raw_data", b"123"), "'W_0': got a tensor that"),
        (lambda m: setattr(m.graph.initializer[0], "data_type", 77), "'W_0': got a tensor that ca"),
        (
            lambda m: setattr(m.graph.initializer[0], "raw_data", bytes(16)),
            r"'W_0': got a tensor that cannot be read .*reshape",
        ),
        (lambda m: m.graph.initializer[1].dims.__setitem__(0, -1), "'R_0': got 36 numbers, expec"),
    ],
)
def test_a_damaged_model_is_refused_by_name(change, text):
    model = graph_of([lstm_node(0, "X", 1)], lstm_weights(0, I, 1), {"X": (T, B, I)})
    change(model)
    with pytest.raises(ValueError, match=f"model: .*{text}"):
        from_onnx(model)


def test_a_node_that_makes_too_much_is_not_evaluated(monkeypatch):
    monkeypatch.setattr("rnnjax.interop.onnx_graph._LARGEST", 1000)
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["h"]),
        lstm_node(0, "X", 1, more=["", "h"]),
    ]
    tensors = lstm_weights(0, I, 1) | {"shape": np.array([1, 1 << 60, H])}
    (operator,) = operators_from_onnx(graph_of(nodes, tensors, {"X": (T, B, I)})).values()
    assert operator.expected == (("initial_h", "h"),)
    doubled = ["W_0", *(f"twice_{index}" for index in range(60))]
    nodes = [
        helper.make_node("Concat", [below, below], [above], axis=0)
        for below, above in pairwise(doubled)
    ]
    last = lstm_node(0, "X", 1)
    last.input[1] = doubled[-1]
    with pytest.raises(ValueError, match=r"W: got the tensor 'twice_5', made by Concat, of more"):
        from_onnx(graph_of([*nodes, last], lstm_weights(0, I, 1), {"X": (T, B, I)}))


def test_a_node_that_cannot_be_evaluated_is_named():
    nodes = [helper.make_node("Reshape", ["W flat", "shape"], ["W_0"]), lstm_node(0, "X", 1)]
    tensors = lstm_weights(0, I, 1)
    tensors["W flat"] = tensors.pop("W_0")
    model = graph_of(nodes, tensors | {"shape": np.array([5, 5])}, {"X": (T, B, I)})
    with pytest.raises(ValueError, match=r"W: got the tensor 'W_0', made by Reshape, which cannot"):
        from_onnx(model)


def test_a_truncated_file_is_refused_by_name(tmp_path):
    path = tmp_path / "model.onnx"
    write_onnx(path, NETWORKS["gru"])
    content = path.read_bytes()
    for size in range(0, len(content) - 1, 211):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"model.onnx: "):
            from_onnx(path)


def test_a_pickle_is_not_opened(tmp_path):
    class Touches:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "executed",)

    path = tmp_path / "model.onnx"
    for content in (pickle.dumps(Touches()), b"PK\x03\x04" + bytes(64)):
        path.write_bytes(content)
        for model in (path, content):
            with pytest.raises(ValueError, match="got a pickle, which can run code and is not"):
                from_onnx(model)
    path.write_text("not a model")
    with pytest.raises(ValueError, match=r"model.onnx: got what is no model .*expected an ONNX mo"):
        from_onnx(path)
    assert not (tmp_path / "executed").exists()


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(TypeError, match="model: got dict, expected a path, bytes or a ModelProto"):
        from_onnx({})
    with pytest.raises(FileNotFoundError):
        from_onnx(tmp_path / "none.onnx")


# Out


def drawn_network(
    name: str, sizes: tuple[int, ...] = (3,), directions: int = 1, dtype: str = "float64"
) -> Network:
    """Random weights everywhere of I = 2 and these hidden sizes."""
    recurrence = REGISTRY[name]
    rng = np.random.default_rng(0)

    def record(inputs: int, size: int) -> Any:
        shapes = jax.eval_shape(lambda: recurrence.init(jax.random.key(0), inputs, size))
        return jax.tree.map(
            lambda leaf: jnp.asarray(rng.normal(size=leaf.shape).astype(jnp.dtype(dtype))), shapes
        )

    params, inputs = [], I
    for size in sizes:
        of_layer = [record(inputs, size) for _ in range(directions)]
        params.append(of_layer[0] if directions == 1 else BidirectionalParams(*of_layer))
        inputs = directions * size
    layer = Layer(recurrence, recurrence if directions == 2 else None)
    return Network((layer,) * len(sizes), tuple(params))


NETWORKS = {name: drawn_network(name) for name in EXPRESSIBLE}
DEEP = {
    name: drawn_network(name, (3, 2), directions)
    for name, directions in zip(EXPRESSIBLE, (2, 1, 2, 1, 2, 2), strict=True)
}


def evaluated(model: onnx.ModelProto, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs by name, of the reference implementation: it has no lengths and no Relu."""
    evaluator = ReferenceEvaluator(model)
    outputs: Any = evaluator.run(None, inputs)
    names = [output.name for output in model.graph.output]
    return dict(zip(names, outputs, strict=True))


def test_what_is_written_computes_the_same():
    xs = np.random.default_rng(3).normal(size=(T, B, I))
    networks = {name: network for name, network in DEEP.items() if name != "elman_relu"}

    def run(all_params: Any, xs: Any) -> Any:
        return {
            name: scan_deep(networks[name].layers, params, xs, plan="reference")
            for name, params in all_params.items()
        }

    all_params = {name: network.params for name, network in networks.items()}
    results = jax.jit(run, compiler_options=UNOPTIMISED)(all_params, xs)
    for name, network in networks.items():
        model = to_onnx(network)
        onnx.checker.check_model(model, full_check=True)
        outputs = evaluated(model, X=xs)
        carry, ys = results[name]
        expected = {"Y": ys}
        for index, of_layer in enumerate(carry):
            directions = of_layer if network.layers[0].backward is not None else (of_layer,)
            leaves = [one if isinstance(one, tuple) else (one,) for one in directions]
            for state, parts in zip("hc", zip(*leaves, strict=True), strict=False):
                expected[f"Y_{state}_{index}"] = np.stack(parts)
        assert_close(outputs, expected, "float64", name)


def test_a_call_goes_on_where_one_ended():
    model = to_onnx(drawn_network("lstm", (3, 2)))
    xs = np.random.default_rng(3).normal(size=(T, B, I))
    whole, begun = evaluated(model, X=xs), evaluated(model, X=xs[:1])
    npt.assert_array_equal(whole["Y"][:1], begun.pop("Y"))
    states = {name.replace("Y_", "initial_"): state for name, state in begun.items()}
    assert [value.name for value in model.graph.input] == ["X", "sequence_lens", *states]
    rest = evaluated(model, X=xs[1:], **states)
    assert_close(rest.pop("Y"), whole.pop("Y")[1:], "float64")
    assert_close(rest, whole, "float64")


def test_lengths_are_within_the_time_steps_and_all_of_them_by_default():
    evaluator = ReferenceEvaluator(to_onnx(NETWORKS["elman"]))

    def lengths(**given: np.ndarray) -> np.ndarray:
        outputs: Any = evaluator.run(["lengths"], {"X": np.zeros((T, B, I)), **given})
        assert outputs[0].dtype == np.int32
        return outputs[0]

    npt.assert_array_equal(lengths(), [T] * B)
    npt.assert_array_equal(lengths(sequence_lens=np.array([1, 7, 0], np.int32)), [1, T, 0])


def assert_same(actual: Network, expected: Network) -> None:
    """The same layers, and the same arrays bit by bit up to the sign of zero."""
    assert actual.layers == expected.layers
    assert jax.tree.structure(actual.params) == jax.tree.structure(expected.params)
    for a, e in zip(jax.tree.leaves(actual.params), jax.tree.leaves(expected.params), strict=True):
        assert a.dtype == e.dtype
        npt.assert_array_equal(np.asarray(a), np.asarray(e))


@pytest.mark.parametrize("name", EXPRESSIBLE)
def test_out_and_in_again_is_the_same_network(name, tmp_path):
    path = tmp_path / "model.onnx"
    for network in (
        DEEP[name],
        drawn_network(name, (2, 4, 3), 1, "float32"),
        drawn_network(name, (3,), 2, "float16"),
        drawn_network(name, (2, 3), 2, "bfloat16"),
    ):
        onnx.checker.check_model(to_onnx(network), full_check=True)
        write_onnx(path, network)
        assert_same(from_onnx(path), network)
        for operator in operators_from_onnx(path).values():
            assert operator.expected == ()
            assert operator.sequence_lens is operator.initial_h is operator.initial_c is None


@pytest.mark.parametrize("case", [case for case in FEW if case.direction != "reverse"], ids=str)
def test_a_node_with_other_attributes_goes_out_again_as_it_came(case):
    network = from_onnx(model_of(case, drawn(case)[0]))
    model = to_onnx(network)
    onnx.checker.check_model(model, full_check=True)
    assert_same(from_onnx(model), network)
    (node,) = (node for node in model.graph.node if node.op_type == case.operator)
    written = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    expected = case._replace(layout=0).attributes
    if case.operator == "RNN":  # once for each direction, by onnxruntime's reading
        assert expected["activation_alpha"] == list(written["activation_alpha"])
    assert written == expected | {
        "hidden_size": H,
        "direction": case.direction.encode(),
        "activations": [name.encode() for name in case.activations],
    }


def test_one_alpha_of_two_directions_is_written_twice():
    case = Case("RNN", "bidirectional", ("Tanh", "LeakyRelu"))
    network = from_onnx(model_of(case, drawn(case)[0]))
    model = to_onnx(network)
    (node,) = (node for node in model.graph.node if node.op_type == "RNN")
    written = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    assert written["activation_alpha"] == [0.375, 0.375]
    assert_same(from_onnx(model), network)


def test_directions_may_differ_in_activations_and_peepholes():
    records = [NETWORKS[name].params[0] for name in ("lstm_peephole", "lstm")]
    layer = Layer(REGISTRY["lstm_peephole"], REGISTRY["lstm"])
    network = Network((layer,), (BidirectionalParams(*records),))
    (read,) = from_onnx(to_onnx(network)).params
    npt.assert_array_equal(read.forward.peepholes, records[0].peepholes)
    npt.assert_array_equal(read.backward.peepholes, np.zeros(3 * H))
    npt.assert_array_equal(read.backward.w_h, records[1].w_h)
    layer = Layer(REGISTRY["elman"], REGISTRY["elman_relu"])
    records = [NETWORKS[name].params[0] for name in ("elman", "elman_relu")]
    network = Network((layer,), (BidirectionalParams(*records),))
    assert_same(from_onnx(to_onnx(network)), network)


ONE, TWO = drawn_network("gru", (3, 3)), drawn_network("gru", (3, 3), 2)
GRU, LSTM, BEFORE = (REGISTRY[name] for name in ("gru", "lstm", "gru_reset_before"))


def changed(network: Network, index: int, layer: Any = None, params: Any = None) -> Network:
    layers, records = list(network.layers), list(network.params)
    layers[index] = layers[index] if layer is None else layer
    records[index] = records[index] if params is None else params
    return Network(tuple(layers), tuple(records))


UNEQUAL = BidirectionalParams(TWO.params[0].forward, drawn_network("gru", (2,)).params[0])
ABOVE_ANOTHER = drawn_network("gru", (3,), 2).params[0]
OF_OTHER_DTYPE = drawn_network("gru", (3, 3), 1, "float32").params[1]


@pytest.mark.parametrize(
    ("network", "error", "text"),
    [
        (ONE.params, TypeError, "network: got tuple, expected a Network"),
        (Network((), ()), ValueError, "got 0 layers"),
        (changed(ONE, 1, GRU), TypeError, r"layers\[1\]: got Recurrence, expected a Layer"),
        (
            changed(ONE, 1, Layer(REGISTRY["minimal_gru"])),
            ValueError,
            r"layers\[1\]: got minimal_gru, expected one of elman, .* that ONNX has",
        ),
        (changed(ONE, 0, Layer(GRU, residual=True)), ValueError, "a residual connection, expected"),
        (changed(TWO, 0, Layer(GRU, GRU, add)), ValueError, "the merge .*add.*concatenate"),
        (changed(TWO, 1, Layer(GRU, BEFORE)), ValueError, "gru forward and gru_reset_before backw"),
        (changed(TWO, 1, Layer(GRU, LSTM)), ValueError, "got gru forward and lstm backward"),
        (changed(TWO, 0, None, UNEQUAL), ValueError, r"params\[0\]: got hidden sizes 2 and 3"),
        (
            changed(TWO, 1, None, ABOVE_ANOTHER),
            ValueError,
            "network: params.1.: takes inputs of sh",
        ),
        (changed(ONE, 1, Layer(LSTM)), TypeError, r"params\[1\]: got GRUParams, expected LSTMPar"),
        (changed(ONE, 1, None, OF_OTHER_DTYPE), TypeError, "float32, float64, expected one float"),
        (
            changed(ONE, 1, Layer(GRU, GRU)),
            TypeError,
            r"params\[1\]: got GRUParams, expected Bidirec",
        ),
    ],
)
def test_a_network_that_onnx_cannot_express_is_refused(network, error, text):
    with pytest.raises(error, match=text):
        to_onnx(network)


def test_traced_values_are_refused():
    with pytest.raises(TypeError, match="traced arrays"):
        jax.jit(lambda params: to_onnx(Network(ONE.layers, params)))(ONE.params)


def test_a_file_is_the_old_one_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    write_onnx(path, NETWORKS["gru"])

    def interrupted(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(OSError, match="no space"):
        write_onnx(path, NETWORKS["lstm"])
    monkeypatch.undo()
    assert_same(from_onnx(path), NETWORKS["gru"])
    with pytest.raises(ValueError, match="a residual connection"):
        write_onnx(path, changed(ONE, 0, Layer(GRU, residual=True)))
    assert_same(from_onnx(path), NETWORKS["gru"])


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (from_onnx, (b"",)),
        (operators_from_onnx, (b"",)),
        (operator_from_node, (None, {})),
        (to_onnx, (ONE,)),
    ],
)
def test_without_the_package_its_extra_is_named(function, arguments, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        ImportError,
        match=rf"onnx.{function.__name__} needs onnx: pip install 'rnnjax-lib\[interop\]'",
    ):
        function(*arguments)
