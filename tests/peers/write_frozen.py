"""Write the frozen arrays of every recurrence: small inputs, outputs and gradients, by PyTorch.

Run in `tests/`, in the environment that `make test-peers` makes:

    ../.venv-peers/bin/python -m peers.write_frozen

Inputs are drawn from a fixed seed and rounded to three decimals, so a file can be read and its
inputs are the same on every machine. Outputs come from `torch.nn` where it has the recurrence,
else from its equations in `peers.torch_networks`; rnnjax computes none of them.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from peers.torch_networks import BUILDERS, CELLS, network, run_cell, run_network, set_weights

FOLDER = Path(__file__).parents[1] / "recurrences" / "frozen"
T, B, I, H, P = 3, 2, 3, 2, 1  # noqa: E741 - the letters of the documentation
SEED = 20140901
GATES = {
    "elman": 1,
    "elman_relu": 1,
    "minimal_gru": 2,
    "gru": 3,
    "gru_reset_before": 3,
    "lstm": 4,
    "lstm_projected": 4,
}


def frozen(name: str) -> dict[str, Any]:
    """The content of one file, arrays as nested lists.

    Gradients are of `sum(cotangent * output)`; carries are lists of leaves.
    """
    rng = np.random.default_rng(SEED)

    def draw(*shape: int) -> np.ndarray:
        return np.round(rng.normal(size=shape), 3)

    stacked = GATES[name] * H
    sizes_of_carry = {"lstm": [H, H], "lstm_projected": [P, H]}.get(name, [H])
    output_size = sizes_of_carry[0]
    biases = ("b_x", "b_h") if name == "gru" else ("b",)
    params = {
        "w_x": draw(I, stacked),
        "w_h": draw(output_size, stacked),
        **{bias: draw(stacked) for bias in biases},
    }
    if name == "lstm_projected":
        params["w_projection"] = draw(H, P)
    xs, carry = draw(T, B, I), [draw(B, size) for size in sizes_of_carry]
    cotangents = [draw(T, B, output_size), *(draw(B, size) for size in sizes_of_carry)]

    if name in CELLS:
        source = "peers.torch_networks"
        result = run_cell(name, params, xs, carry, None, None, False, cotangents)
    else:
        source = f"torch.nn.{BUILDERS[name][0].__name__}"
        sizes = (I, H, P) if name == "lstm_projected" else (I, H)
        module = network(name, "float64", 1, False, sizes)
        set_weights(name, module, params)

        def layered(arrays: list[np.ndarray]) -> list[np.ndarray]:
            return [array[None] for array in arrays]

        result = run_network(
            name, module, xs, layered(carry), None, [cotangents[0], *layered(cotangents[1:])]
        )
        result = result._replace(
            carry=[leaf[0] for leaf in result.carry], dcarry=[leaf[0] for leaf in result.dcarry]
        )
    content = {
        "source": source,
        "inputs": {"params": params, "xs": xs, "carry": carry},
        "cotangents": {"ys": cotangents[0], "carry": cotangents[1:]},
        "outputs": {"ys": result.ys, "carry": result.carry},
        "gradients": {"params": result.dparams[0], "xs": result.dxs, "carry": result.dcarry},
    }
    return json.loads(json.dumps(content, default=np.ndarray.tolist))


def main() -> None:
    """Write every file, each replaced at once."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in GATES:
        path = FOLDER / f"{name}.json"
        unfinished = path.with_suffix(".unfinished")
        lines = [f'"{key}": {json.dumps(value)}' for key, value in frozen(name).items()]
        unfinished.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        unfinished.replace(path)
        sys.stdout.write(f"{path.name}\n")


if __name__ == "__main__":
    main()
