"""Cores of Haiku in rnnjax, and back: outputs, last states and gradients, live."""

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

from rnnjax.interop.haiku import from_haiku_params, to_haiku_params
from rnnjax.layers.deep import scan_deep

pytestmark = pytest.mark.peers

FROZEN = Path(__file__).parents[1] / "interop" / "frozen" / "haiku.json"
T, B, I, H = 4, 3, 3, 5  # noqa: E741 - the letters of the documentation
DEEP = {"deep/rnn": "VanillaRNN", "deep/gru": "GRU", "deep/lstm": "LSTM"}
CASES: dict[str, tuple[dict[str, str], tuple[int, ...] | None]] = {
    "VanillaRNN": ({"vanilla_rnn": "VanillaRNN"}, None),
    "one bias": ({"vanilla_rnn": "VanillaRNN"}, None),
    "GRU": ({"gru": "GRU"}, None),
    "LSTM": ({"lstm": "LSTM"}, None),
    "backward": ({"lstm": "LSTM"}, None),
    "deep": (DEEP, None),
    "1D": ({"conv1_dlstm": "Conv1DLSTM"}, (4,)),
    "2D": ({"conv2_dlstm": "Conv2DLSTM"}, (3, 4)),
}


def unrolled(hk: Any, case: str) -> Any:
    """A transformed function of inputs `(T, B, ...)` to outputs and states."""

    class Deep(hk.Module):
        """Cores that are made in a module have its name in their path."""

        def __call__(self) -> Any:
            cores = [hk.VanillaRNN(2, name="rnn"), hk.GRU(H, name="gru"), hk.LSTM(3, name="lstm")]
            return hk.DeepRNN(cores)

    def core(shape: Any) -> Any:
        if case == "deep":
            return Deep(name="deep")()
        if case == "one bias":
            return hk.VanillaRNN(H, double_bias=False)
        if case in ("1D", "2D"):
            return getattr(hk, f"Conv{case}LSTM")(shape, 2, 3)
        return getattr(hk, "LSTM" if case == "backward" else case)(H)

    def function(xs: Any) -> Any:
        made = core(xs.shape[2:-1])
        state = jax.tree.map(lambda leaf: leaf.astype(xs.dtype), made.initial_state(xs.shape[1]))
        return hk.dynamic_unroll(made, xs, state, reverse=case == "backward")

    return hk.without_apply_rng(hk.transform(function))


def weighed(outputs: Any) -> Any:
    return sum(
        jnp.sum(output * np.cos(np.arange(output.size)).reshape(output.shape).astype(output.dtype))
        for output in outputs
    )


def gradient_of_haiku(case: str, kind: str, record: Any) -> Any:
    """Our gradient as it is once Haiku's has been read as parameters.

    Each of two biases has the gradient of our one, and f's has 1 added when it is read.
    """
    fields = {name: np.array(array) for name, array in record._asdict().items()}
    if kind == "VanillaRNN" and case != "one bias":
        fields["b"] *= 2
    if kind.endswith("LSTM"):
        if kind != "LSTM":
            fields["b"] *= 2
            fields["peepholes"] *= 0
        size = len(fields["b"]) // 4
        fields["b"][size : 2 * size] += 1
    return type(record)(**fields)


@pytest.fixture(scope="module")
def hk() -> Any:
    return import_module("haiku")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_cores_of_haiku_compute_the_same_here(dtype, hk):
    rng = np.random.default_rng(0)
    inputs, params, functions, networks = {}, {}, {}, {}
    for case, (cores, shape) in CASES.items():
        xs = jnp.asarray(rng.normal(size=(T, B, *(shape or ()), I)).astype(dtype))
        function = unrolled(hk, case)
        shapes = jax.eval_shape(function.init, jax.random.key(0), xs)
        inputs[case], functions[case] = xs, function
        params[case] = jax.tree.map(
            lambda leaf: jnp.asarray(rng.normal(size=leaf.shape).astype(dtype)), shapes
        )
        networks[case] = from_haiku_params(cores, params[case], spatial_shape=shape)

    def of_haiku(case: str, params: Any, xs: Any) -> Any:
        ys, states = functions[case].apply(params, xs)
        outputs = [ys, *jax.tree.leaves(states)]
        return weighed(outputs), outputs

    def of_network(case: str, params: Any, xs: Any) -> Any:
        carry, ys = scan_deep(
            networks[case].layers, params, xs, reverse=case == "backward", plan="reference"
        )
        outputs = [ys, *jax.tree.leaves(carry)]
        return weighed(outputs), outputs

    @jax.jit(compiler_options={"xla_backend_optimization_level": 0})
    def everything(params: Any, records: Any, inputs: Any) -> Any:
        both = ((of_haiku, params), (of_network, records))
        return {
            case: [
                jax.value_and_grad(run, argnums=(1, 2), has_aux=True)(case, of_run[case], xs)
                for run, of_run in both
            ]
            for case, xs in inputs.items()
        }

    records = {case: network.params for case, network in networks.items()}
    results = everything(params, records, inputs)
    for case, (cores, shape) in CASES.items():
        (expected, (dparams, dinputs)), (actual, (drecords, dxs)) = results[case]
        assert_close((actual, dxs), (expected, dinputs), dtype, case)
        read = from_haiku_params(cores, dparams, spatial_shape=shape).params
        as_read = tuple(map(gradient_of_haiku, [case] * len(cores), cores.values(), drecords))
        assert_close(as_read, read, dtype, case)
        # What is written computes what was read.
        written = to_haiku_params(cores, networks[case])
        ys, _ = functions[case].apply(written, inputs[case])
        assert_close(ys, expected[1][0], dtype, f"{case}, written")


def test_script_reproduces_the_stored_arrays():
    script = import_module("peers.write_frozen_interop_haiku")
    stored = json.loads(FROZEN.read_text(encoding="utf-8"))
    assert stored.keys() == script.CASES.keys()
    for case, expected in stored.items():
        written = script.frozen(case)
        for key in ("cores", "params", "xs"):
            assert written[key] == expected[key]
        for one, other in zip(
            [written["ys"], *written["carry"]], [expected["ys"], *expected["carry"]], strict=True
        ):
            npt.assert_allclose(one, other, rtol=0, atol=1e-14)
