"""Write what Keras's layers compute: `python -m peers.write_frozen_interop_keras` in `tests/`.

Needs Keras. On JAX its activations are of float32 whatever the layer is, so all of it is.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from peers.keras_on_jax import keras

PATH = Path(__file__).parents[1] / "interop" / "frozen" / "keras.json"
T, B, I, H = 3, 2, 2, 3  # noqa: E741 - the letters of the documentation
LENGTHS = [3, 1]
SEED = 19901101
# Layers, bottom first: their class, and what they are made with beside their size.
CASES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "relu": [("SimpleRNN", {"activation": "relu"})],
    "reset after": [("GRU", {})],
    "reset before": [("GRU", {"reset_after": False})],
    "without biases": [("GRU", {"use_bias": False})],
    "backwards": [("LSTM", {"go_backwards": True})],
    "deep": [
        ("GRU", {"reset_after": False, "merge_mode": "sum"}),
        ("SimpleRNN", {"merge_mode": "concat"}),
        ("LSTM", {}),
    ],
}


def built(kind: str, merge_mode: str | None = None, **options: Any) -> Any:
    """A layer that says what it computes at all steps, and zero where there is no step."""
    layer = getattr(keras.layers, kind)(
        H, return_sequences=True, zero_output_for_mask=True, **options
    )
    return layer if merge_mode is None else keras.layers.Bidirectional(layer, merge_mode)


def frozen(case: str) -> dict[str, Any]:
    """The weights of layers, inputs, and what the layers make of them."""
    rng = np.random.default_rng(SEED)

    def draw(shape: Any) -> np.ndarray:
        return np.round(rng.normal(size=tuple(shape)), 2)

    xs = draw((B, T, I))
    mask = np.arange(T) < np.array(LENGTHS)[:, None]
    ys, layers = xs.astype(np.float32), []
    for kind, options in CASES[case]:
        layer = built(kind, **options)
        layer.build(ys.shape)
        weights = [draw(array.shape) for array in layer.get_weights()]
        layer.set_weights(weights)
        layers.append({"kind": kind, "options": options, "weights": weights})
        ys = layer(ys, mask=mask)
    content = {"layers": layers, "xs": xs, "lengths": LENGTHS, "ys": np.asarray(ys, np.float64)}
    return json.loads(json.dumps(content, default=np.ndarray.tolist))


def main() -> None:
    """Write the file, replaced at once."""
    PATH.parent.mkdir(parents=True, exist_ok=True)
    unfinished = PATH.with_suffix(".unfinished")
    lines = [f'"{case}": {json.dumps(frozen(case))}' for case in CASES]
    unfinished.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    unfinished.replace(PATH)
    sys.stdout.write(f"{PATH.name}\n")


if __name__ == "__main__":
    main()
