"""Write what Haiku's cores compute: `python -m peers.write_frozen_interop_haiku` in `tests/`.

Needs Haiku.
"""

import json
import sys
from pathlib import Path
from typing import Any

import haiku as hk  # pyright: ignore[reportMissingImports]
import jax
import numpy as np

PATH = Path(__file__).parents[1] / "interop" / "frozen" / "haiku.json"
T, B, I, H = 3, 2, 2, 3  # noqa: E741 - the letters of the documentation
SPATIAL_SHAPE = (4,)
SEED = 19901101
# Cores, bottom first, by the path that Haiku gives them.
CASES: dict[str, dict[str, str]] = {
    "deep": {
        "vanilla_rnn": "VanillaRNN",
        "gru": "GRU",
        "lstm": "LSTM",
        "vanilla_rnn_1": "VanillaRNN",
    },
    "images": {"conv1_dlstm": "Conv1DLSTM"},
}


def unrolled(cores: dict[str, str], xs: Any) -> Any:
    """Outputs of cores on top of each other, and their last states."""
    made = []
    for path, kind in cores.items():
        if kind == "Conv1DLSTM":
            made.append(hk.Conv1DLSTM(SPATIAL_SHAPE, H, 3))
        elif path.endswith("_1"):
            made.append(hk.VanillaRNN(H, double_bias=False))
        else:
            made.append(getattr(hk, kind)(H))
    core = hk.DeepRNN(made)
    return hk.dynamic_unroll(core, xs, core.initial_state(xs.shape[1]))


def frozen(case: str) -> dict[str, Any]:
    """The parameters of cores, inputs, and what the cores make of them."""
    rng = np.random.default_rng(SEED)

    def draw(shape: Any) -> np.ndarray:
        return np.round(rng.normal(size=tuple(shape)), 2)

    cores = CASES[case]
    xs = draw((T, B, *(SPATIAL_SHAPE if case == "images" else ()), I))
    transformed = hk.transform(lambda xs: unrolled(cores, xs))
    shapes = jax.eval_shape(transformed.init, jax.random.key(0), xs)
    params = jax.tree.map(lambda leaf: draw(leaf.shape), shapes)
    ys, states = transformed.apply(params, jax.random.key(0), xs)
    content = {
        "cores": cores,
        "params": params,
        "xs": xs,
        "ys": np.asarray(ys),
        # (B, H) each: h, or h and c, of one core after the other
        "carry": [np.asarray(leaf) for leaf in jax.tree.leaves(states)],
    }
    return json.loads(json.dumps(content, default=np.ndarray.tolist))


def main() -> None:
    """Write the file, replaced at once."""
    jax.config.update("jax_enable_x64", True)
    PATH.parent.mkdir(parents=True, exist_ok=True)
    unfinished = PATH.with_suffix(".unfinished")
    lines = [f'"{case}": {json.dumps(frozen(case))}' for case in CASES]
    unfinished.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    unfinished.replace(PATH)
    sys.stdout.write(f"{PATH.name}\n")


if __name__ == "__main__":
    main()
