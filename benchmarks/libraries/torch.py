"""PyTorch: `torch.nn.RNN`, `GRU` and `LSTM`, time-major, not compiled by `torch.compile`.

Forward passes are those of a module in eval mode under `torch.inference_mode`. Lengths are packed
sequences, packing and unpacking included. There are no resets: sequences are a loop over the steps
of a cell, whose carry is cleared by `torch.where`.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.libraries.tasks import (
    Prepare,
    Prepared,
    Product,
    Sequences,
    inputs_of,
    lengths_of,
    resets_of,
    weights_of,
)

VERSION = torch.__version__
MODULES = {"elman": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}
CELLS = {"elman": torch.nn.RNNCell, "gru": torch.nn.GRUCell, "lstm": torch.nn.LSTMCell}

torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)


def with_weights(module: torch.nn.Module, recurrence: str) -> torch.nn.Module:
    """The module with the weights that all libraries have."""
    suffix = "" if isinstance(module, torch.nn.RNNCellBase) else "_l0"
    weights = weights_of(recurrence, module.input_size, module.hidden_size)
    names = {"w_x": "weight_ih", "w_h": "weight_hh", "b_x": "bias_ih", "b_h": "bias_hh"}
    module.load_state_dict(
        {
            f"{names[name]}{suffix}": torch.from_numpy(array.T.copy())
            for name, array in weights.items()
        }
    )
    return module


Run = Callable[[Tensor], tuple[Tensor, Any]]


def run_plain(task: Sequences) -> tuple[torch.nn.Module, Run]:
    """The module as it is."""
    module = MODULES[task.recurrence](task.input_size, task.hidden_size)
    return with_weights(module, task.recurrence), module


def run_lengths(task: Sequences) -> tuple[torch.nn.Module, Run]:
    """Packed and padded again; the lengths descend."""
    module, lengths = run_plain(task)[0], torch.from_numpy(lengths_of(task)).long()

    def run(xs: Tensor) -> tuple[Tensor, Any]:
        packed = torch.nn.utils.rnn.pack_padded_sequence(xs, lengths)
        ys, carry = module(packed)
        return torch.nn.utils.rnn.pad_packed_sequence(ys, total_length=task.time_steps)[0], carry

    return module, run


def run_resets(task: Sequences) -> tuple[torch.nn.Module, Run]:
    """A loop over the steps of a cell."""
    cell = with_weights(CELLS[task.recurrence](task.input_size, task.hidden_size), task.recurrence)
    resets = torch.from_numpy(resets_of(task))[..., None]
    zero = torch.zeros(())

    def run(xs: Tensor) -> tuple[Tensor, Any]:
        h = xs.new_zeros(task.batch_size, task.hidden_size)
        carry, ys = (h, h) if task.recurrence == "lstm" else h, []
        for x, reset in zip(xs, resets, strict=True):
            if isinstance(carry, tuple):
                carry = cell(x, tuple(torch.where(reset, zero, leaf) for leaf in carry))
                ys.append(carry[0])
            else:
                carry = cell(x, torch.where(reset, zero, carry))
                ys.append(carry)
        return torch.stack(ys), carry

    return cell, run


RUNS = {"": run_plain, "lengths": run_lengths, "resets": run_resets}


def sequences(task: Sequences) -> Prepared:
    """A forward pass or a training step."""
    module, run = RUNS[task.options](task)
    xs = torch.from_numpy(inputs_of(task))
    if task.computation == "forward":
        module.eval()

        def forward() -> Tensor:
            with torch.inference_mode():
                return run(xs)[0]

        return Prepared(forward, lambda ys: {"ys": ys.numpy()})
    xs.requires_grad_()
    wanted = (*module.parameters(), xs)

    def training() -> tuple[Tensor, tuple[Tensor, ...]]:
        ys, carry = run(xs)
        leaves = (ys, *carry) if isinstance(carry, tuple) else (ys, carry)
        flat = [leaf.flatten() for leaf in leaves]
        loss = sum(torch.dot(leaf, leaf) for leaf in flat) / 2
        return loss, torch.autograd.grad(loss, wanted)

    return Prepared(
        training, lambda found: {"loss": found[0].detach().numpy(), "dxs": found[1][-1].numpy()}
    )


def product(task: Product) -> Prepared:
    """`torch.mm`."""
    a, b = torch.randn(2, task.size, task.size, generator=torch.Generator().manual_seed(0))
    return Prepared(lambda: torch.mm(a, b), lambda found: {"product": found.numpy()})


PREPARE: Prepare = {Sequences: sequences, Product: product}
