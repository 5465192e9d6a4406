"""A deep recurrent network: each layer's outputs over time are the next layer's inputs."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from rnnjax.layers.checks import check_size
from rnnjax.plans.protocol import Plan
from rnnjax.recurrences.protocol import Carry, Params, Recurrence
from rnnjax.scanning import explain_plan, one_step, scan

Recurrences = Recurrence | Sequence[Recurrence]
"""One recurrence for all layers, or one for each, bottom first."""


def init_deep(
    key: Array,
    recurrences: Recurrences,
    input_size: int,
    hidden_sizes: Sequence[int],
    *,
    dtype: DTypeLike = jnp.float32,
) -> tuple[Params, ...]:
    """Draw the parameters of L layers with the recurrences' own `init`.

    A tuple of parameters drawn in any other way serves as well.

    Args:
        key: A random key.
        recurrences: One for all layers, or L of them.
        input_size: I of the bottom layer.
        hidden_sizes: H of each layer, bottom first.
        dtype: Floating.

    Returns:
        The parameters of each layer, bottom first.

    Raises:
        ValueError: There is no layer, a size is not an integer or below one, or the number of
            recurrences is not L.
        TypeError: The dtype is not floating.
    """
    hidden_sizes = tuple(hidden_sizes)
    if not hidden_sizes:
        raise ValueError("hidden_sizes: got none, expected at least one layer")
    for layer, size in enumerate(hidden_sizes):
        check_size(f"hidden_sizes[{layer}]", size)
    layers = _of_each_layer(recurrences, len(hidden_sizes))
    keys = jax.random.split(key, len(layers))
    params: list[Params] = []
    for layer_key, recurrence, hidden_size in zip(keys, layers, hidden_sizes, strict=True):
        params.append(recurrence.init(layer_key, input_size, hidden_size, dtype=dtype))
        input_size = _output_of(recurrence, params[-1]).shape[-1]
    return tuple(params)


def initial_deep_carry(
    recurrences: Recurrences, params: Sequence[Params], batch_shape: tuple[int, ...]
) -> tuple[Carry, ...]:
    """The carry of each layer before the first step, leaves `(*B, H)`.

    Raises:
        ValueError: The number of recurrences is not that of the layers' parameters.
    """
    layers = _of_each_layer(recurrences, len(params))
    return tuple(
        recurrence.initial_carry(of_layer, batch_shape)
        for recurrence, of_layer in zip(layers, params, strict=True)
    )


def scan_deep(
    recurrences: Recurrences,
    params: Sequence[Params],
    xs: ArrayLike,
    carry: Sequence[Carry] | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
    plan: str | Plan = "auto",
) -> tuple[tuple[Carry, ...], Array]:
    """Run a deep recurrent network over a batch of sequences.

    a^[0]<t> = x^<t>,  (carry^[l]<t>, a^[l]<t>) = step^[l](carry^[l]<t-1>, a^[l-1]<t>),  y = a^[L]

    All layers have the same lengths, resets, direction and plan, each as in `rnnjax.scan`; all are
    compiled as one.

    Args:
        recurrences: One for all layers, or L of them, bottom first.
        params: L records, from `init_deep`.
        xs: `(T, *B, I)`.
        carry: L carries, leaves `(*B, H)`; None is `initial_deep_carry`. Give the returned one to
            go on where a scan ended.
        lengths: `(*B,)` integer.
        resets: `(T, *B)` bool; they clear the carries of all layers.
        reverse: Run each row from its last valid element to its first.
        plan: How to run each layer.

    Returns:
        carry: L carries, after each row's last valid step.
        ys: `(T, *B, H)`, the outputs of the top layer.

    Raises:
        TypeError: As `rnnjax.scan`.
        ValueError: As `rnnjax.scan`, or the numbers of recurrences, params and carries differ, or
            a layer's inputs are not the outputs of the layer below.
        NotImplementedError: As `rnnjax.scan`.
    """
    layers = _of_each_layer(recurrences, len(params))
    if carry is not None and (not isinstance(carry, tuple | list) or len(carry) != len(layers)):
        got = f"{len(carry)} carries" if isinstance(carry, tuple | list) else type(carry).__name__
        raise ValueError(f"carry: got {got}, expected a carry for each of {len(layers)} layers")
    # Values of lengths are known only out here; all else is checked while tracing.
    explain_plan(
        layers[0],
        params[0],
        xs,
        None if carry is None else carry[0],
        lengths=lengths,
        resets=resets,
        reverse=reverse,
        plan=plan,
    )
    return _scan_layers(
        layers,
        bool(reverse),
        plan,
        tuple(params),
        jnp.asarray(xs),
        None if carry is None else tuple(carry),
        lengths,
        resets,
    )


def step_deep(
    recurrences: Recurrences, params: Sequence[Params], carry: Sequence[Carry], x: Array
) -> tuple[tuple[Carry, ...], Array]:
    """One step of all layers, for streaming and sampling: what `scan_deep` does each step.

    Args:
        recurrences: One for all layers, or L of them.
        params: L records.
        carry: L carries, leaves `(*B, H)`.
        x: `(*B, I)`.

    Returns:
        carry: L carries, leaves `(*B, H)`.
        y: `(*B, H)`, the output of the top layer.

    Raises:
        ValueError: The numbers of recurrences, params and carries differ.
    """
    layers = _of_each_layer(recurrences, len(params))
    if len(carry) != len(layers):
        raise ValueError(f"carry: got {len(carry)} carries, expected {len(layers)}, one a layer")
    new: list[Carry] = []
    for recurrence, of_layer, before in zip(layers, params, carry, strict=True):
        after, x = one_step(recurrence, of_layer, before, x)
        new.append(after)
    return tuple(new), x


@partial(jax.jit, static_argnums=(0, 1, 2))
def _scan_layers(
    layers: tuple[Recurrence, ...],
    reverse: bool,
    plan: str | Plan,
    params: tuple[Params, ...],
    xs: Array,
    carry: tuple[Carry, ...] | None,
    lengths: Array | None,
    resets: Array | None,
) -> tuple[tuple[Carry, ...], Array]:
    _check_chain(layers, params)
    carries = (None,) * len(layers) if carry is None else carry
    new: list[Carry] = []
    for recurrence, of_layer, before in zip(layers, params, carries, strict=True):
        after, xs = scan(
            recurrence,
            of_layer,
            xs,
            before,
            lengths=lengths,
            resets=resets,
            reverse=reverse,
            plan=plan,
        )
        new.append(after)
    return tuple(new), xs


def _of_each_layer(recurrences: Recurrences, count: int) -> tuple[Recurrence, ...]:
    if count < 1:
        raise ValueError("params: got no layers, expected at least one")
    if isinstance(recurrences, Recurrence):
        return (recurrences,) * count
    if len(recurrences) != count:
        raise ValueError(f"recurrences: got {len(recurrences)}, expected 1 or {count}, one a layer")
    return tuple(recurrences)


def _output_of(recurrence: Recurrence, params: Params) -> jax.ShapeDtypeStruct:
    """The shape and dtype of one output, without batch axes; nothing is computed."""

    def output(params: Params) -> Array:
        dtype = jax.tree.leaves(params)[0].dtype
        x = jnp.zeros(recurrence.input_shape(params), dtype)
        return one_step(recurrence, params, recurrence.initial_carry(params, ()), x)[1]

    return jax.eval_shape(output, params)


def _check_chain(layers: tuple[Recurrence, ...], params: tuple[Params, ...]) -> None:
    for layer in range(1, len(layers)):
        below = _output_of(layers[layer - 1], params[layer - 1]).shape
        inputs = layers[layer].input_shape(params[layer])
        if inputs != below:
            raise ValueError(
                f"params[{layer}]: takes inputs of shape {inputs}, expected {below}, "
                "the outputs of the layer below"
            )
