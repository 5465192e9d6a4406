"""The gates of a recurrence, read off its own computation, and how far open they stand."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun
from jax.typing import ArrayLike

from rnnjax.diagnostics.vector_carry import checked_arguments, over_rows
from rnnjax.recurrences.protocol import Carry, Params, Recurrence

_LSTM = (("forget",), ("input",), ("output",))

GATE_NAMES: Mapping[str, tuple[tuple[str, ...], ...]] = MappingProxyType(
    {
        "elman": (),
        "elman_relu": (),
        "minimal_gru": (("update",),),
        "gru": (("reset",), ("kept",)),
        "gru_reset_before": (("reset", "kept"),),
        "gru_layer_norm": (("reset",), ("kept",)),
        "lstm": _LSTM,
        "lstm_peephole": _LSTM,
        "lstm_projected": _LSTM,
        "lstm_layer_norm": _LSTM,
        "conv_lstm_1d": _LSTM,
        "conv_lstm_2d": _LSTM,
        "indrnn": (),
        "slstm": (("forget",), ("output",)),
        "gated_diagonal": (("decay",),),
        "min_gru": (("kept",), ("update",)),
        "min_lstm": (("forget",), ("input",), ("share_kept",), ("share_added",)),
        "sru": (("forget", "reset"),),
        "sru_linear": (("forget", "reset"),),
        "qrnn": (("forget",), ("output",)),
        "lru": (),
        "rg_lru": (("recurrence", "input"),),
        "mlstm": (("output",), ("forget",)),
    }
)
"""Recurrence -> the names of its sigmoids in the order in which its step computes them; several
names are of gates stacked on the last axis. "kept" is the share of the state that stays, 1 − Γu."""


class GateSaturation(NamedTuple):
    """How often a gate is where.

    Attributes:
        edges: `(bins + 1,)`, of the histogram, 0 … 1.
        shares: `(bins,)`, the share of all values in each bin; they add up to 1.
        shut: `(H,)`, of each unit the share of steps and rows in which the gate is below `low`.
        open: `(H,)`, in which it is above `high`.
    """

    edges: Array
    shares: Array
    shut: Array
    open: Array


def gate_values(
    recurrence: Recurrence, params: Params, xs: ArrayLike, carry: Carry | None = None
) -> dict[str, Array]:
    """Every gate at every step: what the recurrence's own sigmoids return on the way.

    A record of a recurrence does not name its gates, so they are found in the program of its step
    (and projection): each sigmoid whose argument depends on input or state is a gate, and so is
    exp(log σ(·)) where a recurrence computes in log space. Gates that are exponentials, the input
    gates of xLSTM, have no upper end to saturate at and are not among them. Names are those of
    `GATE_NAMES`; of a recurrence that is not in it "gate 1", "gate 2", …

    Args:
        recurrence: What is computed in one step.
        params: Its parameters.
        xs: `(T, *B, I)`, of the parameters' dtype.
        carry: Leaves `(*B, H)`: carry^<0>; None is the recurrence's own.

    Returns:
        Name -> `(T, *B, H)` within 0 … 1, H being the gate's own units (all of a map for a
        convolution); empty for a recurrence without gates.

    Raises:
        TypeError: As `rnnjax.scan`, or `xs` is not of the parameters' dtype.
        ValueError: As `rnnjax.scan`, or the step has not as many sigmoids as `GATE_NAMES` says.

    References:
        Karpathy, Johnson and Li (2015), arXiv:1506.02078, section 4.1, for looking at them.
    """
    xs, carry, batch_axes = checked_arguments(recurrence, params, xs, carry)
    found = _sigmoids_along(recurrence, batch_axes, params, carry, xs)
    names = GATE_NAMES.get(recurrence.name)
    if names is None:
        return {f"gate {number}": value for number, value in enumerate(found, start=1)}
    if len(names) != len(found):
        raise ValueError(
            f"recurrence: got {len(found)} sigmoids in a step of {recurrence.name}, "
            f"expected {len(names)}, those of rnnjax.diagnostics.gates.GATE_NAMES"
        )
    return {
        name: part
        for stacked, value in zip(names, found, strict=True)
        for name, part in zip(stacked, jnp.split(value, len(stacked), axis=-1), strict=True)
    }


def gate_saturation(
    values: ArrayLike, *, bins: int = 20, low: float = 0.1, high: float = 0.9
) -> GateSaturation:
    """A histogram of a gate, and how often each unit of it is nearly shut or nearly open.

    A saturated gate passes nearly no gradient to its own weights, σ' = σ(1 − σ). That need not be
    bad: a forget gate that is always open carries the state's gradient unchanged.

    Args:
        values: `(T, *B, H)` within 0 … 1, of `gate_values`.
        bins: Of the histogram, of equal width.
        low: Below it a gate counts as shut.
        high: Above it a gate counts as open.

    Raises:
        ValueError: There is no axis or no value, `bins` is not an integer of at least 1, or not
            0 <= low < high <= 1.

    References:
        Karpathy, Johnson and Li (2015), arXiv:1506.02078, section 4.1 and figure 3.
    """
    values = jnp.asarray(values)
    if values.ndim < 1 or values.size < 1:
        raise ValueError(f"values: got shape {values.shape}, expected (T, *B, H)")
    if not isinstance(bins, int) or isinstance(bins, bool) or bins < 1:
        raise ValueError(f"bins: got {bins!r}, expected an integer of at least 1")
    if not 0 <= low < high <= 1:
        raise ValueError(f"low, high: got {low}, {high}, expected 0 <= low < high <= 1")
    edges = jnp.linspace(0, 1, bins + 1, dtype=values.dtype)
    counts = jnp.zeros(bins, jnp.int32)
    within = jnp.clip(jnp.floor(values.ravel() * bins).astype(jnp.int32), 0, bins - 1)
    counts = counts.at[within].add(1)
    by_unit = values.reshape(-1, values.shape[-1])
    return GateSaturation(
        edges,
        counts.astype(values.dtype) / values.size,
        jnp.mean((by_unit < low).astype(values.dtype), axis=0),
        jnp.mean((by_unit > high).astype(values.dtype), axis=0),
    )


@partial(jax.jit, static_argnums=(0, 1))
def _sigmoids_along(
    recurrence: Recurrence, batch_axes: int, params: Params, carry: Carry, xs: Array
) -> list[Array]:
    def of_row(carry: Carry, xs: Array) -> list[Array]:
        def step(carry: Carry, x: Array) -> tuple[Carry, list[Array]]:
            # Parameters are constants here, so that what depends on them alone is no gate.
            def one_step(carry: Carry, x: Array) -> Carry:
                after, _ = recurrence.step(params, carry, recurrence.project(params, x))
                return after

            return _with_sigmoids(one_step, carry, x)

        return lax.scan(step, carry, xs)[1]

    return over_rows(of_row, batch_axes, out_axes=1)(carry, xs)


def _with_sigmoids(
    function: Callable[[Carry, Array], Carry], carry: Carry, x: Array
) -> tuple[Carry, list[Array]]:
    """What a function returns, and flat the value of every sigmoid of its arguments, in order."""
    program, shapes = jax.make_jaxpr(function, return_shape=True)(carry, x)
    jaxpr = program.jaxpr
    varying = set(jaxpr.invars)
    found: list[Any] = []
    is_log: list[bool] = []
    for equation in jaxpr.eqns:
        atoms = [atom for atom in equation.invars if not isinstance(atom, Literal)]
        if varying.isdisjoint(atoms):
            continue
        varying.update(equation.outvars)
        name = equation.params.get("name")
        if name == "log_sigmoid" or equation.primitive is lax.logistic_p:
            found.append(equation.outvars[0])
            is_log.append(name == "log_sigmoid")
    watched = jaxpr.replace(outvars=[*jaxpr.outvars, *found])
    results = jaxpr_as_fun(ClosedJaxpr(watched, program.consts))(*jax.tree.leaves((carry, x)))
    after, values = results[: len(jaxpr.outvars)], results[len(jaxpr.outvars) :]
    return jax.tree.unflatten(jax.tree.structure(shapes), after), [
        (jnp.exp(value) if log else value).ravel()
        for value, log in zip(values, is_log, strict=True)
    ]
