"""A deep recurrent network: each layer's outputs over time are the next layer's inputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from rnnjax.layers.bidirectional import (
    BidirectionalParams,
    Merge,
    check_bidirectional_params,
    concatenate,
    init_bidirectional,
    initial_bidirectional_carry,
    scan_bidirectional,
)
from rnnjax.layers.checks import check_size
from rnnjax.plans.masking import within_lengths, zero_unless
from rnnjax.plans.protocol import Plan
from rnnjax.recurrences.protocol import Carry, Params, Recurrence
from rnnjax.scanning import explain_plan, one_step, scan


@dataclass(frozen=True)
class Layer:
    """What one layer of a deep network computes; its parameters are apart.

    Attributes:
        recurrence: In the direction of time.
        backward: Beside it from the future, as in `scan_bidirectional`; None for one direction.
        merge: `(forward ys, backward ys) -> ys` of a bidirectional layer.
        residual: Whether the layer's inputs are added to its outputs; then both have one size.
    """

    recurrence: Recurrence
    backward: Recurrence | None = None
    merge: Merge = concatenate
    residual: bool = False


Layers = Recurrence | Layer | Sequence[Recurrence | Layer]
"""One description for all layers, or one for each, bottom first."""


def init_deep(
    key: Array,
    layers: Layers,
    input_size: int,
    hidden_sizes: Sequence[int],
    *,
    dtype: DTypeLike = jnp.float32,
) -> tuple[Params, ...]:
    """Draw the parameters of L layers with the recurrences' own `init`.

    A tuple of parameters drawn in any other way serves as well.

    Args:
        key: A random key.
        layers: One for all layers, or L of them.
        input_size: I of the bottom layer.
        hidden_sizes: H of each layer, bottom first; of a bidirectional layer that of one direction.
        dtype: Floating.

    Returns:
        The parameters of each layer, bottom first; `BidirectionalParams` of a bidirectional one.

    Raises:
        ValueError: There is no layer, a size is not an integer or below one, the number of
            layers is not L, or a residual layer's inputs and outputs differ in size.
        TypeError: The dtype is not floating, or a layer neither a `Recurrence` nor a `Layer`.
    """
    hidden_sizes = tuple(hidden_sizes)
    if not hidden_sizes:
        raise ValueError("hidden_sizes: got none, expected at least one layer")
    for index, size in enumerate(hidden_sizes):
        check_size(f"hidden_sizes[{index}]", size)
    described = _of_each_layer(layers, len(hidden_sizes))
    keys = jax.random.split(key, len(described))
    params: list[Params] = []
    for index, (layer_key, layer, size) in enumerate(
        zip(keys, described, hidden_sizes, strict=True)
    ):
        params.append(_init_layer(layer_key, layer, input_size, size, dtype))
        input_size = _checked_output_shape(index, layer, params[-1])[-1]
    return tuple(params)


def initial_deep_carry(
    layers: Layers, params: Sequence[Params], batch_shape: tuple[int, ...]
) -> tuple[Carry, ...]:
    """The carry of each layer before the first step, leaves `(*B, H)`.

    A bidirectional layer has a pair of carries. With the batch shape `()` it is also what a
    learned initial carry begins as, see `rnnjax.layers.initial_carry`.

    Raises:
        ValueError: The number of layers is not that of their parameters.
        TypeError: A layer is neither a `Recurrence` nor a `Layer`, or its parameters are of
            another kind.
    """
    described = _of_each_params(layers, params)
    return tuple(
        _initial_layer_carry(layer, of_layer, batch_shape)
        for layer, of_layer in zip(described, params, strict=True)
    )


def scan_deep(
    layers: Layers,
    params: Sequence[Params],
    xs: ArrayLike,
    carry: Sequence[Carry] | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
    fresh_carry: Sequence[Carry] | None = None,
    dropout_masks: Sequence[ArrayLike | None] | None = None,
    accumulation_dtype: DTypeLike | None = None,
    plan: str | Plan = "auto",
) -> tuple[tuple[Carry, ...], Array]:
    """Run a deep recurrent network over a batch of sequences.

    a^[0]<t> = x^<t>,  (carry^[l]<t>, ã^[l]<t>) = step^[l](carry^[l]<t-1>, m^[l-1]<t> a^[l-1]<t>),
    a^[l] = ã^[l], in a residual layer a^[l-1] + ã^[l],  y = a^[L]

    All layers have the same lengths, resets, direction, precision and plan, each as in
    `rnnjax.scan`; all are compiled as one. A feed-forward network on top is a call of its own,
    `rnnjax.layers.feed_forward.apply_feed_forward(head, ys)`.

    Args:
        layers: A `Recurrence` or a `Layer` for all layers, or L of them, bottom first.
        params: L records, from `init_deep`.
        xs: `(T, *B, I)`.
        carry: L carries, leaves `(*B, H)`, a pair for a bidirectional layer; None is
            `initial_deep_carry`. Give the returned one to go on where a scan ended, unless a layer
            is bidirectional.
        lengths: `(*B,)` integer.
        resets: `(T, *B)` bool; they reset the carries of all layers. Where a layer is
            bidirectional they are True where a sequence starts.
        reverse: Run each row from its last valid element to its first; not with a bidirectional
            layer, which runs both ways.
        fresh_carry: L carries, as `carry`: what a reset puts in place; None is the initial carry.
        dropout_masks: L − 1 of them, or None for none at all: m^[l] multiplies the outputs of
            layer l on their way into layer l + 1. Each `(T, *B, H)`, or broadcast to that, such as
            `(*B, H)`, the same at all steps; of the dtype of xs; None for a gap without. A
            residual connection goes past them.
        accumulation_dtype: As in `rnnjax.scan`.
        plan: How to run each layer.

    Returns:
        carry: L carries, after each row's last valid step.
        ys: `(T, *B, H)`, the outputs of the top layer, in the dtype of xs.

    Raises:
        TypeError: As `rnnjax.scan`, or a layer, its parameters or a mask are of the wrong kind.
        ValueError: As `rnnjax.scan`, or the numbers of layers, params, carries and masks differ,
            or a layer's inputs are not the outputs of the layer below, or a residual layer's
            inputs and outputs differ in size, or `reverse` is asked of a bidirectional layer.
        NotImplementedError: As `rnnjax.scan`.

    References:
        Graves et al. (2013), arXiv:1303.5778, section 2: deep bidirectional networks. Zaremba et
        al. (2014), arXiv:1409.2329, section 3.2: dropout between layers only. Wu et al. (2016),
        arXiv:1609.08144, section 3.1: residual connections.
    """
    described = _of_each_params(layers, params)
    count = len(described)
    _check_count("carry", carry, count, f"a carry for each of {count} layers")
    _check_count("fresh_carry", fresh_carry, count, f"a carry for each of {count} layers")
    _check_count("dropout_masks", dropout_masks, count - 1, f"{count - 1}, one between two layers")
    if reverse:
        _check_one_direction("reverse: got True", described)
    # Values of lengths are known only out here; all else is checked while tracing.
    lowest = params[0] if described[0].backward is None else params[0].forward
    explain_plan(
        described[0].recurrence,
        lowest,
        xs,
        lengths=lengths,
        resets=resets,
        reverse=reverse,
        accumulation_dtype=accumulation_dtype,
        plan=plan,
    )
    none = (None,) * count
    return _scan_layers(
        described,
        bool(reverse),
        plan,
        accumulation_dtype,
        tuple(params),
        jnp.asarray(xs),
        none if carry is None else tuple(carry),
        none if fresh_carry is None else tuple(fresh_carry),
        none[1:] if dropout_masks is None else tuple(dropout_masks),
        None if lengths is None else jnp.asarray(lengths),
        None if resets is None else jnp.asarray(resets),
    )


def step_deep(
    layers: Layers, params: Sequence[Params], carry: Sequence[Carry], x: Array
) -> tuple[tuple[Carry, ...], Array]:
    """One step of all layers, for streaming and sampling: what `scan_deep` does each step.

    Args:
        layers: One for all layers, or L of them; none bidirectional.
        params: L records.
        carry: L carries, leaves `(*B, H)`.
        x: `(*B, I)`.

    Returns:
        carry: L carries, leaves `(*B, H)`.
        y: `(*B, H)`, the output of the top layer.

    Raises:
        TypeError: A layer is neither a `Recurrence` nor a `Layer`.
        ValueError: The numbers of layers, params and carries differ, a layer is bidirectional, or
            a residual layer's inputs and outputs differ in size.
    """
    described = _of_each_params(layers, params)
    _check_one_direction("layers: got one step", described)
    if len(carry) != len(described):
        raise ValueError(f"carry: got {len(carry)}, expected {len(described)}, one a layer")
    new: list[Carry] = []
    for index, (layer, of_layer) in enumerate(zip(described, params, strict=True)):
        after, y = one_step(layer.recurrence, of_layer, carry[index], x)
        if layer.residual:
            _check_residual(index, x.shape, y.shape)
            y = x + y
        x = y
        new.append(after)
    return tuple(new), x


def _init_layer(
    key: Array, layer: Layer, input_size: int, hidden_size: int, dtype: DTypeLike
) -> Params:
    if layer.backward is None:
        return layer.recurrence.init(key, input_size, hidden_size, dtype=dtype)
    directions = layer.recurrence, layer.backward
    return init_bidirectional(key, directions, input_size, hidden_size, dtype=dtype)


def _initial_layer_carry(layer: Layer, params: Params, batch_shape: tuple[int, ...]) -> Carry:
    if layer.backward is None:
        return layer.recurrence.initial_carry(params, batch_shape)
    directions = layer.recurrence, layer.backward
    return initial_bidirectional_carry(directions, params, batch_shape)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _scan_layers(
    layers: tuple[Layer, ...],
    reverse: bool,
    plan: str | Plan,
    accumulation_dtype: DTypeLike | None,
    params: tuple[Params, ...],
    xs: Array,
    carry: tuple[Carry | None, ...],
    fresh_carry: tuple[Carry | None, ...],
    dropout_masks: tuple[Array | None, ...],
    lengths: Array | None,
    resets: Array | None,
) -> tuple[tuple[Carry, ...], Array]:
    _check_chain(layers, params)
    valid = None if lengths is None else within_lengths(lengths, xs.shape[0])
    new: list[Carry] = []
    for index, layer in enumerate(layers):
        below, inputs = xs, xs
        if index > 0:
            inputs = _dropped(f"dropout_masks[{index - 1}]", below, dropout_masks[index - 1])
        if layer.backward is None:
            run = partial(scan, layer.recurrence, reverse=reverse)
        else:
            directions = layer.recurrence, layer.backward
            run = partial(scan_bidirectional, directions, merge=layer.merge)
        try:
            after, xs = run(
                params[index],
                inputs,
                carry[index],
                lengths=lengths,
                resets=resets,
                fresh_carry=fresh_carry[index],
                accumulation_dtype=accumulation_dtype,
                plan=plan,
            )
        except (TypeError, ValueError) as error:
            error.add_note(f"In layer {index} of {len(layers)}, the bottom one being 0.")
            raise
        if layer.residual:
            xs = zero_unless(valid, below + xs)
        new.append(after)
    return tuple(new), xs


def _dropped(name: str, xs: Array, mask: Array | None) -> Array:
    """The outputs of a layer times their dropout mask."""
    if mask is None:
        return xs
    mask = jnp.asarray(mask)
    if mask.dtype != xs.dtype:
        raise TypeError(f"{name}: got dtype {mask.dtype.name}, expected {xs.dtype.name}")
    try:
        fits = jnp.broadcast_shapes(mask.shape, xs.shape) == xs.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name}: got shape {mask.shape}, expected one broadcast to {xs.shape}")
    return mask * xs


def _of_each_layer(layers: Layers, count: int) -> tuple[Layer, ...]:
    if count < 1:
        raise ValueError("params: got no layers, expected at least one")
    if isinstance(layers, Recurrence | Layer):
        return (_described("layers", layers),) * count
    if len(layers) != count:
        raise ValueError(f"layers: got {len(layers)}, expected 1 or {count}, one a layer")
    return tuple(_described(f"layers[{index}]", layer) for index, layer in enumerate(layers))


def _described(name: str, layer: Any) -> Layer:
    if isinstance(layer, Layer):
        return layer
    if isinstance(layer, Recurrence):
        return Layer(layer)
    raise TypeError(f"{name}: got {type(layer).__name__}, expected a Recurrence or a Layer")


def _of_each_params(layers: Layers, params: Sequence[Params]) -> tuple[Layer, ...]:
    described = _of_each_layer(layers, len(params))
    for index, (layer, of_layer) in enumerate(zip(described, params, strict=True)):
        if layer.backward is not None:
            check_bidirectional_params(f"params[{index}]", of_layer)
        elif isinstance(of_layer, BidirectionalParams):
            raise TypeError(
                f"params[{index}]: got BidirectionalParams, expected those of "
                f"{layer.recurrence.name}, a layer in one direction"
            )
    return described


def _check_count(name: str, given: Any, count: int, expected: str) -> None:
    if given is None or (isinstance(given, tuple | list) and len(given) == count):
        return
    got = len(given) if isinstance(given, tuple | list) else type(given).__name__
    raise ValueError(f"{name}: got {got}, expected {expected}")


def _check_one_direction(what: str, layers: tuple[Layer, ...]) -> None:
    for index, layer in enumerate(layers):
        if layer.backward is not None:
            raise ValueError(
                f"{what} of a network whose layer {index} is bidirectional, "
                "expected layers in one direction"
            )


def _checked_output_shape(index: int, layer: Layer, params: Params) -> tuple[int, ...]:
    """The shape of one output without batch axes, fit for the residual connection if there is one.

    Nothing is computed.
    """
    if layer.backward is None:
        output = _output_of(layer.recurrence, params)
    else:
        directions = zip((layer.recurrence, layer.backward), params, strict=True)
        output = jax.eval_shape(layer.merge, *(_output_of(*of_one) for of_one in directions))
        params = params.forward
    inputs = layer.recurrence.input_shape(params)
    if layer.residual:
        _check_residual(index, inputs, output.shape)
    return output.shape


def _check_residual(index: int, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
    if inputs != outputs:
        raise ValueError(
            f"layers[{index}]: is residual and makes outputs of shape {outputs} of inputs of "
            f"shape {inputs}, expected one shape"
        )


def _output_of(recurrence: Recurrence, params: Params) -> jax.ShapeDtypeStruct:
    """The shape and dtype of one output, without batch axes; nothing is computed."""

    def output(params: Params) -> Array:
        dtype = jax.tree.leaves(params)[0].dtype
        x = jnp.zeros(recurrence.input_shape(params), dtype)
        return one_step(recurrence, params, recurrence.initial_carry(params, ()), x)[1]

    return jax.eval_shape(output, params)


def _check_chain(layers: tuple[Layer, ...], params: tuple[Params, ...]) -> None:
    below: tuple[int, ...] | None = None
    for index, (layer, of_layer) in enumerate(zip(layers, params, strict=True)):
        first = of_layer if layer.backward is None else of_layer.forward
        inputs = layer.recurrence.input_shape(first)
        if below is not None and inputs != below:
            raise ValueError(
                f"params[{index}]: takes inputs of shape {inputs}, expected {below}, "
                "the outputs of the layer below"
            )
        below = _checked_output_shape(index, layer, of_layer)
