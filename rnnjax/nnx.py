"""Flax modules: they hold parameters and hand them to the functions of this library.

A module computes nothing itself. Batch axes come first, as in Flax; `time_major=True` puts time
first. What differs from `flax.nnx`, and why, is on the page
docs/guide/07-coming-from-other-frameworks.md.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from rnnjax.interop.network import Network
from rnnjax.layers.bidirectional import (
    BidirectionalCarry,
    BidirectionalParams,
    concatenate,
    scan_bidirectional,
)
from rnnjax.layers.checks import check_size
from rnnjax.layers.deep import Layer, Layers, init_deep, scan_deep
from rnnjax.layers.dropout import check_rate, dropout_mask
from rnnjax.plans.protocol import Plan
from rnnjax.recurrences.elman import elman
from rnnjax.recurrences.gru import gru
from rnnjax.recurrences.lstm import lstm
from rnnjax.recurrences.minimal_gru import minimal_gru
from rnnjax.recurrences.protocol import Carry, Params, Recurrence
from rnnjax.scanning import one_step, scan

try:
    from flax import nnx
except ModuleNotFoundError as error:
    raise ImportError("rnnjax.nnx needs flax: pip install 'rnnjax-lib[flax]'") from error


class Cell(nnx.Module):
    """One step of any recurrence, with its parameters.

    (carry^<t>, y^<t>) = step(carry^<t-1>, x^<t>)

    Each field of the recurrence's parameter record is an `nnx.Param` of that name, such as `w_x`,
    `w_h` and `b` of an LSTM: no gate has an array of its own.

    Attributes:
        recurrence: What it computes.
        dtype: Of inputs and outputs; None is that of the inputs.
    """

    def __init__(
        self, recurrence: Recurrence, params: Params, *, dtype: DTypeLike | None = None
    ) -> None:
        """Hold given parameters; `init_cell` and the cells of one recurrence draw them.

        Args:
            recurrence: Any, of the registry or of your own.
            params: A record as `recurrence.init` returns it.
            dtype: Floating, or None.

        Raises:
            TypeError: `recurrence` is not one.
        """
        if not isinstance(recurrence, Recurrence):
            raise TypeError(f"recurrence: got {recurrence!r}, expected a Recurrence")
        self.recurrence = recurrence
        self.dtype = dtype
        self._record: Any = type(params)
        for name, leaf in zip(self._record._fields, jax.tree.leaves(params), strict=True):
            setattr(self, name, nnx.Param(leaf))

    @property
    def params(self) -> Params:
        """The recurrence's record of parameters, for any function of the library."""
        return self._record(*(getattr(self, name)[...] for name in self._record._fields))

    @property
    def num_feature_axes(self) -> int:
        """The number of axes of one input: 1, more for images."""
        return len(self.recurrence.input_shape(self.params))

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: nnx.Rngs | None = None) -> Carry:
        """The carry before the first step, leaves `(*B, H)`.

        Args:
            input_shape: Of the inputs of one step, `(*B, I)`.
            rngs: Not used: it is drawn for no recurrence. Flax's cells take it.
        """
        del rngs
        batch_shape = tuple(input_shape[: len(input_shape) - self.num_feature_axes])
        return self.recurrence.initial_carry(self.params, batch_shape)

    def __call__(self, carry: Carry, inputs: ArrayLike) -> tuple[Carry, Array]:
        """One step: `carry` leaves `(*B, H)`, inputs `(*B, I)`; see `rnnjax.one_step`."""
        return one_step(self.recurrence, self.params, carry, _cast(inputs, self.dtype))


def init_cell(
    recurrence: Recurrence,
    in_features: int,
    hidden_features: int,
    *,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> Cell:
    """A `Cell` whose parameters are drawn with the recurrence's own `init`.

    Args:
        recurrence: Any, of the registry or of your own.
        in_features: I.
        hidden_features: H.
        dtype: Of inputs and outputs, floating; None is that of the inputs.
        param_dtype: Floating.
        rngs: Its stream `params` is drawn from.

    Raises:
        ValueError: A size is not an integer or below one.
        TypeError: A dtype is not floating.
    """
    params = _drawn(recurrence, in_features, hidden_features, param_dtype, rngs)
    return Cell(recurrence, params, dtype=dtype)


def _drawn(
    recurrence: Recurrence, in_features: int, hidden_features: int, dtype: DTypeLike, rngs: nnx.Rngs
) -> Params:
    check_size("in_features", in_features)
    check_size("hidden_features", hidden_features)
    return recurrence.init(rngs.params(), in_features, hidden_features, dtype=dtype)


class ElmanCell(Cell):
    """A `Cell` of `rnnjax.elman`; Flax's `SimpleCell`."""

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        """Draw the parameters, see `init_cell`."""
        super().__init__(
            elman, _drawn(elman, in_features, hidden_features, param_dtype, rngs), dtype=dtype
        )


class MinimalGRUCell(Cell):
    """A `Cell` of `rnnjax.minimal_gru`: with an update gate only."""

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        """Draw the parameters, see `init_cell`."""
        super().__init__(
            minimal_gru,
            _drawn(minimal_gru, in_features, hidden_features, param_dtype, rngs),
            dtype=dtype,
        )


class GRUCell(Cell):
    """A `Cell` of `rnnjax.gru`, which has both biases of every gate."""

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        """Draw the parameters, see `init_cell`."""
        super().__init__(
            gru, _drawn(gru, in_features, hidden_features, param_dtype, rngs), dtype=dtype
        )


class LSTMCell(Cell):
    """A `Cell` of `rnnjax.lstm`; its carry is (h, c), that of Flax is (c, h)."""

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        """Draw the parameters, see `init_cell`."""
        super().__init__(
            lstm, _drawn(lstm, in_features, hidden_features, param_dtype, rngs), dtype=dtype
        )


class RNN(nnx.Module):
    """A cell over all steps: `rnnjax.scan` with the parameters of a `Cell`.

    With `seq_lengths` a row's outputs past its length are zero and its carry is that after its last
    valid step; a row of length 0 returns the initial carry.
    """

    def __init__(
        self,
        cell: Cell,
        *,
        time_major: bool = False,
        return_carry: bool = False,
        reverse: bool = False,
        keep_order: bool = False,
        plan: str | Plan = "auto",
    ) -> None:
        """Set what a call takes where it is told nothing else.

        Args:
            cell: What to run.
            time_major: Time is the first axis, not that after the batch axes.
            return_carry: Return `(carry, outputs)`, not the outputs alone.
            reverse: Run each row from its last valid element to its first.
            keep_order: Return the outputs of a reversed run in the order of the inputs, not in
                that of running.
            plan: As in `rnnjax.scan`.
        """
        self.cell = cell
        self.time_major = time_major
        self.return_carry = return_carry
        self.reverse = reverse
        self.keep_order = keep_order
        self.plan = plan

    def __call__(
        self,
        inputs: ArrayLike,
        *,
        initial_carry: Carry | None = None,
        seq_lengths: ArrayLike | None = None,
        resets: ArrayLike | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Any:
        """Run the cell along time.

        Args:
            inputs: `(*B, T, I)`, or `(T, *B, I)` where `time_major`.
            initial_carry: Leaves `(*B, H)`; None is the cell's own.
            seq_lengths: `(*B,)` integer.
            resets: `(*B, T)` bool, or `(T, *B)`: a new sequence of a packed row starts there.
            return_carry: None, as the following, is what the module was made with.
            time_major: See `__init__`.
            reverse: See `__init__`.
            keep_order: See `__init__`.
            rngs: Not used; Flax's modules take it.

        Returns:
            The outputs, axes as those of the inputs; or the last carry and the outputs.

        Raises:
            TypeError: As `rnnjax.scan`.
            ValueError: As `rnnjax.scan`.
        """
        del rngs
        time_major = _or(time_major, self.time_major)
        reverse = _or(reverse, self.reverse)
        xs, axis = _time_first(inputs, self.cell.num_feature_axes, time_major, self.cell.dtype)
        carry, ys = scan(
            self.cell.recurrence,
            self.cell.params,
            xs,
            initial_carry,
            lengths=seq_lengths,
            resets=_resets_time_first(resets, time_major),
            reverse=reverse,
            plan=self.plan,
        )
        if reverse and not _or(keep_order, self.keep_order):
            ys = _in_order_of_running(ys, seq_lengths)
        ys = jnp.moveaxis(ys, 0, axis)
        return (carry, ys) if _or(return_carry, self.return_carry) else ys


class Bidirectional(nnx.Module):
    """Two cells, one from the past and one from the future: `rnnjax`'s `scan_bidirectional`."""

    def __init__(
        self,
        forward_rnn: RNN,
        backward_rnn: RNN,
        *,
        merge_fn: Callable[[Array, Array], Array] = concatenate,
        time_major: bool = False,
        return_carry: bool = False,
    ) -> None:
        """Take the cells of two `RNN`s, and the plan of the first.

        Args:
            forward_rnn: The direction of time.
            backward_rnn: Against it; its `reverse` and `keep_order` are not asked.
            merge_fn: `(forward, backward) -> outputs`, see `rnnjax.layers.bidirectional`.
            time_major: As in `RNN`.
            return_carry: As in `RNN`; the carry is a pair.
        """
        self.forward_rnn = forward_rnn
        self.backward_rnn = backward_rnn
        self.merge_fn = merge_fn
        self.time_major = time_major
        self.return_carry = return_carry

    def __call__(
        self,
        inputs: ArrayLike,
        *,
        initial_carry: BidirectionalCarry | None = None,
        seq_lengths: ArrayLike | None = None,
        resets: ArrayLike | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Any:
        """Run both, and merge their outputs; arguments and results as those of `RNN`."""
        del rngs
        time_major = _or(time_major, self.time_major)
        cells = self.forward_rnn.cell, self.backward_rnn.cell
        xs, axis = _time_first(inputs, cells[0].num_feature_axes, time_major, cells[0].dtype)
        carry, ys = scan_bidirectional(
            (cells[0].recurrence, cells[1].recurrence),
            BidirectionalParams(cells[0].params, cells[1].params),
            xs,
            initial_carry,
            lengths=seq_lengths,
            resets=_resets_time_first(resets, time_major),
            merge=self.merge_fn,
            plan=self.forward_rnn.plan,
        )
        ys = jnp.moveaxis(ys, 0, axis)
        return (carry, ys) if _or(return_carry, self.return_carry) else ys


class DeepRNN(nnx.Module):
    """A stack of recurrent layers, compiled as one: `scan_deep` with parameters and dropout.

    Attributes:
        cells: A `Cell` for each layer, bottom first; a pair of them for a bidirectional one.
        deterministic: Whether nothing is dropped; `module.eval()` and `module.train()` set it.
    """

    def __init__(
        self,
        network: Network,
        *,
        dropout_rate: float = 0.0,
        deterministic: bool = False,
        dtype: DTypeLike | None = None,
        time_major: bool = False,
        return_carry: bool = False,
        plan: str | Plan = "auto",
        rngs: nnx.Rngs | None = None,
    ) -> None:
        """Hold given layers and parameters; `init_deep_rnn` draws them.

        Args:
            network: What a reader of `rnnjax.interop` returns.
            dropout_rate: Of what goes from one layer to the next.
            deterministic: Drop nothing.
            dtype: Of inputs and outputs; None is that of the inputs.
            time_major: As in `RNN`.
            return_carry: As in `RNN`; a carry for each layer.
            plan: As in `rnnjax.scan`.
            rngs: Where something is dropped, its stream `dropout` is drawn from at each call.

        Raises:
            ValueError: The rate is outside 0 ≤ rate < 1, or above 0 and there are no `rngs`.
            TypeError: The rate is not a number.
        """
        check_rate("dropout_rate", dropout_rate)
        if dropout_rate > 0 and rngs is None:
            raise ValueError("rngs: got None, expected random streams to drop units by")
        self.layers = network.layers
        self.cells = nnx.List(map(_cells_of_layer, network.layers, network.params))
        self.dropout_rate = dropout_rate
        self.deterministic = deterministic
        self.dtype = dtype
        self.time_major = time_major
        self.return_carry = return_carry
        self.plan = plan
        self.rngs = nnx.data(rngs.dropout.fork() if rngs is not None and dropout_rate > 0 else None)

    @property
    def network(self) -> Network:
        """Layers and parameters, for `scan_deep(*network, xs)` and the writers of `interop`."""
        return Network(self.layers, tuple(map(_params_of_layer, self.cells)))

    def __call__(
        self,
        inputs: ArrayLike,
        *,
        initial_carry: Sequence[Carry] | None = None,
        seq_lengths: ArrayLike | None = None,
        resets: ArrayLike | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Any:
        """Run all layers; arguments and results as those of `RNN`, with a carry for each layer.

        Args:
            inputs: `(*B, T, I)`, or `(T, *B, I)` where `time_major`.
            initial_carry: One for each layer.
            seq_lengths: `(*B,)` integer.
            resets: `(*B, T)` bool, or `(T, *B)`.
            return_carry: As in `RNN`.
            time_major: As in `RNN`.
            deterministic: Drop nothing; None is what the module is set to.
            rngs: Whose stream `dropout` masks are drawn from; None is the module's own.

        Raises:
            TypeError: As `scan_deep`.
            ValueError: As `scan_deep`.
        """
        time_major = _or(time_major, self.time_major)
        lowest = self.cells[0] if isinstance(self.cells[0], Cell) else self.cells[0][0]
        xs, axis = _time_first(inputs, lowest.num_feature_axes, time_major, self.dtype)
        network = self.network
        masks = None
        if self.dropout_rate > 0 and not _or(deterministic, self.deterministic):
            stream: Any = self.rngs if rngs is None else rngs.dropout
            masks = _masks(network, xs, stream(), self.dropout_rate)
        carry, ys = scan_deep(
            *network,
            xs,
            initial_carry,
            lengths=seq_lengths,
            resets=_resets_time_first(resets, time_major),
            dropout_masks=masks,
            plan=self.plan,
        )
        ys = jnp.moveaxis(ys, 0, axis)
        return (carry, ys) if _or(return_carry, self.return_carry) else ys


def init_deep_rnn(
    layers: Layers,
    in_features: int,
    hidden_features: Sequence[int],
    *,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
    **options: Any,
) -> DeepRNN:
    """A `DeepRNN` whose parameters are drawn with the recurrences' own `init`.

    Args:
        layers: A `Recurrence` or a `rnnjax.layers.deep.Layer` for all layers, or one for each.
        in_features: I of the bottom layer.
        hidden_features: H of each layer, bottom first; of one direction of a bidirectional one.
        param_dtype: Floating.
        rngs: Its stream `params` is drawn from, and `dropout` where something is dropped.
        **options: As those of `DeepRNN`.

    Raises:
        ValueError: As `init_deep`, or as `DeepRNN`.
        TypeError: As `init_deep`, or as `DeepRNN`.
    """
    params = init_deep(rngs.params(), layers, in_features, hidden_features, dtype=param_dtype)
    described = (layers,) * len(params) if isinstance(layers, Recurrence | Layer) else layers
    described = tuple(Layer(a) if isinstance(a, Recurrence) else a for a in described)
    return DeepRNN(Network(described, params), rngs=rngs, **options)


def _cells_of_layer(layer: Layer, params: Any) -> Any:
    if layer.backward is None:
        return Cell(layer.recurrence, params)
    return nnx.List(
        [
            Cell(layer.recurrence, params.forward),
            Cell(layer.backward, params.backward),
        ]
    )


def _params_of_layer(cells: Any) -> Params:
    if isinstance(cells, Cell):
        return cells.params
    forward, backward = cells
    return BidirectionalParams(forward.params, backward.params)


def _masks(network: Network, xs: Array, key: Array, rate: float) -> list[Array]:
    """Another mask at each step for each gap between two layers."""
    masks = []
    for index, gap_key in enumerate(jax.random.split(key, len(network.layers) - 1)):
        layers, params = network.layers[: index + 1], network.params[: index + 1]
        outputs = jax.eval_shape(partial(scan_deep, layers, params), xs)[1]
        masks.append(dropout_mask(gap_key, rate, outputs.shape, dtype=xs.dtype))
    return masks


def _or(given: bool | None, otherwise: bool) -> bool:
    return otherwise if given is None else given


def _cast(inputs: ArrayLike, dtype: DTypeLike | None) -> Array:
    xs = jnp.asarray(inputs)
    return xs if dtype is None else xs.astype(dtype)


def _time_first(
    inputs: ArrayLike, feature_axes: int, time_major: bool, dtype: DTypeLike | None
) -> tuple[Array, int]:
    """The inputs with time as their first axis, and which axis it was."""
    xs = _cast(inputs, dtype)
    if xs.ndim < feature_axes + 1:
        axes = "time and features" if feature_axes == 1 else f"time and {feature_axes} of features"
        raise ValueError(f"inputs: got shape {xs.shape}, expected at least the axes of {axes}")
    axis = 0 if time_major else xs.ndim - feature_axes - 1
    return jnp.moveaxis(xs, axis, 0), axis


def _resets_time_first(resets: ArrayLike | None, time_major: bool) -> Array | None:
    if resets is None:
        return None
    resets = jnp.asarray(resets)
    return resets if time_major or resets.ndim == 0 else jnp.moveaxis(resets, -1, 0)


def _in_order_of_running(ys: Array, lengths: ArrayLike | None) -> Array:
    """Each row's valid outputs turned round; what is past its length stays."""
    if lengths is None:
        return jnp.flip(ys, 0)
    lengths = jnp.asarray(lengths)
    times = jnp.arange(len(ys), dtype=lengths.dtype).reshape(-1, *(1,) * lengths.ndim)
    places = jnp.where(times < lengths, lengths - 1 - times, times)
    return jnp.take_along_axis(
        ys, places.reshape(*places.shape, *(1,) * (ys.ndim - places.ndim)), 0
    )
