"""Nodes RNN, GRU and LSTM with every attribute, and random arrays for them."""

from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper
from support.onnx_specification import Attributes, Weights

T, B, I, H = 3, 3, 2, 3  # noqa: E741 - the letters of the documentation
LENGTHS = np.array([3, 1, 2], np.int32)
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
DEFAULTS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
# alpha and beta such as float32 has them exactly.
ACTIVATIONS: dict[str, tuple[float, ...]] = {
    "Relu": (),
    "Tanh": (),
    "Sigmoid": (),
    "Affine": (0.5, 0.25),
    "LeakyRelu": (0.375,),
    "ThresholdedRelu": (0.125,),
    "ScaledTanh": (0.75, 0.5),
    "HardSigmoid": (0.25, 0.375),
    "Elu": (0.625,),
    "Softsign": (),
    "Softplus": (),
}


class Case(NamedTuple):
    """A node without its weights; `activations` of one direction, and of the other."""

    operator: str
    direction: str = "forward"
    activations: tuple[str, ...] = ()
    clip: float | None = None
    linear_before_reset: int = 0
    input_forget: int = 0
    peepholes: bool = False
    layout: int = 0

    @property
    def directions(self) -> int:
        return 2 if self.direction == "bidirectional" else 1

    @property
    def specified(self) -> Attributes:
        """Its attributes as the specification takes them."""
        names = self.activations or DEFAULTS[self.operator] * self.directions
        activations = tuple((name, *ACTIVATIONS[name]) for name in names)
        return Attributes(
            activations, self.direction, self.clip, self.linear_before_reset, self.input_forget
        )

    @property
    def attributes(self) -> dict[str, Any]:
        """Its attributes as a node has them, those that are not default."""
        alphas = [ACTIVATIONS[name][0] for name in self.activations if ACTIVATIONS[name]]
        betas = [ACTIVATIONS[name][1] for name in self.activations if len(ACTIVATIONS[name]) > 1]
        attributes = {
            "direction": self.direction,
            "activations": self.activations,
            "activation_alpha": alphas,
            "activation_beta": betas,
            "clip": self.clip,
            "linear_before_reset": self.linear_before_reset,
            "input_forget": self.input_forget,
            "layout": self.layout,
        }
        return {name: value for name, value in attributes.items() if value}


def every_attribute() -> list[Case]:
    """Each activation at each place, and all else there is."""
    cases = [
        Case("RNN", "bidirectional"),
        Case("RNN", "reverse", clip=0.5),
        Case("RNN", "bidirectional", ("LeakyRelu", "Elu"), layout=1),
        Case("GRU", "bidirectional", linear_before_reset=1),
        Case("GRU", "reverse", layout=1),
        Case("GRU", "bidirectional", clip=0.25),
        Case("GRU", "forward", ("HardSigmoid", "Softsign"), clip=0.5, linear_before_reset=1),
        Case("GRU", "bidirectional", ("Sigmoid", "ScaledTanh", "HardSigmoid", "LeakyRelu")),
        Case("LSTM", "reverse"),
        Case("LSTM", "bidirectional", peepholes=True, layout=1),
        Case("LSTM", "bidirectional", peepholes=True, clip=0.25),
        Case("LSTM", "forward", clip=0.25, layout=1),
        Case("LSTM", "forward", input_forget=1, peepholes=True),
        Case("LSTM", "bidirectional", ("HardSigmoid", "Affine", "Elu") * 2, 0.5, input_forget=1),
    ]
    cases += [Case("RNN", activations=(name,)) for name in ACTIVATIONS]
    # A place each, so that what one computes is not lost in what the others make of it.
    places = {"Relu": 2, "Affine": 2, "ThresholdedRelu": 2, "Softplus": 2, "ScaledTanh": 0}
    for index, name in enumerate(ACTIVATIONS):
        of_gru, of_lstm = list(DEFAULTS["GRU"]), list(DEFAULTS["LSTM"])
        of_gru[index % 2] = of_lstm[places.get(name, index % 3)] = name
        cases += [Case("GRU", activations=tuple(of_gru))]
        cases += [Case("LSTM", activations=tuple(of_lstm))]
    return cases


def drawn(case: Case, dtype: str = "float64") -> tuple[Weights, dict[str, np.ndarray]]:
    """Weights, and the arguments of a call in the layout 0."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        # Of few bits, so that a file of any dtype has them exactly.
        return np.round(0.75 * rng.normal(size=shape) * 64).clip(-96, 96).astype(dtype) / 64

    directions, stacked = case.directions, GATES[case.operator] * H
    weights = Weights(
        draw(directions, stacked, I),
        draw(directions, stacked, H),
        draw(directions, 2 * stacked),
        draw(directions, 3 * H) if case.peepholes else None,
    )
    arguments = {"X": draw(T, B, I), "sequence_lens": LENGTHS}
    arguments["initial_h"] = draw(directions, B, H)
    if case.operator == "LSTM":
        arguments["initial_c"] = draw(directions, B, H)
    return weights, arguments


def in_layout(case: Case, name: str, array: Any) -> Any:
    """An argument or a result of the layout 0 in that of the case, or the other way round."""
    if not case.layout or name == "sequence_lens":
        return array
    axes = (2, 0, 1, 3) if name == "Y" else (1, 0, 2)
    return array.transpose(axes)


def node_of(case: Case, **changes: Any) -> onnx.NodeProto:
    """The node, its inputs and outputs called what they are."""
    names = ["X", "W", "R", "B", "sequence_lens", "initial_h"]
    outputs = ["Y", "Y_h"]
    if case.operator == "LSTM":
        names += ["initial_c", "P" if case.peepholes else ""]
        outputs += ["Y_c"]
    attributes = {"name": "node", "hidden_size": H} | case.attributes | changes
    return helper.make_node(case.operator, names, outputs, **attributes)


def stored(weights: Weights) -> dict[str, np.ndarray]:
    """The weights by the names of the node's inputs."""
    return {name: array for name, array in weights._asdict().items() if array is not None}


def model_of(case: Case, weights: Weights, opset: int = 14) -> onnx.ModelProto:
    """A model of the node alone, all its arguments inputs."""
    dtype = helper.np_dtype_to_tensor_dtype(weights.W.dtype)
    node = node_of(case)
    inputs = [name for name in node.input if name and name not in stored(weights)]
    graph = helper.make_graph(
        [node],
        "graph",
        [
            helper.make_tensor_value_info(
                name, onnx.TensorProto.INT32 if name == "sequence_lens" else dtype, None
            )
            for name in inputs
        ],
        [helper.make_tensor_value_info(name, dtype, None) for name in node.output],
        [numpy_helper.from_array(array, name) for name, array in stored(weights).items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    version = helper.find_min_ir_version_for(opsets)
    return helper.make_model(graph, opset_imports=opsets, ir_version=version)
