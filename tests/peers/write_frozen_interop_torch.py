"""Write what PyTorch's networks compute: `python -m peers.write_frozen_interop_torch` in `tests/`.

Needs PyTorch. What a recurrence computes is frozen by `peers.write_frozen`; here it is how layers
and directions are put together, and by what names.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

PATH = Path(__file__).parents[1] / "interop" / "frozen" / "torch.json"
T, B, I, H, P = 3, 2, 2, 3, 2  # noqa: E741 - the letters of the documentation
LENGTHS = [3, 1]
SEED = 19901101
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "projected": (torch.nn.LSTM, {"num_layers": 2, "bidirectional": True, "proj_size": P}),
    "bidirectional": (torch.nn.GRU, {"num_layers": 2, "bidirectional": True}),
    "deep": (torch.nn.LSTM, {"num_layers": 2}),
    "without biases": (torch.nn.RNN, {"nonlinearity": "relu", "bias": False}),
}


def frozen(case: str) -> dict[str, Any]:
    """The state dict of a module, inputs, and what the module makes of them."""
    rng = np.random.default_rng(SEED)

    def draw(shape: Any) -> np.ndarray:
        return np.round(rng.normal(size=tuple(shape)), 2)

    build, options = CASES[case]
    module = build(I, H, dtype=torch.float64, **options)
    weights = {name: draw(tensor.shape) for name, tensor in module.state_dict().items()}
    module.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    xs = draw((T, B, I))
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.from_numpy(xs), torch.tensor(LENGTHS))
    with torch.no_grad():
        packed_ys, last = module(packed)
    ys, _ = torch.nn.utils.rnn.pad_packed_sequence(packed_ys, total_length=T)
    content = {
        "kind": module.mode,
        "state_dict": weights,
        "xs": xs,
        "lengths": LENGTHS,
        "ys": ys.numpy(),
        # (L D, B, H) each: the last h, and of an LSTM the last c
        "carry": [leaf.numpy() for leaf in (last if isinstance(last, tuple) else (last,))],
    }
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
