"""What can be known of an ONNX model without running it: constants, and how tensors are rearranged.

A model is data. Only operators of a closed list are evaluated, those that move numbers about and
those that compute shapes, by the reference implementation of the package `onnx`.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import count
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

REARRANGING = frozenset(
    (
        *("Cast", "Concat", "Constant", "Identity", "Reshape"),
        *("Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
    )
)
"""What weights may pass through between where they are stored and a node."""

# Of integers only: of shapes and lengths, not of what layers make.
_ARITHMETIC = frozenset(("Add", "Div", "Max", "Min", "Mul", "Sub"))

SHAPING = REARRANGING.union(
    _ARITHMETIC, ("ConstantOfShape", "Dropout", "Expand", "Flatten", "Gather", "Shape")
)
"""What may besides lie between two layers, or make zeros and lengths."""

# What evaluating a damaged or hostile node by the reference implementation may raise.
_FAILURES = (
    *(ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError),
    *(TypeError, ValueError),
)
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_LARGEST = 1 << 26  # numbers in one evaluated tensor that no file holds

Shape = tuple[int | str | None, ...]
"""Of a declared tensor: each axis a number, a name or None."""


class UnknownTensorError(ValueError):
    """A tensor depends on more than what is known, or cannot be evaluated."""


def onnx_package(function: str) -> Any:
    """The package `onnx`, or an error that says how to get it."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError(
            f"rnnjax.interop.onnx.{function} needs onnx: pip install 'rnnjax-lib[interop]'"
        ) from error
    return onnx


class Graph:
    """The main graph of a model, local functions put in place.

    Attributes:
        label: What errors call the model.
        opset: The version of the operators, of the domain "".
        nodes: In order.
        inputs: Declared shapes, by name; each axis a number, a name or None.
    """

    def __init__(self, onnx: Any, model: str | PathLike[str] | bytes | Any) -> None:
        """Read a model.

        Args:
            onnx: The package.
            model: The path of a file, its content, or a `ModelProto`.

        Raises:
            TypeError: It is neither.
            ValueError: It is no model, or has no operators of the domain "", or newer ones than
                the package knows.
            OSError: The file cannot be read.
        """
        self._onnx = onnx
        self.label, self._folder, proto = _read(onnx, model)
        versions = {one.domain or "ai.onnx": one.version for one in proto.opset_import}
        newest = onnx.defs.onnx_opset_version()
        self.opset = versions.get("ai.onnx", 0)
        if not proto.HasField("graph") or not self.opset:
            raise ValueError(
                f"{self.label}: got no graph with operators of ONNX, expected a model; is it whole?"
            )
        if self.opset > newest:
            raise ValueError(
                f"{self.label}: got opset {self.opset}, expected at most {newest}, the newest that "
                f"onnx {onnx.__version__} knows"
            )
        if proto.functions:
            proto = _inlined(onnx, self.label, proto)
        graph = proto.graph
        self.nodes = list(graph.node)
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._producers = {
            output: index
            for index, node in enumerate(self.nodes)
            for output in node.output
            if output
        }
        self.inputs = {value.name: _declared(value) for value in graph.input}
        self._proto = proto

    @cached_property
    def shapes(self) -> dict[str, Shape | None]:
        """Shapes of tensors within, by name, where they can be inferred."""
        inference = self._onnx.shape_inference
        try:
            values = inference.infer_shapes(self._proto).graph.value_info
        except (*_FAILURES, inference.InferenceError):  # of a model that is damaged elsewhere
            values = self._proto.graph.value_info
        return self.inputs | {value.name: _declared(value) for value in values}

    def is_stored(self, name: str) -> bool:
        """Whether a tensor is in the file as it is; an input may be, as a default."""
        return name in self._initializers

    def constant(self, name: str) -> np.ndarray:
        """The value of a tensor that is stored, perhaps rearranged.

        Raises:
            UnknownTensorError: It is not.
            ValueError: What is stored is damaged.
        """
        return self.evaluated(name, {}, REARRANGING)

    def evaluated(
        self, name: str, known: Mapping[str, np.ndarray], operators: frozenset[str]
    ) -> np.ndarray:
        """The value of a tensor where some are known.

        Args:
            name: Of the tensor.
            known: Values by name, besides what is stored.
            operators: Which may be evaluated on the way.

        Raises:
            UnknownTensorError: It depends on something else.
            ValueError: What is stored is damaged.
        """
        values = dict(known)
        for index in sorted(self._needed(name, values, operators)):
            values |= self._run(self.nodes[index], values)
        return values[name]

    def _needed(
        self, name: str, values: dict[str, np.ndarray], operators: frozenset[str]
    ) -> set[int]:
        """Which nodes a tensor comes from; what is stored on the way is put into `values`."""
        waiting, needed = [name], set[int]()
        while waiting:
            tensor = waiting.pop()
            if not tensor or tensor in values:
                continue
            if tensor in self._initializers:
                values[tensor] = self._stored(self._initializers[tensor])
                continue
            index = self._producers.get(tensor)
            if index is None:
                what = "an input of the model" if tensor in self.inputs else "which nothing makes"
                raise UnknownTensorError(f"the tensor {tensor!r}, {what}")
            if index in needed:
                continue
            node = self.nodes[index]
            if node.domain not in ("", "ai.onnx") or node.op_type not in operators:
                raise UnknownTensorError(f"the tensor {tensor!r}, computed by {node.op_type}")
            needed.add(index)
            waiting.extend(node.input)
        return needed

    def _stored(self, tensor: Any) -> np.ndarray:
        """The array of a stored tensor, in this file or in one beside it."""
        helper, external = self._onnx.numpy_helper, self._onnx.external_data_helper
        if external.uses_external_data(tensor) and self._folder is None:
            raise ValueError(
                f"{self.label}: {tensor.name!r}: got data in another file, expected the path of "
                "the model, to find it beside"
            )
        try:
            array = helper.to_array(tensor, base_dir=str(self._folder or ""))
        except (*_FAILURES, self._onnx.checker.ValidationError, OSError) as error:
            raise ValueError(
                f"{self.label}: {tensor.name!r}: got a tensor that cannot be read ({error})"
            ) from error
        if array.shape != tuple(tensor.dims):
            raise ValueError(
                f"{self.label}: {tensor.name!r}: got {array.size} numbers, expected shape "
                f"{tuple(tensor.dims)}"
            )
        return array

    def _run(self, node: Any, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs of one node of the closed lists."""
        from onnx.reference import ReferenceEvaluator

        helper = self._onnx.helper
        inputs = {name: values[name] for name in node.input if name in values}
        described = f"the tensor {node.output[0]!r}, made by {node.op_type}"
        if node.op_type in _ARITHMETIC and not all(
            np.issubdtype(array.dtype, np.integer) for array in inputs.values()
        ):
            raise UnknownTensorError(f"{described} of what are no integers")
        if node.op_type in ("ConstantOfShape", "Expand"):
            shape = np.asarray(inputs.get(node.input[-1], ()), np.float64)
            if np.prod(shape) > _LARGEST:
                raise UnknownTensorError(f"{described}, of more than {_LARGEST} numbers")
        names = [name for name in node.output if name]
        graph = helper.make_graph(
            [node],
            "one node",
            [self._onnx.ValueInfoProto(name=name) for name in inputs],
            [self._onnx.ValueInfoProto(name=name) for name in names],
        )
        opset = helper.make_opsetid("", self.opset)
        try:
            model = helper.make_model(graph, opset_imports=[opset])
            outputs = ReferenceEvaluator(model).run(None, inputs)
        except _FAILURES as error:
            raise UnknownTensorError(f"{described}, which cannot be evaluated ({error})") from error
        arrays = [np.asarray(output) for output in outputs]
        largest = max([_LARGEST, *(array.size for array in inputs.values())])
        if any(array.size > largest for array in arrays):
            raise UnknownTensorError(f"{described}, of more than {largest} numbers")
        return dict(zip(names, arrays, strict=True))


def _read(onnx: Any, model: Any) -> tuple[str, Path | None, Any]:
    """What to call a model, the folder it is in, and itself."""
    if isinstance(model, onnx.ModelProto):
        return "model", None, model
    label, folder, content = "model", None, model
    if isinstance(model, str | PathLike):
        path = Path(model)
        label, folder, content = str(path), path.parent, path.read_bytes()
    elif not isinstance(model, bytes):
        raise TypeError(
            f"model: got {type(model).__name__}, expected a path, bytes or a ModelProto"
        )
    from google.protobuf.message import DecodeError  # which onnx itself is built on

    try:
        return label, folder, onnx.ModelProto.FromString(content)
    except DecodeError as error:
        got = "a pickle, which can run code and is not opened"
        if not content.startswith(_PICKLES):
            got = f"what is no model ({error})"
        raise ValueError(f"{label}: got {got}, expected an ONNX model") from error


def _inlined(onnx: Any, label: str, proto: Any) -> Any:
    from onnx.inliner import inline_local_functions

    try:
        return inline_local_functions(proto)
    except (*_FAILURES, onnx.checker.ValidationError) as error:
        raise ValueError(f"{label}: got functions that cannot be put in place ({error})") from error


def _declared(value: Any) -> Shape | None:
    """The shape of a declared tensor, or None if it has none."""
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        return None
    return tuple(
        axis.dim_value if axis.dim_value > 0 else axis.dim_param or None
        for axis in tensor.shape.dim
    )


class Trial:
    """Sizes in place of those that a model leaves open, to see how it rearranges tensors.

    Numbers are NaN: what does not depend on them is not.
    """

    def __init__(self, graph: Graph, first: int) -> None:
        self._graph = graph
        self._fresh: Iterator[int] = count(first)
        self._sizes: dict[str, int] = {}
        self.known = {
            name: np.broadcast_to(np.nan, self._shape(axes))
            for name, axes in graph.inputs.items()
            if axes is not None and not graph.is_stored(name)
        }

    def _shape(self, axes: Shape) -> tuple[int, ...]:
        return tuple(axis if isinstance(axis, int) else self._size(axis) for axis in axes)

    def _size(self, axis: str | None) -> int:
        if axis is None:
            return next(self._fresh)
        if axis not in self._sizes:
            self._sizes[axis] = next(self._fresh)
        return self._sizes[axis]

    def inputs_of(self, node: Any) -> np.ndarray:
        """X of a node."""
        tensor = node.input[0] if node.input else ""
        try:
            return self._graph.evaluated(tensor, self.known, SHAPING)
        except UnknownTensorError:
            axes = self._graph.shapes.get(tensor)
            axes = axes if axes is not None and len(axes) == 3 else ("1st axis", "2nd axis", None)
            return np.broadcast_to(np.nan, self._shape(axes))
