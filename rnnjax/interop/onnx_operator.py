"""The operators RNN, GRU and LSTM of ONNX: what they compute, as recurrences and as callables.

One direction of an operator is a `Cell`. A cell of the usual form is a recurrence of the registry,
so that every plan runs it; of any other one a recurrence is made, which every plan runs that asks
for no more than a step. The package `onnx` is not needed here.

Where the operator's text leaves a choice, this computes what onnxruntime does:

- `clip` bounds the sums of the gates, peepholes included, before f and g; not c in h(c);
- `input_forget` makes f = 1 − i;
- `activation_alpha` and `activation_beta` are for the activations that take one, in order.

A row of length 0 returns its initial state here, and zeros in onnxruntime's GRU and LSTM.

References:
    ONNX operators RNN, GRU and LSTM, versions 7, 14 and 22, https://onnx.ai/onnx/operators.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from rnnjax.layers.bidirectional import BidirectionalParams, scan_bidirectional
from rnnjax.layers.deep import Layer
from rnnjax.plans.protocol import Plan
from rnnjax.recurrences.elman import ElmanParams, elman, elman_relu, with_activation
from rnnjax.recurrences.gru import GRUParams, gru
from rnnjax.recurrences.gru import mix as gru_mix
from rnnjax.recurrences.gru_reset_before import GRUResetBeforeParams, gru_reset_before
from rnnjax.recurrences.lstm import LSTMParams, lstm
from rnnjax.recurrences.lstm import mix as lstm_mix
from rnnjax.recurrences.lstm_peephole import LSTMPeepholeParams, lstm_peephole
from rnnjax.recurrences.products import product
from rnnjax.recurrences.protocol import Params, Recurrence
from rnnjax.scanning import scan

Function = Callable[[Array], Array]

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
"""The operators, and how many gates each has."""

DTYPES = tuple(jnp.dtype(name) for name in ("float32", "float64", "float16", "bfloat16"))
"""What weights are of."""

DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}

# Where each gate of ours, (r, z, n) and (i, f, g, o), is in ONNX, (z, r, h) and (i, o, f, c); and
# where each peephole, (i, f, o), in (i, o, f).
_READ = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 2, 3, 1)}
_WRITTEN = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 3, 1, 2)}
_PEEPHOLES = (0, 2, 1)


class Activation(NamedTuple):
    """An activation function, elementwise; `alpha` and `beta` are None where it takes none."""

    name: str
    alpha: float | None = None
    beta: float | None = None


class Kind(NamedTuple):
    """One name of the operators' list.

    Attributes:
        function: Of x and, where it takes them, alpha and beta.
        defaults: What it takes, with the default; None if the operators state none.
    """

    function: Callable[..., Array]
    defaults: Mapping[str, float | None] = MappingProxyType({})


def _single(value: float) -> float:
    """The value as a file stores it."""
    return float(np.float32(value))


ACTIVATIONS = {
    "Relu": Kind(jax.nn.relu),
    "Tanh": Kind(jnp.tanh),
    "Sigmoid": Kind(jax.nn.sigmoid),
    "Affine": Kind(lambda x, alpha, beta: alpha * x + beta, {"alpha": None, "beta": None}),
    "LeakyRelu": Kind(jax.nn.leaky_relu, {"alpha": _single(0.01)}),
    "ThresholdedRelu": Kind(
        lambda x, alpha: jnp.where(x >= alpha, x, jnp.zeros_like(x)), {"alpha": 1.0}
    ),
    "ScaledTanh": Kind(
        lambda x, alpha, beta: alpha * jnp.tanh(beta * x), {"alpha": None, "beta": None}
    ),
    "HardSigmoid": Kind(
        lambda x, alpha, beta: jnp.clip(alpha * x + beta, 0, 1),
        {"alpha": _single(0.2), "beta": 0.5},
    ),
    "Elu": Kind(jax.nn.elu, {"alpha": 1.0}),
    "Softsign": Kind(jax.nn.soft_sign),
    "Softplus": Kind(jax.nn.softplus),
}
"""The operators' list."""

SIGMOID, TANH, RELU = Activation("Sigmoid"), Activation("Tanh"), Activation("Relu")
DEFAULT_ACTIVATIONS = {"RNN": (TANH,), "GRU": (SIGMOID, TANH), "LSTM": (SIGMOID, TANH, TANH)}
"""(f), (f, g) and (f, g, h)."""


class Cell(NamedTuple):
    """What one direction of an operator computes in a step, without its weights.

    Attributes:
        operator: "RNN", "GRU" or "LSTM".
        activations: (f), (f, g) or (f, g, h).
        clip: What bounds the sums of the gates, or None.
        linear_before_reset: Of a GRU: whether the reset follows the matrix product.
        input_forget: Of an LSTM: whether f = 1 − i.
        peepholes: Of an LSTM: whether it has any.
    """

    operator: str
    activations: tuple[Activation, ...]
    clip: float | None = None
    linear_before_reset: bool = False
    input_forget: bool = False
    peepholes: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class CellRecurrence(Recurrence):
    """A recurrence made for a cell that the registry has no recurrence for."""

    cell: Cell | None = None


_REGISTERED = {
    Cell("RNN", (TANH,)): elman,
    Cell("RNN", (RELU,)): elman_relu,
    Cell("GRU", (SIGMOID, TANH), linear_before_reset=True): gru,
    Cell("GRU", (SIGMOID, TANH)): gru_reset_before,
    Cell("LSTM", (SIGMOID, TANH, TANH)): lstm,
    Cell("LSTM", (SIGMOID, TANH, TANH), peepholes=True): lstm_peephole,
}
EXPRESSIBLE = tuple(_REGISTERED.values())
"""The recurrences of the registry that an operator computes."""


def cell_of(recurrence: Recurrence) -> Cell | None:
    """The cell that a recurrence computes; None if no operator does."""
    if isinstance(recurrence, CellRecurrence):
        return recurrence.cell
    return next((cell for cell, known in _REGISTERED.items() if known is recurrence), None)


@cache
def recurrence_of(cell: Cell) -> Recurrence:
    """The recurrence that computes a cell, for equal cells the same one.

    RNN, with f:

        h' = f(x W_x + b + h W_h)

    GRU, with f and g, where `linear_before_reset`:

        r, z = f(x W_x + b_x + h W_h + b_h)
        n = g(x W_xn + b_xn + r (h W_hn + b_hn)),  h' = (1 − z) n + z h

    else

        r, z = f(x W_x + b + h W_h)
        n = g(x W_xn + b_n + (r h) W_hn),  h' = (1 − z) n + z h

    LSTM, with f, g and h, whose peepholes p are zero without any:

        i = f(x W_xi + h W_hi + p_i c + b_i)
        f = f(x W_xf + h W_hf + p_f c + b_f), or 1 − i with `input_forget`
        g = g(x W_xg + h W_hg + b_g)
        c' = f c + i g
        o = f(x W_xo + h W_ho + p_o c' + b_o)
        h' = o h(c')

    y = h'. A `clip` bounds what f and g are given. Parameters, shapes and carry are those of
    `elman`, `gru`, `gru_reset_before`, `lstm` and `lstm_peephole`.
    """
    if cell in _REGISTERED:
        return _REGISTERED[cell]
    made = {"RNN": _elman, "GRU": _gru, "LSTM": _lstm}[cell.operator](cell)
    parts = {part.name: getattr(made, part.name) for part in fields(made)}
    described = ", ".join(activation.name for activation in cell.activations)
    parts["name"] = f"onnx_{cell.operator.lower()}"
    parts["summary"] = f"ONNX {cell.operator} of {described}"
    return CellRecurrence(**parts, cell=cell)


def _functions(cell: Cell) -> list[Function]:
    """(f), (f, g) or (f, g, h) with the clip before f and g."""

    def function(index: int, activation: Activation) -> Function:
        compute = ACTIVATIONS[activation.name].function
        given = [value for value in activation[1:] if value is not None]
        clip = cell.clip if index < 2 else None

        def clipped(x: Array) -> Array:
            return compute(x if clip is None else jnp.clip(x, -clip, clip), *given)

        return clipped

    return [function(index, activation) for index, activation in enumerate(cell.activations)]


def _elman(cell: Cell) -> Recurrence:
    (f,) = _functions(cell)
    return with_activation(cell.activations[0].name, f)


def _gru(cell: Cell) -> Recurrence:
    f, g = _functions(cell)

    def gate(z: Array, m: Array, h: Array) -> tuple[Array, Array]:
        z_gates, z_new = jnp.split(z, [2 * h.shape[-1]], axis=-1)
        m_gates, m_new = jnp.split(m, [2 * h.shape[-1]], axis=-1)
        reset, update = jnp.split(f(z_gates + m_gates), 2, axis=-1)
        h = (1 - update) * g(z_new + reset * m_new) + update * h
        return h, h

    def step(params: GRUParams, h: Array, z: Array) -> tuple[Array, Array]:
        return gate(z, gru_mix(params, h), h)

    def step_reset_before(params: GRUResetBeforeParams, h: Array, z: Array) -> tuple[Array, Array]:
        z_gates, z_new = jnp.split(z, [2 * h.shape[-1]], axis=-1)
        w_gates, w_new = jnp.split(params.w_h, [2 * h.shape[-1]], axis=-1)
        reset, update = jnp.split(f(z_gates + product(h, w_gates)), 2, axis=-1)
        h = (1 - update) * g(z_new + product(reset * h, w_new)) + update * h
        return h, h

    if cell.linear_before_reset:
        return replace(gru, step=step, gate=gate)
    return replace(gru_reset_before, step=step_reset_before)


def _lstm(cell: Cell) -> Recurrence:
    f, g, squash = _functions(cell)

    def gates(
        sums: Array, c: Array, peepholes: tuple[Array, ...]
    ) -> tuple[tuple[Array, Array], Array]:
        input_, forget, candidate, output = jnp.split(sums, 4, axis=-1)
        if peepholes:
            input_, forget = input_ + peepholes[0] * c, forget + peepholes[1] * c
        input_ = f(input_)
        forget = 1 - input_ if cell.input_forget else f(forget)
        c = forget * c + input_ * g(candidate)
        if peepholes:
            output = output + peepholes[2] * c
        h = f(output) * squash(c)
        return (h, c), h

    def gate(z: Array, m: Array, carry: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        return gates(z + m, carry[1], ())

    def step(params: LSTMParams, carry: Any, z: Array) -> tuple[tuple[Array, Array], Array]:
        return gate(z, lstm_mix(params, carry), carry)

    def step_with_peepholes(
        params: LSTMPeepholeParams, carry: Any, z: Array
    ) -> tuple[tuple[Array, Array], Array]:
        h, c = carry
        peepholes = tuple(jnp.split(params.peepholes, 3, axis=-1))
        return gates(z + product(h, params.w_h), c, peepholes)

    if cell.peepholes:
        return replace(lstm_peephole, step=step_with_peepholes)
    return replace(lstm, step=step, gate=gate)


def params_of(
    cell: Cell,
    w: np.ndarray,
    r: np.ndarray,
    b: np.ndarray | None = None,
    p: np.ndarray | None = None,
) -> Params:
    """The parameters of one direction from its weights as a file has them.

    Args:
        cell: What they are weights of.
        w: W, `(G, I)`.
        r: R, `(G, H)`.
        b: Wb and Rb, `(2G,)`, or None for zeros.
        p: P, `(3H,)`, where the cell has peepholes, or None for zeros.
    """
    order = _READ[cell.operator]
    b = np.zeros(2 * len(w), w.dtype) if b is None else b
    b_x, b_h = (_blocks(half, order) for half in np.split(b, 2))
    w_x, w_h, b_x, b_h, both = (
        jnp.asarray(array)
        for array in (_blocks(w, order).T, _blocks(r, order).T, b_x, b_h, b_x + b_h)
    )
    record = record_of(cell)
    if record is GRUParams:
        return GRUParams(w_x, w_h, b_x, b_h)
    if record is LSTMPeepholeParams:
        peepholes = np.zeros(3 * r.shape[1], r.dtype) if p is None else _blocks(p, _PEEPHOLES)
        return LSTMPeepholeParams(w_x, w_h, both, jnp.asarray(peepholes))
    return record(w_x, w_h, both)


def record_of(cell: Cell) -> Any:
    """The record that the parameters of a cell are."""
    if cell.operator == "GRU":
        return GRUParams if cell.linear_before_reset else GRUResetBeforeParams
    if cell.operator == "LSTM":
        return LSTMPeepholeParams if cell.peepholes else LSTMParams
    return ElmanParams


def weights_of(cell: Cell, params: Params) -> dict[str, np.ndarray]:
    """W `(G, I)`, R `(G, H)`, B `(2G,)` and, with peepholes, P `(3H,)`, as a file has them.

    The one bias of a record that has one becomes Wb, and Rb is zero.
    """
    order = _WRITTEN[cell.operator]
    fields = {name: np.asarray(array) for name, array in params._asdict().items()}
    b_x = fields.get("b_x", fields.get("b"))
    assert b_x is not None
    b_h = fields.get("b_h", np.zeros_like(b_x))
    weights = {
        "W": _blocks(fields["w_x"].T, order),
        "R": _blocks(fields["w_h"].T, order),
        "B": np.concatenate([_blocks(b_x, order), _blocks(b_h, order)]),
    }
    if cell.peepholes:
        weights["P"] = _blocks(fields["peepholes"], _PEEPHOLES)
    return weights


def _blocks(array: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """The equal blocks of the first axis in another order."""
    parts = np.split(array, len(order))
    return np.concatenate([parts[index] for index in order])


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Operator:
    """A node of a file as a function with the operator's own arguments and results.

    Its parameters and stored initial states are its leaves, so `jax.grad` by an operator gives an
    operator of gradients, and one passes through `jax.jit` as an argument.

    Attributes:
        params: Of its recurrence; `BidirectionalParams` of a bidirectional node.
        initial_h: The initial h stored in the file, in the layout of the node, its batch axis
            perhaps 1, for all rows; None for zeros.
        initial_c: The same of c.
        name: Of the node.
        layer: What is computed, in one direction or in both.
        operator: "RNN", "GRU" or "LSTM".
        direction: "forward", "reverse" or "bidirectional".
        layout: 0 if time comes first, 1 if the batch does.
        sequence_lens: The lengths stored in the file, or None.
        expected: The arguments a call must give, for the file computes them, by the names of the
            tensors there: `(("initial_h", "encoder_state"),)`.
    """

    params: Params
    initial_h: Array | None
    initial_c: Array | None
    name: str = field(metadata={"static": True})
    layer: Layer = field(metadata={"static": True})
    operator: str = field(metadata={"static": True})
    direction: str = field(metadata={"static": True})
    layout: int = field(metadata={"static": True})
    sequence_lens: tuple[int, ...] | None = field(metadata={"static": True})
    expected: tuple[tuple[str, str], ...] = field(metadata={"static": True})

    def __call__(
        self,
        X: ArrayLike,
        sequence_lens: ArrayLike | None = None,
        initial_h: ArrayLike | None = None,
        initial_c: ArrayLike | None = None,
        *,
        plan: str | Plan = "auto",
    ) -> tuple[Array, ...]:
        """What the node computes; shapes of layout 0, and after the slash of layout 1.

        Args:
            X: `(T, B, I)` / `(B, T, I)`, of the dtype of the weights, or of 16 bits.
            sequence_lens: `(B,)` integer, 0 … T; None is what the file stores, or else T.
            initial_h: `(D, B, H)` / `(B, D, H)`, D directions; None is what the file stores, or
                else zeros.
            initial_c: The same of an LSTM's c.
            plan: As in `rnnjax.scan`.

        Returns:
            Y: `(T, D, B, H)` / `(B, T, D, H)`, zero past a row's length.
            Y_h: `(D, B, H)` / `(B, D, H)`.
            Y_c: As Y_h, of an LSTM only.

        Raises:
            TypeError: As `rnnjax.scan`, or `initial_c` is given to an RNN or a GRU.
            ValueError: As `rnnjax.scan`, or an argument is missing that the file computes.
        """
        given = {"sequence_lens": sequence_lens, "initial_h": initial_h, "initial_c": initial_c}
        for argument, tensor in self.expected:
            if given[argument] is None:
                raise ValueError(
                    f"{argument}: got None, expected an array, for in the file it is computed: "
                    f"the tensor {tensor!r}"
                )
        if initial_c is not None and self.operator != "LSTM":
            raise TypeError(f"initial_c: got an array, expected None: a {self.operator} has no c")
        xs = jnp.asarray(X)
        if xs.ndim != 3:
            expected = "(B, T, I)" if self.layout else "(T, B, I)"
            raise ValueError(f"X: got shape {xs.shape}, expected {expected}")
        xs = jnp.swapaxes(xs, 0, 1) if self.layout else xs
        lengths = self.sequence_lens if sequence_lens is None else sequence_lens
        lengths = None if lengths is None else jnp.asarray(lengths)
        carry = self._carry(xs, initial_h, initial_c)
        layer, options = self.layer, {"lengths": lengths, "plan": plan}
        if layer.backward is not None:
            pair = layer.recurrence, layer.backward
            after, ys = scan_bidirectional(
                pair, self.params, xs, carry, merge=layer.merge, **options
            )
        else:
            of_one = None if carry is None else carry[0]
            reverse = self.direction == "reverse"
            last, ys = scan(layer.recurrence, self.params, xs, of_one, reverse=reverse, **options)
            after = (last,)
        ys = ys.reshape(*ys.shape[:2], *self.sizes)
        leaves = [of_one if isinstance(of_one, tuple) else (of_one,) for of_one in after]
        states = [jnp.stack(parts, axis=self.layout) for parts in zip(*leaves, strict=True)]
        return jnp.transpose(ys, (1, 0, 2, 3) if self.layout else (0, 2, 1, 3)), *states

    @property
    def sizes(self) -> tuple[int, int]:
        """D, the directions, and H."""
        records = self.params if isinstance(self.params, BidirectionalParams) else (self.params,)
        return len(records), records[0].w_h.shape[0]

    def _carry(self, xs: Array, initial_h: ArrayLike | None, initial_c: ArrayLike | None) -> Any:
        """The carry of each direction, or None for zeros throughout."""
        batch, (directions, hidden_size) = xs.shape[1], self.sizes
        expected, letters = (directions, batch, hidden_size), "(D, B, H)"
        if self.layout:
            expected, letters = (batch, directions, hidden_size), "(B, D, H)"
        states: list[Array | None] = []
        for name, argument, stored in (
            ("initial_h", initial_h, self.initial_h),
            ("initial_c", initial_c, self.initial_c),
        ):
            state = stored if argument is None else jnp.asarray(argument)
            if argument is None and stored is not None and stored.shape[1 - self.layout] == 1:
                state = jnp.broadcast_to(stored, expected)
            if state is not None and state.shape != expected:
                raise ValueError(f"{name}: got shape {state.shape}, expected {expected} {letters}")
            states.append(state)
        if all(state is None for state in states):
            return None
        h, c = (
            jnp.zeros((directions, batch, hidden_size), xs.dtype)
            if state is None
            else jnp.moveaxis(state, self.layout, 0)
            for state in states
        )
        return tuple(zip(h, c, strict=True)) if self.operator == "LSTM" else tuple(h)
