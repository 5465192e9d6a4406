"""The common weights in the layout of Flax Linen's cells."""

import numpy as np

from benchmarks.libraries.tasks import by_gate, weights_of

Tree = dict[str, dict[str, np.ndarray]]


def linen_weights(recurrence: str, input_size: int, hidden_size: int, layer: int = 0) -> Tree:
    """Dense layer -> kernel and bias: of `SimpleCell`, `GRUCell` and `OptimizedLSTMCell`."""
    weights = weights_of(recurrence, input_size, hidden_size, layer)
    if recurrence == "elman":
        return {
            "i": {"kernel": weights["w_x"], "bias": weights["b"]},
            "h": {"kernel": weights["w_h"]},
        }
    gates = {"gru": "rzn", "lstm": "ifgo"}[recurrence]
    w_x, w_h, b = (by_gate(weights[name], gates) for name in ("w_x", "w_h", "b"))
    tree: Tree = {}
    for gate in gates:
        tree[f"i{gate}"], tree[f"h{gate}"] = {"kernel": w_x[gate]}, {"kernel": w_h[gate]}
        tree[f"{'h' if recurrence == 'lstm' else 'i'}{gate}"]["bias"] = b[gate]
    if recurrence == "gru":
        tree["hn"]["bias"] = np.zeros_like(b["n"])
    return tree
