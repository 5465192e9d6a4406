"""What a foreign network becomes."""

from functools import partial
from typing import Any, NamedTuple

import jax

from rnnjax.layers.bidirectional import BidirectionalParams
from rnnjax.layers.deep import Layer, scan_deep
from rnnjax.recurrences.protocol import Params, Recurrence
from rnnjax.scanning import explain_plan


class Network(NamedTuple):
    """A stack of recurrent layers with its parameters: `scan_deep(*network, xs)` runs it.

    Attributes:
        layers: What each layer computes, bottom first.
        params: The parameters of each; `BidirectionalParams` of a bidirectional one.
    """

    layers: tuple[Layer, ...]
    params: tuple[Params, ...]


def check_network(name: str, network: Any) -> None:
    """Raise unless these are layers and their parameters; nothing is computed.

    Args:
        name: What an error calls the network; a layer of it is `name.0`.
        network: To check.

    Raises:
        TypeError: It is no `Network`.
        ValueError: Its parameters are not those of its layers, or not of one dtype, or a layer
            does not take what the one below it puts out.
    """
    if not isinstance(network, Network):
        raise TypeError(f"{name}: got {type(network).__name__}, expected a Network")
    layers, params = network
    if not isinstance(layers, tuple) or not layers or not all(map(_is_layer, layers)):
        raise ValueError(f"{name}: got {layers!r}, expected a tuple of Layers, at least one")
    if not isinstance(params, tuple) or len(params) != len(layers):
        got = f"{len(params)} layers" if isinstance(params, tuple) else type(params).__name__
        raise ValueError(
            f"{name}: got parameters of {got}, expected a tuple of {len(layers)}, one a layer"
        )
    for index, (layer, of_layer) in enumerate(zip(layers, params, strict=True)):
        if layer.backward is not None and not isinstance(of_layer, BidirectionalParams):
            raise ValueError(
                f"{name}.{index}: got {type(of_layer).__name__}, expected BidirectionalParams"
            )
    inputs = [
        _checked_inputs(where, recurrence, of_one)
        for directions in directions_of_layers(name, network)
        for where, recurrence, of_one in directions
    ]
    try:
        jax.eval_shape(partial(scan_deep, layers, plan="reference"), params, inputs[0])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error


def directions_of_layers(
    name: str, network: Network
) -> list[tuple[tuple[str, Recurrence, Params], ...]]:
    """Of each layer, one or both directions: what an error calls it, its recurrence, its params."""
    described = []
    for index, (layer, params) in enumerate(zip(*network, strict=True)):
        within = f"{name}.{index}"
        if layer.backward is None:
            described.append(((within, layer.recurrence, params),))
        else:
            described.append(
                (
                    (f"{within}.forward", layer.recurrence, params.forward),
                    (f"{within}.backward", layer.backward, params.backward),
                )
            )
    return described


def _is_layer(layer: Any) -> bool:
    return (
        isinstance(layer, Layer)
        and isinstance(layer.recurrence, Recurrence)
        and isinstance(layer.backward, Recurrence | None)
        and callable(layer.merge)
        and isinstance(layer.residual, bool)
    )


def _checked_inputs(name: str, recurrence: Recurrence, params: Any) -> jax.ShapeDtypeStruct:
    """Inputs of one step, of parameters that are those of the recurrence."""
    try:
        dtype = jax.tree.leaves(params)[0].dtype
        inputs = jax.ShapeDtypeStruct((1, *recurrence.input_shape(params)), dtype)
        explain_plan(recurrence, params, inputs, plan="reference")
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}; expected parameters of {recurrence.name}") from error
    return inputs
