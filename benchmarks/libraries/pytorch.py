"""PyTorch: `torch.nn.RNN`, `GRU` and `LSTM`, time-major, not compiled by `torch.compile`.

Forward passes are those of a module in eval mode under `torch.inference_mode`. Lengths are packed
sequences, packing and unpacking included. There are no resets: sequences are a loop over the steps
of a cell, whose carry is cleared by `torch.where`. Generation and streaming are a loop over one
step of the module ("module") or over cells ("cells").
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import Tensor  # pyright: ignore[reportMissingImports]
from torch.nn.utils import rnn  # pyright: ignore[reportMissingImports]

from benchmarks.libraries.tasks import (
    FIRST_TOKEN,
    Generation,
    Prepare,
    Prepared,
    Product,
    Sequences,
    Streaming,
    inputs_of,
    lengths_of,
    outer_weights_of,
    resets_of,
    stream_of,
    weights_of,
)
from rnnjax.training.machine import machine_record

VERSION = torch.__version__
MODULES = {"elman": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}
CELLS = {"elman": torch.nn.RNNCell, "gru": torch.nn.GRUCell, "lstm": torch.nn.LSTMCell}
Carry = Tensor | tuple[Tensor, ...]

torch.set_num_threads(machine_record()["cores"])


def state_dict(recurrence: str, input_size: int, hidden_size: int, layer: int) -> dict[str, Tensor]:
    """The common weights by PyTorch's names, without the suffix of a layer."""
    w_x, w_h, b = weights_of(recurrence, input_size, hidden_size, layer).values()
    arrays = {"weight_ih": w_x.T, "weight_hh": w_h.T, "bias_ih": b, "bias_hh": 0 * b}
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def module_of(recurrence: str, input_size: int, hidden_size: int, layers: int = 1) -> Any:
    """A `torch.nn.RNN`, `GRU` or `LSTM` with the common weights."""
    module = MODULES[recurrence](input_size, hidden_size, layers)
    weights: dict[str, Tensor] = {}
    for layer in range(layers):
        size = input_size if layer == 0 else hidden_size
        for name, array in state_dict(recurrence, size, hidden_size, layer).items():
            weights[f"{name}_l{layer}"] = array
    module.load_state_dict(weights)
    return module


def cell_of(recurrence: str, input_size: int, hidden_size: int, layer: int = 0) -> Any:
    """A cell with the common weights."""
    cell = CELLS[recurrence](input_size, hidden_size)
    cell.load_state_dict(state_dict(recurrence, input_size, hidden_size, layer))
    return cell


def zero_carry(recurrence: str, *shape: int) -> Any:
    """Zeros, one tensor or two."""
    zero = torch.zeros(shape)
    return (zero, zero) if recurrence == "lstm" else zero


def output_of(carry: Carry) -> Tensor:
    """What a cell puts out, given its carry."""
    return carry[0] if isinstance(carry, tuple) else carry


def run_of(task: Sequences) -> tuple[Any, Callable[[Tensor], tuple[Tensor, Carry]]]:
    """The module that has the parameters, and `xs -> (ys, carry)`."""
    sizes = (task.recurrence, task.input_size, task.hidden_size)
    if task.kind == "plain":
        module = module_of(*sizes)
        return module, module
    if task.kind == "lengths":
        module, lengths = module_of(*sizes), torch.from_numpy(lengths_of(task)).long()

        def run_packed(xs: Tensor) -> tuple[Tensor, Carry]:
            ys, carry = module(rnn.pack_padded_sequence(xs, lengths))  # the lengths descend
            return rnn.pad_packed_sequence(ys, total_length=task.time_steps)[0], carry

        return module, run_packed

    cell, resets = cell_of(*sizes), torch.from_numpy(resets_of(task))[..., None]
    zero = torch.zeros(())

    def run_steps(xs: Tensor) -> tuple[Tensor, Carry]:
        carry, ys = zero_carry(task.recurrence, task.batch_size, task.hidden_size), []
        for x, reset in zip(xs, resets, strict=True):
            if isinstance(carry, tuple):
                carry = cell(x, tuple(torch.where(reset, zero, leaf) for leaf in carry))
            else:
                carry = cell(x, torch.where(reset, zero, carry))
            ys.append(output_of(carry))
        return torch.stack(ys), carry

    return cell, run_steps


def sequences(task: Sequences) -> Prepared:
    """A forward pass or a training step."""
    module, run = run_of(task)
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
        leaves = [ys, *carry] if isinstance(carry, tuple) else [ys, carry]
        flat = [leaf.flatten() for leaf in leaves]
        loss = torch.stack([torch.dot(leaf, leaf) for leaf in flat]).sum() / 2
        return loss, torch.autograd.grad(loss, wanted)

    return Prepared(
        training, lambda found: {"loss": found[0].detach().numpy(), "dxs": found[1][-1].numpy()}
    )


def product(task: Product) -> Prepared:
    """`torch.mm`."""
    a, b = np.random.default_rng(0).standard_normal((2, task.size, task.size), np.float32)
    a, b = torch.from_numpy(a), torch.from_numpy(b)
    return Prepared(lambda: torch.mm(a, b), lambda found: {"product": found.numpy()})


def generation(task: Generation) -> Prepared:
    """A loop of embedding, one step, dense, softmax and a draw.

    The draw is argmax_v (p_v / e_v), e ~ Exponential(1): faster than `torch.multinomial`. "module"
    is one step of `torch.nn.LSTM` and its like; "cells" are one cell a layer.
    """
    size, outer = task.hidden_size, outer_weights_of(task)
    outer = {name: torch.from_numpy(array) for name, array in outer.items()}
    embedding = torch.nn.Embedding.from_pretrained(outer["table"])
    dense = torch.nn.Linear(size, task.vocabulary_size)
    dense.load_state_dict({"weight": outer["w"].T.contiguous(), "bias": outer["b"]})
    module = module_of(task.recurrence, size, size, task.layers).eval()
    cells = [cell_of(task.recurrence, size, size, layer).eval() for layer in range(task.layers)]

    def by_module(x: Tensor, carry: Any) -> tuple[Tensor, Any]:
        ys, carry = module(x[None], carry)
        return ys[0], carry

    def by_cells(x: Tensor, carry: Any) -> tuple[Tensor, Any]:
        after = []
        for cell, of_cell in zip(cells, carry, strict=True):
            after.append(cell(x, of_cell))
            x = output_of(after[-1])
        return x, after

    step = {"module": by_module, "cells": by_cells}[task.plan]
    if task.plan == "module":
        start = zero_carry(task.recurrence, task.layers, task.batch_size, size)
    else:
        start = [zero_carry(task.recurrence, task.batch_size, size) for _ in cells]

    def call() -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        token = torch.full((task.batch_size,), FIRST_TOKEN)
        carry, tokens, logits = start, [], torch.empty(0)
        with torch.inference_mode():
            for _ in range(task.length):
                y, carry = step(embedding(token), carry)
                logits = dense(y)
                noise = torch.empty_like(logits).exponential_()
                token = torch.argmax(torch.softmax(logits, -1) / noise, -1)
                tokens.append(token)
            return torch.stack(tokens), logits

    return Prepared(
        call,
        lambda found: {"tokens": found[0].numpy().astype(np.int32), "logits": found[1].numpy()},
    )


def streaming(task: Streaming) -> Prepared:
    """One step a call: of a "module" with T = 1, or of a "cell"."""
    size = task.hidden_size
    xs = [torch.from_numpy(x) for x in stream_of(task)]
    if task.plan == "module":
        module = module_of(task.recurrence, size, size).eval()
        start = zero_carry(task.recurrence, 1, 1, size)

        def step(x: Tensor, carry: Any) -> tuple[Tensor, Any]:
            ys, carry = module(x[None], carry)
            return ys[0], carry

    else:
        cell = cell_of(task.recurrence, size, size).eval()
        start = zero_carry(task.recurrence, 1, size)

        def step(x: Tensor, carry: Any) -> tuple[Tensor, Any]:
            carry = cell(x, carry)
            return output_of(carry), carry

    def call() -> list[Tensor]:
        carry, ys = start, []
        with torch.inference_mode():
            for x in xs:
                y, carry = step(x, carry)
                ys.append(y)
        return ys

    return Prepared(call, lambda ys: {"ys": np.concatenate([y.numpy() for y in ys])})


PREPARE: Prepare = {
    Sequences: sequences,
    Product: product,
    Generation: generation,
    Streaming: streaming,
}
