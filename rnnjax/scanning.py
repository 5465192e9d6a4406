"""The one door: run a recurrence along time."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from rnnjax.plans import REGISTRY
from rnnjax.plans.choose import Explanation, choose
from rnnjax.plans.protocol import Inputs, Plan, Request
from rnnjax.recurrences.protocol import Carry, Params, Recurrence


def scan(
    recurrence: Recurrence,
    params: Params,
    xs: ArrayLike,
    carry: Carry | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
    plan: str | Plan = "auto",
) -> tuple[Carry, Array]:
    """Run a recurrence over a batch of sequences.

    (carry^<t>, y^<t>) = step(carry^<t-1>, project(x^<t>)),  t = 1 … Tx

    Args:
        recurrence: What is computed in one step, such as `rnnjax.lstm`.
        params: Its parameters, from `recurrence.init`.
        xs: `(T, *B, I)`, time first, any number of batch axes, none too; of the parameters' dtype.
        carry: Leaves `(*B, H)`: the state before the first step; None is the recurrence's own
            `initial_carry`. Give the returned carry to go on where a scan ended.
        lengths: `(*B,)` integer, Tx of each row, 0 … T. Past its length a row's output is zero and
            its carry frozen; a row of length 0 returns its initial carry. Values are checked
            where they are known; under `jit` one below 0 acts as 0 and one above T as T.
        resets: `(T, *B)` bool: the carry is put back to `initial_carry` before step t. So several
            sequences can be packed into one row. Under `reverse` "before" is in the order of
            running: mark the last step of each sequence (`sequence_ends`).
        reverse: Run each row from its own last valid element to its first; outputs stay in the
            order of the inputs.
        plan: How to run it: a name in `rnnjax.plans.REGISTRY`, a plan with options such as
            `rnnjax.plans.unrolled_by(4)`, or "auto", whose choice `explain_plan` tells.

    Returns:
        carry: Leaves `(*B, H)`, the state after each row's last valid step.
        ys: `(T, *B, H)`.

    Raises:
        TypeError: An argument is of the wrong kind or dtype.
        ValueError: An argument is of the wrong shape or out of range, or the plan is unknown or
            cannot serve an option.
        NotImplementedError: A derivative was asked of a plan that does not have it.
    """
    xs, carry, lengths, resets = _checked(recurrence, params, xs, carry, lengths, resets)
    chosen, _ = _resolve(plan, _request(recurrence, params, xs, carry, lengths, resets, reverse))
    return _run(recurrence, chosen, bool(reverse), params, xs, carry, lengths, resets)


def explain_plan(
    recurrence: Recurrence,
    params: Params,
    xs: ArrayLike | jax.ShapeDtypeStruct,
    carry: Carry | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
    plan: str | Plan = "auto",
) -> Explanation:
    """Which plan `scan` would take for these arguments, why, and what it passed over and why.

    Takes the arguments of `scan`, raises its errors, and computes nothing; shapes and dtypes
    (`jax.ShapeDtypeStruct`) do in place of arrays.

    Returns:
        An `Explanation`: `.plan`, `.reason`, `.cost`, `.derivatives`, `.refused`; it prints well.
    """
    xs, carry, lengths, resets = _checked(recurrence, params, xs, carry, lengths, resets)
    request = _request(recurrence, params, xs, carry, lengths, resets, reverse)
    return _resolve(plan, request)[1]


def one_step(recurrence: Recurrence, params: Params, carry: Carry, x: Array) -> tuple[Carry, Array]:
    """One step from an input to an output, for streaming and sampling.

    (carry^<t>, y^<t>) = step(carry^<t-1>, project(x^<t>))

    Args:
        recurrence: What is computed.
        params: Its parameters.
        carry: Leaves `(*B, H)`.
        x: `(*B, I)`.

    Returns:
        carry: Leaves `(*B, H)`.
        y: `(*B, H)`.
    """
    return recurrence.step(params, carry, recurrence.project(params, x))


def sequence_ends(starts: ArrayLike, lengths: ArrayLike | None = None) -> Array:
    """Where packed sequences end, from where they start: the resets of a reverse scan.

    Args:
        starts: `(T, *B)` bool, True at the first step of each sequence of a row; step 0 starts
            one whether marked or not.
        lengths: `(*B,)` integer, the filled part of each row; None for all of it.

    Returns:
        `(T, *B)` bool, True at the last step of each sequence.

    Raises:
        TypeError: `starts` is not boolean.
    """
    starts = jnp.asarray(starts)
    if starts.dtype != jnp.bool_:
        raise TypeError(f"starts: got dtype {starts.dtype.name}, expected bool")
    time_steps = starts.shape[0]
    ends = jnp.concatenate([starts[1:], jnp.ones_like(starts[:1])])
    if lengths is None:
        return ends
    last = jnp.asarray(lengths) - 1
    return ends | (_times(time_steps, last.ndim) == last)


def _times(time_steps: int, batch_axes: int) -> Array:
    return jnp.arange(time_steps, dtype=jnp.int32).reshape(-1, *(1,) * batch_axes)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _run(
    recurrence: Recurrence,
    plan: Plan,
    reverse: bool,
    params: Params,
    xs: Array,
    carry: Carry | None,
    lengths: Array | None,
    resets: Array | None,
) -> tuple[Carry, Array]:
    batch_shape = _batch_shape(recurrence, params, xs)
    fresh = recurrence.initial_carry(params, batch_shape)
    valid = None
    if lengths is not None:
        valid = _times(xs.shape[0], lengths.ndim) < lengths.astype(jnp.int32)
    inputs = Inputs(xs, fresh if carry is None else carry, fresh, valid, resets)
    return plan.run(recurrence, params, inputs, reverse)


def _batch_shape(recurrence: Recurrence, params: Params, xs: Any) -> tuple[int, ...]:
    return xs.shape[1 : xs.ndim - len(recurrence.input_shape(params))]


def _is_known(array: Any) -> bool:
    return not isinstance(array, (jax.core.Tracer, jax.ShapeDtypeStruct))


def _as_array(value: Any) -> Any:
    return value if isinstance(value, jax.ShapeDtypeStruct) else jnp.asarray(value)


def _checked(
    recurrence: Recurrence,
    params: Params,
    xs: Any,
    carry: Carry | None,
    lengths: Any,
    resets: Any,
) -> tuple[Array, Carry | None, Array | None, Array | None]:
    """The arguments as arrays, or an error; nothing is compiled on the way."""
    if not isinstance(recurrence, Recurrence):
        raise TypeError(
            f"recurrence: got {type(recurrence).__name__}, "
            "expected a Recurrence such as rnnjax.lstm"
        )
    features = _of_params("input_shape", recurrence, lambda: recurrence.input_shape(params))
    dtypes = {jnp.result_type(leaf) for leaf in jax.tree.leaves(params)}
    if len(dtypes) != 1:
        names = ", ".join(sorted(dtype.name for dtype in dtypes))
        raise TypeError(f"params: got arrays of dtypes {names}, expected one dtype for all")
    (dtype,) = dtypes

    xs = _as_array(xs)
    rank = 1 + len(features)
    letters = ", ".join(map(str, features))
    if xs.ndim < rank or xs.shape[xs.ndim - len(features) :] != features:
        raise ValueError(f"xs: got shape {xs.shape}, expected (T, *B, {letters})")
    if xs.shape[0] < 1:
        raise ValueError(f"xs: got shape {xs.shape}, expected at least 1 time step")
    if xs.dtype != dtype:
        hint = (
            ""
            if jnp.issubdtype(xs.dtype, jnp.inexact)
            else "; indices go through an embedding or one_hot first"
        )
        raise TypeError(
            f"xs: got dtype {xs.dtype.name}, expected {dtype.name}, that of params{hint}"
        )
    batch_shape = xs.shape[1 : xs.ndim - len(features)]

    if carry is not None:
        carry = _checked_carry(recurrence, params, carry, batch_shape)
    if lengths is not None:
        lengths = _checked_lengths(_as_array(lengths), xs.shape[0], batch_shape)
    if resets is not None:
        resets = _as_array(resets)
        if resets.dtype != jnp.bool_:
            raise TypeError(f"resets: got dtype {resets.dtype.name}, expected bool")
        expected = (xs.shape[0], *batch_shape)
        if resets.shape != expected:
            raise ValueError(f"resets: got shape {resets.shape}, expected {expected} (T, *B)")
    return xs, carry, lengths, resets


def _of_params(what: str, recurrence: Recurrence, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (AttributeError, IndexError, TypeError) as error:
        raise TypeError(
            f"params: cannot read the {what} of {recurrence.name} ({error}), "
            f"expected what rnnjax.{recurrence.name}.init returns"
        ) from error


def _checked_carry(
    recurrence: Recurrence, params: Params, carry: Carry, batch_shape: tuple[int, ...]
) -> Carry:
    carry = jax.tree.map(_as_array, carry)
    expected = jax.eval_shape(lambda: recurrence.initial_carry(params, batch_shape))
    got_structure, structure = jax.tree.structure(carry), jax.tree.structure(expected)
    if got_structure != structure:
        raise ValueError(
            f"carry: got {got_structure}, expected {structure}, as {recurrence.name}.initial_carry"
        )
    for (path, leaf), want in zip(
        jax.tree_util.tree_leaves_with_path(carry), jax.tree.leaves(expected), strict=True
    ):
        name = "carry" + jax.tree_util.keystr(path)
        if leaf.shape != want.shape:
            raise ValueError(f"{name}: got shape {leaf.shape}, expected {want.shape}")
        if leaf.dtype != want.dtype:
            raise TypeError(f"{name}: got dtype {leaf.dtype.name}, expected {want.dtype.name}")
    return carry


def _checked_lengths(lengths: Any, time_steps: int, batch_shape: tuple[int, ...]) -> Any:
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"lengths: got dtype {lengths.dtype.name}, expected an integer dtype")
    if lengths.shape != batch_shape:
        raise ValueError(f"lengths: got shape {lengths.shape}, expected {batch_shape} (*B)")
    if _is_known(lengths):
        values = np.asarray(lengths)
        outside = values[(values < 0) | (values > time_steps)]
        if outside.size:
            raise ValueError(
                f"lengths: got {outside.flat[0]}, expected values within 0 … {time_steps} (T)"
            )
    return lengths


def _request(
    recurrence: Recurrence,
    params: Params,
    xs: Any,
    carry: Carry | None,
    lengths: Any,
    resets: Any,
    reverse: bool,
) -> Request:
    del carry
    one_row = jax.eval_shape(lambda: recurrence.initial_carry(params, ()))
    return Request(
        recurrence=recurrence,
        time_steps=xs.shape[0],
        batch_shape=_batch_shape(recurrence, params, xs),
        carry_size=sum(leaf.size for leaf in jax.tree.leaves(one_row)),
        dtype=xs.dtype.name,
        lengths=lengths is not None,
        resets=resets is not None,
        reverse=bool(reverse),
        platform=jax.default_backend(),
    )


def _resolve(plan: str | Plan, request: Request) -> tuple[Plan, Explanation]:
    if plan == "auto":
        return choose(request, REGISTRY)
    if isinstance(plan, str):
        if plan not in REGISTRY:
            known = ", ".join(["auto", *REGISTRY])
            raise ValueError(f"plan: got {plan!r}, expected one of {known}, or a Plan")
        plan = REGISTRY[plan]
    if not isinstance(plan, Plan):
        raise TypeError(f"plan: got {type(plan).__name__}, expected a name or a Plan")
    refusal = plan.refusal(request)
    if refusal is not None:
        raise ValueError(f"plan: {plan.name!r} cannot serve this: {refusal}")
    return plan, Explanation(plan.name, "asked for by name", plan.cost, plan.derivatives, {})
