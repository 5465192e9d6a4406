"""Write ONNX files that PyTorch exports: `python -m peers.write_frozen_interop_onnx` in `tests/`.

Needs PyTorch and onnxscript. Beside each file is what the module computed.
"""

import io
import json
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch  # pyright: ignore[reportMissingImports]

from rnnjax.training.files import replace_bytes, replace_text

FOLDER = Path(__file__).parents[1] / "interop" / "frozen"
T, B, I, H = 3, 2, 2, 3  # noqa: E741 - the letters of the documentation
SEED = 19901102


class Case(NamedTuple):
    """A module, and how it is exported."""

    build: Any
    options: dict[str, Any]
    export: dict[str, Any]


LSTM = {"num_layers": 2, "bidirectional": True}
AXES = {"dynamic_axes": {"xs": {0: "first", 1: "second"}}}
CASES = {
    "torch_lstm": Case(torch.nn.LSTM, LSTM, AXES),
    "torch_gru": Case(
        torch.nn.GRU,
        {"num_layers": 2, "batch_first": True},
        {"do_constant_folding": False} | AXES,
    ),
    "torch_dynamo": Case(
        torch.nn.LSTM, {"num_layers": 2, "bidirectional": True}, {"dynamo": True, "verbose": False}
    ),
}


def exported(module: Any, *inputs: Any, **options: Any) -> bytes:
    """The file of a module, without what names the place it was made at."""
    buffer = io.BytesIO()
    options = {"dynamo": False, "input_names": ["xs"]} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PyTorch says of its own exporters
        torch.onnx.export(module.eval(), inputs, buffer, **options)
    model = onnx.load_from_string(buffer.getvalue())
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    return model.SerializeToString()


def frozen(case: str) -> tuple[bytes, dict[str, Any]]:
    """The file, and inputs with what the module makes of them."""
    build, options, export = CASES[case]
    rng = np.random.default_rng(SEED)

    def draw(shape: Any) -> Any:
        return torch.from_numpy(np.round(rng.normal(size=tuple(shape)), 2))

    module = build(I, H, dtype=torch.float64, **options)
    module.load_state_dict({name: draw(one.shape) for name, one in module.state_dict().items()})
    xs = draw((B, T, I) if module.batch_first else (T, B, I))
    with torch.no_grad():
        ys, last = module(xs)
    last = last if isinstance(last, tuple) else (last,)
    content = {"xs": xs, "ys": ys, "last": last, "batch_first": module.batch_first}
    content = json.loads(json.dumps(content, default=torch.Tensor.tolist))
    return exported(module, xs, **export), content


def main() -> None:
    """Write the files, each replaced at once."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    lines = []
    for case in CASES:
        model, content = frozen(case)
        replace_bytes(FOLDER / f"{case}.onnx", model)
        lines.append(f'"{case}": {json.dumps(content)}')
        sys.stdout.write(f"{case}.onnx\n")
    replace_text(FOLDER / "onnx.json", "{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
