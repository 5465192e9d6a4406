"""Weights from and to Flax: its modules and networks compute the same, gradients included."""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.testing as npt
import pytest
from flax import linen, nnx
from support.tolerances import assert_close

import rnnjax
from rnnjax.interop.flax import (
    from_linen,
    from_linen_params,
    from_nnx,
    from_nnx_state,
    to_linen,
    to_linen_params,
    to_nnx,
    to_nnx_state,
)
from rnnjax.interop.network import Network
from rnnjax.layers.bidirectional import BidirectionalParams, add, concatenate, multiply
from rnnjax.layers.deep import Layer, scan_deep
from rnnjax.recurrences.gru import GRUParams

REGISTRY = rnnjax.recurrences.REGISTRY
T, B, I, H = 3, 2, 3, 2  # noqa: E741 - the letters of the documentation
LENGTHS = np.array([3, 1])
UNOPTIMISED = {"xla_backend_optimization_level": 0}


class Case(NamedTuple):
    """Weights of a module of Flax, what runs and reads them, what writes and reads a network."""

    weights: Any
    apply: Callable[..., Any]
    read: Callable[[Any], Network]
    again: Callable[[Network], Network]
    reverse: bool = False
    lengths: Any = LENGTHS


def drawn(tree: Any, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape).astype(leaf.dtype)), tree
    )


def cell(kind: Any = nnx.SimpleCell, size: int = I, seed: int = 0, **options: Any) -> Any:
    """A cell of flax.nnx with random weights; Flax draws none, for that is slow to compile."""
    module = nnx.eval_shape(lambda: kind(size, H, rngs=nnx.Rngs(0), **options))
    nnx.update(module, drawn(nnx.state(module), seed))
    return module


def case_of_linen(module: Any, dtype: str, **options: Any) -> Case:
    xs = jnp.zeros((B, T, I), dtype)
    variables = drawn(jax.eval_shape(module.init, jax.random.key(0), xs))
    reverse = options.get("reverse", False)

    def read(variables: Any) -> Network:
        return from_linen(module, variables, reverse=reverse)

    def again(network: Network) -> Network:
        return from_linen(*to_linen(network, reverse=reverse), reverse=reverse)

    return Case(variables, module.apply, read, again, **options)


def case_of_nnx(module: Any, **options: Any) -> Case:
    definition, params, rest = nnx.split(module, nnx.Param, ...)

    def apply(params: Any, xs: Any, **arguments: Any) -> Any:
        return nnx.merge(definition, params, rest, copy=True)(xs, **arguments)

    def read(params: Any) -> Network:
        return from_nnx(nnx.merge(definition, params, rest))

    def again(network: Network) -> Network:
        return from_nnx(to_nnx(network))

    return Case(drawn(params), apply, read, again, **options)


def cases(dtype: str) -> dict[str, Case]:
    def of_linen(kind: Any, **options: Any) -> Any:
        return linen.RNN(kind(H, param_dtype=dtype, **options))

    def of_nnx(kind: Any, size: int = I, **options: Any) -> Any:
        return nnx.RNN(cell(kind, size, dtype=None, param_dtype=dtype, **options))

    simple = linen.SimpleCell(H, param_dtype=dtype)
    relu = of_linen(linen.SimpleCell, activation_fn=jax.nn.relu)
    both = linen.Bidirectional(of_linen(linen.GRUCell), of_linen(linen.LSTMCell))
    deep = linen.Sequential(
        [
            of_linen(linen.OptimizedLSTMCell),
            linen.Dropout(0.5, deterministic=True),
            linen.Bidirectional(of_linen(linen.SimpleCell), relu, merge_fn=jnp.add),
            of_linen(linen.MGUCell, reset_gate=False),
        ]
    )
    both_of_nnx = nnx.Bidirectional(of_nnx(nnx.LSTMCell), of_nnx(nnx.GRUCell))
    deep_of_nnx = nnx.Sequential(
        of_nnx(nnx.OptimizedLSTMCell),
        nnx.Dropout(0.5, deterministic=True),
        of_nnx(nnx.SimpleCell, H, activation_fn=jax.nn.relu),
    )
    return {
        "backward": case_of_linen(
            linen.RNN(simple, reverse=True, keep_order=True), dtype, reverse=True
        ),
        "MGU": case_of_linen(of_linen(linen.MGUCell), dtype),
        "bidirectional": case_of_linen(both, dtype),
        "deep": case_of_linen(deep, dtype, lengths=None),
        "nnx bidirectional": case_of_nnx(both_of_nnx),
        "nnx deep": case_of_nnx(deep_of_nnx, lengths=None),
    }


def weighed(ys: Any, lengths: Any) -> Any:
    """A sum of outputs `(B, T, ...)`, each with a weight, those past a row's length left out."""
    weights = np.cos(np.arange(ys.size).reshape(ys.shape))
    if lengths is not None:
        weights = np.where((np.arange(T) < lengths[:, None])[..., None], weights, 0)
    return jnp.sum(ys * weights.astype(ys.dtype))


def of_network(case: Case, network: Network, xs: Any) -> Any:
    """Loss, carries, outputs, and the gradients by parameters and inputs."""

    def loss(params: Any, xs: Any) -> Any:
        carry, ys = scan_deep(
            network.layers,
            params,
            jnp.moveaxis(xs, 1, 0),
            lengths=case.lengths,
            reverse=case.reverse,
            plan="reference",
        )
        ys = jnp.moveaxis(ys, 0, 1)
        return weighed(ys, case.lengths), (carry, ys)

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(network.params, xs)


def of_flax(case: Case, weights: Any, xs: Any) -> Any:
    def loss(weights: Any, xs: Any) -> Any:
        if case.lengths is None:  # a Sequential takes none, and returns no carries
            carry, ys = None, case.apply(weights, xs)
        else:
            carry, ys = case.apply(weights, xs, seq_lengths=case.lengths, return_carry=True)
        return weighed(ys, case.lengths), (carry, ys)

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(weights, xs)


def carry_of_flax(layer: Layer, carry: Any) -> Any:
    """(c, h) of an LSTM as (h, c)."""
    if layer.backward is not None:
        one, other = Layer(layer.recurrence), Layer(layer.backward)
        return carry_of_flax(one, carry[0]), carry_of_flax(other, carry[1])
    return carry[::-1] if layer.recurrence is REGISTRY["lstm"] else carry


def gradient_of_flax(name: str, params: Any) -> Any:
    """Our gradient as it is once Flax's has been read as parameters.

    Flax's GRU has fewer biases, and what is one gate of its MGU is two gates here.
    """
    if isinstance(params, BidirectionalParams):
        return BidirectionalParams(*(gradient_of_flax(name, record) for record in params))
    if not isinstance(params, GRUParams):
        return params
    params = jax.tree.map(np.array, params)
    if name == "MGU":
        for array in params:
            array[..., :H] += array[..., H : 2 * H]
            array[..., H : 2 * H] = array[..., :H]
    params.b_h[: 3 * H if name.startswith("nnx") else 2 * H] = 0
    return params


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_modules_and_networks_compute_the_same(dtype):
    of_names = cases(dtype)
    networks = {name: case.read(case.weights) for name, case in of_names.items()}
    for name, network in networks.items():
        again = of_names[name].again(network)
        assert again.layers == network.layers, name
        assert_same(again.params, network.params)
    xs = drawn(jnp.zeros((B, T, I), dtype), seed=1)

    @jax.jit(compiler_options=UNOPTIMISED)
    def everything(weights: Any, params: Any, xs: Any) -> Any:
        results = {}
        for name, case in of_names.items():
            network = Network(networks[name].layers, params[name])
            results[name] = (
                of_flax(case, weights[name], xs),
                of_network(case, network, xs),
            )
        return results

    with jax.numpy_dtype_promotion("standard"):
        results = everything(
            {name: case.weights for name, case in of_names.items()},
            {name: network.params for name, network in networks.items()},
            xs,
        )
    for name, case in of_names.items():
        (flax_aux, flax_gradients), (aux, gradients) = results[name]
        (expected, (expected_carry, expected_ys)), (value, (carry, ys)) = flax_aux, aux
        assert_close((value, gradients[1]), (expected, flax_gradients[1]), dtype, name)
        if case.lengths is None:
            assert_close(ys, expected_ys, dtype, name)
        else:
            (layer,) = networks[name].layers
            assert_close(carry, (carry_of_flax(layer, expected_carry),), dtype, name)
        read = case.read(flax_gradients[0]).params
        assert_close(tuple(gradient_of_flax(name, p) for p in gradients[0]), read, dtype, name)


@pytest.mark.parametrize("shape", [(4,), pytest.param((3, 4), marks=pytest.mark.slow)])
def test_images_of_linen_are_computed_the_same(shape):
    module = linen.RNN(linen.ConvLSTMCell(H, (3,) * len(shape), param_dtype="float64"))
    xs = drawn(np.zeros((B, T, *shape, I)), seed=1)
    variables = drawn(jax.eval_shape(module.init, jax.random.key(0), xs))
    network = from_linen(module, variables, spatial_shape=shape)

    def of_module(variables: Any) -> Any:
        ys = module.apply(variables, xs)
        return weighed(ys, None), ys

    def of_ours(params: Any) -> Any:
        _, ys = scan_deep(network.layers, params, jnp.moveaxis(xs, 1, 0), plan="reference")
        ys = jnp.moveaxis(ys, 0, 1)
        return weighed(ys, None), ys

    @jax.jit(compiler_options=UNOPTIMISED)
    def both(variables: Any, params: Any) -> Any:
        return (
            jax.value_and_grad(of_module, has_aux=True)(variables),
            jax.value_and_grad(of_ours, has_aux=True)(params),
        )

    with jax.numpy_dtype_promotion("standard"):
        (expected, dvariables), (actual, (gradient,)) = both(variables, network.params)
    assert_close(actual, expected, "float64")
    (read,) = from_linen(module, dvariables, spatial_shape=shape).params
    # Both of Flax's biases have the gradient of our one, and f's has 1 added when it is read.
    b = (2 * gradient.b).at[H : 2 * H].add(1)
    gradient = gradient._replace(b=b, peepholes=jnp.zeros_like(gradient.peepholes))
    assert_close(gradient, read, "float64")


def network_of(name: str, dtype: str = "float32", **options: Any) -> Network:
    """One layer with random parameters."""
    init = REGISTRY[name].init
    shapes = jax.eval_shape(lambda: init(jax.random.key(0), I, H, dtype=dtype, **options))
    return Network((Layer(REGISTRY[name]),), (drawn(shapes),))


def with_zeros(name: str, network: Network) -> Network:
    """Parameters that this cell of Flax can hold: no bias or peephole that it does not have."""
    (record,) = network.params
    fields = {field: np.array(array) for field, array in record._asdict().items()}
    if isinstance(record, GRUParams):
        if name == "MGUCell":  # whose r is z
            for array in fields.values():
                array[..., :H] = array[..., H : 2 * H]
        fields["b_h"][: 3 * H if name == "GRUCell of nnx" else 2 * H] = 0
    if name == "ConvLSTMCell":
        fields["peepholes"][...] = 0
    return Network(network.layers, (type(record)(**jax.tree.map(jnp.asarray, fields)),))


KINDS = [
    ("SimpleCell", "elman", {}),
    ("SimpleCell", "elman_relu", {"activation": "relu"}),
    ("GRUCell", "gru", {}),
    ("LSTMCell", "lstm", {}),
    ("OptimizedLSTMCell", "lstm", {}),
]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        *KINDS,
        ("MGUCell", "minimal_gru", {}),
        ("MGUCell", "gru", {}),
        ("ConvLSTMCell", "conv_lstm_1d", {"spatial_shape": (4,)}),
        ("ConvLSTMCell", "conv_lstm_2d", {"spatial_shape": (3, 4)}),
    ],
)
def test_out_and_in_again_is_the_same_network(kind, name, options, dtype):
    images = {key: value for key, value in options.items() if key == "spatial_shape"}
    network = with_zeros(kind, network_of(name, dtype, **images))
    again = from_linen_params(kind, to_linen_params(kind, network), **options)
    assert again.layers == network.layers
    if kind == "ConvLSTMCell":  # its b of f less 1 is rounded, and 1 more than that again
        b = np.asarray(again.params[0].b), np.asarray(network.params[0].b)
        unit = float(jnp.finfo(dtype).eps)
        npt.assert_allclose(*(np.asarray(array, np.float64) for array in b), rtol=0, atol=4 * unit)
        again = again._replace(params=(again.params[0]._replace(b=network.params[0].b),))
    assert_same(again.params, network.params)
    if (kind, name, options) in KINDS:
        network = with_zeros(f"{kind} of nnx", network)
        again = from_nnx_state(kind, to_nnx_state(kind, network), **options)
        assert again.layers == network.layers
        assert_same(again.params, network.params)


def assert_same(actual: Any, expected: Any) -> None:
    """The same tree of the same arrays, bit by bit up to the sign of zero."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == e.dtype
        npt.assert_array_equal(np.asarray(a), np.asarray(e))


def test_biases_that_flax_has_once_are_added():
    network = network_of("gru", "float64")
    (record,) = network.params
    (again,) = from_linen_params("GRUCell", to_linen_params("GRUCell", network)).params
    total = record.b_x + record.b_h
    npt.assert_array_equal(again.b_x[: 2 * H], total[: 2 * H])
    npt.assert_array_equal(again.b_x[2 * H :], record.b_x[2 * H :])
    npt.assert_array_equal(again.b_h, record.b_h.at[: 2 * H].set(0))


@pytest.mark.parametrize(("kind", "name", "options"), KINDS)
def test_states_and_variables_are_those_of_live_cells(kind, name, options):
    """Names and shapes; what they compute is compared above."""
    activation: dict[str, Any] = {}
    if "activation" in options:
        activation["activation_fn"] = jax.nn.relu
    one = cell(getattr(nnx, kind), **activation)
    network = from_nnx(one)
    assert network.layers == (Layer(REGISTRY[name]),)
    assert_same(from_nnx_state(kind, nnx.state(one), **options).params, network.params)
    weights = to_nnx_state(kind, network)
    assert_same(weights, jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(one))))
    other = cell(getattr(nnx, kind), seed=1, **activation)
    nnx.update(other, weights)
    assert_same(from_nnx(other).params, network.params)

    module = getattr(linen, kind)(H, **activation)
    carry = module.initialize_carry(jax.random.key(0), (B, I))
    x = jnp.zeros((B, I), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), carry, x)
    written = to_linen_params(kind, network)
    assert jax.tree.map(np.shape, written) == jax.tree.map(lambda a: a.shape, shapes["params"])
    assert_same(from_linen(module, {"params": written}).params, network.params)


def test_what_is_written_is_its_own_and_contiguous():
    network = network_of("lstm")
    for array in jax.tree.leaves(to_linen_params("LSTMCell", network)):
        assert array.flags.c_contiguous
        assert array.flags.writeable
        array[...] = 0
    assert np.all(np.asarray(network.params[0].w_x) != 0)


def test_written_modules_are_laid_out_as_asked():
    network = network_of("lstm")
    for module in (
        to_nnx(network, time_major=True, reverse=True),
        to_linen(network, time_major=True, reverse=True)[0],
    ):
        assert (module.time_major, module.reverse, module.keep_order) == (True, True, True)
    for module in (to_nnx(TWO_WAYS, time_major=True), to_linen(TWO_WAYS, time_major=True)[0]):
        assert module.time_major
        assert module.merge_fn is multiply


def test_a_merge_of_flax_is_ours_or_itself():
    def merged(merge_fn: Any) -> Any:
        rnns = [nnx.RNN(cell(nnx.GRUCell, seed=seed)) for seed in (0, 1)]
        options = {} if merge_fn is None else {"merge_fn": merge_fn}
        return from_nnx(nnx.Bidirectional(*rnns, **options)).layers[0].merge

    assert merged(None) is concatenate
    assert merged(jnp.add) is add
    assert merged(jnp.maximum) is jnp.maximum


def mixed(dtype: str) -> Any:
    module = cell(nnx.LSTMCell)
    module.hi.bias = nnx.Param(module.hi.bias[...].astype(dtype))
    return module


CONV = linen.ConvLSTMCell(H, (3,))
BACKWARD = nnx.RNN(cell(), reverse=True)
OF_TWO_DTYPES = nnx.Sequential(
    nnx.RNN(cell()), nnx.RNN(cell(nnx.GRUCell, H, param_dtype=jnp.float64))
)
NOT_A_CELL: Any = nnx.RNN(cell())
NOT_VARIABLES: Any = 1
NOT_A_NETWORK: Any = ()


@pytest.mark.parametrize(
    ("read", "error", "text"),
    [
        (lambda: from_nnx(None), TypeError, "module: got NoneType, expected RNN, Bidirectional or"),
        (lambda: from_nnx(linen.GRUCell(H)), TypeError, "got GRUCell, expected .* of flax.nnx"),
        (lambda: from_nnx(nnx.Sequential()), ValueError, "no recurrent layer"),
        (lambda: from_nnx(nnx.Sequential(cell())), TypeError, r"layers\[0\]: got SimpleCell, exp"),
        (lambda: from_nnx(nnx.RNN(NOT_A_CELL)), TypeError, r"module.cell: got RNN"),
        (lambda: from_nnx(cell(activation_fn=jax.nn.silu)), ValueError, "activation_fn.*tanh or r"),
        (lambda: from_nnx(cell(nnx.GRUCell, activation_fn=jax.nn.relu)), ValueError, "ted tanh$"),
        (lambda: from_nnx(cell(nnx.GRUCell, gate_fn=jax.nn.relu)), ValueError, "gate_fn .*sigmoid"),
        (lambda: from_nnx(cell(residual=True)), ValueError, "residual=True, expected False; add"),
        (lambda: from_nnx(mixed("float16")), TypeError, "module: got arrays of float16, float32"),
        (
            lambda: from_nnx(OF_TWO_DTYPES),
            TypeError,
            "weights of module: got arrays of float32, fl",
        ),
        (lambda: from_nnx(BACKWARD), ValueError, "module.cell: got .* reverse=True, expected Fal"),
        (lambda: from_nnx(cell(), reverse=True), ValueError, "reverse=False, expected True"),
        (
            lambda: from_nnx(nnx.Sequential(BACKWARD, nnx.RNN(cell())), reverse=True),
            ValueError,
            r"layers\[0\].cell: got .*reverse=True, expected False",
        ),
        (
            lambda: from_linen(linen.GRUCell(H), {}),
            ValueError,
            r"variables: got \[\], expected a m",
        ),
        (
            lambda: from_linen(linen.GRUCell(H), NOT_VARIABLES),
            ValueError,
            "variables: got int, expected a m",
        ),
        (
            lambda: from_linen(linen.RNN(linen.GRUCell(H)), {"params": {"rnn": {}}}),
            ValueError,
            "variables.params: got no 'cell'",
        ),
        (
            lambda: from_linen(
                linen.MGUCell(H, reset_gate=False),
                {"params": to_linen_params("MGUCell", with_zeros("MGUCell", network_of("gru")))},
            ),
            ValueError,
            "weights of module: got hn.bias, expected the arrays of MGUCell",
        ),
        (
            lambda: from_linen(CONV.clone(strides=2), {"params": {}}),
            ValueError,
            "strides 2, expected none",
        ),
        (
            lambda: from_linen(CONV.clone(padding="VALID"), {"params": {}}),
            ValueError,
            "padding 'VALID', expected 'SAME'",
        ),
        (
            lambda: from_linen(CONV.clone(kernel_size=(3, 3, 3)), {"params": {}}),
            ValueError,
            "ConvLSTMCell: got 3 spatial axes, expected 1 or 2",
        ),
    ],
)
def test_a_module_that_is_no_network_is_refused(read, error, text):
    with pytest.raises(error, match=text):
        read()


LSTM = to_linen_params("LSTMCell", network_of("lstm"))
IMAGES = to_linen_params("ConvLSTMCell", with_zeros("ConvLSTMCell", network_of("conv_lstm_1d")))


def changed(tree: Any, part: str, name: str, array: Any) -> Any:
    return tree | {part: tree[part] | {name: array}}


@pytest.mark.parametrize(
    ("kind", "params", "options", "error", "text"),
    [
        ("RNN", LSTM, {}, ValueError, "kind: got 'RNN', expected one of SimpleCell, GRUCell"),
        ("LSTMCell", None, {}, TypeError, "params: got NoneType, expected arrays in mappings"),
        ("LSTMCell", {"ii": 1}, {}, ValueError, "got no ii.kernel, if.kernel"),
        ("LSTMCell", LSTM | {"hj": {"bias": 1}}, {}, ValueError, "got hj.bias, expected the arr"),
        ("LSTMCell", changed(LSTM, "hf", "bias", "text"), {}, TypeError, "hf.bias: got dtype <U4"),
        ("LSTMCell", changed(LSTM, "hf", "bias", np.ones(H)), {}, TypeError, "float32, float64"),
        (
            "LSTMCell",
            changed(LSTM, "hf", "kernel", np.ones((H, 3), np.float32)),
            {},
            ValueError,
            r"params.hf.kernel: got shape \(2, 3\), expected \(H, H\) in LSTMCell with I = 3",
        ),
        (
            "LSTMCell",
            changed(LSTM, "ii", "kernel", np.ones((0, H), np.float32)),
            {},
            ValueError,
            r"params.ii.kernel: got shape \(0, 2\), expected \(I, H\)",
        ),
        (
            "LSTMCell",
            LSTM,
            {"activation": "relu"},
            ValueError,
            "activation: got 'relu', .* tanh in",
        ),
        ("SimpleCell", {}, {"activation": "gelu"}, ValueError, "'gelu', expected tanh or relu in"),
        ("ConvLSTMCell", {}, {}, ValueError, "got no ih.kernel, hh.kernel, expected the arrays of"),
        ("ConvLSTMCell", IMAGES, {}, ValueError, "spatial_shape: got None, expected the 1 sizes"),
        ("ConvLSTMCell", IMAGES, {"spatial_shape": (2, 3)}, ValueError, r"got \(2, 3\), exp.* 1 s"),
        (
            "ConvLSTMCell",
            {
                side: {"kernel": np.ones((2, channels, 4 * H), np.float32)}
                for side, channels in (("ih", I), ("hh", H))
            },
            {"spatial_shape": (4,)},
            ValueError,
            "params.ih.kernel: got kernels 2 wide, expected an odd number",
        ),
    ],
)
def test_arrays_that_are_no_cell_are_refused(kind, params, options, error, text):
    with pytest.raises(error, match=text):
        from_linen_params(kind, params, **options)


def test_float64_needs_x64():
    weights = to_nnx_state("LSTMCell", network_of("lstm", "float64"))
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"state: got float64 .*x64"):
        from_nnx_state("LSTMCell", weights)


GRU = network_of("gru")
TWO_WAYS = Network(
    (Layer(REGISTRY["lstm"], REGISTRY["lstm"], multiply),),
    (BidirectionalParams(*network_of("lstm").params * 2),),
)


@pytest.mark.parametrize(
    ("write", "error", "text"),
    [
        (lambda: to_nnx(NOT_A_NETWORK), TypeError, "network: got tuple, expected a Network"),
        (lambda: to_nnx(GRU), ValueError, r"network.0.b_h\[2H:\]: got some that are not zero"),
        (
            lambda: to_nnx(network_of("sru")),
            ValueError,
            "network.0: got sru, .* elman, elman_relu, gru, lstm$",
        ),
        (
            lambda: to_linen(Network((Layer(REGISTRY["gru"], residual=True),), GRU.params)),
            ValueError,
            "network: .*residual",
        ),
        (lambda: to_linen(TWO_WAYS, reverse=True), ValueError, "reverse: got True, expected False"),
        (lambda: to_linen_params("GRU", GRU), ValueError, "kind: got 'GRU', expected one of Simpl"),
        (lambda: to_linen_params("LSTMCell", GRU), ValueError, "got gru, expected one of lstm"),
        (lambda: to_linen_params("LSTMCell", TWO_WAYS), ValueError, "1 layers in 2 directions"),
        (lambda: to_linen_params("MGUCell", GRU), ValueError, "other weights for r than for z"),
        (
            lambda: to_linen(network_of("conv_lstm_1d")),
            ValueError,
            "network.0.peepholes: got some that are not zero",
        ),
    ],
)
def test_a_network_that_flax_cannot_hold_is_refused(write, error, text):
    with pytest.raises(error, match=text):
        write()


@pytest.mark.parametrize(
    ("function", "arguments", "api"),
    [
        (from_nnx, (None,), "nnx"),
        (to_nnx, (GRU,), "nnx"),
        (from_linen, (None, {}), "linen"),
        (to_linen, (GRU,), "linen"),
    ],
)
def test_what_needs_flax_asks_for_it(function, arguments, api, monkeypatch):
    monkeypatch.setitem(sys.modules, f"flax.{api}", None)
    with pytest.raises(ImportError, match=rf"flax.{function.__name__} needs flax: pip install 'rn"):
        function(*arguments)
