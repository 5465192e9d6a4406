"""The graph of a network in ONNX."""

from functools import partial
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from rnnjax.interop.network import Network
from rnnjax.interop.onnx_operator import (
    DEFAULT_ACTIVATIONS,
    DTYPES,
    EXPRESSIBLE,
    Cell,
    cell_of,
    record_of,
    weights_of,
)
from rnnjax.layers.bidirectional import (
    BidirectionalParams,
    check_bidirectional_params,
    concatenate,
)
from rnnjax.layers.deep import Layer, scan_deep


def written(onnx: Any, network: Network) -> Any:
    """The model that `rnnjax.interop.onnx.to_onnx` returns, and its errors."""
    return _Writer(onnx, network, _checked_cells(network)).model()


def _checked_cells(network: Network) -> list[list[Cell]]:
    """The cell of each layer and direction of a network that ONNX can express."""
    if not isinstance(network, Network):
        raise TypeError(f"network: got {type(network).__name__}, expected a Network")
    layers, params = network
    if not layers or len(layers) != len(params):
        raise ValueError(
            f"network: got {len(layers)} layers and parameters of {len(params)}, "
            "expected as many, and at least one"
        )
    cells = [_cells_of_layer(f"network.layers[{i}]", layer) for i, layer in enumerate(layers)]
    for index, (of_layer, record) in enumerate(zip(cells, params, strict=True)):
        _check_records(f"network.params[{index}]", of_layer, record)
    leaves = jax.tree.leaves(params)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        raise TypeError("network.params: got traced arrays, expected values: write outside jit")
    dtypes = {jnp.dtype(leaf.dtype) for leaf in leaves}
    if len(dtypes) != 1 or not dtypes <= set(DTYPES):
        names = ", ".join(sorted(str(dtype) for dtype in dtypes))
        raise TypeError(f"network.params: got arrays of {names}, expected one floating dtype")
    lowest = params[0] if layers[0].backward is None else params[0].forward
    try:
        inputs = jax.ShapeDtypeStruct((1, 1, *layers[0].recurrence.input_shape(lowest)), *dtypes)
        jax.eval_shape(partial(scan_deep, layers, plan="reference"), params, inputs)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"network: {error}") from error
    return cells


def _cells_of_layer(name: str, layer: Any) -> list[Cell]:
    if not isinstance(layer, Layer):
        raise TypeError(f"{name}: got {type(layer).__name__}, expected a Layer")
    recurrences = [layer.recurrence, *([] if layer.backward is None else [layer.backward])]
    cells: list[Cell] = []
    for recurrence in recurrences:
        cell = cell_of(recurrence)
        if cell is None:
            names = ", ".join(known.name for known in EXPRESSIBLE)
            raise ValueError(
                f"{name}: got {recurrence.name}, expected one of {names}, the recurrences that "
                "ONNX has"
            )
        cells.append(cell)
    if layer.residual:
        raise ValueError(f"{name}: got a residual connection, expected none, as in ONNX")
    if len(cells) == 2:
        first, second = (cell._replace(activations=(), peepholes=False) for cell in cells)
        if first != second:
            raise ValueError(
                f"{name}: got {recurrences[0].name} forward and {recurrences[1].name} backward, "
                "expected two that differ in their activations only, as in ONNX"
            )
        if layer.merge is not concatenate:
            raise ValueError(f"{name}: got the merge {layer.merge!r}, expected concatenate")
    return cells


def _check_records(name: str, cells: list[Cell], params: Any) -> None:
    """Raise TypeError or ValueError unless these are parameters of one operator."""
    records = [params]
    if len(cells) == 2:
        check_bidirectional_params(name, params)
        records = [params.forward, params.backward]
    for cell, record in zip(cells, records, strict=True):
        expected = record_of(cell)
        if not isinstance(record, expected):
            raise TypeError(f"{name}: got {type(record).__name__}, expected {expected.__name__}")
    sizes = {record.w_h.shape[0] for record in records}
    if len(sizes) == 2:
        raise ValueError(
            f"{name}: got hidden sizes {' and '.join(map(str, sizes))}, expected one for both "
            "directions, as in ONNX"
        )


class _Writer:
    """Puts a graph together."""

    def __init__(self, onnx: Any, network: Network, cells: list[list[Cell]]) -> None:
        self._onnx, self._helper = onnx, onnx.helper
        self._network, self._cells = network, cells
        self._dtype = np.dtype(jax.tree.leaves(network.params)[0].dtype)
        self._type = self._helper.np_dtype_to_tensor_dtype(self._dtype)
        self._opset = 22 if self._dtype == jnp.bfloat16 else 17
        self._nodes: list[Any] = []
        self._stored: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def model(self) -> Any:
        helper, int32 = self._helper, self._helper.np_dtype_to_tensor_dtype(np.dtype(np.int32))
        lowest = self._network.params[0]
        lowest = lowest.forward if isinstance(lowest, BidirectionalParams) else lowest
        self._input("X", self._type, ("time", "batch", lowest.w_x.shape[0]))
        self._node("Shape", ["X"], "time", start=0, end=1)
        self._node("Shape", ["X"], "batch", start=1, end=2)
        # An input that has a stored default may be left out. The default is for one row, and for
        # any T.
        most = np.array([np.iinfo(np.int32).max], np.int32)
        self._input("sequence_lens", int32, ("batch of sequence_lens",), most)
        self._node("Cast", ["time"], "time_int32", to=int32)
        self._node("Min", ["sequence_lens", "time_int32"], "within_time")
        self._node("Expand", ["within_time", "batch"], "lengths")
        top, size = "X", 0
        for index in range(len(self._cells)):
            top, size = self._layer(index, top, last=index == len(self._cells) - 1)
        outputs = [self._value(top, self._type, ("time", "batch", size)), *self._outputs]
        graph = helper.make_graph(
            self._nodes, "network", self._inputs, outputs, initializer=self._stored
        )
        opsets = [helper.make_opsetid("", self._opset)]
        return helper.make_model(
            graph,
            producer_name="rnnjax",
            opset_imports=opsets,
            ir_version=helper.find_min_ir_version_for(opsets),
        )

    def _layer(self, index: int, below: str, *, last: bool) -> tuple[str, int]:
        """One node with what it needs; the name and the last axis of its outputs."""
        params, cells = self._network.params[index], self._cells[index]
        records = tuple(params) if isinstance(params, BidirectionalParams) else (params,)
        directions, hidden_size = len(records), records[0].w_h.shape[0]
        operator = cells[0].operator
        states = ["h", "c"] if operator == "LSTM" else ["h"]
        inputs = {"X": below, "sequence_lens": "lengths"}
        inputs |= self._weights(index, cells, records)
        self._store(f"directions_{index}", np.array([directions]))
        self._store(f"hidden_size_{index}", np.array([hidden_size]))
        axes = [f"directions_{index}", "batch", f"hidden_size_{index}"]
        self._node("Concat", axes, f"shape_of_states_{index}", axis=0)
        for state in states:
            name = f"initial_{state}_{index}"
            zeros = np.zeros((directions, 1, hidden_size), self._dtype)
            self._input(name, self._type, (directions, f"batch of {name}", hidden_size), zeros)
            self._node("Expand", [name, f"shape_of_states_{index}"], f"{name}_of_all")
            inputs[f"initial_{state}"] = f"{name}_of_all"
        names = [f"outputs_{index}", *(f"Y_{state}_{index}" for state in states)]
        roles = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
        given = [inputs.get(role, "") for role in roles]
        self._node(
            operator,
            given if operator == "LSTM" else given[:6],
            *names,
            name=f"layer_{index}",
            hidden_size=hidden_size,
            direction="forward" if directions == 1 else "bidirectional",
            **_attributes(cells),
        )
        for name in names[1:]:
            self._outputs.append(self._value(name, self._type, (directions, "batch", hidden_size)))
        merged = "Y" if last else f"inputs_{index + 1}"
        if directions == 1:
            self._store(f"axes_{index}", np.array([1]))
            self._node("Squeeze", [names[0], f"axes_{index}"], merged)
        else:
            self._store(f"shape_of_outputs_{index}", np.array([0, 0, directions * hidden_size]))
            self._node("Transpose", [names[0]], f"transposed_{index}", perm=[0, 2, 1, 3])
            self._node("Reshape", [f"transposed_{index}", f"shape_of_outputs_{index}"], merged)
        return merged, directions * hidden_size

    def _weights(self, index: int, cells: list[Cell], records: tuple[Any, ...]) -> dict[str, str]:
        """Store the weights of a node; their names."""
        of_each = [weights_of(*pair) for pair in zip(cells, records, strict=True)]
        if any(cell.peepholes for cell in cells):
            none = {"P": np.zeros(3 * records[0].w_h.shape[0], self._dtype)}
            of_each = [none | weights for weights in of_each]
        names = {role: f"{role}_{index}" for role in of_each[0]}
        for role, name in names.items():
            self._store(name, np.stack([weights[role] for weights in of_each]))
        return names

    def _node(self, operator: str, inputs: list[str], *outputs: str, **attributes: Any) -> None:
        self._nodes.append(self._helper.make_node(operator, inputs, outputs, **attributes))

    def _store(self, name: str, array: np.ndarray) -> None:
        self._stored.append(self._onnx.numpy_helper.from_array(array, name))

    def _value(self, name: str, dtype: int, axes: tuple[Any, ...]) -> Any:
        return self._helper.make_tensor_value_info(name, dtype, axes)

    def _input(
        self, name: str, dtype: int, axes: tuple[Any, ...], default: np.ndarray | None = None
    ) -> None:
        self._inputs.append(self._value(name, dtype, axes))
        if default is not None:
            self._store(name, default)


def _attributes(cells: list[Cell]) -> dict[str, Any]:
    """The attributes of a node, without those that have their default."""
    first, attributes = cells[0], dict[str, Any]()
    activations = [activation for cell in cells for activation in cell.activations]
    if activations != list(DEFAULT_ACTIVATIONS[first.operator]) * len(cells):
        attributes["activations"] = [activation.name for activation in activations]
    for field in ("alpha", "beta"):
        values = [getattr(activation, field) for activation in activations]
        given = [value for value in values if value is not None]
        # onnxruntime's RNN reads a value for each direction, whether it takes one or not; written
        # twice it is the same by either reading.
        if first.operator == "RNN" and len(given) == 1:
            given *= len(cells)
        if given:
            attributes[f"activation_{field}"] = given
    if first.clip is not None:
        attributes["clip"] = first.clip
    for flag in ("linear_before_reset", "input_forget"):
        if getattr(first, flag):
            attributes[flag] = 1
    return attributes
