"""PyTorch's own recurrent networks, and recurrences it lacks written out by their equations.

Needs PyTorch, so tests import this inside a fixture. Arrays go in and come out as numpy, in the
layout of rnnjax: weights `(I, G H)`, gates in PyTorch's order, time first.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

Fields = dict[str, np.ndarray]
"""The fields of a params record by name."""

BUILDERS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "elman": (torch.nn.RNN, {"nonlinearity": "tanh"}),
    "elman_relu": (torch.nn.RNN, {"nonlinearity": "relu"}),
    "gru": (torch.nn.GRU, {}),
    "lstm": (torch.nn.LSTM, {}),
    "lstm_projected": (torch.nn.LSTM, {}),
}


class Result(NamedTuple):
    """What a run returned and the gradients of `sum(cotangent * output)` over all outputs."""

    ys: np.ndarray  # (T, B, D H), of a projected LSTM (T, B, D P)
    carry: list[np.ndarray]  # leaves (L D, B, H) of a network, (B, H) of a cell
    dparams: list[Fields]  # one a layer and direction, in PyTorch's order
    dxs: np.ndarray  # (T, B, I)
    dcarry: list[np.ndarray]


def network(name: str, dtype: str, layers: int, bidirectional: bool, sizes: tuple[int, ...]) -> Any:
    """A `torch.nn` module with random weights and both its biases random.

    Sizes are (I, H), of a projected LSTM (I, H, P).
    """
    torch.manual_seed(0)
    build, options = BUILDERS[name]
    input_size, hidden_size, *projection_size = sizes
    if projection_size:
        options = options | {"proj_size": projection_size[0]}
    return build(
        input_size,
        hidden_size,
        num_layers=layers,
        bidirectional=bidirectional,
        dtype=getattr(torch, dtype),
        **options,
    )


def _fields(name: str, module: Any, read: Callable[[Any], Any], bias: Any) -> list[Fields]:
    directions = ("", "_reverse") if module.bidirectional else ("",)
    every = []
    for suffix in (f"_l{layer}{way}" for layer in range(module.num_layers) for way in directions):
        weight_x, weight_h, bias_x, bias_h = (
            read(getattr(module, kind + suffix)).numpy()
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        biases = {"b_x": bias_x, "b_h": bias_h} if name == "gru" else {"b": bias(bias_x, bias_h)}
        fields = {"w_x": weight_x.T, "w_h": weight_h.T, **biases}
        if name == "lstm_projected":
            fields["w_projection"] = read(getattr(module, "weight_hr" + suffix)).numpy().T
        every.append(fields)
    return every


def weights(name: str, module: Any) -> list[Fields]:
    """The weights of each layer and direction; where rnnjax has one bias it is the sum of two."""
    return _fields(name, module, lambda weight: weight.detach(), np.add)


def set_weights(name: str, module: Any, fields: Fields) -> None:
    """Give a module of one layer and direction these weights; its second bias is zero if unused."""
    zero = np.zeros_like(fields["w_x"][0])
    values = {
        "weight_ih_l0": fields["w_x"].T,
        "weight_hh_l0": fields["w_h"].T,
        "bias_ih_l0": fields["b_x" if name == "gru" else "b"],
        "bias_hh_l0": fields["b_h"] if name == "gru" else zero,
    }
    if name == "lstm_projected":
        values["weight_hr_l0"] = fields["w_projection"].T
    module.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in values.items()})


def _leaf(value: np.ndarray) -> Any:
    return torch.from_numpy(value.copy()).requires_grad_()


def _weighed(outputs: list[Any], cotangents: list[np.ndarray]) -> Any:
    pairs = zip(outputs, cotangents, strict=True)
    return sum((output * torch.from_numpy(weight)).sum() for output, weight in pairs)


def run_network(
    name: str,
    module: Any,
    xs: np.ndarray,
    carry: list[np.ndarray],
    lengths: np.ndarray | None,
    cotangents: list[np.ndarray],
) -> Result:
    """Run a module; lengths, unsorted, go through `pack_padded_sequence`."""
    inputs, leaves = _leaf(xs), [_leaf(leaf) for leaf in carry]
    has_cell = isinstance(module, torch.nn.LSTM)
    initial = tuple(leaves) if has_cell else leaves[0]
    module.zero_grad()
    if lengths is None:
        ys, last = module(inputs, initial)
    else:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            inputs, torch.from_numpy(lengths), enforce_sorted=False
        )
        packed_ys, last = module(packed, initial)
        ys, _ = torch.nn.utils.rnn.pad_packed_sequence(packed_ys, total_length=len(xs))
    outputs = [ys, *(last if has_cell else (last,))]
    _weighed(outputs, cotangents).backward()
    return Result(
        ys.detach().numpy(),
        [leaf.detach().numpy() for leaf in outputs[1:]],
        # Either bias has the gradient of their sum.
        _fields(name, module, lambda weight: weight.grad, lambda bias_x, _: bias_x),
        inputs.grad.numpy(),
        [leaf.grad.numpy() for leaf in leaves],
    )


def minimal_gru(fields: dict[str, Any], carry: list[Any], x: Any) -> list[Any]:
    """Γu = σ(W_u [c, x] + b_u), c̃ = tanh(W_c [c, x] + b_c), c' = Γu c̃ + (1 − Γu) c."""
    (c,) = carry
    size = c.shape[-1]
    weight = torch.cat([fields["w_h"], fields["w_x"]])
    both = torch.cat([c, x])
    update = torch.sigmoid(both @ weight[:, :size] + fields["b"][:size])
    candidate = torch.tanh(both @ weight[:, size:] + fields["b"][size:])
    return [update * candidate + (1 - update) * c]


def gru_reset_before(fields: dict[str, Any], carry: list[Any], x: Any) -> list[Any]:
    """r, z = σ(W [h, x] + b), n = tanh(W_n [r h, x] + b_n), h' = (1 − z) n + z h."""
    (h,) = carry
    size = h.shape[-1]
    weight = torch.cat([fields["w_h"], fields["w_x"]])
    both = torch.cat([h, x])
    reset = torch.sigmoid(both @ weight[:, :size] + fields["b"][:size])
    update = torch.sigmoid(both @ weight[:, size : 2 * size] + fields["b"][size : 2 * size])
    gated = torch.cat([reset * h, x])
    new = torch.tanh(gated @ weight[:, 2 * size :] + fields["b"][2 * size :])
    return [(1 - update) * new + update * h]


CELLS = {"minimal_gru": minimal_gru, "gru_reset_before": gru_reset_before}
"""`(fields, carry, x) -> carry` for one row; the output is the carry's first leaf."""


def run_cell(
    name: str,
    params: Fields,
    xs: np.ndarray,
    carry: list[np.ndarray],
    lengths: np.ndarray | None,
    resets: np.ndarray | None,
    reverse: bool,
    cotangents: list[np.ndarray],
) -> Result:
    """Run a cell row by row, each over its own steps only, and differentiate by autograd."""
    cell = CELLS[name]
    fields = {key: _leaf(value) for key, value in params.items()}
    inputs, leaves = _leaf(xs), [_leaf(leaf) for leaf in carry]
    time_steps, rows = xs.shape[:2]
    rows_of_ys, rows_of_carry = [], []
    for row in range(rows):
        state = [leaf[row] for leaf in leaves]
        ys = [torch.zeros_like(state[0])] * time_steps
        times = range(time_steps if lengths is None else int(lengths[row]))
        for t in reversed(times) if reverse else times:
            if resets is not None and resets[t, row]:
                state = [torch.zeros_like(leaf) for leaf in state]
            state = cell(fields, state, inputs[t, row])
            ys[t] = state[0]
        rows_of_ys.append(torch.stack(ys))
        rows_of_carry.append(state)
    outputs = [
        torch.stack(rows_of_ys, dim=1),
        *(torch.stack(of_rows) for of_rows in zip(*rows_of_carry, strict=True)),
    ]
    _weighed(outputs, cotangents).backward()
    return Result(
        outputs[0].detach().numpy(),
        [leaf.detach().numpy() for leaf in outputs[1:]],
        [{key: value.grad.numpy() for key, value in fields.items()}],
        inputs.grad.numpy(),
        [leaf.grad.numpy() for leaf in leaves],
    )
