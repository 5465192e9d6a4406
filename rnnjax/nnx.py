"""Flax modules: they hold parameters and hand them to the functions of this library.

A module computes nothing itself. Batch axes come first, as in Flax; `time_major=True` puts time
first. What differs from `flax.nnx`, and why, is on the page
docs/guide/07-coming-from-other-frameworks.md.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from rnnjax.interop.network import Network
from rnnjax.layers.bidirectional import (
    BidirectionalCarry,
    BidirectionalParams,
    check_bidirectional_params,
    concatenate,
    scan_bidirectional,
)
from rnnjax.layers.checks import check_floating, check_size
from rnnjax.layers.deep import Layer, Layers, init_deep, scan_deep
from rnnjax.layers.dropout import check_rate, dropout_mask
from rnnjax.plans.protocol import Plan
from rnnjax.recurrences.elman import elman
from rnnjax.recurrences.gru import gru
from rnnjax.recurrences.initializers import Initializer
from rnnjax.recurrences.lstm import lstm
from rnnjax.recurrences.minimal_gru import minimal_gru
from rnnjax.recurrences.protocol import Carry, Params, Recurrence
from rnnjax.scanning import one_step, scan

try:
    from flax import nnx
except ModuleNotFoundError as error:
    raise ImportError("rnnjax.nnx needs flax: pip install 'rnnjax-lib[flax]'") from error


class Cell(nnx.RNNCellBase):
    """One step of any recurrence, with its parameters; `flax.nnx.RNN` runs it too.

    (carry^<t>, y^<t>) = step(carry^<t-1>, x^<t>)

    Each array of the recurrence's parameters is an `nnx.Param` of its name there, such as `w_x`,
    `w_h` and `b` of an LSTM: all gates are in one.

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
            params: As `recurrence.init` returns them.
            dtype: Floating, or None.

        Raises:
            TypeError: `recurrence` is not one, or the dtype is not floating.
            ValueError: An array has the name of something else that a `Cell` has.
        """
        _check_type("recurrence", recurrence, Recurrence)
        _check_dtype(dtype)
        self.recurrence = recurrence
        self.dtype = dtype
        named = [
            (jax.tree_util.keystr(path, simple=True, separator="_"), leaf)
            for path, leaf in jax.tree.leaves_with_path(params)
        ]
        self._names = tuple(name for name, _ in named)
        self._structure = jax.tree.structure(params)
        for name, leaf in named:
            if hasattr(self, name):
                raise ValueError(f"params: got an array named {name!r}, which a Cell has already")
            setattr(self, name, nnx.Param(leaf))

    @property
    def params(self) -> Params:
        """The recurrence's record of parameters, for any function of the library."""
        return self._structure.unflatten([getattr(self, name)[...] for name in self._names])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input without batch axes, `(I,)` unless it is an image."""
        return tuple(self.recurrence.input_shape(self.params))

    @property
    def num_feature_axes(self) -> int:
        """The number of axes of one input: 1, more for images."""
        return len(self.input_shape)

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: nnx.Rngs | nnx.RngStream | None = None,
        carry_init: Initializer | None = None,
    ) -> Carry:
        """The carry before the first step, leaves `(*B, H)`.

        Args:
            input_shape: Of the inputs of one step, `(*B, I)`.
            rngs: Where there is a `carry_init`, its stream `carry` is drawn from.
            carry_init: `(key, shape, dtype) -> leaf`; None is the recurrence's own initial carry,
                which is not drawn.

        Raises:
            ValueError: The shape is not one of inputs, or there is a `carry_init` and no `rngs`.
        """
        features = self.input_shape
        batch_axes = len(input_shape) - len(features)
        if batch_axes < 0 or tuple(input_shape[batch_axes:]) != features:
            letters = ", ".join(map(str, features))
            raise ValueError(f"input_shape: got {input_shape}, expected (*B, {letters})")
        carry = self.recurrence.initial_carry(self.params, tuple(input_shape[:batch_axes]))
        if carry_init is None:
            return carry
        draw = _stream("rngs", rngs, "carry")
        return jax.tree.map(lambda leaf: carry_init(draw(), leaf.shape, leaf.dtype), carry)

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
    **options: Any,
) -> Cell:
    """A `Cell` whose parameters are drawn with the recurrence's own `init`.

    Args:
        recurrence: Any, of the registry or of your own.
        in_features: I.
        hidden_features: H.
        dtype: Of inputs and outputs, floating; None is that of the inputs.
        param_dtype: Floating.
        rngs: Its stream `params` is drawn from.
        **options: What else the recurrence's `init` takes: `initializers`, an LSTM's
            `forget_bias`, the `spatial_shape` of a `conv_lstm_2d`.

    Raises:
        ValueError: A size is not an integer or below one.
        TypeError: `recurrence` is not one, a dtype is not floating, or `init` has no such option.
    """
    _check_type("recurrence", recurrence, Recurrence)
    check_size("in_features", in_features)
    check_size("hidden_features", hidden_features)
    check_floating("param_dtype", param_dtype)
    params = recurrence.init(
        rngs.params(), in_features, hidden_features, dtype=param_dtype, **options
    )
    return Cell(recurrence, params, dtype=dtype)


class _CellOfOne(Cell):
    """A `Cell` of the recurrence that its class names."""

    _recurrence: ClassVar[Recurrence]

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
        **options: Any,
    ) -> None:
        """Draw the parameters: arguments and errors are those of `init_cell`."""
        drawn = init_cell(
            self._recurrence,
            in_features,
            hidden_features,
            param_dtype=param_dtype,
            rngs=rngs,
            **options,
        )
        super().__init__(self._recurrence, drawn.params, dtype=dtype)
        self.in_features = in_features
        self.hidden_features = hidden_features


class ElmanCell(_CellOfOne):
    """A `Cell` of `rnnjax.elman`; Flax's `SimpleCell`."""

    _recurrence = elman
    w_x: nnx.Param[Array]
    w_h: nnx.Param[Array]
    b: nnx.Param[Array]


class MinimalGRUCell(_CellOfOne):
    """A `Cell` of `rnnjax.minimal_gru`: with an update gate only."""

    _recurrence = minimal_gru
    w_x: nnx.Param[Array]
    w_h: nnx.Param[Array]
    b: nnx.Param[Array]


class GRUCell(_CellOfOne):
    """A `Cell` of `rnnjax.gru`, which has both biases of every gate."""

    _recurrence = gru
    w_x: nnx.Param[Array]
    w_h: nnx.Param[Array]
    b_x: nnx.Param[Array]
    b_h: nnx.Param[Array]


class LSTMCell(_CellOfOne):
    """A `Cell` of `rnnjax.lstm`; its carry is (h, c), that of Flax is (c, h)."""

    _recurrence = lstm
    w_x: nnx.Param[Array]
    w_h: nnx.Param[Array]
    b: nnx.Param[Array]


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
        accumulation_dtype: DTypeLike | None = None,
        plan: str | Plan = "auto",
        rngs: nnx.Rngs | nnx.RngStream | bool = True,
    ) -> None:
        """Set what a call takes where it is told nothing else.

        Args:
            cell: What to run.
            time_major: Time is the first axis, not that after the batch axes.
            return_carry: Return `(carry, outputs)`, not the outputs alone.
            reverse: Run each row from its last valid element to its first.
            keep_order: Return the outputs of a reversed run in the order of the inputs, not in
                that of running.
            accumulation_dtype: As in `rnnjax.scan`.
            plan: As in `rnnjax.scan`.
            rngs: Not used, as no initial carry is drawn; Flax's modules take it.

        Raises:
            TypeError: `cell` is not a `Cell`.
        """
        del rngs
        _check_type("cell", cell, Cell)
        self.cell = cell
        self.time_major = time_major
        self.return_carry = return_carry
        self.reverse = reverse
        self.keep_order = keep_order
        self.accumulation_dtype = accumulation_dtype
        self.plan = plan

    def __call__(
        self,
        inputs: ArrayLike,
        *,
        initial_carry: Carry | None = None,
        seq_lengths: ArrayLike | None = None,
        resets: ArrayLike | None = None,
        fresh_carry: Carry | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ) -> Any:
        """Run the cell along time.

        Args:
            inputs: `(*B, T, I)`, or `(T, *B, I)` where `time_major`.
            initial_carry: Leaves `(*B, H)`; None is the cell's own.
            seq_lengths: `(*B,)` integer.
            resets: `(*B, T)` bool, or `(T, *B)`: a new sequence of a packed row starts there; in a
                reversed run it ends there (`rnnjax.sequence_ends`).
            fresh_carry: Leaves `(*B, H)`: what a reset puts in place; None is the cell's own.
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
        xs, axis = _time_first(inputs, self.cell, time_major, self.cell.dtype)
        with _in_the_words_of_scan():
            carry, ys = scan(
                self.cell.recurrence,
                self.cell.params,
                xs,
                initial_carry,
                lengths=seq_lengths,
                resets=_resets_time_first(resets, time_major),
                reverse=reverse,
                fresh_carry=fresh_carry,
                accumulation_dtype=self.accumulation_dtype,
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
        rngs: nnx.Rngs | nnx.RngStream | bool = True,
    ) -> None:
        """Take the cells of two `RNN`s, and the plan and the dtypes that they have in common.

        Args:
            forward_rnn: The direction of time.
            backward_rnn: Against it. What else than cell, plan and dtypes an `RNN` was made with
                is not asked, as in Flax: one runs forward and the other back, in input order.
            merge_fn: `(forward, backward) -> outputs`, see `rnnjax.layers.bidirectional`.
            time_major: As in `RNN`.
            return_carry: As in `RNN`; the carry is a pair.
            rngs: Not used, as in `RNN`.

        Raises:
            TypeError: One of them is not an `RNN`.
            ValueError: They have different plans or dtypes.
        """
        del rngs
        _check_type("forward_rnn", forward_rnn, RNN)
        _check_type("backward_rnn", backward_rnn, RNN)
        expected = _shared_by_directions(forward_rnn)
        for name, got in _shared_by_directions(backward_rnn).items():
            if got != expected[name]:
                raise ValueError(
                    f"backward_rnn.{name}: got {got}, expected that of forward_rnn, "
                    f"{expected[name]}"
                )
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
        fresh_carry: BidirectionalCarry | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ) -> Any:
        """Run both, and merge their outputs; arguments and results as those of `RNN`.

        Carries are pairs, and `resets` are where a sequence starts, for both directions.
        """
        del rngs
        time_major = _or(time_major, self.time_major)
        cells = self.forward_rnn.cell, self.backward_rnn.cell
        xs, axis = _time_first(inputs, cells[0], time_major, cells[0].dtype)
        with _in_the_words_of_scan():
            carry, ys = scan_bidirectional(
                (cells[0].recurrence, cells[1].recurrence),
                BidirectionalParams(cells[0].params, cells[1].params),
                xs,
                initial_carry,
                lengths=seq_lengths,
                resets=_resets_time_first(resets, time_major),
                fresh_carry=fresh_carry,
                accumulation_dtype=self.forward_rnn.accumulation_dtype,
                merge=self.merge_fn,
                plan=self.forward_rnn.plan,
            )
        ys = jnp.moveaxis(ys, 0, axis)
        return (carry, ys) if _or(return_carry, self.return_carry) else ys


class DeepRNN(nnx.Module):
    """A stack of recurrent layers, compiled as one: `scan_deep` with parameters and dropout.

    Attributes:
        layers: What each layer computes, bottom first.
        cells: A `Cell` for each layer; a pair of them for a bidirectional one.
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
        accumulation_dtype: DTypeLike | None = None,
        plan: str | Plan = "auto",
        rngs: nnx.Rngs | None = None,
    ) -> None:
        """Hold given layers and parameters; `init_deep_rnn` draws them.

        Args:
            network: What a reader of `rnnjax.interop` returns.
            dropout_rate: Of what goes from one layer to the next.
            deterministic: Drop nothing.
            dtype: Of inputs and outputs, floating; None is that of the inputs.
            time_major: As in `RNN`.
            return_carry: As in `RNN`; a carry for each layer.
            accumulation_dtype: As in `rnnjax.scan`.
            plan: As in `rnnjax.scan`.
            rngs: Where something is dropped, its stream `dropout` is drawn from at each call; None
                is to give it at each call.

        Raises:
            ValueError: The rate is outside 0 ≤ rate < 1, or the numbers of layers and of their
                parameters differ.
            TypeError: The rate is not a number, `network` is not one, or of something else than
                layers and their parameters, or the dtype is not floating.
        """
        check_rate("dropout_rate", dropout_rate)
        _check_type("network", network, Network)
        _check_dtype(dtype)
        count = len(network.layers)
        if not count or count != len(network.params):
            raise ValueError(
                f"network: got {count} layers and parameters of {len(network.params)}, "
                "expected as many, and at least one"
            )
        self.layers = network.layers
        self.cells = nnx.List(map(_cells_of_layer, range(count), network.layers, network.params))
        self.dropout_rate = dropout_rate
        self.deterministic = deterministic
        self.dtype = dtype
        self.time_major = time_major
        self.return_carry = return_carry
        self.accumulation_dtype = accumulation_dtype
        self.plan = plan
        stream = rngs.dropout.fork() if rngs is not None and dropout_rate > 0 else None
        self.rngs: nnx.RngStream | None = nnx.data(stream)

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
        fresh_carry: Sequence[Carry] | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ) -> Any:
        """Run all layers; arguments and results as those of `RNN`, with a carry for each layer.

        Args:
            inputs: `(*B, T, I)`, or `(T, *B, I)` where `time_major`.
            initial_carry: One for each layer.
            seq_lengths: `(*B,)` integer.
            resets: `(*B, T)` bool, or `(T, *B)`: where a sequence starts.
            fresh_carry: One for each layer.
            return_carry: As in `RNN`.
            time_major: As in `RNN`.
            deterministic: Drop nothing; None is what the module is set to.
            rngs: Whose stream `dropout` masks are drawn from, another one for each step; None is
                the module's own.

        Raises:
            TypeError: As `scan_deep`.
            ValueError: As `scan_deep`, or something is to be dropped and there are no `rngs`.
        """
        time_major = _or(time_major, self.time_major)
        xs, axis = _time_first(inputs, _lowest(self.cells[0]), time_major, self.dtype)
        masks = None
        if self.dropout_rate > 0 and not _or(deterministic, self.deterministic):
            draw = _stream("rngs", self.rngs if rngs is None else rngs, "dropout")
            masks = self._masks(draw(), xs)
        with _in_the_words_of_scan():
            carry, ys = scan_deep(
                *self.network,
                xs,
                initial_carry,
                lengths=seq_lengths,
                resets=_resets_time_first(resets, time_major),
                fresh_carry=fresh_carry,
                dropout_masks=masks,
                accumulation_dtype=self.accumulation_dtype,
                plan=self.plan,
            )
        ys = jnp.moveaxis(ys, 0, axis)
        return (carry, ys) if _or(return_carry, self.return_carry) else ys

    def _masks(self, key: Array, xs: Array) -> list[Array]:
        """For each gap between two layers: what the outputs below, which go above, are like."""
        lowest, *above = map(_lowest, self.cells)
        leading = xs.shape[: xs.ndim - lowest.num_feature_axes]
        return [
            dropout_mask(gap_key, self.dropout_rate, (*leading, *cell.input_shape), dtype=xs.dtype)
            for gap_key, cell in zip(jax.random.split(key, len(above)), above, strict=True)
        ]


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
    check_size("in_features", in_features)
    params = init_deep(rngs.params(), layers, in_features, hidden_features, dtype=param_dtype)
    described = (layers,) * len(params) if isinstance(layers, Recurrence | Layer) else layers
    described = tuple(Layer(a) if isinstance(a, Recurrence) else a for a in described)
    return DeepRNN(Network(described, params), rngs=rngs, **options)


def _cells_of_layer(index: int, layer: Layer, params: Any) -> Any:
    _check_type(f"network.layers[{index}]", layer, Layer)
    if layer.backward is None:
        return Cell(layer.recurrence, params)
    check_bidirectional_params(f"network.params[{index}]", params)
    return nnx.List([Cell(layer.recurrence, params.forward), Cell(layer.backward, params.backward)])


def _params_of_layer(cells: Any) -> Params:
    if isinstance(cells, Cell):
        return cells.params
    forward, backward = cells
    return BidirectionalParams(forward.params, backward.params)


def _lowest(cells: Any) -> Cell:
    """The cell of a layer, of a bidirectional one the forward one."""
    return cells if isinstance(cells, Cell) else cells[0]


def _shared_by_directions(rnn: RNN) -> dict[str, Any]:
    """What two scans have in common when they are run as one."""
    dtypes = {"accumulation_dtype": rnn.accumulation_dtype, "cell.dtype": rnn.cell.dtype}
    named = {k: None if dtype is None else jnp.dtype(dtype).name for k, dtype in dtypes.items()}
    return {"plan": rnn.plan, **named}


def _stream(name: str, rngs: nnx.Rngs | nnx.RngStream | None, stream: str) -> nnx.RngStream:
    if rngs is None:
        raise ValueError(f"{name}: got None, expected random streams, one of them {stream!r}")
    return rngs[stream] if isinstance(rngs, nnx.Rngs) else rngs


def _check_type(name: str, value: Any, expected: type) -> None:
    if not isinstance(value, expected):
        of_module = f"{type(value).__module__.partition('.')[0]}'s {type(value).__name__}"
        raise TypeError(f"{name}: got {of_module}, expected rnnjax's {expected.__name__}")


def _check_dtype(dtype: DTypeLike | None) -> None:
    if dtype is not None:
        check_floating("dtype", dtype)


def _or(given: bool | None, otherwise: bool) -> bool:
    return otherwise if given is None else given


def _cast(inputs: ArrayLike, dtype: DTypeLike | None) -> Array:
    xs = jnp.asarray(inputs)
    return xs if dtype is None else xs.astype(dtype)


def _time_first(
    inputs: ArrayLike, cell: Cell, time_major: bool, dtype: DTypeLike | None
) -> tuple[Array, int]:
    """The inputs with time as their first axis, and which axis it was."""
    xs = _cast(inputs, dtype)
    features = cell.input_shape
    before_features = xs.ndim - len(features)
    if before_features < 1 or xs.shape[before_features:] != features:
        leading = "T, *B" if time_major else "*B, T"
        letters = ", ".join(map(str, features))
        raise ValueError(f"inputs: got shape {xs.shape}, expected ({leading}, {letters})")
    axis = 0 if time_major else before_features - 1
    return jnp.moveaxis(xs, axis, 0), axis


def _resets_time_first(resets: ArrayLike | None, time_major: bool) -> Array | None:
    if resets is None:
        return None
    resets = jnp.asarray(resets)
    return resets if time_major or resets.ndim == 0 else jnp.moveaxis(resets, -1, 0)


@contextmanager
def _in_the_words_of_scan() -> Iterator[None]:
    """Errors are those of the functions, in whose calls some arguments have other names."""
    try:
        yield
    except (TypeError, ValueError) as error:
        error.add_note(
            "xs are the inputs with time first, as are resets; lengths are seq_lengths, "
            "carry is initial_carry, merge is merge_fn."
        )
        raise


def _in_order_of_running(ys: Array, lengths: ArrayLike | None) -> Array:
    """Each row's valid outputs turned round; what is past its length stays."""
    if lengths is None:
        return jnp.flip(ys, 0)
    # Of int32, as those of 8 bits may be too narrow for a time; within 0 … T, as `scan` reads them.
    lengths = jnp.clip(jnp.asarray(lengths).astype(jnp.int32), 0, len(ys))
    times = jnp.arange(len(ys), dtype=jnp.int32).reshape(-1, *(1,) * lengths.ndim)
    places = jnp.where(times < lengths, lengths - 1 - times, times)
    return jnp.take_along_axis(
        ys, places.reshape(*places.shape, *(1,) * (ys.ndim - places.ndim)), 0
    )
