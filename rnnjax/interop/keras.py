"""Weights from and to the recurrent layers of Keras 3.

| layer | here | what is folded |
| --- | --- | --- |
| `SimpleRNN`, tanh or relu | `elman`, `elman_relu` | nothing |
| `GRU` | `gru` | the gates (z, r, h) are (r, z, n) here; the rows of its bias are b_x and b_h |
| `GRU(reset_after=False)` | `gru_reset_before` | the gates as above; one bias |
| `LSTM` | `lstm` | nothing: its gates (i, f, c, o) are (i, f, g, o) here |

Only what takes or makes a layer imports `keras`, on whatever backend; weights are lists of arrays
in Keras's order. No file is opened here: `keras.saving.load_model(path)` reads a `.keras` archive.

What is not weights is left behind: `dropout` and `recurrent_dropout` act while training only
(`dropout_masks` of `scan_deep`, `rnnjax.layers.recurrent_dropout`), `unit_forget_bias` where
training begins; `stateful` is the carry that `scan_deep` takes and returns, `return_sequences` and
`return_state` what is returned of it. A mask is `lengths` where rows are padded at the end; past a
row's length our outputs are zero, those of Keras with `zero_output_for_mask=True` alone.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnnjax.interop.cells import (
    Arrays,
    Cell,
    cells_of_layers,
    network_of_cells,
    read_cell,
    reorder_gates,
    write_cell,
)
from rnnjax.interop.network import Network
from rnnjax.layers.bidirectional import (
    Merge,
    add,
    average,
    concatenate,
    multiply,
)
from rnnjax.layers.deep import Layer
from rnnjax.recurrences.elman import ElmanParams, elman, elman_relu
from rnnjax.recurrences.gru import GRUParams, gru
from rnnjax.recurrences.gru_reset_before import GRUResetBeforeParams, gru_reset_before
from rnnjax.recurrences.lstm import LSTMParams, lstm
from rnnjax.recurrences.protocol import Params, Recurrence

_MERGES: dict[str, Merge] = {
    "concat": concatenate,
    "sum": add,
    "ave": average,
    "mul": multiply,
}


def from_keras(layer: Any, *, reverse: bool = False) -> Network:
    """The network that computes what a layer of Keras does, outside training.

    A `SimpleRNN`, `GRU` or `LSTM`, a cell of one, or an `RNN` of it is one layer; an `RNN` of
    several cells has a layer for each, as have `StackedRNNCells`; a `Bidirectional` is one layer,
    and a `Sequential` of those has a layer for each. The weights are copied.

    `scan_deep(*network, xs)` takes xs `(T, B, I)`, and its outputs are those of all steps.

    Args:
        layer: Built, so that it has weights.
        reverse: Say True of a single layer that was made with `go_backwards=True`: the network then
            computes the same as `scan_deep(*network, xs, reverse=True)`, outputs in the order of
            the inputs, where Keras's are in that of running.

    Returns:
        The layers and parameters, in the dtype of the weights. Missing biases are zero.

    Raises:
        TypeError: It is no such layer, or its weights are not of one floating dtype.
        ValueError: It has no weights yet, an activation that no recurrence has here, no merge of
            its directions, or another direction than `reverse` says; or its weights are float64
            while `jax_enable_x64` is off.
        ImportError: Keras is not installed.
    """
    keras = _keras("from_keras")
    if not isinstance(layer, keras.layers.Layer):
        raise TypeError(f"layer: got {type(layer).__name__}, expected a layer of Keras")
    if not layer.built:
        raise ValueError(
            f"layer: got {layer.name!r} without weights, expected one that is built: call it, or "
            "its build((None, None, I))"
        )
    parts = _parts("layer", keras.saving.serialize_keras_object(layer))
    weights = [keras.ops.convert_to_numpy(weight.value) for weight in layer.weights]
    return _network("layer", parts, weights, reverse)


def from_keras_weights(
    kind: str,
    weights: Sequence[Any],
    *,
    activation: str = "tanh",
    reset_after: bool = True,
    merge_mode: str | None = None,
) -> Network:
    """The network of one layer whose weights these are; Keras is not needed.

    Args:
        kind: The class of the layer: "SimpleRNN", "GRU" or "LSTM".
        weights: What `layer.get_weights()` returns: the kernel `(I, G H)`, the recurrent kernel
            `(H, G H)` and, unless it was made with `use_bias=False`, the bias `(G H,)`, `(2, 3H)`
            of a `GRU` with `reset_after`. Of a `Bidirectional` those of the forward layer, then
            those of the backward layer.
        activation: Of a `SimpleRNN`, "tanh" or "relu".
        reset_after: Of a `GRU`, as it was made.
        merge_mode: Of a `Bidirectional`, "concat", "sum", "ave" or "mul"; None for one direction.

    Raises:
        TypeError: The weights are no sequence, or not arrays of one floating dtype.
        ValueError: The kind, the activation or the merge mode is unknown, there are more or fewer
            arrays, a shape is wrong, or they are float64 while `jax_enable_x64` is off.
    """
    if kind not in _KINDS:
        raise ValueError(f"kind: got {kind!r}, expected one of {', '.join(_KINDS)}")
    if merge_mode is not None and merge_mode not in _MERGES:
        raise ValueError(f"merge_mode: got {merge_mode!r}, expected one of {', '.join(_MERGES)}")
    if not isinstance(weights, Sequence) or isinstance(weights, str | bytes):
        raise TypeError(
            f"weights: got {type(weights).__name__}, expected a list of arrays, as "
            "layer.get_weights() returns"
        )
    count = len(weights) if merge_mode is None else len(weights) // 2
    config = {
        "activation": activation,
        "recurrent_activation": "sigmoid",
        "reset_after": reset_after,
        "use_bias": count != 2,
        "go_backwards": False,
    }
    description = {"module": "keras.layers", "class_name": kind, "config": config}
    if merge_mode is not None:
        backward = description | {"config": config | {"go_backwards": True}}
        config = {"layer": description, "backward_layer": backward, "merge_mode": merge_mode}
        description = {"module": "keras.layers", "class_name": "Bidirectional", "config": config}
    return _network("weights", _parts("weights", description), weights, reverse=False)


def to_keras(network: Network, *, reverse: bool = False) -> Any:
    """A layer of Keras that computes what the network does, or a `Sequential` of several.

    It is built, returns the outputs of all steps, zero where they are masked, and has no dropout.
    Python's random state, of which Keras takes its seeds, is left alone.

    Args:
        network: Layers of `elman`, `elman_relu`, `gru`, `gru_reset_before` and `lstm`, in one
            direction or in both, then of one hidden size.
        reverse: Whether it is to go backwards, of one layer in one direction. Keras returns the
            outputs in the order of running.

    Raises:
        TypeError: It is no `Network`.
        ValueError: A layer of Keras cannot hold it; the text says where and why.
        ImportError: Keras is not installed.
    """
    keras = _keras("to_keras")
    described, weights = _written(network)
    if reverse and (len(described) > 1 or len(described[0]) > 1):
        raise ValueError("reverse: got True, expected False unless of one layer in one direction")

    before = random.getstate()
    try:
        layers = [
            _layer_of_keras(keras, layer, directions, reverse)
            for layer, directions in zip(network.layers, described, strict=True)
        ]
        module = layers[0] if len(layers) == 1 else keras.Sequential(layers)
        module.build((None, None, weights[0].shape[0]))
    finally:
        random.setstate(before)
    module.set_weights(weights)
    return module


def to_keras_weights(network: Network) -> list[np.ndarray]:
    """The network's weights in Keras's order, for `set_weights`; Keras is not needed.

    They are those of a layer, of a `Sequential` of layers, or of an `RNN` of several cells, each
    with a bias.

    Args:
        network: As in `to_keras`.

    Raises:
        TypeError: It is no `Network`.
        ValueError: Layers of Keras cannot hold it; the text says where and why.
    """
    return _written(network)[1]


def _keras(function: str) -> Any:
    try:
        import keras  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            f"rnnjax.interop.keras.{function} needs Keras 3: pip install keras"
        ) from error
    return keras


class _Direction(NamedTuple):
    """One cell of Keras."""

    name: str  # what an error calls it
    cell: Cell
    keys: tuple[str, ...]  # its arrays, in order
    backwards: bool


class _Part(NamedTuple):
    """One layer: a cell, or two and their merge."""

    directions: tuple[_Direction, ...]
    merge: Merge = concatenate


def _parts(name: str, description: Mapping[str, Any]) -> list[_Part]:
    """The layers of what Keras describes so, in the form of its own JSON, bottom first."""
    kind, config = description["class_name"], description["config"]
    if description["module"] not in ("keras", "keras.layers"):
        kind = f"{description['module']}.{kind}"
    if kind == "Sequential":
        return _parts_of_sequential(name, config)
    if kind == "Bidirectional":
        return [_bidirectional(name, config)]
    backwards = bool(config.get("go_backwards", False))
    cells = {name: description}
    if kind == "RNN":
        cells = {f"{name}.cell": config["cell"]}
        kind, config = config["cell"]["class_name"], config["cell"]["config"]
    if kind == "StackedRNNCells":
        cells = {f"{name}.cells[{index}]": cell for index, cell in enumerate(config["cells"])}
    return [_Part((_direction(where, cell, backwards),)) for where, cell in cells.items()]


def _parts_of_sequential(name: str, config: Mapping[str, Any]) -> list[_Part]:
    parts = [
        _parts(f"{name}.layers[{index}]", description)
        for index, description in enumerate(
            description
            for description in config["layers"]
            if description["class_name"] not in ("InputLayer", "Dropout")
        )
    ]
    if not parts:
        raise ValueError(f"{name}: got no recurrent layer, expected at least one")
    for of_layer in parts:
        if len(parts) > 1 and of_layer[0].directions[0].backwards:
            raise ValueError(
                f"{of_layer[0].directions[0].name}: got go_backwards=True beside other layers, "
                "expected False: the layers above it run over outputs in reverse order"
            )
    return [part for of_layer in parts for part in of_layer]


def _bidirectional(name: str, config: Mapping[str, Any]) -> _Part:
    directions = []
    for way, key in (("forward", "layer"), ("backward", "backward_layer")):
        parts = _parts(f"{name}.{way}", config[key])
        if len(parts) != 1 or len(parts[0].directions) != 1:
            raise ValueError(f"{name}.{way}: got {len(parts)} layers, expected one in a direction")
        directions.extend(parts[0].directions)
    if directions[0].backwards:
        raise ValueError(f"{name}.forward: got go_backwards=True, expected False")
    if config["merge_mode"] not in _MERGES:
        raise ValueError(
            f"{name}: got merge_mode {config['merge_mode']!r}, expected {', '.join(_MERGES)}"
        )
    return _Part(tuple(directions), _MERGES[config["merge_mode"]])


def _direction(name: str, description: Mapping[str, Any], backwards: bool) -> _Direction:
    config = description["config"]
    kind = description["class_name"].removesuffix("Cell")
    if kind not in _KINDS or description["module"] != "keras.layers":
        raise TypeError(
            f"{name}: got {description['module']}.{description['class_name']}, expected "
            f"{', '.join(_KINDS)}, RNN of their cells, Bidirectional, or Sequential of those"
        )
    recurrences = _recurrences(kind, config)
    activation = config["activation"]
    if activation not in tuple(recurrences):  # of a function of the user it is a dict
        raise ValueError(
            f"{name}: got activation {activation!r}, expected {' or '.join(recurrences)} in {kind}"
        )
    if kind != "SimpleRNN" and config["recurrent_activation"] != "sigmoid":
        raise ValueError(
            f"{name}: got recurrent_activation {config['recurrent_activation']!r}, expected sigmoid"
        )
    cell = _CELLS[recurrences[activation].name]
    keys = tuple(key for key in cell.shapes if config["use_bias"] or key != "bias")
    return _Direction(name, cell, keys, backwards)


def _recurrences(kind: str, config: Mapping[str, Any]) -> dict[str, Recurrence]:
    """What a layer of this kind computes, by its activation."""
    if kind == "SimpleRNN":
        return {"tanh": elman, "relu": elman_relu}
    if kind == "GRU":
        return {"tanh": gru if config["reset_after"] else gru_reset_before}
    return {"tanh": lstm}


def _network(name: str, parts: list[_Part], weights: Sequence[Any], reverse: bool) -> Network:
    directions = [direction for part in parts for direction in part.directions]
    for direction in directions[:1]:
        if direction.backwards != reverse:
            raise ValueError(
                f"{direction.name}: got go_backwards={direction.backwards}, expected {reverse}; "
                "one that goes backwards is read with reverse=True and run with reverse=True"
            )
    count = sum(len(direction.keys) for direction in directions)
    if len(weights) != count:
        keys = ", ".join(f"{d.name}.{key}" for d in directions for key in d.keys)
        raise ValueError(f"{name}: got {len(weights)} arrays of weights, expected {count}: {keys}")
    remaining = iter(weights)

    def read(direction: _Direction) -> tuple[Cell, Params]:
        values = {key: next(remaining) for key in direction.keys}
        return direction.cell, read_cell(direction.name, direction.cell, values)

    read_parts = [
        ([read(direction) for direction in part.directions], part.merge) for part in parts
    ]
    return network_of_cells(name, read_parts)


def _written(
    network: Network,
) -> tuple[list[tuple[tuple[Cell, str, Params], ...]], list[np.ndarray]]:
    """The cells of each layer, and all their arrays in order."""
    described = cells_of_layers("network", _CELLS, network)
    for index, (layer, directions) in enumerate(zip(network.layers, described, strict=True)):
        if len(directions) == 2:
            sizes = {params.w_h.shape[0] for _, _, params in directions}
            if len(sizes) != 1:
                raise ValueError(
                    f"network.{index}: got directions of {' and '.join(map(str, sorted(sizes)))} "
                    "units, expected as many in both"
                )
            _merge_mode(f"network.{index}", layer.merge)
    return described, [
        array
        for directions in described
        for cell, name, params in directions
        for array in write_cell(name, cell, params).values()
    ]


def _layer_of_keras(
    keras: Any, layer: Layer, directions: tuple[tuple[Cell, str, Params], ...], reverse: bool
) -> Any:
    built = []
    for index, (cell, _, params) in enumerate(directions):
        options = _OPTIONS.get(cell.recurrence, {})
        if params.w_h.dtype.itemsize < 4:
            # Building draws, and orthogonal weights cannot be drawn in half precision.
            options = options | {"recurrent_initializer": "glorot_uniform"}
        built.append(
            getattr(keras.layers, cell.kind)(
                params.w_h.shape[0],
                return_sequences=True,
                zero_output_for_mask=True,
                go_backwards=reverse or index == 1,
                dtype=params.w_h.dtype.name,
                **options,
            )
        )
    if len(built) == 1:
        return built[0]
    forward, backward = built
    return keras.layers.Bidirectional(
        forward,
        merge_mode=_merge_mode("network", layer.merge),
        backward_layer=backward,
        dtype=forward.dtype_policy,
    )


def _merge_mode(name: str, merge: Merge) -> str:
    for mode, ours in _MERGES.items():
        if merge is ours:
            return mode
    names = ", ".join(ours.__name__ for ours in _MERGES.values())
    raise ValueError(f"{name}: got the merge {merge!r}, expected one of {names}")


def _cell(
    kind: str, recurrence: Recurrence, record: Callable[..., Params], theirs: str, ours: str
) -> Cell:
    """A cell with its gates in these orders; that with reset after the product has two biases."""
    stacked = f"{len(ours)}H"
    two_biases = record is GRUParams
    shapes = {
        "kernel": ("I", stacked),
        "recurrent_kernel": ("H", stacked),
        "bias": ("2", stacked) if two_biases else (stacked,),
    }

    def read(_: str, arrays: Arrays) -> Arrays:
        w_x, w_h, bias = (reorder_gates(arrays[key], theirs, ours) for key in shapes)
        biases = {"b_x": bias[0], "b_h": bias[1]} if two_biases else {"b": bias}
        return {"w_x": w_x, "w_h": w_h} | biases

    def write(_: str, fields: Arrays) -> Arrays:
        bias = np.stack([fields["b_x"], fields["b_h"]]) if two_biases else fields["b"]
        arrays = {"kernel": fields["w_x"], "recurrent_kernel": fields["w_h"], "bias": bias}
        return {key: reorder_gates(array, ours, theirs) for key, array in arrays.items()}

    return Cell(kind, recurrence, record, shapes, read, write, optional=("bias",))


_KINDS = ("SimpleRNN", "GRU", "LSTM")
_CELLS = {
    cell.recurrence.name: cell
    for cell in (
        _cell("SimpleRNN", elman, ElmanParams, "h", "h"),
        _cell("SimpleRNN", elman_relu, ElmanParams, "h", "h"),
        _cell("GRU", gru, GRUParams, "zrn", "rzn"),
        _cell("GRU", gru_reset_before, GRUResetBeforeParams, "zrn", "rzn"),
        _cell("LSTM", lstm, LSTMParams, "ifgo", "ifgo"),
    )
}
# What makes a layer of its kind compute the recurrence, where that is not the default.
_OPTIONS = {elman_relu: {"activation": "relu"}, gru_reset_before: {"reset_after": False}}
