"""Networks of PyTorch in rnnjax, and back: outputs, last carries and gradients, live."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.testing as npt
import pytest
from support.tolerances import assert_close

from rnnjax.interop.network import Network
from rnnjax.interop.torch import (
    from_torch,
    from_torch_state_dict,
    to_torch,
    to_torch_cell,
    to_torch_state_dict,
)
from rnnjax.layers.deep import scan_deep

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]

FROZEN = Path(__file__).parents[1] / "interop" / "frozen" / "torch.json"
T, B, I, H, P = 4, 3, 3, 5, 2  # noqa: E741 - the letters of the documentation
LENGTHS = np.array([2, 4, 1])
UNOPTIMISED = {"xla_backend_optimization_level": 0}
MODULES: dict[str, tuple[str, dict[str, Any]]] = {
    "RNN tanh": ("RNN", {}),
    "RNN relu": ("RNN", {"nonlinearity": "relu"}),
    "GRU": ("GRU", {}),
    "LSTM": ("LSTM", {}),
    "LSTM projected": ("LSTM", {"proj_size": P}),
}
SHAPES = [
    {"num_layers": layers, "bidirectional": both, "bias": bias}
    for layers, both, bias in [
        (1, False, True),
        (2, True, True),
        (1, True, False),
        (3, False, False),
    ]
]


@pytest.fixture(scope="module")
def torch() -> Any:
    return import_module("torch")


def run_torch(torch: Any, module: Any, xs: np.ndarray, weigh: Any) -> Any:
    """ys, last leaves and the gradients of their weighed sum by weights and inputs."""
    inputs = torch.from_numpy(xs.copy()).requires_grad_()
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        inputs, torch.from_numpy(LENGTHS), enforce_sorted=False
    )
    packed_ys, last = module(packed)
    ys, _ = torch.nn.utils.rnn.pad_packed_sequence(packed_ys, total_length=T)
    outputs = [ys, *(last if isinstance(last, tuple) else (last,))]
    module.zero_grad()
    weights = [torch.from_numpy(weigh(tuple(output.shape))) for output in outputs]
    torch.autograd.backward(outputs, weights)
    gradients = {name: p.grad.numpy() for name, p in module.named_parameters()}
    return [output.detach().numpy() for output in outputs], gradients, inputs.grad.numpy()


def weighing() -> Any:
    """Cotangents by shape: for both sides the same."""
    rng = np.random.default_rng(3)
    drawn: dict[Any, np.ndarray] = {}
    return lambda shape: drawn.setdefault(shape, rng.normal(size=shape))


@pytest.mark.parametrize("name", MODULES)
def test_networks_of_torch_compute_the_same_here(name, torch):
    build, options = MODULES[name]
    torch.manual_seed(0)
    modules = [
        getattr(torch.nn, build)(I, H, dtype=torch.float64, **options, **shape) for shape in SHAPES
    ]
    networks = [from_torch(module) for module in modules]
    parts = 2 if build == "LSTM" else 1
    xs = np.random.default_rng(1).normal(size=(T, B, I))
    weigh = weighing()

    def everything(all_params: Any, xs: Any, lengths: Any) -> Any:
        def one(layers: Any, params: Any) -> Any:
            def run(params: Any, xs: Any) -> Any:
                carry, ys = scan_deep(layers, params, xs, lengths=lengths, plan="reference")
                leaves = jax.tree.leaves(carry)
                return [ys, *(jnp.stack(leaves[part::parts]) for part in range(parts))]

            outputs, pullback = jax.vjp(run, params, xs)
            return outputs, pullback([jnp.asarray(weigh(output.shape)) for output in outputs])

        return [one(n.layers, params) for n, params in zip(networks, all_params, strict=True)]

    results = jax.jit(everything, compiler_options=UNOPTIMISED)(
        [network.params for network in networks], xs, LENGTHS
    )
    for module, network, shape, (outputs, (dparams, dxs)) in zip(
        modules, networks, SHAPES, results, strict=True
    ):
        expected, dweights, dinputs = run_torch(torch, module, xs, weigh)
        assert_close((outputs, dxs), (expected, dinputs), "float64", f"{name} {shape}")
        # Gradients have the shape of what they are of, so they have PyTorch's names as well.
        written = to_torch_state_dict(Network(network.layers, dparams))
        for key, gradient in dweights.items():
            if build != "GRU":  # the one bias stands for both
                key = key.replace("bias_hh", "bias_ih")
            assert_close(written[key], gradient, "float64", f"{name} {shape} {key}")
        # The same network as a module again, biases put together, computes as before.
        returned, _, _ = run_torch(torch, to_torch(network), xs, weigh)
        assert_close(returned, expected, "float64", f"{name} {shape} to_torch")


def test_cells_of_torch_compute_the_same_here(torch):
    torch.manual_seed(0)
    cells = [
        torch.nn.RNNCell(I, H, dtype=torch.float64),
        torch.nn.RNNCell(I, H, nonlinearity="relu", bias=False, dtype=torch.float64),
        torch.nn.GRUCell(I, H, dtype=torch.float64),
        torch.nn.LSTMCell(I, H, dtype=torch.float64),
    ]
    networks = [from_torch(cell) for cell in cells]
    xs = np.random.default_rng(1).normal(size=(T, B, I))

    def everything(all_params: Any, xs: Any) -> Any:
        return [
            scan_deep(network.layers, params, xs, plan="reference")[1]
            for network, params in zip(networks, all_params, strict=True)
        ]

    run = jax.jit(everything, compiler_options=UNOPTIMISED)
    for cell, network, ys in zip(
        cells, networks, run([n.params for n in networks], xs), strict=True
    ):
        for module in (cell, to_torch_cell(network)):
            assert type(module) is type(cell)
            state, expected = None, []
            for x in torch.from_numpy(xs):
                state = module(x, state)
                expected.append(state[0] if isinstance(state, tuple) else state)
            assert_close(ys, torch.stack(expected).detach().numpy(), "float64", str(module))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", MODULES)
def test_weights_of_every_dtype_come_and_go_bit_by_bit(name, dtype, torch):
    build, options = MODULES[name]
    of_torch = getattr(torch, dtype)
    module = getattr(torch.nn, build)(I, H, 2, bidirectional=True, dtype=of_torch, **options)
    for key, tensor in module.state_dict().items():
        if build != "GRU" and "bias_hh" in key:
            tensor.zero_()
    before = torch.get_rng_state()
    network = from_torch(module)
    assert {leaf.dtype for leaf in jax.tree.leaves(network.params)} == {jnp.dtype(dtype)}
    again = to_torch(network, batch_first=True)
    assert torch.equal(torch.get_rng_state(), before)
    assert type(again) is type(module)
    assert again.batch_first
    for key, tensor in module.state_dict().items():
        assert again.state_dict()[key].dtype == of_torch
        assert torch.equal(again.state_dict()[key], tensor), key
    w_x = network.params[0].forward.w_x.astype(jnp.float64)
    npt.assert_array_equal(w_x, module.weight_ih_l0.detach().double().numpy().T)


def test_a_module_trains_on_after_the_way_here_and_back(torch):
    module = to_torch(from_torch(torch.nn.GRU(I, H)))
    before = module.weight_hh_l0.detach().clone()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    ys, _ = module(torch.ones(T, B, I))
    ys.sum().backward()
    optimizer.step()
    assert not torch.equal(module.weight_hh_l0, before)


def test_a_model_of_several_parts_is_read_by_prefix(torch):
    model = torch.nn.ModuleDict({"rnn": torch.nn.GRU(I, H), "head": torch.nn.Linear(H, 2)})
    read = from_torch_state_dict("GRU", model.state_dict(), "rnn.")
    npt.assert_array_equal(read.params[0].w_x, from_torch(model["rnn"]).params[0].w_x)
    with pytest.raises(TypeError, match=r"module: got ModuleDict, expected one of torch.nn's RNN"):
        from_torch(model)


def test_transformed_weights_are_refused(torch):
    normed = torch.nn.utils.parametrizations.weight_norm(torch.nn.GRU(I, H), "weight_hh_l0")
    with pytest.raises(ValueError, match=r"got parametrizations.*original.*transformed weights"):
        from_torch(normed)


def test_a_module_without_values_is_refused(torch):
    with pytest.raises(TypeError, match=r"'weight_ih_l0'.*tensor that NumPy does not take"):
        from_torch(torch.nn.GRU(I, H, device="meta"))


def test_projected_and_deep_networks_are_no_cells(torch):
    for module in (torch.nn.LSTM(I, H, proj_size=P), torch.nn.GRU(I, H, 2)):
        with pytest.raises(ValueError, match="as of a PyTorch cell"):
            to_torch_cell(from_torch(module))


def test_script_reproduces_the_stored_arrays():
    script = import_module("peers.write_frozen_interop_torch")
    stored = json.loads(FROZEN.read_text(encoding="utf-8"))
    assert stored.keys() == script.CASES.keys()
    for case, expected in stored.items():
        written = script.frozen(case)
        assert jax.tree.structure(written) == jax.tree.structure(expected)
        for key in ("kind", "state_dict", "xs", "lengths"):
            assert written[key] == expected[key]
        for one, other in zip(
            [written["ys"], *written["carry"]], [expected["ys"], *expected["carry"]], strict=True
        ):
            npt.assert_allclose(one, other, rtol=0, atol=1e-14)
