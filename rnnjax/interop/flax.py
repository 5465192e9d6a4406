"""Weights from and to the recurrent cells of Flax, `flax.nnx` and `flax.linen`.

| cell | of | here | what is folded |
| --- | --- | --- | --- |
| `SimpleCell`, tanh or relu | both | `elman`, `elman_relu` | nothing |
| `GRUCell` | nnx | `gru` | its one bias is b_x; b_h is zero |
| `GRUCell` | linen | `gru` | the bias of n in the reset is that of b_h, which else is zero |
| `LSTMCell`, `OptimizedLSTMCell` | both | `lstm` | nothing |
| `MGUCell` | linen | `gru` | r = z = f: the weights of f are there twice |
| `MGUCell` without reset gate | linen | `minimal_gru` | f = 1 − Γu: the weights of f change sign |
| `ConvLSTMCell` | linen | `conv_lstm_1d`, `conv_lstm_2d` | one bias of two; the 1 added to f's |

The docstring of nnx's `GRUCell` has a bias b_hn inside the reset, the cell has none: a `gru` that
has learned one can be written to Linen alone. A `gru` read from an `MGUCell` computes what that
does, but once it is trained its r and z are two gates.

What is not weights is left behind: `time_major`, `return_carry` and `keep_order` are the layout of
a call (rnnjax has time first, and outputs in the order of the inputs), `dtype` is that of the
inputs, a `Dropout` between layers is `dropout_masks` of `scan_deep`. The carry of Flax's LSTMs is
(c, h), ours (h, c). Past a row's length Flax's outputs go on, ours are zero; for a row of length 0
Flax returns the carry after all steps, we the initial one.
"""

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.interop.cells import (
    Arrays,
    Cell,
    cell_of_one_layer,
    cells_of_layers,
    network_of_cells,
    read_cell,
    split_gates,
    stack_gates,
    write_cell,
)
from rnnjax.interop.conv_lstm import conv_lstm_cell
from rnnjax.interop.network import Network
from rnnjax.layers.bidirectional import Merge, add, concatenate, multiply
from rnnjax.recurrences.elman import ElmanParams, elman, elman_relu
from rnnjax.recurrences.gru import GRUParams, gru
from rnnjax.recurrences.lstm import LSTMParams, lstm
from rnnjax.recurrences.minimal_gru import MinimalGRUParams, minimal_gru
from rnnjax.recurrences.protocol import Params, Recurrence


def from_nnx(module: Any, *, reverse: bool = False) -> Network:
    """The network that computes what a module of `flax.nnx` does.

    A cell or an `nnx.RNN` of one is one layer, an `nnx.Bidirectional` of two of them one that is
    bidirectional, and an `nnx.Sequential` of those has a layer for each. The weights are copied.

    Args:
        module: The module.
        reverse: Say True of an `RNN` that was made with `reverse=True`: the network then computes
            the same as `scan_deep(*network, xs, reverse=True)`, outputs in the order of the inputs.

    Returns:
        The layers and parameters, in the dtype of the weights.

    Raises:
        TypeError: It is no such module, or its weights are not of one floating dtype.
        ValueError: It has an activation that no recurrence has here, a residual connection, or
            another direction than `reverse` says; or its weights are float64 while
            `jax_enable_x64` is off.
        ImportError: Flax is not installed.
    """
    nnx = _flax("nnx", "from_nnx")

    def weights_of(direction: _Direction) -> Any:
        return nnx.state(direction.cell, nnx.Param)

    return _from_module(nnx, _NNX, module, weights_of, reverse)


def from_nnx_state(kind: str, state: Mapping[str, Any], *, activation: str = "tanh") -> Network:
    """The network of one layer whose weights the state of a cell of `flax.nnx` holds.

    Flax is not needed.

    Args:
        kind: The class of the cell: "SimpleCell", "GRUCell", "LSTMCell" or "OptimizedLSTMCell".
        state: What `nnx.state(cell)` returns, or arrays in mappings of the same keys.
        activation: Of a `SimpleCell`: "tanh" or "relu".

    Raises:
        TypeError: The state is no mapping, or its values are not arrays of one floating dtype.
        ValueError: The kind or the activation is unknown, an array is missing or unknown, a shape
            is wrong, or the weights are float64 while `jax_enable_x64` is off.
    """
    return _from_arrays("state", _NNX, kind, state, activation)


def to_nnx(network: Network, *, time_major: bool = False, reverse: bool = False) -> Any:
    """An `nnx.RNN`, an `nnx.Bidirectional`, or an `nnx.Sequential` of them, with these weights.

    Its cells are `SimpleCell`, `GRUCell` and `OptimizedLSTMCell`. No weights are drawn.

    Args:
        network: Layers of `elman`, `elman_relu`, `gru` and `lstm`, in one direction or both.
        time_major: Whether the module is to take and return `(T, *B, I)`.
        reverse: Whether it is to run backward, of one layer in one direction. It returns outputs in
            the order of the inputs.

    Raises:
        TypeError: It is no `Network`.
        ValueError: A Flax module cannot hold it; the text says where and why.
        ImportError: Flax is not installed.
    """
    nnx = _flax("nnx", "to_nnx")

    def build(cell: Cell, params: Params, arrays: Arrays) -> Any:
        options = {"dtype": None, **_options(cell, params)}
        sizes = params.w_x.shape[-2], params.w_h.shape[-2]
        make = getattr(nnx, cell.kind)
        module = nnx.eval_shape(lambda: make(*sizes, rngs=nnx.Rngs(0), **options))
        nnx.update(module, jax.tree.map(jnp.asarray, _nested(arrays)))
        return module

    layers = _modules(nnx, _NNX, network, build, time_major, reverse)
    return layers[0] if len(layers) == 1 else nnx.Sequential(*layers)


def to_nnx_state(kind: str, network: Network) -> dict[str, Any]:
    """The weights of a network of one layer, for a cell of `flax.nnx`.

    `nnx.update(cell, weights)` puts them into it. Flax is not needed.

    Args:
        kind: As in `from_nnx_state`.
        network: One layer in one direction, of the recurrence that the cell computes.

    Returns:
        Arrays in dicts, as `nnx.to_pure_dict(nnx.state(cell))`.

    Raises:
        TypeError: It is no `Network`.
        ValueError: The cell cannot hold it; the text says why.
    """
    return _to_arrays(_NNX, kind, network)


def from_linen(
    module: Any,
    variables: Mapping[str, Any],
    *,
    reverse: bool = False,
    spatial_shape: tuple[int, ...] | None = None,
) -> Network:
    """The network that computes what a module of `flax.linen` does with these variables.

    Modules are combined as in `from_nnx`. For a part of a larger model give its variables:
    `from_linen(part, {"params": variables["params"]["part"]})`.

    Args:
        module: The module.
        variables: As `module.init` returns them.
        reverse: As in `from_nnx`.
        spatial_shape: *S of images, for `ConvLSTMCell`, whose kernels are odd and square, without
            strides and with the padding "SAME".

    Returns:
        As `from_nnx`.

    Raises:
        TypeError: It is no such module, or its weights are not arrays of one floating dtype.
        ValueError: As `from_nnx`; or an array is missing or unknown, or a shape is wrong.
        ImportError: Flax is not installed.
    """
    linen = _flax("linen", "from_linen")
    if not isinstance(variables, Mapping) or "params" not in variables:
        got = list(variables) if isinstance(variables, Mapping) else type(variables).__name__
        raise ValueError(f"variables: got {got}, expected a mapping with 'params'")

    def weights_of(direction: _Direction) -> Any:
        tree, name = variables["params"], "variables.params"
        for key in direction.path:
            if not isinstance(tree, Mapping) or key not in tree:
                raise ValueError(
                    f"{name}: got no {key!r}, expected the weights of the module there"
                )
            tree, name = tree[key], f"{name}.{key}"
        return tree

    return _from_module(linen, _LINEN, module, weights_of, reverse, spatial_shape)


def from_linen_params(
    kind: str,
    params: Mapping[str, Any],
    *,
    activation: str = "tanh",
    spatial_shape: tuple[int, ...] | None = None,
) -> Network:
    """The network of one layer whose weights the parameters of a cell of `flax.linen` are.

    Flax is not needed.

    Args:
        kind: The class of the cell: "SimpleCell", "GRUCell", "LSTMCell", "OptimizedLSTMCell",
            "MGUCell" or "ConvLSTMCell".
        params: Arrays in mappings, what `cell.init` returns at "params".
        activation: Of a `SimpleCell`: "tanh" or "relu".
        spatial_shape: As in `from_linen`.

    Raises:
        TypeError: As `from_nnx_state`.
        ValueError: As `from_nnx_state`, or the spatial shape has not as many axes as the kernels.
    """
    return _from_arrays("params", _LINEN, kind, params, activation, spatial_shape)


def to_linen(
    network: Network, *, time_major: bool = False, reverse: bool = False
) -> tuple[Any, dict[str, Any]]:
    """A module of `flax.linen` and its variables, for `module.apply(variables, xs)`.

    As in `to_nnx`; also `minimal_gru`, as an `MGUCell`, and `conv_lstm_1d` and `conv_lstm_2d`
    without peepholes.

    Args:
        network: As in `to_nnx`.
        time_major: As in `to_nnx`.
        reverse: As in `to_nnx`.

    Raises:
        TypeError: As `to_nnx`.
        ValueError: As `to_nnx`.
        ImportError: As `to_nnx`.
    """
    linen = _flax("linen", "to_linen")
    trees: list[dict[str, Any]] = []

    def build(cell: Cell, params: Params, arrays: Arrays) -> Any:
        trees.append({"cell": jax.tree.map(jnp.asarray, _nested(arrays))})
        return getattr(linen, cell.kind)(params.w_h.shape[-2], **_options(cell, params))

    layers = _modules(linen, _LINEN, network, build, time_major, reverse)
    remaining = iter(trees)
    of_layers = [
        {"forward_rnn": next(remaining), "backward_rnn": next(remaining)}
        if layer.backward is not None
        else next(remaining)
        for layer in network.layers
    ]
    if len(layers) == 1:
        return layers[0], {"params": of_layers[0]}
    return linen.Sequential(layers), {
        "params": {f"layers_{index}": tree for index, tree in enumerate(of_layers)}
    }


def to_linen_params(kind: str, network: Network) -> dict[str, Any]:
    """The weights of a network of one layer, for a cell of `flax.linen`.

    `cell.apply({"params": weights}, carry, x)` computes with them. Flax is not needed.

    Args:
        kind: As in `from_linen_params`.
        network: One layer in one direction, of the recurrence that the cell computes.

    Raises:
        TypeError: As `to_nnx_state`.
        ValueError: As `to_nnx_state`.
    """
    return _to_arrays(_LINEN, kind, network)


def _flax(api: str, function: str) -> Any:
    try:
        return import_module(f"flax.{api}")
    except ImportError as error:
        raise ImportError(
            f"rnnjax.interop.flax.{function} needs flax: pip install 'rnnjax-lib[flax]'"
        ) from error


class _Described(NamedTuple):
    """What a cell is, beside its weights."""

    kind: str
    activation: str = "tanh"
    reset_gate: bool = True  # of an MGUCell
    spatial_axes: int = 0  # of a ConvLSTMCell


class _Direction(NamedTuple):
    """One cell of a module."""

    name: str  # what an error calls it
    cell: Any
    path: tuple[str, ...]  # to its weights in Linen's variables
    reverse: bool


def _from_module(
    api: Any,
    cells: tuple[Cell, ...],
    module: Any,
    weights_of: Callable[[_Direction], Any],
    reverse: bool,
    spatial_shape: tuple[int, ...] | None = None,
) -> Network:
    parts = _parts(api, "module", module, ())
    if not parts:
        raise ValueError("module: got no recurrent layer, expected at least one")
    read = []
    for directions, merge in parts:
        expected = reverse and len(parts) == 1
        if len(directions) == 1 and directions[0].reverse != expected:
            raise ValueError(
                f"{directions[0].name}: got the cell of an RNN with reverse="
                f"{directions[0].reverse}, expected {expected}; an RNN that is reversed is read "
                "alone, with reverse=True, and run with reverse=True"
            )
        of_layer = []
        for direction in directions:
            name = f"weights of {direction.name}"
            cell = _cell(cells, _described(api, cells, direction), spatial_shape)
            of_layer.append((cell, read_cell(name, cell, _flattened(name, weights_of(direction)))))
        read.append((of_layer, merge))
    return network_of_cells("weights of module", read)


def _parts(
    api: Any, name: str, module: Any, path: tuple[str, ...]
) -> list[tuple[tuple[_Direction, ...], Merge]]:
    """The directions of each layer, and their merge."""
    if type(module) is api.Sequential:
        return [
            part
            for index, layer in enumerate(module.layers)
            if type(layer) is not api.Dropout
            for part in _parts(
                api,
                f"{name}.layers[{index}]",
                layer,
                (*path, f"layers_{index}"),
            )
        ]
    if type(module) is not api.Bidirectional:
        return [((_direction(api, name, module, path),), concatenate)]
    directions = []
    for attribute in ("forward_rnn", "backward_rnn"):
        rnn = getattr(module, attribute)
        within = (*path, attribute)
        directions.append(_direction(api, f"{name}.{attribute}", rnn, within))
    default = inspect.signature(api.Bidirectional.__init__).parameters["merge_fn"].default
    ours: dict[Any, Any] = {default: concatenate, jnp.add: add, jnp.multiply: multiply}
    merge = module.merge_fn
    return [(tuple(directions), ours.get(merge, merge))]


def _direction(api: Any, name: str, module: Any, path: tuple[str, ...]) -> _Direction:
    if type(module) is api.RNN:
        within = (*path, "cell")
        return _Direction(f"{name}.cell", module.cell, within, module.reverse)
    if path:
        raise TypeError(
            f"{name}: got {type(module).__name__}, expected an RNN of a cell, or Bidirectional"
        )
    return _Direction(name, module, path, False)


def _described(api: Any, cells: tuple[Cell, ...], direction: _Direction) -> _Described:
    """What a live cell is, or an error if no recurrence computes it."""
    name, module = direction.name, direction.cell
    kinds = dict.fromkeys(cell.kind for cell in cells)
    kind = next((kind for kind in kinds if type(module) is getattr(api, kind)), None)
    if kind is None:
        raise TypeError(
            f"{name}: got {type(module).__name__}, expected RNN, Bidirectional or Sequential of "
            f"{api.__name__}, or one of its cells {', '.join(kinds)}"
        )
    if kind == "ConvLSTMCell":
        strides = module.strides
        if strides is not None and set(np.ravel(strides).tolist()) != {1}:
            raise ValueError(f"{name}: got strides {strides}, expected none")
        if module.padding != "SAME":
            raise ValueError(f"{name}: got padding {module.padding!r}, expected 'SAME'")
        return _Described(kind, spatial_axes=len(module.kernel_size))
    if getattr(module, "residual", False):
        raise ValueError(
            f"{name}: got residual=True, expected False; adding the identity to the recurrent "
            "kernel makes it the same"
        )
    if getattr(module, "gate_fn", jax.nn.sigmoid) is not jax.nn.sigmoid:
        raise ValueError(f"{name}: got gate_fn {module.gate_fn!r}, expected sigmoid")
    activations: dict[str, Any] = {"tanh": jnp.tanh}
    if kind == "SimpleCell":
        activations["relu"] = jax.nn.relu
    for activation, function in activations.items():
        if module.activation_fn is function:
            return _Described(kind, activation, getattr(module, "reset_gate", True))
    raise ValueError(
        f"{name}: got activation_fn {module.activation_fn!r}, expected {' or '.join(activations)}"
    )


def _from_arrays(
    name: str,
    cells: tuple[Cell, ...],
    kind: str,
    tree: Any,
    activation: str,
    spatial_shape: tuple[int, ...] | None = None,
) -> Network:
    _check_kind(cells, kind)
    values = _flattened(name, tree)
    spatial_axes = np.ndim(values["ih.kernel"]) - 2 if "ih.kernel" in values else 2
    described = _Described(kind, activation, "hn.bias" in values, spatial_axes)
    cell = _cell(cells, described, spatial_shape)
    return network_of_cells(name, [([(cell, read_cell(name, cell, values))], concatenate)])


def _to_arrays(cells: tuple[Cell, ...], kind: str, network: Network) -> dict[str, Any]:
    _check_kind(cells, kind)
    of_kind = {cell.recurrence.name: cell for cell in cells if cell.kind == kind}
    cell, name, params = cell_of_one_layer("network", of_kind, network)
    return _nested(write_cell(name, cell, params))


def _check_kind(cells: tuple[Cell, ...], kind: str) -> None:
    kinds = dict.fromkeys(cell.kind for cell in cells)
    if kind not in kinds:
        raise ValueError(f"kind: got {kind!r}, expected one of {', '.join(kinds)}")


def _cell(
    cells: tuple[Cell, ...], described: _Described, spatial_shape: tuple[int, ...] | None
) -> Cell:
    kind = described.kind
    activations = {"tanh": elman, "relu": elman_relu} if kind == "SimpleCell" else {"tanh": None}
    if described.activation not in activations:
        raise ValueError(
            f"activation: got {described.activation!r}, expected {' or '.join(activations)} "
            f"in {kind}"
        )
    if kind == "ConvLSTMCell":
        return conv_lstm_cell(kind, described.spatial_axes, _CONV_NAMES, spatial_shape)
    recurrence = activations[described.activation]
    if kind == "MGUCell":
        recurrence = gru if described.reset_gate else minimal_gru
    return next(
        cell for cell in cells if cell.kind == kind and recurrence in (None, cell.recurrence)
    )


def _modules(
    api: Any,
    cells: tuple[Cell, ...],
    network: Network,
    build: Callable[[Cell, Params, Arrays], Any],
    time_major: bool,
    reverse: bool,
) -> list[Any]:
    """An `RNN` or a `Bidirectional` for each layer; `build` makes a cell."""
    by_name: dict[str, Cell] = {}
    for cell in cells:  # the first of a recurrence is the one to write
        by_name.setdefault(cell.recurrence.name, cell)
    described = cells_of_layers("network", by_name, network)
    if reverse and (len(described) > 1 or len(described[0]) > 1):
        raise ValueError("reverse: got True, expected False unless of one layer in one direction")
    modules = []
    for layer, directions in zip(network.layers, described, strict=True):
        of_layer = [
            api.RNN(
                build(cell, params, write_cell(name, cell, params)),
                time_major=time_major,
                reverse=reverse,
                keep_order=reverse,
            )
            for cell, name, params in directions
        ]
        if len(of_layer) == 2:
            merge: Any = layer.merge
            of_layer = [api.Bidirectional(*of_layer, merge_fn=merge, time_major=time_major)]
        modules.extend(of_layer)
    return modules


def _options(cell: Cell, params: Params) -> dict[str, Any]:
    """What makes a cell of this kind compute the recurrence."""
    options: dict[str, Any] = {"param_dtype": params.w_h.dtype}
    if cell.recurrence is elman_relu:
        options["activation_fn"] = jax.nn.relu
    if cell.recurrence is minimal_gru:
        options["reset_gate"] = False
    if cell.kind == "ConvLSTMCell":
        options["kernel_size"] = params.w_h.shape[:-2]
    return options


def _flattened(name: str, tree: Any) -> dict[str, Any]:
    """Arrays by names such as "hf.kernel", of mappings in each other."""
    if not isinstance(tree, Mapping):
        raise TypeError(f"{name}: got {type(tree).__name__}, expected arrays in mappings")
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            below = _flattened(f"{name}.{key}", value)
            values |= {f"{key}.{rest}": array for rest, array in below.items()}
        else:
            values[str(key)] = value
    return values


def _nested(arrays: Arrays) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, array in arrays.items():
        *above, last = key.split(".")
        within = tree
        for part in above:
            within = within.setdefault(part, {})
        within[last] = array
    return tree


def _stacked(
    kind: str,
    recurrence: Recurrence,
    record: Callable[..., Params],
    gates: int,
    fields: Mapping[str, str],
) -> Cell:
    """A cell whose arrays are the fields `w_x`, `w_h` and `b`."""
    stacked = f"{gates}H"
    of_fields = {"w_x": ("I", stacked), "w_h": ("H", stacked), "b": (stacked,)}

    def read(_: str, arrays: Arrays) -> Arrays:
        return {field: arrays[key] for field, key in fields.items()}

    def write(_: str, of_record: Arrays) -> Arrays:
        return {key: of_record[field] for field, key in fields.items()}

    shapes = {key: of_fields[field] for field, key in fields.items()}
    return Cell(kind, recurrence, record, shapes, read, write)


def _lstm_by_gates(input_forget: str) -> Cell:
    """An LSTM with two arrays for each gate; `if` is no name for an attribute of a module."""
    inputs = {"i": "ii", "f": input_forget, "g": "ig", "o": "io"}

    def read(_: str, arrays: Arrays) -> Arrays:
        w_x = {gate: arrays[f"{name}.kernel"] for gate, name in inputs.items()}
        w_h = {gate: arrays[f"h{gate}.kernel"] for gate in inputs}
        b = {gate: arrays[f"h{gate}.bias"] for gate in inputs}
        return {
            "w_x": stack_gates(w_x, "ifgo"),
            "w_h": stack_gates(w_h, "ifgo"),
            "b": stack_gates(b, "ifgo"),
        }

    def write(_: str, fields: Arrays) -> Arrays:
        w_x, w_h, b = (split_gates(fields[field], "ifgo") for field in ("w_x", "w_h", "b"))
        return (
            {f"{name}.kernel": w_x[gate] for gate, name in inputs.items()}
            | {f"h{gate}.kernel": w_h[gate] for gate in inputs}
            | {f"h{gate}.bias": b[gate] for gate in inputs}
        )

    shapes: dict[str, tuple[str, ...]] = {f"{name}.kernel": ("I", "H") for name in inputs.values()}
    shapes |= {f"h{gate}.kernel": ("H", "H") for gate in inputs}
    shapes |= {f"h{gate}.bias": ("H",) for gate in inputs}
    return Cell("LSTMCell", lstm, LSTMParams, shapes, read, write)


def _gru_of_nnx() -> Cell:
    def read(_: str, arrays: Arrays) -> Arrays:
        bias = arrays["dense_i.bias"]
        return {
            "w_x": arrays["dense_i.kernel"],
            "w_h": arrays["dense_h.kernel"],
            "b_x": bias,
            "b_h": np.zeros_like(bias),
        }

    def write(name: str, fields: Arrays) -> Arrays:
        b_x, b_h = (split_gates(fields[field], "rzn") for field in ("b_x", "b_h"))
        if np.any(b_h["n"]):
            raise ValueError(
                f"{name}.b_h[2H:]: got some that are not zero, expected zeros: the GRUCell of "
                "flax.nnx has no bias inside its reset, that of flax.linen has"
            )
        bias = {"r": b_x["r"] + b_h["r"], "z": b_x["z"] + b_h["z"], "n": b_x["n"]}
        return {
            "dense_i.kernel": fields["w_x"],
            "dense_h.kernel": fields["w_h"],
            "dense_i.bias": stack_gates(bias, "rzn"),
        }

    shapes = {
        "dense_i.kernel": ("I", "3H"),
        "dense_h.kernel": ("H", "3H"),
        "dense_i.bias": ("3H",),
    }
    return Cell("GRUCell", gru, GRUParams, shapes, read, write)


def _gru_by_gates(kind: str, letters: Mapping[str, str]) -> Cell:
    """A GRU with arrays for each gate, of which r and z may be one."""

    def read(_: str, arrays: Arrays) -> Arrays:
        def stacked(side: str, part: str) -> np.ndarray:
            found = {gate: arrays[f"{side}{name}.{part}"] for gate, name in letters.items()}
            return stack_gates(found, "rzn")

        inside = arrays["hn.bias"]
        b_h = np.concatenate([np.zeros_like(inside), np.zeros_like(inside), inside])
        return {
            "w_x": stacked("i", "kernel"),
            "w_h": stacked("h", "kernel"),
            "b_x": stacked("i", "bias"),
            "b_h": b_h,
        }

    def write(where: str, fields: Arrays) -> Arrays:
        w_x, w_h, b_x, b_h = (
            split_gates(fields[field], "rzn") for field in ("w_x", "w_h", "b_x", "b_h")
        )
        arrays: dict[str, np.ndarray] = {"hn.bias": b_h["n"]}
        for gate, name in letters.items():
            of_gate = {
                f"i{name}.kernel": w_x[gate],
                f"i{name}.bias": b_x[gate] if gate == "n" else b_x[gate] + b_h[gate],
                f"h{name}.kernel": w_h[gate],
            }
            for key, array in of_gate.items():
                if not np.array_equal(arrays.setdefault(key, array), array):
                    raise ValueError(
                        f"{where}: got other weights for r than for z, expected the same: {kind} "
                        f"has one {key}"
                    )
        return arrays

    names = dict.fromkeys(letters.values())
    shapes: dict[str, tuple[str, ...]] = {}
    for name in names:
        shapes |= {f"i{name}.kernel": ("I", "H"), f"i{name}.bias": ("H",)}
        shapes |= {f"h{name}.kernel": ("H", "H")}
    return Cell(kind, gru, GRUParams, shapes | {"hn.bias": ("H",)}, read, write)


def _minimal_gru_of_linen() -> Cell:
    """An MGU without its reset gate, whose f is 1 − Γu: σ(−a) = 1 − σ(a)."""

    def read(_: str, arrays: Arrays) -> Arrays:
        def stacked(side: str, part: str) -> np.ndarray:
            return np.concatenate([-arrays[f"{side}f.{part}"], arrays[f"{side}n.{part}"]], axis=-1)

        return {
            "w_x": stacked("i", "kernel"),
            "w_h": stacked("h", "kernel"),
            "b": stacked("i", "bias"),
        }

    def write(_: str, fields: Arrays) -> Arrays:
        arrays: dict[str, np.ndarray] = {}
        for field, side, part in (
            ("w_x", "i", "kernel"),
            ("w_h", "h", "kernel"),
            ("b", "i", "bias"),
        ):
            gates = split_gates(fields[field], "un")
            arrays |= {f"{side}f.{part}": -gates["u"], f"{side}n.{part}": gates["n"]}
        return arrays

    shapes: dict[str, tuple[str, ...]] = {}
    for name in "fn":
        shapes |= {f"i{name}.kernel": ("I", "H"), f"i{name}.bias": ("H",)}
        shapes |= {f"h{name}.kernel": ("H", "H")}
    return Cell("MGUCell", minimal_gru, MinimalGRUParams, shapes, read, write)


_DENSE = {"w_x": "dense_i.kernel", "w_h": "dense_h.kernel"}
_NNX = (
    _stacked("SimpleCell", elman, ElmanParams, 1, _DENSE | {"b": "dense_i.bias"}),
    _stacked("SimpleCell", elman_relu, ElmanParams, 1, _DENSE | {"b": "dense_i.bias"}),
    _gru_of_nnx(),
    _stacked("OptimizedLSTMCell", lstm, LSTMParams, 4, _DENSE | {"b": "dense_h.bias"}),
    _lstm_by_gates("if_"),
)
_SIMPLE = {"w_x": "i.kernel", "w_h": "h.kernel", "b": "i.bias"}
_CONV_NAMES = ("ih.kernel", "ih.bias", "hh.kernel", "hh.bias")
_LINEN = (
    _stacked("SimpleCell", elman, ElmanParams, 1, _SIMPLE),
    _stacked("SimpleCell", elman_relu, ElmanParams, 1, _SIMPLE),
    _gru_by_gates("GRUCell", {"r": "r", "z": "z", "n": "n"}),
    _lstm_by_gates("if")._replace(kind="OptimizedLSTMCell"),
    _lstm_by_gates("if"),
    _minimal_gru_of_linen(),
    _gru_by_gates("MGUCell", {"r": "f", "z": "f", "n": "n"}),
    conv_lstm_cell("ConvLSTMCell", 1, _CONV_NAMES),
    conv_lstm_cell("ConvLSTMCell", 2, _CONV_NAMES),
)
