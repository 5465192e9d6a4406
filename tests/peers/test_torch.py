"""Live against PyTorch: outputs, last carry and every gradient, with the same random weights."""

from importlib import import_module
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import assert_close

import rnnjax

pytestmark = pytest.mark.peers

T, B, I, H, P = 4, 3, 3, 5, 2  # noqa: E741 - the letters of the documentation
LENGTHS = np.array([2, 4, 1])  # PyTorch takes none of 0
# What is computed does not depend on how hard LLVM tries; the time of the suite does.
UNOPTIMISED = {"xla_backend_optimization_level": 0}
# That `unrolled`, slow to compile, equals the reference is the contract suite's to show.
PLANS = ("reference", "fused", "checkpointed")


@pytest.fixture(scope="module")
def torch_networks() -> Any:
    return import_module("peers.torch_networks")


def stack_of_scans(recurrence, directions, params, xs, carry, lengths, plan) -> Any:
    """Layers of forward scans, or of a forward and a reverse scan side by side."""
    last, remaining = [], iter(enumerate(params))
    for _ in range(len(params) // directions):
        outputs = []
        for reverse in (False, True)[:directions]:
            i, of_scan = next(remaining)
            initial = jax.tree.map(lambda leaf, i=i: leaf[i], carry)
            new, ys = rnnjax.scan(
                recurrence, of_scan, xs, initial, lengths=lengths, reverse=reverse, plan=plan
            )
            last.append(new)
            outputs.append(ys)
        xs = jnp.concatenate(outputs, axis=-1)
    return xs, jax.tree.map(lambda *leaves: jnp.stack(leaves), *last)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (2, True)])
@pytest.mark.parametrize("name", ["elman", "elman_relu", "gru", "lstm", "lstm_projected"])
def test_scans_equal_torch_networks(name, layers, bidirectional, dtype, torch_networks):
    recurrence = rnnjax.recurrences.REGISTRY[name]
    sizes = (I, H, P) if name == "lstm_projected" else (I, H)
    module = torch_networks.network(name, dtype, layers, bidirectional, sizes)
    record = type(recurrence.init(jax.random.key(0), I, H))
    params = [record(**fields) for fields in torch_networks.weights(name, module)]

    rng = np.random.default_rng(1)
    directions = 1 + bidirectional
    sizes_of_carry = {"lstm": [H, H], "lstm_projected": [P, H]}.get(name, [H])
    carry_shapes = [(layers * directions, B, size) for size in sizes_of_carry]
    xs = rng.normal(size=(T, B, I)).astype(dtype)
    carry = [rng.normal(size=shape).astype(dtype) for shape in carry_shapes]
    cotangents = [
        rng.normal(size=shape).astype(dtype)
        for shape in ((T, B, directions * sizes_of_carry[0]), *carry_shapes)
    ]
    structure = jax.tree.structure(recurrence.initial_carry(params[0], ()))

    def everything(params: Any, xs: Any, carry: Any, lengths: Any, cotangents: Any) -> Any:
        def one(lengths: Any, plan: Any) -> Any:
            def run(params: Any, xs: Any, carry: Any) -> Any:
                return stack_of_scans(recurrence, directions, params, xs, carry, lengths, plan)

            outputs, pullback = jax.vjp(run, params, xs, carry)
            return outputs, pullback(cotangents)

        return [one(some, plan) for some, plan in product((None, lengths), PLANS)]

    results = jax.jit(everything, compiler_options=UNOPTIMISED)(
        params,
        xs,
        jax.tree.unflatten(structure, carry),
        LENGTHS,
        (cotangents[0], jax.tree.unflatten(structure, cotangents[1:])),
    )
    for (lengths, plan), ((ys, last), (dparams, dxs, dcarry)) in zip(
        product((None, LENGTHS), PLANS), results, strict=True
    ):
        expected = torch_networks.run_network(name, module, xs, carry, lengths, cotangents)
        assert_close(
            {
                "ys": ys,
                "carry": jax.tree.leaves(last),
                "dparams": [of_scan._asdict() for of_scan in dparams],
                "dxs": dxs,
                "dcarry": jax.tree.leaves(dcarry),
            },
            expected._asdict(),
            dtype,
            f"{plan} lengths={lengths}",
        )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["minimal_gru", "gru_reset_before"])
def test_scans_equal_cells_written_in_torch(name, dtype, torch_networks):
    recurrence = rnnjax.recurrences.REGISTRY[name]
    rng = np.random.default_rng(2)

    def like(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(dtype), tree)

    params = like(recurrence.init(jax.random.key(0), I, H, dtype=dtype))
    xs = rng.normal(size=(T, B, I)).astype(dtype)
    carry = like(recurrence.initial_carry(params, (B,)))
    resets = rng.random((T, B)) < 0.3
    lengths = np.array([2, 4, 0])
    cotangents = (like(carry), rng.normal(size=(T, B, H)).astype(dtype))
    options = list(product((False, True), (False, True), (False, True)))

    def everything(params: Any, xs: Any, carry: Any, lengths: Any, resets: Any) -> Any:
        def one(plan: Any, masked: bool, packed: bool, reverse: bool) -> Any:
            def run(params: Any, xs: Any, carry: Any) -> Any:
                return rnnjax.scan(
                    recurrence,
                    params,
                    xs,
                    carry,
                    lengths=lengths if masked else None,
                    resets=resets if packed else None,
                    reverse=reverse,
                    plan=plan,
                )

            outputs, pullback = jax.vjp(run, params, xs, carry)
            return outputs, pullback(cotangents)

        return [one(plan, *option) for option in options for plan in PLANS]

    results = iter(
        jax.jit(everything, compiler_options=UNOPTIMISED)(params, xs, carry, lengths, resets)
    )
    for masked, packed, reverse in options:
        expected = torch_networks.run_cell(
            name,
            params._asdict(),
            xs,
            [carry],
            lengths if masked else None,
            resets if packed else None,
            reverse,
            [cotangents[1], cotangents[0]],
        )
        for plan in PLANS:
            (last, ys), (dparams, dxs, dcarry) = next(results)
            assert_close(
                {
                    "ys": ys,
                    "carry": [last],
                    "dparams": [dparams._asdict()],
                    "dxs": dxs,
                    "dcarry": [dcarry],
                },
                expected._asdict(),
                dtype,
                f"{plan} lengths={masked} resets={packed} reverse={reverse}",
            )
