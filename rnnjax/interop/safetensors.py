"""Parameters in safetensors files: arrays beside a header of JSON, of which nothing is executed.

A file of `save` says by itself what it holds, so `load` needs nothing else. Any program that reads
safetensors reads its arrays, by names such as `layers.0.forward.w_x`; its metadata is:

- `format`: "rnnjax", and `format_version`: "1";
- `structure`: JSON, what the arrays are put together to. It names recurrences of the registry and
  records of a fixed table, never anything to import or to call.

`read_tensors` and `write_tensors` are for files of others, such as a state dict of PyTorch.
"""

import dataclasses
import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import Array

from rnnjax.interop.network import Network, check_network
from rnnjax.layers import bidirectional
from rnnjax.layers.attention import AdditiveAttentionParams, GeneralAttentionParams
from rnnjax.layers.bidirectional import BidirectionalParams
from rnnjax.layers.deep import Layer
from rnnjax.layers.dense import DenseParams
from rnnjax.layers.embedding import EmbeddingParams
from rnnjax.layers.layer_norm import LayerNormParams
from rnnjax.models.language_model import LanguageModelConfig, LanguageModelParams
from rnnjax.recurrences import REGISTRY
from rnnjax.recurrences.conv_lstm import ConvLSTMParams
from rnnjax.recurrences.elman import ElmanParams
from rnnjax.recurrences.gated_diagonal import GatedDiagonalParams
from rnnjax.recurrences.gru import GRUParams
from rnnjax.recurrences.gru_layer_norm import GRULayerNormParams
from rnnjax.recurrences.gru_reset_before import GRUResetBeforeParams
from rnnjax.recurrences.indrnn import IndRNNParams
from rnnjax.recurrences.lru import LRUParams
from rnnjax.recurrences.lstm import LSTMParams
from rnnjax.recurrences.lstm_layer_norm import LSTMLayerNormParams
from rnnjax.recurrences.lstm_peephole import LSTMPeepholeParams
from rnnjax.recurrences.lstm_projected import LSTMProjectedParams
from rnnjax.recurrences.min_gru import MinGRUParams
from rnnjax.recurrences.min_lstm import MinLSTMParams
from rnnjax.recurrences.minimal_gru import MinimalGRUParams
from rnnjax.recurrences.mlstm import Carry as MLSTMCarry
from rnnjax.recurrences.mlstm import MLSTMParams
from rnnjax.recurrences.protocol import Recurrence
from rnnjax.recurrences.qrnn import QRNNParams
from rnnjax.recurrences.rg_lru import RGLRUParams
from rnnjax.recurrences.slstm import SLSTMCarry, SLSTMParams
from rnnjax.recurrences.sru import SRUParams
from rnnjax.recurrences.sru_linear import SRULinearParams
from rnnjax.training.files import replace_bytes

try:
    from safetensors import SafetensorError, deserialize
    from safetensors.numpy import save as serialize
except ImportError as error:
    raise ImportError(
        "rnnjax.interop.safetensors needs safetensors: pip install 'rnnjax-lib[interop]'"
    ) from error

FORMAT, VERSION = "rnnjax", "1"

# A closed list: what a file may name.
_RECORDS: dict[str, type] = {
    "MLSTMCarry": MLSTMCarry,
    **{
        record.__name__: record
        for record in (
            *(Network, Layer, BidirectionalParams),
            *(LanguageModelConfig, LanguageModelParams),
            *(AdditiveAttentionParams, GeneralAttentionParams),
            *(DenseParams, EmbeddingParams, LayerNormParams),
            *(ElmanParams, MinimalGRUParams, GRUParams, GRUResetBeforeParams),
            *(LSTMParams, LSTMPeepholeParams, LSTMProjectedParams),
            *(LSTMLayerNormParams, GRULayerNormParams, IndRNNParams, ConvLSTMParams),
            *(SLSTMParams, SLSTMCarry, MLSTMParams),
            *(GatedDiagonalParams, MinGRUParams, MinLSTMParams),
            *(SRUParams, SRULinearParams, QRNNParams, LRUParams, RGLRUParams),
        )
    },
}
_NAMES = {record: name for name, record in _RECORDS.items()}
_MERGES = {
    merge.__name__: merge
    for merge in (
        bidirectional.concatenate,
        bidirectional.add,
        bidirectional.average,
        bidirectional.multiply,
    )
}
_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
    "C64": np.complex64,
}
_STORED = {np.dtype(dtype) for dtype in _DTYPES.values()}
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def save(path: str | PathLike[str], value: Any) -> None:
    """Write parameters to a file, whole or not at all.

    The file is then the old one or the new one, never in between.

    Args:
        path: The file, by custom `*.safetensors`.
        value: A `Network` of recurrences of the registry, the parameters of a recurrence, of a
            layer or of a language model, a `LanguageModelConfig`, a carry; tuples, lists and dicts
            with string keys of them, of arrays, and of None, bool, int, float and str. Arrays are
            stored as they are, complex ones as pairs of real numbers on an axis more.

    Raises:
        TypeError: There is something else in it, such as a merge that is not of
            `rnnjax.layers.bidirectional`, or an array is traced; the text says where.
        ValueError: A recurrence is not of the registry, a network's parameters do not fit its
            layers, a number is not finite, two arrays would have one name, or one
            "__metadata__".
        OSError: The file cannot be written.
    """
    arrays: dict[str, np.ndarray] = {}
    structure = json.dumps(_described(value, (), arrays), ensure_ascii=False)
    metadata = {"format": FORMAT, "format_version": VERSION, "structure": structure}
    write_tensors(path, arrays, metadata)


def load(path: str | PathLike[str]) -> Any:
    """Read what `save` wrote: records of the same types, arrays of the same dtypes.

    Args:
        path: The file.

    Raises:
        ValueError: It is not a file of `save`, or damaged, or needs a newer version; or it holds
            64 bits while `jax_enable_x64` is off. The text names the file and what in it.
        OSError: The file cannot be read.
    """
    metadata, tensors = _read(path)
    if metadata.get("format") != FORMAT or "structure" not in metadata:
        raise ValueError(
            f"{path}: got a safetensors file of another program, expected one written by "
            "rnnjax.interop.safetensors.save; read_tensors reads any"
        )
    if metadata.get("format_version") != VERSION:
        raise ValueError(
            f"{path}: got format_version {metadata.get('format_version')!r}, expected {VERSION!r}, "
            "the one this version of rnnjax reads"
        )
    try:
        value = _built(json.loads(metadata["structure"]), tensors)
        if tensors:
            raise ValueError(
                f"got {', '.join(sorted(tensors))}, of which its structure says nothing"
            )
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from error
    return value


def read_tensors(path: str | PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of any safetensors file by name, also those of bfloat16.

    Args:
        path: The file.

    Raises:
        ValueError: It is not a safetensors file, or damaged, or has a dtype that NumPy has not.
        OSError: The file cannot be read.
    """
    return _read(path)[1]


def write_tensors(
    path: str | PathLike[str],
    tensors: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write arrays by name to a safetensors file, whole or not at all.

    Args:
        path: The file.
        tensors: Arrays of any layout in memory.
        metadata: Text to put beside them.

    Raises:
        TypeError: A value is not an array of a dtype that a file can have.
        ValueError: A name is "__metadata__".
        OSError: The file cannot be written.
    """
    stored: dict[str, np.ndarray] = {}
    for name, value in tensors.items():
        if name == "__metadata__":
            raise ValueError(
                "tensors: got the name '__metadata__', which the format keeps to itself"
            )
        # In order of the axes, for `serialize` goes by the memory and not by the strides.
        array = np.asarray(value, order="C")
        if array.dtype.newbyteorder("=") not in _STORED:
            raise TypeError(
                f"tensors[{name!r}]: got dtype {array.dtype}, expected one of "
                f"{', '.join(sorted(str(dtype) for dtype in _STORED))}"
            )
        stored[name] = array
    content = serialize(stored, None if metadata is None else dict(metadata))
    replace_bytes(Path(path), content)


def _read(path: str | PathLike[str]) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The metadata and the arrays of a safetensors file."""
    content = Path(path).read_bytes()
    try:
        entries = deserialize(content)
    except SafetensorError as error:
        if content.startswith(_PICKLES):
            raise ValueError(
                f"{path}: got a pickle, which can run code and is not opened, expected a "
                "safetensors file; save the weights as one, or give "
                "rnnjax.interop.torch.from_torch_state_dict what "
                "torch.load(path, weights_only=True) returns"
            ) from error
        raise ValueError(f"{path}: got {error}, expected a safetensors file") from error
    arrays: dict[str, np.ndarray] = {}
    for name, entry in entries:
        if entry["dtype"] not in _DTYPES:
            raise ValueError(
                f"{path}: {name}: got dtype {entry['dtype']}, expected one of {', '.join(_DTYPES)}"
            )
        array = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]])
        arrays[name] = array.reshape(entry["shape"])
    header_size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + header_size]).get("__metadata__", {}), arrays


def _described(value: Any, where: tuple[str, ...], arrays: dict[str, np.ndarray]) -> Any:
    """What the value is, as JSON; its arrays are put into `arrays` by name."""
    name = ".".join(where)
    if value is None:
        return None
    if type(value) in (bool, int, float, str):
        if isinstance(value, float) and not np.isfinite(value):
            raise ValueError(f"value: got {value} at {name!r}, expected a finite number")
        return {"value": value}
    if isinstance(value, (Array, np.ndarray, np.generic)):
        return _described_array(value, name or "array", arrays)
    if isinstance(value, Recurrence):
        if REGISTRY.get(value.name) is not value:
            raise ValueError(
                f"value: got {value!r} at {name!r}, expected a recurrence of "
                "rnnjax.recurrences.REGISTRY; save the parameters alone"
            )
        return {"recurrence": value.name}
    if any(value is merge for merge in _MERGES.values()):
        return {"merge": value.__name__}
    if type(value) in _NAMES:
        # The arrays of layer 0 are `layers.0…` in a network as they are in a language model.
        renamed = {"params": "layers"} if isinstance(value, Network) else {}
        if isinstance(value, Network):
            check_network(".".join((*where, "layers")), value)
        fields = {
            field: _described(getattr(value, field), (*where, renamed.get(field, field)), arrays)
            for field in _field_names(type(value))
        }
        return {"record": {"name": _NAMES[type(value)], "fields": fields}}
    if type(value) in (tuple, list):
        items = [_described(item, (*where, str(i)), arrays) for i, item in enumerate(value)]
        return {type(value).__name__: items}
    if type(value) is dict and all(isinstance(key, str) for key in value):
        return {
            "dict": {key: _described(item, (*where, key), arrays) for key, item in value.items()}
        }
    raise TypeError(
        f"value: got {type(value).__name__} at {name!r}, expected arrays, parameters of rnnjax, or "
        "tuples, lists and dicts of them; a record of your own can be saved as a dict"
    )


def _described_array(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"value: got a traced array at {name!r}, expected values: save outside jit")
    if name in arrays:
        raise ValueError(f"value: got two arrays named {name!r}, expected dict keys without a dot")
    if jnp.issubdtype(value.dtype, jax.dtypes.extended):
        raise TypeError(f"value: got dtype {value.dtype} at {name!r}, expected numbers")
    array = np.asarray(value)
    if np.iscomplexobj(array):
        arrays[name] = np.stack([np.real(array), np.imag(array)], axis=-1)
        return {"complex": name}
    if array.dtype not in _STORED:
        raise TypeError(f"value: got dtype {array.dtype} at {name!r}, expected numbers")
    arrays[name] = array
    return {"array": name}


def _built(node: Any, tensors: dict[str, np.ndarray]) -> Any:
    """What `_described` was given; each array is taken out of `tensors`."""
    if node is None:
        return None
    if not isinstance(node, dict) or len(node) != 1:
        raise ValueError(f"structure: got {node!r}, expected null or an object of one entry")
    match next(iter(node.items())):
        case "value", bool() | int() | float() | str() as value:
            return value
        case "array", str(name):
            return _array(name, _taken(name, tensors))
        case "complex", str(name):
            pairs = np.ascontiguousarray(_taken(name, tensors))
            if pairs.dtype not in (np.float32, np.float64) or pairs.shape[-1:] != (2,):
                raise ValueError(
                    f"{name}: got {pairs.dtype} of shape {pairs.shape}, expected pairs of numbers"
                )
            return _array(name, pairs.view(f"c{2 * pairs.itemsize}")[..., 0])
        case "recurrence", str(name):
            return _of_table("recurrence", name, REGISTRY)
        case "merge", str(name):
            return _of_table("merge", name, _MERGES)
        case "record", {"name": str(name), "fields": dict(fields)}:
            return _record(name, {field: _built(part, tensors) for field, part in fields.items()})
        case "tuple", list(items):
            return tuple(_built(item, tensors) for item in items)
        case "list", list(items):
            return [_built(item, tensors) for item in items]
        case "dict", dict(items):
            return {key: _built(item, tensors) for key, item in items.items()}
        case kind, _:
            raise ValueError(f"structure: got an entry {kind!r} that is not known, or not so")


def _taken(name: str, tensors: dict[str, np.ndarray]) -> np.ndarray:
    if name not in tensors:
        raise ValueError(f"{name}: got no such array, expected each one of the structure once")
    return tensors.pop(name)


def _array(name: str, array: np.ndarray) -> Array:
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        raise ValueError(f"{name}: got {array.dtype} while jax_enable_x64 is off, expected it on")
    return jnp.asarray(array)


def _of_table(what: str, name: str, table: Mapping[str, Any]) -> Any:
    if name not in table:
        raise ValueError(f"{what}: got {name!r}, expected one of {', '.join(table)}")
    return table[name]


def _record(name: str, fields: dict[str, Any]) -> Any:
    record = _of_table("record", name, _RECORDS)
    expected = _field_names(record)
    if set(fields) != set(expected):
        raise ValueError(
            f"{name}: got the fields {', '.join(fields)}, expected {', '.join(expected)}"
        )
    value = record(**fields)
    if isinstance(value, Network):
        check_network("layers", value)
    return value


def _field_names(record: type) -> tuple[str, ...]:
    if dataclasses.is_dataclass(record):
        return tuple(field.name for field in dataclasses.fields(record))
    return record._fields  # pyright: ignore[reportAttributeAccessIssue]
