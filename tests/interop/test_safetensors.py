"""What is saved is what is loaded, and what cannot be is refused by name."""

import importlib
import pickle
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.testing as npt
import pytest
import safetensors

import rnnjax
from rnnjax.interop.network import Network
from rnnjax.interop.safetensors import load, read_tensors, save, write_tensors
from rnnjax.interop.torch import from_torch_state_dict, to_torch_state_dict
from rnnjax.layers.attention import AdditiveAttentionParams, GeneralAttentionParams
from rnnjax.layers.bidirectional import BidirectionalParams, add, average, multiply
from rnnjax.layers.deep import Layer, init_deep
from rnnjax.layers.dense import DenseParams
from rnnjax.layers.embedding import EmbeddingParams
from rnnjax.layers.layer_norm import LayerNormParams
from rnnjax.models.language_model import LanguageModelConfig, init_language_model
from rnnjax.recurrences.elman import with_activation

REGISTRY = rnnjax.recurrences.REGISTRY
ELMAN, GRU, LSTM = REGISTRY["elman"], REGISTRY["gru"], REGISTRY["lstm"]


def drawn(tree: Any) -> Any:
    """Arrays of random bits in the shapes and dtypes of a tree, NaNs and infinities too."""
    rng = np.random.default_rng(0)

    def one(leaf: Any) -> Any:
        dtype = np.dtype(leaf.dtype)
        bits = rng.integers(
            0, 2 if dtype == np.bool_ else 256, size=(*leaf.shape, dtype.itemsize), dtype=np.uint8
        )
        return jnp.asarray(bits.view(dtype)[..., 0])

    return jax.tree.map(one, tree)


def of_shapes(make: Any) -> Any:
    return drawn(jax.eval_shape(make))


def network_of(*layers: Layer, sizes: tuple[int, ...]) -> Network:
    make = lambda: init_deep(jax.random.key(0), layers, 3, sizes)  # noqa: E731
    return Network(layers, of_shapes(make))


def assert_same(actual: Any, expected: Any) -> None:
    """The same tree, the types of its nodes included, of the same bits."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        if isinstance(e, np.ndarray | jax.Array):
            assert isinstance(a, jax.Array)
            assert (a.dtype, a.shape) == (e.dtype, e.shape)
            assert np.asarray(a).tobytes() == np.asarray(e).tobytes()
        else:
            assert type(a) is type(e)
            assert a == e


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.safetensors"


def test_parameters_and_carries_of_every_recurrence(path):
    def both(recurrence: Any) -> Any:
        params = recurrence.init(jax.random.key(0), 4, 4)
        return params, recurrence.initial_carry(params, (2,))

    value = {name: of_shapes(lambda r=recurrence: both(r)) for name, recurrence in REGISTRY.items()}
    assert {leaf.dtype for leaf in jax.tree.leaves(value)} == {
        jnp.dtype("float32"),
        jnp.dtype("complex64"),
    }
    save(path, value)
    assert_same(load(path), value)


def test_parameters_of_layers(path):
    array = jnp.arange(6, dtype=jnp.float32).reshape(2, 3)
    value = [
        DenseParams(array, array[0]),
        EmbeddingParams(array),
        LayerNormParams(array[0], array[1]),
        AdditiveAttentionParams(array, array, array[0]),
        GeneralAttentionParams(array),
        BidirectionalParams(DenseParams(array, array[0]), None),
    ]
    save(path, value)
    assert_same(load(path), value)


def test_a_network_is_read_from_its_file_alone(path):
    layers = (
        Layer(LSTM, GRU, add),
        Layer(REGISTRY["elman_relu"], residual=True),
        Layer(ELMAN, ELMAN, average),
        Layer(ELMAN, ELMAN, multiply),
        Layer(LSTM, LSTM),
    )
    network = network_of(*layers, sizes=(4, 4, 4, 4, 2))
    save(path, network)
    again = load(path)
    assert isinstance(again, Network)
    assert again.layers == layers
    assert_same(again.params, network.params)


def test_a_language_model_comes_with_what_it_is_made_of(path):
    config = LanguageModelConfig(7, "gru", hidden_sizes=(3, 2), embedding_size=2, dtype="bfloat16")
    params = of_shapes(lambda: init_language_model(jax.random.key(0), config))
    save(path, (config, params))
    again, loaded = load(path)
    assert again == config
    assert_same(loaded, params)
    save(path, params)
    assert "layers.1.w_h" in read_tensors(path)


@pytest.mark.parametrize(
    "dtype",
    [
        *("float64", "float32", "float16", "bfloat16", "complex128", "complex64", "bool"),
        *("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"),
    ],
)
def test_every_dtype_keeps_its_bits(path, dtype):
    shapes = {"matrix": (2, 3), "scalar": (), "empty": (0, 2), "long": (64,)}
    value = drawn({name: jax.ShapeDtypeStruct(shape, dtype) for name, shape in shapes.items()})
    transposed = np.asarray(value["matrix"]).T
    save(path, value | {"transposed": transposed})
    assert_same(load(path), value | {"transposed": jnp.asarray(transposed)})


def test_what_is_not_an_array_is_kept_beside_the_arrays(path):
    value = {"step": 3, "rate": 0.1, "name": "Γ", "done": True, "none": None, "items": [(), {}]}
    save(path, value)
    assert load(path) == value
    save(path, jnp.ones(2))
    npt.assert_array_equal(load(path), np.ones(2))


def test_other_programs_read_the_arrays_by_name(path):
    network = network_of(Layer(LSTM, GRU), Layer(ELMAN), sizes=(4, 2))
    save(path, network)
    with safetensors.safe_open(path, framework="np") as file:
        assert file.metadata()["format"] == "rnnjax"
        assert sorted(file.keys()) == [
            *(f"layers.0.backward.{field}" for field in ("b_h", "b_x", "w_h", "w_x")),
            *(f"layers.0.forward.{field}" for field in ("b", "w_h", "w_x")),
            *(f"layers.1.{field}" for field in ("b", "w_h", "w_x")),
        ]
        w_x = file.get_tensor("layers.0.forward.w_x")
    assert w_x.tobytes() == np.asarray(network.params[0].forward.w_x).tobytes()


def test_tensors_of_any_memory_layout_keep_their_values(path):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    tensors = {
        "transposed": array.T,
        "strided": array[:, ::2, ::-1],
        "foreign endian": array.astype(">f4"),
        "bfloat16": jnp.asarray(array, jnp.bfloat16),
    }
    write_tensors(path, tensors)
    again = read_tensors(path)
    assert again.keys() == tensors.keys()
    for name, expected in tensors.items():
        npt.assert_array_equal(again[name], np.asarray(expected))


def test_a_state_dict_of_torch_goes_through_a_file(path):
    network = network_of(Layer(GRU, GRU), sizes=(4,))
    write_tensors(path, to_torch_state_dict(network), {"format": "pt"})
    assert_same(from_torch_state_dict("GRU", read_tensors(path)).params, network.params)
    with pytest.raises(ValueError, match=r"some.safetensors: got .* of another program"):
        load(path)


def test_a_file_is_the_old_one_or_the_new_one(path, monkeypatch):
    save(path, {"step": 1})

    def interrupted(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(OSError, match="no space"):
        save(path, {"step": 2})
    monkeypatch.undo()
    assert load(path) == {"step": 1}


def test_a_damaged_file_is_refused_by_name(path):
    save(path, {"params": DenseParams(jnp.ones((2, 1)), jnp.ones(1))})
    content = path.read_bytes()
    for size in range(0, len(content), 5):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"some.safetensors: got .*expected a safetensors"):
            load(path)
    loaded = named = 0
    header_end = 8 + int.from_bytes(content[:8], "little")
    for index in range(header_end):
        path.write_bytes(content[:index] + b"\x31" + content[index + 1 :])
        try:
            load(path)
            loaded += 1  # a name of a key may be another as well
        except ValueError as error:
            named += str(path) in str(error)
    assert loaded + named == header_end
    assert loaded < header_end // 10


def rewritten(path: Path, change: Any, tensors: Any = lambda tensors: tensors) -> None:
    """The file with its structure, as text, and its arrays changed."""
    with safetensors.safe_open(path, framework="np") as file:
        metadata = file.metadata()
    metadata["structure"] = change(metadata["structure"])
    write_tensors(path, tensors(read_tensors(path)), metadata)


def replaced(old: str, new: str) -> Any:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


def with_tensor(name: str, *shape: int) -> Any:
    return lambda tensors: tensors | {name: np.ones(shape, np.float32)}


def unchanged(value: Any) -> Any:
    return value


@pytest.mark.parametrize(
    ("structure", "tensors", "text"),
    [
        (replaced('"gru"', '"ggru"'), unchanged, "recurrence: got 'ggru', expected one of elman,"),
        (replaced('"concatenate"', '"exec"'), unchanged, "merge: got 'exec', expected one of conc"),
        (replaced("GRUParams", "os.system"), unchanged, "record: got 'os.system', expected"),
        (replaced("GRUParams", "LSTMParams"), unchanged, "LSTMParams: got the fields w_x, w_h, b_"),
        (replaced('"w_h": ', '"w_y": '), unchanged, "GRUParams: got the fields w_x, w_y"),
        (replaced('"array"', '"complex"'), unchanged, "w_x: got float32 .*expected pairs"),
        (replaced('"recurrence"', '"call"'), unchanged, "structure: got an entry 'call'"),
        (lambda text: "[1]", unchanged, r"structure: got \[1\], expected null or an object"),
        (lambda text: "{", unchanged, "Expecting property name"),
        (lambda text: '{"list":[' * 100_000, unchanged, ""),
        (unchanged, with_tensor("more", 1), "got more, of which its structure says nothing"),
        (unchanged, lambda tensors: {}, r"layers.0.forward.w_x: got no such array"),
        (
            replaced("layers.0.forward.w_h", "layers.0.forward.w_x"),
            unchanged,
            "layers.0.forward.w_x: got no such array, expected each one of the structure once",
        ),
        (
            unchanged,
            with_tensor("layers.0.backward.w_h", 4, 11),
            r"layers.0.backward: params.w_h: got shape \(4, 11\), expected \(4, 12\)",
        ),
        (
            unchanged,
            with_tensor("layers.1.w_x", 5, 2),
            r"takes inputs of shape \(5,\), exp.*\(8,\)",
        ),
        (unchanged, with_tensor("layers.1.w_x"), "layers.1: "),
        (replaced('"value": false', '"value": 0'), unchanged, r"layers: got \(Layer.*tuple of Lay"),
        (replaced('{"recurrence": "elman"}', "null"), unchanged, "layers: got .*tuple of Layers"),
    ],
)
def test_a_file_whose_parts_do_not_fit_is_refused(path, structure, tensors, text):
    save(path, network_of(Layer(GRU, GRU), Layer(ELMAN), sizes=(4, 2)))
    rewritten(path, structure, tensors)
    with pytest.raises(ValueError, match=rf"some.safetensors: .*{text}"):
        load(path)


def test_a_file_of_a_later_version_is_refused(path):
    write_tensors(path, {}, {"format": "rnnjax", "format_version": "2", "structure": "null"})
    with pytest.raises(ValueError, match=r"some.safetensors: got format_version '2', expected '1'"):
        load(path)


def test_a_pickle_is_not_opened(path):
    class Touches:
        def __reduce__(self) -> Any:
            return Path.touch, (path.with_name("executed"),)

    for content in (pickle.dumps(Touches()), b"PK\x03\x04" + bytes(64)):
        path.write_bytes(content)
        for read in (load, read_tensors):
            with pytest.raises(ValueError, match=r"got a pickle, .*weights_only=True"):
                read(path)
    assert not path.with_name("executed").exists()


def test_64_bits_need_x64(path):
    save(path, {"w": np.ones(2)})
    with (
        jax.enable_x64(False),
        pytest.raises(ValueError, match=r"some.safetensors: w: got float64 .*x64 is off"),
    ):
        load(path)


class Own(NamedTuple):
    w: Any


OTHER_TANH = with_activation("elman", jnp.tanh)
WIDE = network_of(Layer(LSTM), Layer(ELMAN), sizes=(4, 2))
WRONG_CHAIN = Network(WIDE.layers, (WIDE.params[0], WIDE.params[1]._replace(w_x=jnp.ones((3, 2)))))


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ({"a": Own(jnp.ones(2))}, TypeError, "got Own at 'a'"),
        ([object()], TypeError, "got object at '0'"),
        ({1: jnp.ones(2)}, TypeError, "got dict at ''"),
        ({"key": jax.random.key(0)}, TypeError, r"got dtype key<fry> at 'key'"),
        ({"x": np.array(["text"])}, TypeError, "got dtype <U4 at 'x'"),
        ({"x": jnp.ones(2, jnp.float8_e4m3fn)}, TypeError, "got dtype float8_e4m3fn at 'x'"),
        ({"loss": float("inf")}, ValueError, "got inf at 'loss'"),
        ({"a.b": jnp.ones(1), "a": {"b": jnp.ones(1)}}, ValueError, "two arrays named 'a.b'"),
        ({"__metadata__": jnp.ones(1)}, ValueError, "the name '__metadata__'"),
        (OTHER_TANH, ValueError, "got <recurrence elman> at '', expected a recurrence of"),
        (Layer(ELMAN, ELMAN, lambda forward, _: forward), TypeError, "got function at 'merge'"),
        (Network(WIDE.layers, WIDE.params[::-1]), ValueError, "layers.0: params: got ElmanParams"),
        (Network(WIDE.layers, WIDE.params[:1]), ValueError, "layers: got parameters of 1 layers"),
        ({"net": WRONG_CHAIN}, ValueError, r"net.layers.1: params: got .*float32, float64"),
        (Network((), ()), ValueError, r"layers: got \(\), expected a tuple of Layers"),
    ],
)
def test_what_cannot_be_stored_is_refused_and_nothing_written(path, value, error, text):
    with pytest.raises(error, match=text):
        save(path, value)
    assert not path.exists()


def test_traced_values_are_refused(path):
    with pytest.raises(TypeError, match="got a traced array at 'w'"):
        jax.jit(lambda w: save(path, {"w": w}))(jnp.ones(1))


def test_without_the_package_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.delitem(sys.modules, "rnnjax.interop.safetensors")
    with pytest.raises(
        ImportError, match=r"needs safetensors: pip install 'rnnjax-lib\[interop\]'"
    ):
        importlib.import_module("rnnjax.interop.safetensors")
