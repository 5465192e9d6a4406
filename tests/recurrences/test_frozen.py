"""Recurrences that PyTorch has compute what PyTorch computed once (`peers.write_frozen`)."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from support.tolerances import assert_close

import rnnjax

FOLDER = Path(__file__).parent / "frozen"
NOT_OF_TORCH = {
    *("gated_diagonal", "min_gru", "min_lstm", "sru", "sru_linear", "qrnn"),
    *("lru", "rg_lru", "mlstm"),
    *("lstm_peephole", "lstm_layer_norm", "gru_layer_norm", "indrnn", "slstm"),
    *("conv_lstm_1d", "conv_lstm_2d"),
}
OF_TORCH = [name for name in rnnjax.recurrences.REGISTRY if name not in NOT_OF_TORCH]


def test_there_is_a_file_for_each_recurrence_of_torch_and_no_other():
    assert {path.stem for path in FOLDER.glob("*.json")} == set(OF_TORCH)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", OF_TORCH)
def test_values_and_gradients_are_the_frozen_ones(name, dtype):
    recurrence = rnnjax.recurrences.REGISTRY[name]
    stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    record = type(jax.eval_shape(lambda: recurrence.init(jax.random.key(0), 3, 2)))

    def array(nested: Any) -> Any:
        return jnp.asarray(nested, dtype)

    def arrays(content: dict[str, Any]) -> dict[str, Any]:
        read = {
            "params": lambda fields: record(**{key: array(field) for key, field in fields.items()}),
            "carry": lambda leaves: [array(leaf) for leaf in leaves],
        }
        return {key: read.get(key, array)(value) for key, value in content.items()}

    inputs, gradients = arrays(stored["inputs"]), arrays(stored["gradients"])
    outputs, cotangents = arrays(stored["outputs"]), arrays(stored["cotangents"])
    structure = jax.tree.structure(recurrence.initial_carry(inputs["params"], ()))

    def run(plan: str, inputs: Any) -> Any:
        carry = jax.tree.unflatten(structure, inputs["carry"])
        carry, ys = rnnjax.scan(recurrence, inputs["params"], inputs["xs"], carry, plan=plan)
        return {"ys": ys, "carry": jax.tree.leaves(carry)}

    def values_and_gradients(inputs: Any, cotangents: Any) -> Any:
        results = {}
        for plan in ("reference", "fused"):
            values, pullback = jax.vjp(lambda inputs, plan=plan: run(plan, inputs), inputs)
            results[plan] = values, pullback(cotangents)[0]
        return results

    unoptimised = {"xla_backend_optimization_level": 0}
    compiled = jax.jit(values_and_gradients, compiler_options=unoptimised)
    for plan, results in compiled(inputs, cotangents).items():
        assert_close(results, (outputs, gradients), dtype, plan)
