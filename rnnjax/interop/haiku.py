"""Weights from and to the recurrent cores of Haiku.

| core | here | what is folded |
| --- | --- | --- |
| `VanillaRNN` | `elman_relu` | its two biases are one |
| `GRU` | `gru_reset_before` | (z, r, a) are (r, z, n); z is 1 − ours, its weights change sign |
| `LSTM` | `lstm` | (i, g, f, o) are (i, f, g, o); the 1 that it adds to f is in our bias |
| `Conv1DLSTM`, `Conv2DLSTM` | `conv_lstm_1d`, `conv_lstm_2d` | as the LSTM; two biases are one |

A module of Haiku is nothing outside of `hk.transform`: what there is are its parameters, arrays by
the path of a module and by name. So Haiku is needed for none of this.

Haiku returns `(y, state)`, and has time first unless told otherwise. Its states are ours: h, and
`LSTMState(hidden, cell)` is (h, c).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnnjax.interop.cells import (
    Arrays,
    Cell,
    cells_of_layers,
    network_of_cells,
    read_cell,
    reorder_gates,
    split_gates,
    stack_gates,
    write_cell,
)
from rnnjax.interop.conv_lstm import conv_lstm_cell, one
from rnnjax.interop.network import Network
from rnnjax.layers.bidirectional import concatenate
from rnnjax.recurrences.elman import ElmanParams, elman_relu
from rnnjax.recurrences.gru_reset_before import GRUResetBeforeParams, gru_reset_before
from rnnjax.recurrences.lstm import LSTMParams, lstm


def from_haiku_params(
    cores: Mapping[str, str],
    params: Mapping[str, Mapping[str, Any]],
    *,
    spatial_shape: tuple[int, ...] | None = None,
) -> Network:
    """The network that computes what cores of Haiku do, one upon the other as in `hk.DeepRNN`.

    Args:
        cores: What they are, by the path of each, bottom first: `{"lstm": "LSTM", "gru": "GRU"}`. A
            path is what comes before "/linear" or stands alone in the parameters, a kind the class.
        params: What `init` of `hk.transform` returned. Other modules of the model are passed over.
        spatial_shape: *S of images, for convolutional LSTMs, whose kernels are odd and square.

    Returns:
        The layers and parameters, in the dtype of the weights. A missing second bias is zero.

    Raises:
        TypeError: The parameters are no mapping of mappings, or not arrays of one floating dtype.
        ValueError: A kind is unknown, an array is missing or unknown, a shape is wrong, or the
            weights are float64 while `jax_enable_x64` is off.
    """
    _check_cores(cores)
    if not isinstance(params, Mapping):
        raise TypeError(f"params: got {type(params).__name__}, expected a mapping of modules")
    parts = []
    for path, kind in cores.items():
        cell = _CELLS[kind]
        if kind in _CONV_AXES:
            cell = conv_lstm_cell(kind, _CONV_AXES[kind], _CONV_NAMES, spatial_shape)
        record = read_cell(f"params.{path}", cell, _arrays_of(path, params))
        parts.append(([(cell, record)], concatenate))
    return network_of_cells("params", parts)


def to_haiku_params(cores: Mapping[str, str], network: Network) -> dict[str, dict[str, np.ndarray]]:
    """The network's weights by Haiku's names, for `apply` of `hk.transform`.

    Where there are two biases, all of ours is the first, and the second is zero.

    Args:
        cores: As in `from_haiku_params`, one for each layer.
        network: Layers of `elman_relu`, `gru_reset_before`, `lstm`, and of `conv_lstm_1d` and
            `conv_lstm_2d` without peepholes, all in one direction.

    Raises:
        TypeError: It is no `Network`.
        ValueError: A kind is unknown, or cores of Haiku cannot hold it; the text says why.
    """
    _check_cores(cores)
    by_name = {cell.recurrence.name: cell for cell in _CELLS.values()}
    described = cells_of_layers("network", by_name, network)
    if len(described) != len(cores):
        raise ValueError(f"cores: got {len(cores)}, expected {len(described)}, one for each layer")
    written: dict[str, dict[str, np.ndarray]] = {}
    for (path, kind), directions in zip(cores.items(), described, strict=True):
        cell, name, params = directions[0]
        if len(directions) != 1:
            raise ValueError(f"{name}: got two directions, expected one")
        if cell.kind != kind:
            raise ValueError(
                f"cores: got {kind} at {path!r}, expected {cell.kind} for {cell.recurrence.name}"
            )
        for key, array in write_cell(name, cell, params).items():
            *module, of_array = key.split(".")
            written.setdefault("/".join([path, *module]), {})[of_array] = array
    return written


def _check_cores(cores: Mapping[str, str]) -> None:
    if not isinstance(cores, Mapping) or not cores:
        raise ValueError(f"cores: got {cores!r}, expected kinds by path, such as {{'gru': 'GRU'}}")
    for path, kind in cores.items():
        if kind not in _CELLS:
            raise ValueError(f"cores: got {kind!r} at {path!r}, expected {', '.join(_CELLS)}")


def _arrays_of(path: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of a core and of the modules within it, by names such as "linear.w"."""
    values: dict[str, Any] = {}
    for module, arrays in params.items():
        if module != path and not module.startswith(f"{path}/"):
            continue
        if not isinstance(arrays, Mapping):
            raise TypeError(f"params.{module}: got {type(arrays).__name__}, expected a mapping")
        within = module.removeprefix(path).strip("/").replace("/", ".")
        values |= {f"{within}.{name}".lstrip("."): array for name, array in arrays.items()}
    if not values:
        raise ValueError(f"params: got no module {path!r}, expected one among {', '.join(params)}")
    return values


def _vanilla() -> Cell:
    shapes = {"linear.w": ("I", "H"), "linear.b": ("H",)}
    shapes |= {"linear_1.w": ("H", "H"), "linear_1.b": ("H",)}

    def read(_: str, arrays: Arrays) -> Arrays:
        return {
            "w_x": arrays["linear.w"],
            "w_h": arrays["linear_1.w"],
            "b": arrays["linear.b"] + arrays["linear_1.b"],
        }

    def write(_: str, fields: Arrays) -> Arrays:
        return {
            "linear.w": fields["w_x"],
            "linear.b": fields["b"],
            "linear_1.w": fields["w_h"],
            "linear_1.b": np.zeros_like(fields["b"]),
        }

    return Cell(
        "VanillaRNN", elman_relu, ElmanParams, shapes, read, write, optional=("linear_1.b",)
    )


def _gru() -> Cell:
    fields_of = {"w_i": "w_x", "w_h": "w_h", "b": "b"}

    def read(_: str, arrays: Arrays) -> Arrays:
        fields = {}
        for key, field in fields_of.items():
            gates = split_gates(arrays[key], "zrn")
            fields[field] = stack_gates(gates | {"z": -gates["z"]}, "rzn")
        return fields

    def write(_: str, fields: Arrays) -> Arrays:
        arrays = {}
        for key, field in fields_of.items():
            gates = split_gates(fields[field], "rzn")
            arrays[key] = stack_gates(gates | {"z": -gates["z"]}, "zrn")
        return arrays

    shapes = {"w_i": ("I", "3H"), "w_h": ("H", "3H"), "b": ("3H",)}
    return Cell("GRU", gru_reset_before, GRUResetBeforeParams, shapes, read, write)


def _lstm() -> Cell:
    def read(name: str, arrays: Arrays) -> Arrays:
        hidden_size = arrays["linear.b"].shape[0] // 4
        w = reorder_gates(arrays["linear.w"], "igfo", "ifgo")
        if len(w) <= hidden_size:
            raise ValueError(
                f"{name}.linear.w: got {len(w)} rows, expected I + H with H = {hidden_size}"
            )
        b = split_gates(arrays["linear.b"], "igfo")
        b["f"] = b["f"] + one(b["f"])
        return {"w_x": w[:-hidden_size], "w_h": w[-hidden_size:], "b": stack_gates(b, "ifgo")}

    def write(_: str, fields: Arrays) -> Arrays:
        b = split_gates(fields["b"], "ifgo")
        b["f"] = b["f"] - one(b["f"])
        w = np.concatenate([fields["w_x"], fields["w_h"]])
        return {"linear.w": reorder_gates(w, "ifgo", "igfo"), "linear.b": stack_gates(b, "igfo")}

    # One kernel for inputs and state, side by side: R is I + H.
    shapes = {"linear.b": ("4H",), "linear.w": ("R", "4H")}
    return Cell("LSTM", lstm, LSTMParams, shapes, read, write)


_CONV_AXES = {"Conv1DLSTM": 1, "Conv2DLSTM": 2}
_CONV_NAMES = (
    "input_to_hidden.w",
    "input_to_hidden.b",
    "hidden_to_hidden.w",
    "hidden_to_hidden.b",
)
_CELLS = {
    cell.kind: cell
    for cell in (
        _vanilla(),
        _gru(),
        _lstm(),
        *(conv_lstm_cell(kind, axes, _CONV_NAMES) for kind, axes in _CONV_AXES.items()),
    )
}
