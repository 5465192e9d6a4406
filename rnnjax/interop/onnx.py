"""Recurrent networks from and to ONNX files.

A file is data: it is parsed as what it is, and of its graph only constants are evaluated, see
`rnnjax.interop.onnx_graph`. Only the functions import the package `onnx`, of the extra `interop`.

`from_onnx` gives a `Network`, which every plan runs; `operators_from_onnx` gives each node as a
callable with the operator's own arguments, also such as are no network: one that runs in reverse,
or begins in a stored state. What a model has beside its recurrent nodes is not read. `to_onnx` and
`write_onnx` go the other way.

ONNX has LSTM gates in the order i, o, f, c and GRU gates in the order z, r, h; its GRU updates
h' = (1 − z) n + z h, as `gru` and `gru_reset_before` do.
"""

import math
from collections.abc import Mapping
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from rnnjax.interop.network import Network
from rnnjax.interop.onnx_graph import SHAPING, Graph, Trial, UnknownTensorError, onnx_package
from rnnjax.interop.onnx_node import WEIGHTS, attributes_of, built, inputs_of, is_recurrent
from rnnjax.interop.onnx_operator import GATES, Operator
from rnnjax.interop.onnx_writer import written
from rnnjax.training.files import replace_bytes

# Of two runs: what is rearranged in the same way with both is so with any.
_FIRST_SIZES = (2, 5)


def from_onnx(model: str | PathLike[str] | bytes | Any, node: str | None = None) -> Network:
    """The network that the recurrent nodes of a model compute.

    They are one node, or a stack: each takes the outputs of the one below, its directions put one
    behind the other on the last axis. Transposes and reshapes between them are understood, however
    they are written. What comes before and after is not part of the network, nor are initial
    states and lengths that the model computes or is given: those are arguments of `scan_deep`.

    Args:
        model: The path of a file, its content, or an `onnx.ModelProto`. Weights in files of their
            own are looked for beside the path.
        node: The name of one node to read, as in `operators_from_onnx`; None for all of them.

    Returns:
        The layers and parameters, in the dtype of the weights. A node of the usual form is a layer
        of `elman`, `elman_relu`, `gru`, `gru_reset_before`, `lstm` or `lstm_peephole`; one with
        other attributes is a layer of a recurrence made for it.

    Raises:
        TypeError: `model` is neither.
        ValueError: It is no model, it is damaged, its recurrent nodes are not one stack, one has
            an attribute or a weight that the operators have not, one is no network because it
            runs in reverse or has a stored state or stored lengths, or weights are float64 while
            `jax_enable_x64` is off. The text names the file and the node.
        OSError: The file cannot be read.
        ImportError: `onnx` is not installed.
    """
    onnx = onnx_package("from_onnx")
    graph = Graph(onnx, model)
    nodes = _recurrent_nodes(graph)
    if not nodes:
        within = sorted({one.op_type for one in graph.nodes if _is_within(one)})
        hint = f"; there is one within {', '.join(within)}, where none is read" if within else ""
        raise ValueError(f"{graph.label}: got no node {', '.join(GATES)}, expected one{hint}")
    if node is not None:
        if node not in nodes:
            raise ValueError(f"node: got {node!r}, expected one of {_listed(nodes)}")
        nodes = {node: nodes[node]}
    trials = [Trial(graph, first) for first in _FIRST_SIZES]
    operators = [_operator(onnx, graph, name, one, trials) for name, one in nodes.items()]
    for below, above in pairwise(zip(nodes.values(), operators, strict=True)):
        if not all(_is_above(graph, below, above, trial) for trial in trials):
            raise ValueError(
                f"{graph.label}: got {_listed(nodes)}, expected one stack, but {above[1].name!r} "
                f"does not take the outputs of {below[1].name!r} as they are; name one node, or "
                "read each with operators_from_onnx"
            )
    for operator in operators:
        _check_network(f"{graph.label}: {operator.operator} {operator.name!r}", operator)
    tensors = {dict(operator.expected).get("sequence_lens") for operator in operators}
    if len(tensors) > 1:
        raise ValueError(
            f"{graph.label}: got sequence_lens {', '.join(map(repr, tensors))} for "
            f"{_listed(nodes)}, expected the same for all; name one node"
        )
    layers = tuple(operator.layer for operator in operators)
    return Network(layers, tuple(operator.params for operator in operators))


def operators_from_onnx(model: str | PathLike[str] | bytes | Any) -> dict[str, Operator]:
    """Each node RNN, GRU or LSTM of a model, as a callable with its weights.

    Args:
        model: As in `from_onnx`.

    Returns:
        By the node's name, or by that of its first output where it has none of its own. In the
        order of the model; none if it has none.

    Raises:
        TypeError: As `from_onnx`.
        ValueError: As `from_onnx`, of each node by itself.
        OSError: As `from_onnx`.
        ImportError: As `from_onnx`.
    """
    onnx = onnx_package("operators_from_onnx")
    graph = Graph(onnx, model)
    trials = [Trial(graph, first) for first in _FIRST_SIZES]
    return {
        name: _operator(onnx, graph, name, node, trials)
        for name, node in _recurrent_nodes(graph).items()
    }


def operator_from_node(
    node: Any, tensors: Mapping[str, ArrayLike], *, opset: int | None = None
) -> Operator:
    """A node RNN, GRU or LSTM that is in no model, as a callable with its weights.

    Args:
        node: An `onnx.NodeProto`, as `onnx.helper.make_node` makes.
        tensors: Its weights W, R and, where it has them, B and P, by the names of its inputs; and
            the initial states and lengths that it is to have by itself.
        opset: The version of the operators, 7 or newer; None is the newest that `onnx` knows.

    Returns:
        The operator. Inputs of the node that `tensors` has not are arguments a call must give.

    Raises:
        TypeError: It is no node.
        ValueError: It is another one, or as `from_onnx`.
        ImportError: As `from_onnx`.
    """
    onnx = onnx_package("operator_from_node")
    if not isinstance(node, onnx.NodeProto):
        raise TypeError(f"node: got {type(node).__name__}, expected an onnx.NodeProto")
    if node.op_type not in GATES or node.domain not in ("", "ai.onnx"):
        raise ValueError(
            f"node: got {node.op_type!r} of the domain {node.domain!r}, expected one of "
            f"{', '.join(GATES)} of the domain ''"
        )
    name = node.name or next(filter(None, node.output), "")
    label = f"{node.op_type} {name!r}"
    attributes = attributes_of(onnx, label, node, opset or onnx.defs.onnx_opset_version())
    weights: dict[str, np.ndarray] = {}
    stored: dict[str, Any] = {}
    expected: list[tuple[str, str]] = []
    for role, tensor in inputs_of(node).items():
        if role == "X":
            continue
        if tensor in tensors:
            (weights if role in WEIGHTS else stored)[role] = np.asarray(tensors[tensor])
        elif role in WEIGHTS:
            raise ValueError(f"{label}: {role}: got no {tensor!r} in tensors, expected an array")
        else:
            expected.append((role, tensor))
    return built(label, name, node.op_type, attributes, weights, stored, tuple(expected))


def to_onnx(network: Network) -> Any:
    """A model that computes what the network does, an `onnx.ModelProto`.

    Its inputs are `X`, `(T, B, I)`, and, each of which may be left out:

    - `sequence_lens`, `(B,)` int32; one above T counts as T;
    - for each layer l `initial_h_l` and, of an LSTM, `initial_c_l`, `(D, B, H)`, D directions.

    Its outputs are `Y`, `(T, B, D H)`, what `scan_deep` returns, and for each layer `Y_h_l` and
    `Y_c_l`, `(D, B, H)`. T and B are those of a call. All is of the dtype of the parameters.

    onnxruntime computes in float32, also where it takes float16, and has no float64 and no
    bfloat16; it returns zeros, not the initial state, of a row of length 0.

    Args:
        network: Layers of the recurrences `elman`, `elman_relu`, `gru`, `gru_reset_before`, `lstm`
            and `lstm_peephole`, and of such that `from_onnx` made, in one or both directions.

    Returns:
        The model, of opset 17, or 22 for bfloat16.

    Raises:
        TypeError: It is no `Network`, or its parameters are traced or not of one floating dtype.
        ValueError: ONNX has no operator that computes it; the text says of what layer and why.
        ImportError: `onnx` is not installed.
    """
    return written(onnx_package("to_onnx"), network)


def write_onnx(path: str | PathLike[str], network: Network) -> None:
    """Write a network to an ONNX file, whole or not at all.

    Args:
        path: The file, by custom `*.onnx`.
        network: As in `to_onnx`.

    Raises:
        TypeError: As `to_onnx`.
        ValueError: As `to_onnx`, or it has more than 2 GB.
        ImportError: As `to_onnx`.
        OSError: The file cannot be written.
    """
    model = to_onnx(network)
    replace_bytes(Path(path), model.SerializeToString())


def _recurrent_nodes(graph: Graph) -> dict[str, Any]:
    """The recurrent nodes of the main graph, by names that are theirs alone."""
    nodes = [node for node in graph.nodes if is_recurrent(node)]
    names = [node.name for node in nodes]
    by_name: dict[str, Any] = {}
    for node in nodes:
        name = node.name if node.name and names.count(node.name) == 1 else ""
        by_name[name or next(filter(None, node.output), f"{node.op_type} {len(by_name)}")] = node
    return by_name


def _listed(nodes: Mapping[str, Any]) -> str:
    return ", ".join(f"{node.op_type} {name!r}" for name, node in nodes.items()) or "none"


def _is_within(node: Any) -> bool:
    """Whether there is a recurrent node in the branches or the body of another one."""
    graphs = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    within = [one for graph in graphs for one in graph.node]
    return any(is_recurrent(one) or _is_within(one) for one in within)


def _is_above(
    graph: Graph, below: tuple[Any, Operator], above: tuple[Any, Operator], trial: Trial
) -> bool:
    """Whether a node's X is the Y of the one below with its directions on the last axis."""
    (node, operator), (node_above, operator_above) = below, above
    xs = trial.inputs_of(node)
    if xs.ndim != 3 or not node.output[0]:
        return False
    layout, (directions, hidden_size) = operator.layout, operator.sizes
    time_steps, batch = xs.shape[layout], xs.shape[1 - layout]
    shape = (time_steps, batch, directions, hidden_size)
    labels = (np.arange(math.prod(shape)) + 0.5).reshape(shape)  # no integers, so only moved
    outputs = labels.transpose((1, 0, 2, 3) if layout else (0, 2, 1, 3))
    known = trial.known | {node.output[0]: outputs}
    try:
        inputs = graph.evaluated(node_above.input[0], known, SHAPING)
    except UnknownTensorError:
        return False
    merged = labels.reshape(time_steps, batch, directions * hidden_size)
    return np.array_equal(inputs, merged.swapaxes(0, 1) if operator_above.layout else merged)


def _check_network(label: str, operator: Operator) -> None:
    """Raise ValueError unless a network computes all that the operator does."""
    if operator.direction == "reverse":
        raise ValueError(
            f"{label}: got direction 'reverse', expected 'forward' or 'bidirectional' in a "
            "network; operators_from_onnx gives it as a callable"
        )
    for role in ("sequence_lens", "initial_h", "initial_c"):
        if getattr(operator, role) is not None:
            raise ValueError(
                f"{label}: got a stored {role}, expected none in a network; operators_from_onnx "
                "gives it with the node"
            )


def _operator(onnx: Any, graph: Graph, name: str, node: Any, trials: list[Trial]) -> Operator:
    """A node of a model, with what the model stores for it."""
    label = f"{graph.label}: {node.op_type} {name!r}"
    attributes = attributes_of(onnx, label, node, graph.opset)
    weights: dict[str, np.ndarray] = {}
    stored: dict[str, Any] = {}
    expected: list[tuple[str, str]] = []
    for role, tensor in inputs_of(node).items():
        if role in WEIGHTS:
            try:
                weights[role] = graph.constant(tensor)
            except UnknownTensorError as error:
                raise ValueError(
                    f"{label}: {role}: got {error}, expected a tensor that the file stores"
                ) from error
        elif role != "X":
            try:
                stored[role] = _stored(graph, role, tensor, node, attributes, trials)
            except UnknownTensorError:
                expected.append((role, tensor))
    return built(label, name, node.op_type, attributes, weights, stored, tuple(expected))


def _stored(
    graph: Graph,
    role: str,
    tensor: str,
    node: Any,
    attributes: Mapping[str, Any],
    trials: list[Trial],
) -> np.ndarray | None:
    """The initial state or the lengths that a model has for a node; None for zeros and for T.

    Raises:
        UnknownTensorError: They depend on what the model is given.
    """
    try:
        value = graph.constant(tensor)
    except UnknownTensorError:
        values = [_of_trial(graph, role, tensor, node, attributes["layout"], t) for t in trials]
        if role == "sequence_lens":
            return None
        value = values[0]
        if not all(np.array_equal(value, other) for other in values):
            raise
    return value if role == "sequence_lens" or value.any() else None


def _of_trial(
    graph: Graph, role: str, tensor: str, node: Any, layout: int, trial: Trial
) -> np.ndarray:
    """Lengths that are all T, or the initial state of one row that all rows have.

    Raises:
        UnknownTensorError: They are not so.
    """
    xs = trial.inputs_of(node)
    value = graph.evaluated(tensor, trial.known | {node.input[0]: xs}, SHAPING)
    if role == "sequence_lens" and value.size and (value == xs.shape[layout]).all():
        return value
    if role != "sequence_lens" and value.ndim == 3:
        one_row = value[:1] if layout else value[:, :1]
        if (value == one_row).all():  # not so of NaN, which it is where it depends on X
            return one_row
    raise UnknownTensorError(f"the tensor {tensor!r}")
