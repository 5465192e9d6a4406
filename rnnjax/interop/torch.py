"""Weights from and to PyTorch's recurrent networks and cells.

Only what takes or makes a module imports `torch`; a state dict is a mapping of names to arrays,
whatever made it. No file is opened here: a `.pt` or `.bin` file is a pickle, which can run code.
`torch.load(path, weights_only=True)` reads one safely, `rnnjax.interop.safetensors.read_tensors`
reads the same weights saved as safetensors; either result is a state dict.

What is not weights is left behind: `batch_first` is the layout of a call (rnnjax has time first),
`dropout` what happens between layers while training (`dropout_masks` of `scan_deep`). In
PyTorch's states h_n and c_n, `(L D, B, H)`, are the carries of layer 0 forward, layer 0 backward,
and so on.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from rnnjax.interop.cells import check_dtypes, check_float64
from rnnjax.interop.network import Network
from rnnjax.layers.bidirectional import (
    BidirectionalParams,
    check_bidirectional_params,
    concatenate,
)
from rnnjax.layers.deep import Layer
from rnnjax.recurrences.elman import ElmanParams, elman, elman_relu
from rnnjax.recurrences.gru import GRUParams, gru
from rnnjax.recurrences.lstm import LSTMParams, lstm
from rnnjax.recurrences.lstm_projected import LSTMProjectedParams, lstm_projected
from rnnjax.recurrences.protocol import Params, Recurrence


class _Kind(NamedTuple):
    """One of PyTorch's recurrences; `name` is the `mode` of its modules."""

    name: str
    gates: int
    recurrence: Recurrence
    record: type
    projected: bool


_KINDS = (
    _Kind("RNN_TANH", 1, elman, ElmanParams, False),
    _Kind("RNN_RELU", 1, elman_relu, ElmanParams, False),
    _Kind("GRU", 3, gru, GRUParams, False),
    _Kind("LSTM", 4, lstm, LSTMParams, False),
    _Kind("LSTM", 4, lstm_projected, LSTMProjectedParams, True),
)
_NAMES = tuple(dict.fromkeys(kind.name for kind in _KINDS))
_KEY = re.compile(r"(?P<part>(?:weight|bias)_(?:ih|hh)|weight_hr)(_l(?P<layer>\d+)(_reverse)?)?")
# Fields of records by what they are in PyTorch.
_PARTS = {
    "w_x": "weight_ih",
    "w_h": "weight_hh",
    "w_projection": "weight_hr",
    "b": "bias_ih",
    "b_x": "bias_ih",
    "b_h": "bias_hh",
}


class _Stack(NamedTuple):
    """What all layers of a PyTorch network have in common."""

    kind: _Kind
    suffixes: tuple[tuple[str, ...], ...]  # of the keys, by layer and direction
    bias: bool
    input_size: int
    hidden_size: int
    output_size: int  # of one direction: P of a projected LSTM, else H

    def shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        """The shape of each weight of a layer, as PyTorch stores it."""
        directions = len(self.suffixes[0])
        inputs = self.input_size if layer == 0 else directions * self.output_size
        stacked = self.kind.gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (stacked, inputs),
            "weight_hh": (stacked, self.output_size),
        }
        if self.bias:
            shapes |= {"bias_ih": (stacked,), "bias_hh": (stacked,)}
        if self.kind.projected:
            shapes["weight_hr"] = (self.output_size, self.hidden_size)
        return shapes


def from_torch(module: Any) -> Network:
    """The network that computes what a PyTorch module does.

    `torch.nn.RNN`, `GRU` and `LSTM`, of any number of layers, one or both directions, with and
    without projection and biases; a cell, `torch.nn.RNNCell`, `GRUCell` or `LSTMCell`, becomes one
    layer. The weights are copied.

    `scan_deep(*network, xs)` takes xs `(T, B, I)` also where the module was made with
    `batch_first=True`. A dropout between layers is not part of the network.

    Args:
        module: The module.

    Returns:
        The layers and parameters, in the dtype of the weights. Elman's and the LSTM's one bias is
        the sum of PyTorch's two; missing biases are zero.

    Raises:
        TypeError: It is no such module, or its weights are not of one floating dtype.
        ValueError: Its weights are not those of a plain module, or are float64 while
            `jax_enable_x64` is off.
        ImportError: PyTorch is not installed.
    """
    torch = _torch("from_torch")
    kinds: dict[type, str] = {
        torch.nn.RNN: "",
        torch.nn.GRU: "GRU",
        torch.nn.LSTM: "LSTM",
        torch.nn.RNNCell: "",
        torch.nn.GRUCell: "GRU",
        torch.nn.LSTMCell: "LSTM",
    }
    for of_torch, name in kinds.items():
        if isinstance(module, of_torch):
            return from_torch_state_dict(
                name or f"RNN_{module.nonlinearity.upper()}", module.state_dict()
            )
    expected = ", ".join(of_torch.__name__ for of_torch in kinds)
    raise TypeError(f"module: got {type(module).__name__}, expected one of torch.nn's {expected}")


def from_torch_state_dict(kind: str, state_dict: Mapping[str, Any], prefix: str = "") -> Network:
    """The network whose weights a state dict of PyTorch holds; PyTorch is not needed.

    Layers, directions, projection and biases are read off names and shapes: those of a network
    (`weight_ih_l0`, …, `weight_hh_l1_reverse`) or those of a cell (`weight_ih`).

    Args:
        kind: What the weights are of, by PyTorch's name, the `mode` of a module: "RNN_TANH",
            "RNN_RELU", "GRU" or "LSTM".
        state_dict: Arrays by name: tensors, or what `numpy.asarray` takes.
        prefix: What the names begin with in the state dict of a larger model, its dot included:
            "encoder.". Other names of that model are passed over.

    Returns:
        As `from_torch`.

    Raises:
        TypeError: The state dict is no mapping, or its values are not arrays of one floating dtype.
        ValueError: The kind is unknown, a name is missing or unknown, a shape is wrong, or the
            weights are float64 while `jax_enable_x64` is off.
    """
    if kind not in _NAMES:
        raise ValueError(f"kind: got {kind!r}, expected one of {', '.join(_NAMES)}")
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"state_dict: got {type(state_dict).__name__}, expected a mapping of names to arrays, "
            "such as torch.load(path, weights_only=True) and "
            "rnnjax.interop.safetensors.read_tensors(path) return"
        )
    arrays = {
        key.removeprefix(prefix): _as_numpy(f"state_dict[{key!r}]", value)
        for key, value in state_dict.items()
        if key.startswith(prefix)
    }
    if not arrays:
        found = ", ".join(key for key in state_dict if _KEY.fullmatch(key.rpartition(".")[2]))
        raise ValueError(
            f"state_dict: got no name that begins with {prefix!r}, expected the prefix of one of: "
            f"{found or 'none has weights of a recurrent network'}"
        )
    dtypes = {array.dtype for array in arrays.values()}
    check_dtypes("state_dict", dtypes)
    check_float64("state_dict", dtypes)
    stack = _read_stack(kind, arrays, prefix)
    for layer, suffixes in enumerate(stack.suffixes):
        for part, expected in stack.shapes(layer).items():
            for key in (part + suffix for suffix in suffixes):
                if arrays[key].shape != expected:
                    raise ValueError(
                        f"state_dict[{prefix + key!r}]: got shape {arrays[key].shape}, expected "
                        f"{expected} in a {kind} of hidden size {stack.hidden_size}"
                    )
    return _network(stack, arrays)


def to_torch_state_dict(network: Network) -> dict[str, np.ndarray]:
    """The network's weights by PyTorch's names, for `load_state_dict` or a file.

    Elman's and the LSTM's one bias becomes `bias_ih`, and `bias_hh` is zero.

    Args:
        network: Layers of one of the recurrences `elman`, `elman_relu`, `gru`, `lstm` and
            `lstm_projected`, all of the same hidden size, in one or all in both directions.

    Returns:
        `weight_ih_l0` and so on, contiguous, in the dtype of the parameters. Of bfloat16 they are
        arrays that `torch.from_numpy` does not take; `to_torch` does.

    Raises:
        TypeError: It is no `Network`, or its parameters are not of one floating dtype.
        ValueError: A PyTorch network cannot hold it; the text says where and why.
    """
    return _write(network)[1]


def to_torch(network: Network, *, batch_first: bool = False) -> Any:
    """A `torch.nn.RNN`, `GRU` or `LSTM` that computes what the network does.

    It is on the CPU and in training mode, without dropout. PyTorch's random state is left alone.

    Args:
        network: As in `to_torch_state_dict`.
        batch_first: Whether the module is to take and return `(B, T, I)`.

    Raises:
        TypeError: As `to_torch_state_dict`.
        ValueError: As `to_torch_state_dict`.
        ImportError: PyTorch is not installed.
    """
    torch = _torch("to_torch")
    stack, arrays = _write(network)
    projection = {"proj_size": stack.output_size} if stack.kind.projected else {}
    return _module(
        torch,
        stack,
        "",
        arrays,
        num_layers=len(stack.suffixes),
        bidirectional=len(stack.suffixes[0]) == 2,
        batch_first=batch_first,
        **projection,
    )


def to_torch_cell(network: Network) -> Any:
    """A `torch.nn.RNNCell`, `GRUCell` or `LSTMCell` of a network of one layer and direction.

    Args:
        network: One layer of `elman`, `elman_relu`, `gru` or `lstm`.

    Raises:
        TypeError: As `to_torch_state_dict`.
        ValueError: As `to_torch_state_dict`, or there are several layers, two directions, or a
            projection.
        ImportError: PyTorch is not installed.
    """
    torch = _torch("to_torch_cell")
    stack, arrays = _write(network)
    if stack.suffixes != (("_l0",),) or stack.kind.projected:
        raise ValueError(
            f"network: got {len(stack.suffixes)} layers of {stack.kind.recurrence.name} in "
            f"{len(stack.suffixes[0])} directions, expected one layer in one direction without "
            "projection, as of a PyTorch cell"
        )
    return _module(
        torch, stack, "Cell", {key.removesuffix("_l0"): array for key, array in arrays.items()}
    )


def _torch(function: str) -> Any:
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            f"rnnjax.interop.torch.{function} needs PyTorch: pip install torch"
        ) from error
    return torch


def _as_numpy(name: str, value: Any) -> np.ndarray:
    if isinstance(value, str | bytes | Mapping):
        raise TypeError(f"{name}: got {type(value).__name__}, expected an array")
    if not hasattr(value, "detach"):
        return np.asarray(value)
    try:
        tensor = value.detach().cpu()
        if str(tensor.dtype) == "torch.bfloat16":  # NumPy has none; by way of float32 it is exact
            return tensor.float().numpy().astype(jnp.bfloat16)
        return tensor.numpy()
    except (TypeError, RuntimeError) as error:  # such as one on the meta device, or quantised
        raise TypeError(f"{name}: got a tensor that NumPy does not take ({error})") from error


def _as_tensor(torch: Any, array: np.ndarray) -> Any:
    if array.dtype == jnp.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _module(
    torch: Any, stack: _Stack, suffix: str, arrays: Mapping[str, np.ndarray], **options: Any
) -> Any:
    """The module `torch.nn.{RNN, GRU, LSTM}{suffix}` of these weights."""
    tensors = {key: _as_tensor(torch, array) for key, array in arrays.items()}
    name, _, nonlinearity = stack.kind.name.partition("_")
    if nonlinearity:
        options["nonlinearity"] = nonlinearity.lower()
    # Made without memory, as nothing is then drawn.
    module = getattr(torch.nn, name + suffix)(
        stack.input_size,
        stack.hidden_size,
        device="meta",
        dtype=next(iter(tensors.values())).dtype,
        **options,
    )
    module = module.to_empty(device="cpu")
    module.load_state_dict(tensors)
    return module


def _read_stack(name: str, arrays: Mapping[str, np.ndarray], prefix: str) -> _Stack:
    """What the keys and the shapes of the lowest layer say of all layers."""
    projected = name == "LSTM" and any(key.startswith("weight_hr_l") for key in arrays)
    kind = next(kind for kind in _KINDS if (kind.name, kind.projected) == (name, projected))
    matches = {key: _KEY.fullmatch(key) for key in arrays}
    layers = {int(match["layer"]) for match in matches.values() if match and match["layer"]}
    unknown = [
        prefix + key
        for key, match in matches.items()
        if match is None
        or bool(match["layer"]) != bool(layers)
        or (match["part"] == "weight_hr" and not projected)
    ]
    if unknown:
        of_what = "network" if layers else "cell"
        raise ValueError(
            f"state_dict: got {', '.join(unknown)}, expected the weights of one {name} {of_what} "
            "and nothing else; is a prefix missing, or are they transformed weights?"
        )
    # By their number and not by the highest: that may be any number at all.
    ways = ("", "_reverse") if any(key.endswith("_reverse") for key in arrays) else ("",)
    suffixes = tuple(tuple(f"_l{i}{way}" for way in ways) for i in range(len(layers))) or (("",),)
    bias = any(key.startswith("bias") for key in arrays)
    parts = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if bias else [])]
    parts += ["weight_hr"] if projected else []
    missing = [
        prefix + part + suffix
        for of_layer in suffixes
        for suffix in of_layer
        for part in parts
        if part + suffix not in arrays
    ]
    if missing:
        raise ValueError(
            f"state_dict: got no {', '.join(missing)}, expected them beside "
            f"{', '.join(prefix + key for key in arrays)}"
        )
    key = "weight_ih" + suffixes[0][0]
    shape = arrays[key].shape
    if len(shape) != 2 or 0 in shape or shape[0] % kind.gates:
        raise ValueError(
            f"state_dict[{prefix + key!r}]: got shape {shape}, "
            f"expected ({kind.gates} H, I) with the {kind.gates} gates of {name}"
        )
    hidden_size = shape[0] // kind.gates
    output_size = hidden_size
    if projected:
        key = "weight_hr" + suffixes[0][0]
        if arrays[key].ndim != 2 or not arrays[key].shape[0]:
            raise ValueError(
                f"state_dict[{prefix + key!r}]: got shape {arrays[key].shape}, "
                f"expected (P, {hidden_size})"
            )
        output_size = arrays[key].shape[0]
    return _Stack(kind, suffixes, bias, shape[1], hidden_size, output_size)


def _network(stack: _Stack, arrays: Mapping[str, np.ndarray]) -> Network:
    recurrence = stack.kind.recurrence
    both = len(stack.suffixes[0]) == 2
    params: list[Params] = []
    for suffixes in stack.suffixes:
        of_layer = [_record(stack, arrays, suffix) for suffix in suffixes]
        params.append(BidirectionalParams(*of_layer) if both else of_layer[0])
    layer = Layer(recurrence, backward=recurrence if both else None)
    return Network((layer,) * len(params), tuple(params))


def _record(stack: _Stack, arrays: Mapping[str, np.ndarray], suffix: str) -> Params:
    w_x, w_h = arrays["weight_ih" + suffix].T, arrays["weight_hh" + suffix].T
    b_x = b_h = np.zeros(w_x.shape[1], w_x.dtype)
    if stack.bias:
        b_x, b_h = arrays["bias_ih" + suffix], arrays["bias_hh" + suffix]
    fields = {"w_x": w_x, "w_h": w_h}
    if stack.kind.record is GRUParams:
        fields |= {"b_x": b_x, "b_h": b_h}
    else:
        fields["b"] = b_x + b_h
    if stack.kind.projected:
        fields["w_projection"] = arrays["weight_hr" + suffix].T
    return stack.kind.record(**{field: jnp.asarray(array) for field, array in fields.items()})


def _write(network: Network) -> tuple[_Stack, dict[str, np.ndarray]]:
    """What the network is to PyTorch, and its state dict."""
    if not isinstance(network, Network):
        raise TypeError(f"network: got {type(network).__name__}, expected a Network")
    kind = _common_kind(network)
    both = network.layers[0].backward is not None
    ways = ("", "_reverse") if both else ("",)
    suffixes = tuple(tuple(f"_l{i}{way}" for way in ways) for i in range(len(network.layers)))
    records = [
        _checked_record(f"network.params[{i}]{way}", kind, record)
        for i, of_layer in enumerate(network.params)
        for way, record in _directions(f"network.params[{i}]", of_layer, both)
    ]
    check_dtypes("network.params", {a.dtype for _, fields in records for a in fields.values()})
    _, lowest = records[0]
    input_size, stacked = lowest["w_x"].shape
    hidden_size = stacked // kind.gates
    output_size = lowest["w_projection"].shape[1] if kind.projected else hidden_size
    stack = _Stack(kind, suffixes, True, input_size, hidden_size, output_size)
    arrays: dict[str, np.ndarray] = {}
    remaining = iter(records)
    for layer, of_layer in enumerate(suffixes):
        expected = stack.shapes(layer)
        for suffix in of_layer:
            name, fields = next(remaining)
            for field, array in fields.items():
                part = _PARTS[field]
                if array.shape != expected[part][::-1]:
                    raise ValueError(
                        f"{name}.{field}: got shape {array.shape}, expected {expected[part][::-1]}"
                        ", as all layers of a PyTorch network are of one size"
                    )
                # A copy of its own, contiguous: what takes it may write to it, or go by its memory
                # and not by its strides.
                arrays[part + suffix] = np.array(array.T, order="C")
            if "b" in fields:
                arrays["bias_hh" + suffix] = np.zeros_like(fields["b"])
    return stack, arrays


def _common_kind(network: Network) -> _Kind:
    """The kind of all layers, or an error if they have not one that PyTorch has."""
    layers, params = network
    if not layers or len(layers) != len(params):
        raise ValueError(
            f"network: got {len(layers)} layers and parameters of {len(params)}, "
            "expected as many, and at least one"
        )
    for index, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            raise TypeError(
                f"network.layers[{index}]: got {type(layer).__name__}, expected a Layer"
            )
    first = layers[0]
    kind = next((kind for kind in _KINDS if kind.recurrence is first.recurrence), None)
    if kind is None:
        names = ", ".join(kind.recurrence.name for kind in _KINDS)
        raise ValueError(
            f"network.layers[0]: got {first.recurrence.name}, expected one of {names}, "
            "the recurrences that PyTorch has"
        )
    for index, layer in enumerate(layers):
        got = None
        if layer.residual:
            got = "a residual connection, expected none"
        elif layer.recurrence is not first.recurrence:
            got = f"{layer.recurrence.name} above {first.recurrence.name}, expected one recurrence"
        elif (layer.backward is None) != (first.backward is None):
            got = "one direction above layers in two, expected the same in all layers"
            if layer.backward is not None:
                got = "two directions above layers in one, expected the same in all layers"
        elif layer.backward is not None and layer.backward is not layer.recurrence:
            got = (
                f"{layer.recurrence.name} forward and {layer.backward.name} backward, "
                "expected one recurrence"
            )
        elif layer.backward is not None and layer.merge is not concatenate:
            got = f"the merge {layer.merge!r}, expected concatenate"
        if got is not None:
            raise ValueError(f"network.layers[{index}]: got {got}, as in a PyTorch network")
    return kind


def _directions(name: str, params: Any, both: bool) -> list[tuple[str, Params]]:
    if not both:
        return [("", params)]
    check_bidirectional_params(name, params)
    return [(".forward", params.forward), (".backward", params.backward)]


def _checked_record(name: str, kind: _Kind, record: Any) -> tuple[str, dict[str, np.ndarray]]:
    """The name and the fields of a record of this kind, each with as many axes as it should."""
    if not isinstance(record, kind.record):
        raise TypeError(f"{name}: got {type(record).__name__}, expected {kind.record.__name__}")
    fields = {field: np.asarray(array) for field, array in record._asdict().items()}
    for field, array in fields.items():
        axes = 2 if field.startswith("w_") else 1
        if array.ndim != axes or 0 in array.shape:
            raise ValueError(
                f"{name}.{field}: got shape {array.shape}, expected one of length {axes} without 0"
            )
    return name, fields
