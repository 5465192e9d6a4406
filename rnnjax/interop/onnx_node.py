"""A node RNN, GRU or LSTM as it is in a file: attributes and weights, checked, as an operator."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.interop.onnx_operator import (
    ACTIVATIONS,
    DEFAULT_ACTIVATIONS,
    DIRECTIONS,
    DTYPES,
    GATES,
    Activation,
    Cell,
    Operator,
    params_of,
    recurrence_of,
)
from rnnjax.layers.bidirectional import BidirectionalParams
from rnnjax.layers.deep import Layer

WEIGHTS = ("W", "R", "B", "P")

# The inputs of a node, in order; only an LSTM has the last two.
_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
_OLDEST = 7  # before that opset the operators had other attributes


def is_recurrent(node: Any) -> bool:
    """Whether a node is one of the three operators."""
    return node.op_type in GATES and node.domain in ("", "ai.onnx")


def inputs_of(node: Any) -> dict[str, str]:
    """The tensors that a node is given, by what they are to it."""
    return {role: tensor for role, tensor in zip(_INPUTS, node.input, strict=False) if tensor}


def attributes_of(onnx: Any, label: str, node: Any, opset: int) -> dict[str, Any]:
    """The attributes of a node, with the defaults of `direction` and `layout`.

    Args:
        onnx: The package.
        label: What an error calls the node.
        node: An `onnx.NodeProto`.
        opset: The version of the operators.

    Raises:
        ValueError: The operator has no such attribute in this opset, or one of another type or a
            value out of range; or the opset is too old or too new.
    """
    newest = onnx.defs.onnx_opset_version()
    if not _OLDEST <= opset <= newest:
        raise ValueError(
            f"{label}: got opset {opset}, expected {_OLDEST} … {newest}; "
            "onnx.version_converter.convert_version makes an older model a newer one"
        )
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    attributes: dict[str, Any] = {}
    for attribute in node.attribute:
        known = schema.attributes.get(attribute.name)
        if known is None:
            raise ValueError(
                f"{label}: got the attribute {attribute.name!r}, expected one of "
                f"{', '.join(sorted(schema.attributes))}, those of opset {opset}"
            )
        if attribute.type != known.type.value or attribute.ref_attr_name:
            raise ValueError(
                f"{label}: {attribute.name}: got another type, expected {known.type.name}"
            )
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif attribute.name == "activations":
            value = [name.decode("utf-8", "replace") for name in value]
        attributes[attribute.name] = value
    attributes = {"direction": "forward", "layout": 0} | attributes
    direction, clip = attributes["direction"], attributes.get("clip")
    if direction not in DIRECTIONS:
        raise ValueError(
            f"{label}: direction: got {direction!r}, expected one of {', '.join(DIRECTIONS)}"
        )
    for flag in ("layout", "input_forget"):
        if attributes.get(flag, 0) not in (0, 1):
            raise ValueError(f"{label}: {flag}: got {attributes[flag]}, expected 0 or 1")
    if clip is not None and not clip > 0:
        raise ValueError(f"{label}: clip: got {clip}, expected a number above 0")
    return attributes


def built(
    label: str,
    name: str,
    operator: str,
    attributes: Mapping[str, Any],
    weights: Mapping[str, np.ndarray],
    stored: Mapping[str, np.ndarray | None],
    expected: tuple[tuple[str, str], ...],
) -> Operator:
    """The operator of a node.

    Args:
        label: What an error calls the node.
        name: Of the node.
        operator: "RNN", "GRU" or "LSTM".
        attributes: From `attributes_of`.
        weights: W, R and, where it has them, B and P.
        stored: `sequence_lens`, `initial_h` and `initial_c` where the file has them.
        expected: See `Operator`.

    Raises:
        ValueError: An array is missing or of a wrong shape or dtype, the activations are not the
            operator's, or weights are float64 while `jax_enable_x64` is off.
    """
    directions, layout = DIRECTIONS[attributes["direction"]], attributes["layout"]
    dtype, hidden_size = _check_weights(label, operator, attributes, weights, directions)
    activations = _activations(label, operator, attributes, directions)
    each = len(activations) // directions
    cells = [
        Cell(
            operator,
            activations[index * each : (index + 1) * each],
            attributes.get("clip"),
            bool(attributes.get("linear_before_reset", 0)),
            bool(attributes.get("input_forget", 0)),
            "P" in weights,
        )
        for index in range(directions)
    ]
    params = [
        params_of(cell, **{role.lower(): weights[role][index] for role in weights})
        for index, cell in enumerate(cells)
    ]
    backward = None if directions == 1 else recurrence_of(cells[1])
    states: dict[str, Any] = {}
    for role in ("initial_h", "initial_c"):
        state = stored.get(role)
        if state is not None and (
            state.ndim != 3 or (state.shape[layout], state.shape[2]) != (directions, hidden_size)
        ):
            letters = "(B, D, H)" if layout else "(D, B, H)"
            raise ValueError(
                f"{label}: {role}: got shape {state.shape}, expected {letters} with D = "
                f"{directions} and H = {hidden_size}"
            )
        states[role] = None if state is None else jnp.asarray(state, dtype)
    return Operator(
        params=BidirectionalParams(*params) if directions == 2 else params[0],
        name=name,
        layer=Layer(recurrence_of(cells[0]), backward=backward),
        operator=operator,
        direction=attributes["direction"],
        layout=layout,
        sequence_lens=_lengths(label, stored.get("sequence_lens")),
        expected=expected,
        **states,
    )


def _check_weights(
    label: str,
    operator: str,
    attributes: Mapping[str, Any],
    weights: Mapping[str, np.ndarray],
    directions: int,
) -> tuple[np.dtype, int]:
    """The dtype and H of weights that fit together."""
    for role in ("W", "R"):
        if role not in weights:
            raise ValueError(f"{label}: {role}: got none, expected weights")
    dtypes = {array.dtype for array in weights.values()}
    if len(dtypes) != 1 or not dtypes <= set(DTYPES):
        names = ", ".join(sorted(str(dtype) for dtype in dtypes))
        raise ValueError(f"{label}: got weights of {names}, expected one floating dtype for all")
    if dtypes == {np.dtype(np.float64)} and not jax.config.read("jax_enable_x64"):
        raise ValueError(
            f"{label}: got float64 while jax_enable_x64 is off, expected it on, or float32"
        )
    input_size, last = (weights[role].shape[-1] if weights[role].ndim else 0 for role in "WR")
    hidden_size = attributes.get("hidden_size", last)
    stacked = GATES[operator] * hidden_size
    shapes = {
        "W": (directions, stacked, input_size),
        "R": (directions, stacked, hidden_size),
        "B": (directions, 2 * stacked),
        "P": (directions, 3 * hidden_size),
    }
    for role, array in weights.items():
        if array.shape != shapes[role] or 0 in array.shape:
            raise ValueError(
                f"{label}: {role}: got shape {array.shape}, expected {shapes[role]}, of "
                f"{directions} direction(s) of hidden size {hidden_size}, no axis of 0"
            )
    return weights["R"].dtype, hidden_size


def _lengths(label: str, lengths: np.ndarray | None) -> tuple[int, ...] | None:
    if lengths is None:
        return None
    if lengths.ndim != 1 or not np.issubdtype(lengths.dtype, np.integer) or (lengths < 0).any():
        raise ValueError(
            f"{label}: sequence_lens: got {lengths.dtype} of shape {lengths.shape}, expected "
            "integers (B,), none below 0"
        )
    return tuple(int(length) for length in lengths)


def _activations(
    label: str, operator: str, attributes: Mapping[str, Any], directions: int
) -> tuple[Activation, ...]:
    """The activations of all directions, each with its alpha and beta."""
    defaults = DEFAULT_ACTIVATIONS[operator]
    names = list(attributes.get("activations") or [one.name for one in defaults] * directions)
    if operator == "RNN" and directions == 1 and len(names) == 2 and names[0] == names[1]:
        names = names[:1]  # the operator's own default is a list for two directions
    if len(names) != directions * len(defaults):
        raise ValueError(
            f"{label}: activations: got {', '.join(names)}, expected {directions * len(defaults)}"
        )
    spelled = {name.lower(): name for name in ACTIVATIONS}
    for name in names:
        if name.lower() not in spelled:
            raise ValueError(
                f"{label}: activations: got {name!r}, expected one of {', '.join(ACTIVATIONS)}"
            )
    names = [spelled[name.lower()] for name in names]
    alphas, betas = (_for_each(label, field, attributes, names) for field in ("alpha", "beta"))
    return tuple(map(Activation, names, alphas, betas))


def _for_each(
    label: str, field: str, attributes: Mapping[str, Any], names: list[str]
) -> list[float | None]:
    """The alpha or beta of each activation, its own or its default; None where it takes none."""
    attribute = f"activation_{field}"
    values = list(attributes.get(attribute, ()))
    takers = [i for i, name in enumerate(names) if field in ACTIVATIONS[name].defaults]
    chosen: dict[int, float | None] = dict(zip(takers, values, strict=False))
    # Some write a value for every activation, which is no matter where it says the same.
    if takers and len(values) > len(takers):
        of_all = dict(enumerate(values)) if len(values) == len(names) else {}
        if any(of_all.get(index) != value for index, value in chosen.items()):
            raise ValueError(
                f"{label}: {attribute}: got {len(values)} values, expected {len(takers)}, one for "
                f"each that takes one: {', '.join(names[index] for index in takers)}"
            )
    for index in takers:
        value = chosen.setdefault(index, ACTIVATIONS[names[index]].defaults[field])
        if value is None:
            raise ValueError(
                f"{label}: {attribute}: got none for {names[index]}, expected a value, for it has "
                "no default"
            )
    return [chosen.get(index) for index in range(len(names))]
