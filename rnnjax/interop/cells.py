"""What a cell of another framework is to this library: its arrays, and how they become parameters.

Frameworks stack or name the gates of a cell in ways of their own. A `Cell` says which arrays there
are, of which shapes, and which fields of our records they make.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.interop.network import Network, check_network, directions_of_layers
from rnnjax.layers.bidirectional import BidirectionalParams, Merge
from rnnjax.layers.deep import Layer
from rnnjax.recurrences.protocol import Params, Recurrence

Arrays = Mapping[str, np.ndarray]
"""Arrays by name."""


class Cell(NamedTuple):
    """A cell of another framework.

    Attributes:
        kind: What the framework calls it.
        recurrence: What it computes.
        record: The type of the recurrence's parameters.
        shapes: Its arrays in the framework's order; sizes are letters such as "I", "H" and "4H".
        read: `(name, arrays) -> fields` of the record.
        write: `(name, fields) -> arrays`; ValueError where the cell cannot hold them.
        optional: Arrays that may be missing, as zeros.
    """

    kind: str
    recurrence: Recurrence
    record: Callable[..., Params]
    shapes: Mapping[str, tuple[str, ...]]
    read: Callable[[str, Arrays], Arrays]
    write: Callable[[str, Arrays], Arrays]
    optional: tuple[str, ...] = ()


def read_cell(name: str, cell: Cell, values: Mapping[str, Any]) -> Params:
    """The parameters that the arrays of a cell make.

    Args:
        name: What an error calls the arrays; one of them is `name.key`.
        cell: What they are of.
        values: The arrays by name, or what `numpy.asarray` takes.

    Raises:
        TypeError: They are not of one floating dtype.
        ValueError: One is missing or unknown, or of a wrong shape, or they are float64 while
            `jax_enable_x64` is off.
    """
    missing = [key for key in cell.shapes if key not in values and key not in cell.optional]
    unknown = [str(key) for key in values if key not in cell.shapes]
    if missing or unknown:
        got = f"got no {', '.join(missing)}" if missing else f"got {', '.join(unknown)}"
        raise ValueError(
            f"{name}: {got}, expected the arrays of {cell.kind}: {', '.join(cell.shapes)}"
        )
    arrays = {key: np.asarray(value) for key, value in values.items()}
    for key, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(f"{name}.{key}: got dtype {array.dtype}, expected a floating dtype")
    dtypes = {array.dtype for array in arrays.values()}
    check_dtypes(name, dtypes)
    check_float64(name, dtypes)
    sizes: dict[str, int] = {}
    for key, letters in cell.shapes.items():
        if key in arrays:
            _check_shape(f"{name}.{key}", arrays[key].shape, letters, sizes, cell.kind)
    for key in cell.shapes.keys() - arrays.keys():
        shape = [_size(letter, sizes) for letter in cell.shapes[key]]
        arrays[key] = np.zeros(shape, next(iter(dtypes)))
    return cell.record(
        **{field: jnp.asarray(array) for field, array in cell.read(name, arrays).items()}
    )


def write_cell(name: str, cell: Cell, params: Params) -> dict[str, np.ndarray]:
    """The arrays of a cell that has these parameters: contiguous copies.

    Args:
        name: What an error calls the parameters.
        cell: What to write them as.
        params: Of the cell's recurrence, checked.

    Raises:
        ValueError: The cell cannot hold them.
    """
    fields = {field: np.asarray(array) for field, array in params._asdict().items()}
    written = cell.write(name, fields)
    return {key: np.array(written[key], order="C") for key in cell.shapes}


def cell_of_one_layer(
    name: str, cells: Mapping[str, Cell], network: Network
) -> tuple[Cell, str, Params]:
    """The cell of a network of one layer in one direction, which of these it can be.

    Args:
        name: What an error calls the network.
        cells: By the name of their recurrence.
        network: To look at.

    Raises:
        TypeError: It is no `Network`.
        ValueError: It is not a network of one such layer.
    """
    directions = cells_of_layers(name, cells, network)
    if len(directions) != 1 or len(directions[0]) != 1:
        raise ValueError(
            f"{name}: got {len(directions)} layers in {len(directions[0])} directions, "
            "expected one layer in one direction"
        )
    return directions[0][0]


def cells_of_layers(
    name: str, cells: Mapping[str, Cell], network: Network
) -> list[tuple[tuple[Cell, str, Params], ...]]:
    """Of each layer, one or both directions: its cell, what an error calls it, its parameters.

    Raises:
        TypeError: It is no `Network`.
        ValueError: Its parameters do not fit, a layer is residual, or its recurrence has no cell.
    """
    check_network(name, network)
    for index, layer in enumerate(network.layers):
        if layer.residual:
            raise ValueError(f"{name}.{index}: got a residual connection, expected none")
    described = []
    for directions in directions_of_layers(name, network):
        for where, recurrence, _ in directions:
            cell = cells.get(recurrence.name)
            if cell is None or cell.recurrence is not recurrence:
                raise ValueError(
                    f"{where}: got {recurrence.name}, expected one of {', '.join(cells)}"
                )
        described.append(
            tuple(
                (cells[recurrence.name], where, params) for where, recurrence, params in directions
            )
        )
    return described


def network_of_cells(
    name: str, parts: Sequence[tuple[Sequence[tuple[Cell, Params]], Merge]]
) -> Network:
    """The network of cells that were read.

    Args:
        name: What an error calls all of their arrays.
        parts: Of each layer, bottom first, one cell or two, with parameters, and their merge.

    Raises:
        TypeError: The parameters are not of one dtype.
    """
    layers, records = [], []
    for cells, merge in parts:
        layers.append(Layer(*(cell.recurrence for cell, _ in cells), merge=merge))
        of_cells = [params for _, params in cells]
        records.append(BidirectionalParams(*of_cells) if len(of_cells) == 2 else of_cells[0])
    check_dtypes(name, {leaf.dtype for leaf in jax.tree.leaves(records)})
    return Network(tuple(layers), tuple(records))


def check_dtypes(name: str, dtypes: set[Any]) -> None:
    """Raise TypeError unless this is one floating dtype."""
    if len(dtypes) != 1 or not all(jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes):
        names = ", ".join(sorted(str(dtype) for dtype in dtypes))
        raise TypeError(f"{name}: got arrays of {names}, expected one floating dtype for all")


def check_float64(name: str, dtypes: set[Any]) -> None:
    """Raise ValueError if one is float64 and JAX has none."""
    if np.dtype(np.float64) in dtypes and not jax.config.read("jax_enable_x64"):
        raise ValueError(
            f"{name}: got float64 while jax_enable_x64 is off, expected it on, or float32"
        )


def split_gates(array: np.ndarray, letters: str) -> dict[str, np.ndarray]:
    """`(..., G H)` to one block `(..., H)` for each gate, named by the letters in this order."""
    return dict(zip(letters, np.split(array, len(letters), axis=-1), strict=True))


def stack_gates(gates: Mapping[str, np.ndarray], letters: str) -> np.ndarray:
    """Blocks `(..., H)` of gates to `(..., G H)`, in the order of the letters."""
    return np.concatenate([gates[letter] for letter in letters], axis=-1)


def reorder_gates(array: np.ndarray, have: str, want: str) -> np.ndarray:
    """`(..., G H)` with its blocks in another order: "zrn" to "rzn"."""
    return stack_gates(split_gates(array, have), want)


def _check_shape(
    name: str, shape: tuple[int, ...], letters: tuple[str, ...], sizes: dict[str, int], kind: str
) -> None:
    """The first array with a letter says what it stands for in those that follow."""
    fits = len(shape) == len(letters) and 0 not in shape
    for size, letter in zip(shape, letters, strict=False):
        factor, rest = _factor(letter)
        if rest and size % factor == 0:
            sizes.setdefault(rest, size // factor)
        fits = fits and size == (factor if not rest else sizes.get(rest, 0) * factor)
    if not fits:
        known = ", ".join(f"{letter} = {size}" for letter, size in sizes.items())
        raise ValueError(
            f"{name}: got shape {shape}, expected ({', '.join(letters)}) in {kind} with {known}"
        )


def _size(letter: str, sizes: Mapping[str, int]) -> int:
    factor, rest = _factor(letter)
    return factor * sizes[rest] if rest else factor


def _factor(letter: str) -> tuple[int, str]:
    """The number before the letter, and the letter; "2" is a number alone."""
    rest = letter.lstrip("0123456789")
    return int(letter[: len(letter) - len(rest)] or 1), rest
