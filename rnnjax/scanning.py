"""The one door: run a recurrence along time."""

from collections.abc import Callable
from functools import lru_cache, partial
from math import prod
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from rnnjax.plans import REGISTRY
from rnnjax.plans.choose import Explanation, choose, run_by_auto
from rnnjax.plans.manual_axes import vary_alike
from rnnjax.plans.masking import times_along, within_lengths
from rnnjax.plans.protocol import Inputs, Plan, Request
from rnnjax.precision import (
    cast_leaves,
    computing_in,
    counterpart,
    default_accumulation_dtype,
    returned_carry,
)
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
    fresh_carry: Carry | None = None,
    accumulation_dtype: DTypeLike | None = None,
    plan: str | Plan = "auto",
) -> tuple[Carry, Array]:
    """Run a recurrence over a batch of sequences.

    (carry^<t>, y^<t>) = step(carry^<t-1>, project(x^<t>)),  t = 1 … Tx

    Args:
        recurrence: What is computed in one step, such as `rnnjax.lstm`.
        params: Its parameters, from `recurrence.init`.
        xs: `(T, *B, I)`, time first, any number of batch axes, none too. Their dtype is that in
            which products are computed: the parameters' own, or one of 16 bits.
        carry: Leaves `(*B, H)`: the state before the first step; None is the recurrence's own
            `initial_carry`. Give the returned carry to go on where a scan ended. Of the dtype of
            the inputs, of the parameters or of the sums.
        lengths: `(*B,)` integer, Tx of each row, 0 … T. Past its length a row's output is zero and
            its carry frozen; a row of length 0 returns its initial carry. Values are checked
            where they are known; under `jit` one below 0 acts as 0 and one above T as T.
        resets: `(T, *B)` bool: the carry is put back to `fresh_carry` before step t. So several
            sequences can be packed into one row. Under `reverse` "before" is in the order of
            running: mark the last step of each sequence (`sequence_ends`).
        reverse: Run each row from its own last valid element to its first; outputs stay in the
            order of the inputs.
        fresh_carry: Leaves `(*B, H)`: what a reset puts in place; None is `initial_carry`.
        accumulation_dtype: In which products are summed, gates evaluated, the carry taken from
            step to step and gradients of weights summed. None is float32 where `xs` has 16 bits,
            else the dtype of `xs`.
        plan: How to run it: a name in `rnnjax.plans.REGISTRY`, a plan with options such as
            `rnnjax.plans.unrolled_by(4)`, or "auto", whose choice `explain_plan` tells.

    Returns:
        carry: Leaves `(*B, H)`, the state after each row's last valid step, in the dtype of the
            given one, else of `xs`.
        ys: `(T, *B, H)`, in the dtype of `xs`.

    Raises:
        TypeError: An argument is of the wrong kind or dtype, such as the parameters of another
            recurrence.
        ValueError: An argument is of the wrong shape or out of range, or the plan is unknown or
            cannot serve an option.
        NotImplementedError: A derivative was asked of a plan that does not have it.
    """
    chosen, arguments = _prepared(
        recurrence,
        params,
        xs,
        carry,
        lengths,
        resets,
        reverse,
        fresh_carry,
        accumulation_dtype,
        plan,
    )
    after, ys = _run(recurrence, chosen.run, *arguments)
    return after, ys


def explain_plan(
    recurrence: Recurrence,
    params: Params,
    xs: ArrayLike | jax.ShapeDtypeStruct,
    carry: Carry | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
    fresh_carry: Carry | None = None,
    accumulation_dtype: DTypeLike | None = None,
    plan: str | Plan = "auto",
) -> Explanation:
    """Which plan `scan` would take for these arguments, why, and what it passed over and why.

    Takes the arguments of `scan`, raises its errors, and computes nothing; shapes and dtypes
    (`jax.ShapeDtypeStruct`) do in place of arrays.

    Returns:
        An `Explanation`: `.plan`, `.reason`, `.cost`, `.derivatives`, `.refused`; it prints well.
    """
    request = _checked_request(
        recurrence, params, xs, carry, lengths, resets, reverse, fresh_carry, accumulation_dtype
    )
    if plan == "auto":
        return choose(request, REGISTRY)[1]
    asked = _asked_for(plan, request)
    return Explanation(asked.name, "asked for by name", asked.cost, asked.derivatives, {})


def one_step(
    recurrence: Recurrence,
    params: Params,
    carry: Carry,
    x: ArrayLike,
    *,
    plan: str | Plan = "auto",
) -> tuple[Carry, Array]:
    """One step from an input to an output, for streaming and sampling: a `scan` of T = 1.

    (carry^<t>, y^<t>) = step(carry^<t-1>, project(x^<t>))

    Args:
        recurrence: What is computed.
        params: Its parameters.
        carry: Leaves `(*B, H)`.
        x: `(*B, I)`, whose dtype is that of the products, as in `scan`.
        plan: As in `scan`; `explain_plan` of `x[None]` tells the choice of "auto". With
            "reference" it is the step as it is written, with all its derivatives.

    Returns:
        carry: Leaves `(*B, H)`, in the dtype of the given one.
        y: `(*B, H)`, in the dtype of x.

    Raises:
        TypeError, ValueError, NotImplementedError: As `scan`.
    """
    x = jnp.asarray(x)
    chosen, arguments = _prepared(
        recurrence, params, x[None], carry, None, None, False, None, None, plan
    )
    if chosen is REGISTRY["reference"]:  # without a loop around it
        return one_step_of_projected(
            recurrence, params, carry, project_inputs(recurrence, params, x), x.dtype
        )
    after, ys = _run(recurrence, chosen.run, *arguments)
    return after, ys[0]


def project_inputs(recurrence: Recurrence, params: Params, xs: Array) -> Any:
    """All that a recurrence computes of its inputs alone, such as of every token there is.

    z = project(x)

    Args:
        recurrence: What is computed.
        params: Its parameters.
        xs: `(..., I)`, whose dtype is that of the products, as in `scan`.

    Returns:
        z: Leaves `(..., GH)`, as `one_step_of_projected` takes them.
    """
    accumulation = default_accumulation_dtype(xs.dtype)
    within = computing_in(recurrence, xs.dtype, accumulation)
    return within.project(cast_leaves(params, accumulation), xs)


def one_step_of_projected(
    recurrence: Recurrence, params: Params, carry: Carry, z: Any, dtype: DTypeLike
) -> tuple[Carry, Array]:
    """One step from an input that `project_inputs` has seen.

    (carry^<t>, y^<t>) = step(carry^<t-1>, z^<t>)

    Args:
        recurrence: What is computed.
        params: Its parameters.
        carry: Leaves `(*B, H)`.
        z: Leaves `(*B, GH)`.
        dtype: Of the inputs, which is that of the products and of y.

    Returns:
        carry: Leaves `(*B, H)`, in the dtype of the given one.
        y: `(*B, H)`.
    """
    accumulation = default_accumulation_dtype(dtype)
    within = computing_in(recurrence, dtype, accumulation)
    params, before = cast_leaves((params, carry), accumulation)
    after, y = within.step(params, before, z)
    return returned_carry(after, carry, dtype), y.astype(dtype)


def sequence_ends(starts: ArrayLike, lengths: ArrayLike | None = None) -> Array:
    """Where packed sequences end, from where they start: the resets of a reverse scan.

    Args:
        starts: `(T, *B)` bool, True at the first step of each sequence of a row; step 0 starts
            one whether marked or not.
        lengths: `(*B,)` integer, the filled part of each row, checked as `scan` does; None for
            all of it.

    Returns:
        `(T, *B)` bool, True at the last step of each sequence.

    Raises:
        TypeError: `starts` is not boolean or `lengths` not of integers.
        ValueError: An argument is of the wrong shape or a length out of range.
    """
    shape, dtype = _spec("starts", starts)
    if dtype != jnp.bool_:
        raise TypeError(f"starts: got dtype {dtype.name}, expected bool")
    if not shape:
        raise ValueError("starts: got shape (), expected (T, *B)")
    time_steps, *batch_shape = shape
    if lengths is not None:
        _check_lengths(lengths, time_steps, tuple(batch_shape))

    starts = jnp.asarray(starts)
    ends = jnp.concatenate([starts[1:], jnp.ones_like(starts[:1])])
    if lengths is None:
        return ends
    last = jnp.asarray(lengths).astype(jnp.int32) - 1
    return ends | (times_along(time_steps, last.ndim) == last)


def _prepared(
    recurrence: Recurrence,
    params: Params,
    xs: ArrayLike,
    carry: Carry | None,
    lengths: ArrayLike | None,
    resets: ArrayLike | None,
    reverse: bool,
    fresh_carry: Carry | None,
    accumulation_dtype: DTypeLike | None,
    plan: str | Plan,
) -> tuple[Plan, tuple[Any, ...]]:
    """The plan that serves the checked arguments of `scan`, and what `_run` takes besides it."""
    request = _checked_request(
        recurrence, params, xs, carry, lengths, resets, reverse, fresh_carry, accumulation_dtype
    )
    chosen = run_by_auto(request, REGISTRY) if plan == "auto" else _asked_for(plan, request)
    return chosen, (
        request.reverse,
        request.accumulation_dtype,
        params,
        _as_array(xs),
        jax.tree.map(_as_array, carry),
        jax.tree.map(_as_array, fresh_carry),
        None if lengths is None else _as_array(lengths),
        None if resets is None else _as_array(resets),
    )


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _run(
    recurrence: Recurrence,
    run: Callable[..., tuple[Any, ...]],
    reverse: bool,
    accumulation_dtype: Any,
    params: Params,
    xs: Array,
    carry: Carry | None,
    fresh_carry: Carry | None,
    lengths: Array | None,
    resets: Array | None,
) -> tuple[Any, ...]:
    """What a plan's `run` returns, carry and outputs first, in the dtypes of the arguments."""
    batch_shape = xs.shape[1 : xs.ndim - len(recurrence.input_shape(params))]
    params = cast_leaves(params, accumulation_dtype)
    initial = recurrence.initial_carry(params, batch_shape)
    before, fresh = (
        cast_leaves(given, accumulation_dtype) if given is not None else initial
        for given in (carry, fresh_carry)
    )
    valid = None if lengths is None else within_lengths(lengths, xs.shape[0])
    within = computing_in(recurrence, xs.dtype, accumulation_dtype)
    params, inputs = vary_alike((params, Inputs(xs, before, fresh, valid, resets)))
    after, ys, *rest = run(within, params, inputs, reverse)
    return returned_carry(after, carry, xs.dtype), ys.astype(xs.dtype), *rest


class _Spec(NamedTuple):
    """What is known of an array before it is put on a device."""

    shape: tuple[int, ...]
    dtype: Any


def _spec(name: str, value: Any) -> _Spec:
    """Shape and dtype of what `jnp.asarray` would give, with nothing compiled or moved."""
    if isinstance(value, jax.Array):
        return _Spec(value.shape, value.dtype)
    known = value
    try:
        if not isinstance(value, (np.ndarray, np.generic, jax.ShapeDtypeStruct)):
            known = jax.eval_shape(lambda: jnp.asarray(value))
    except (TypeError, ValueError):
        pass
    else:
        dtype = jax.dtypes.canonicalize_dtype(known.dtype)
        if jnp.issubdtype(dtype, jnp.number) or dtype == jnp.bool_:
            return _Spec(known.shape, dtype)
    raise TypeError(
        f"{name}: got {type(value).__name__}, expected numbers in the shape of an array"
    )


def _as_array(value: Any) -> Any:
    # `jit` takes a NumPy array as it is; to convert it here would compile a copy.
    return value if isinstance(value, (jax.Array, np.ndarray)) else jnp.asarray(value)


class _ParamsSpec(NamedTuple):
    """Structure, shapes and dtype of parameters: all that the checks depend on."""

    structure: Any
    leaves: tuple[_Spec, ...]

    def params(self) -> Params:
        """Parameters without values."""
        return self.structure.unflatten([jax.ShapeDtypeStruct(*leaf) for leaf in self.leaves])


class _Expected(NamedTuple):
    """What parameters say of the other arguments."""

    params: Params  # themselves, without values
    features: tuple[int, ...]  # of one input
    dtype: Any
    carry_size: int  # numbers in one row's carry


# What depends on shapes alone is kept: `scan` is also called in a loop, a step at a time.
@lru_cache
def _expected(recurrence: Recurrence, spec: _ParamsSpec) -> _Expected:
    """Check parameters, and read off them what the other arguments must be."""
    params = spec.params()
    features = _of_params("input_shape", recurrence, lambda: recurrence.input_shape(params))
    dtypes = {leaf.dtype for leaf in spec.leaves}
    if len(dtypes) != 1:
        names = ", ".join(sorted(dtype.name for dtype in dtypes))
        raise TypeError(f"params: got arrays of dtypes {names}, expected one dtype for all")
    (dtype,) = dtypes
    sizes = recurrence.sizes
    if sizes is not None:
        options = _of_params("sizes", recurrence, lambda: sizes(params))
        _check_params(recurrence, params, options, dtype)
    carry = _expected_carry(recurrence, spec, ())
    return _Expected(params, tuple(features), dtype, sum(prod(leaf.shape) for leaf in carry.leaves))


def _of_params(what: str, recurrence: Recurrence, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise TypeError(
            f"params: cannot read the {what} of {recurrence.name} ({error}), "
            f"expected what rnnjax.{recurrence.name}.init returns"
        ) from error


def _check_params(
    recurrence: Recurrence, params: Params, options: dict[str, Any], dtype: Any
) -> None:
    """Compare parameters with those that `init` gives for their sizes."""
    source = f"rnnjax.{recurrence.name}.init"
    try:
        own = jax.eval_shape(
            lambda: recurrence.init(jax.random.key(0), **options, dtype=dtype.name)
        )
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"params: got {options} and dtype {dtype.name}, which {source} refuses ({error})"
        ) from error
    got, expected = type(params).__name__, type(own).__name__
    if got != expected:
        raise TypeError(f"params: got {got}, expected {expected}, as {source} returns")
    structure = jax.tree.structure(own)
    if jax.tree.structure(params) != structure:
        raise TypeError(
            f"params: got {jax.tree.structure(params)}, expected {structure}, as {source} returns"
        )
    for (path, leaf), want in zip(
        jax.tree.leaves_with_path(params), jax.tree.leaves(own), strict=True
    ):
        if leaf.shape != want.shape:
            raise ValueError(
                f"params{jax.tree_util.keystr(path)}: got shape {leaf.shape}, "
                f"expected {want.shape}, as {source} returns for {options}"
            )


class _ExpectedCarry(NamedTuple):
    structure: Any
    paths: tuple[str, ...]  # of the leaves, for an error
    leaves: tuple[_Spec, ...]


@lru_cache
def _expected_carry(
    recurrence: Recurrence, spec: _ParamsSpec, batch_shape: tuple[int, ...]
) -> _ExpectedCarry:
    carry = _of_params(
        "initial_carry",
        recurrence,
        lambda: jax.eval_shape(
            lambda params: recurrence.initial_carry(params, batch_shape), spec.params()
        ),
    )
    paths = jax.tree.leaves_with_path(carry)
    return _ExpectedCarry(
        jax.tree.structure(carry),
        tuple(jax.tree_util.keystr(path) for path, _ in paths),
        tuple(_Spec(leaf.shape, leaf.dtype) for _, leaf in paths),
    )


def _checked_request(
    recurrence: Recurrence,
    params: Params,
    xs: Any,
    carry: Carry | None,
    lengths: Any,
    resets: Any,
    reverse: Any,
    fresh_carry: Carry | None = None,
    accumulation_dtype: Any = None,
) -> Request:
    """What is asked of a plan, or an error; nothing is compiled on the way."""
    if not isinstance(recurrence, Recurrence):
        raise TypeError(
            f"recurrence: got {type(recurrence).__name__}, "
            "expected a Recurrence such as rnnjax.lstm"
        )
    leaves, structure = jax.tree.flatten(params)
    spec = _ParamsSpec(structure, tuple(_spec("params", leaf) for leaf in leaves))
    expected = _expected(recurrence, spec)
    time_steps, batch_shape, compute_dtype = _check_xs(xs, expected)
    accumulation_dtype = _check_accumulation(accumulation_dtype, compute_dtype)
    precisions = (compute_dtype, expected.dtype, accumulation_dtype)
    for name, given in (("carry", carry), ("fresh_carry", fresh_carry)):
        if given is not None:
            own = _expected_carry(recurrence, spec, batch_shape)
            _check_carry(name, recurrence, given, own, precisions)
    if lengths is not None:
        _check_lengths(lengths, time_steps, batch_shape)
    if resets is not None:
        shape, dtype = _spec("resets", resets)
        if dtype != jnp.bool_:
            raise TypeError(f"resets: got dtype {dtype.name}, expected bool")
        if shape != (time_steps, *batch_shape):
            raise ValueError(
                f"resets: got shape {shape}, expected {(time_steps, *batch_shape)} (T, *B)"
            )
    if not isinstance(reverse, (bool, np.bool_)):
        raise TypeError(f"reverse: got {type(reverse).__name__}, expected a bool")
    return Request(
        recurrence=recurrence,
        params=expected.params,
        time_steps=time_steps,
        batch_shape=batch_shape,
        carry_size=expected.carry_size,
        dtype=compute_dtype.name,
        accumulation_dtype=accumulation_dtype.name,
        lengths=lengths is not None,
        resets=resets is not None,
        reverse=bool(reverse),
        platform=jax.default_backend(),
    )


def _check_xs(xs: Any, expected: _Expected) -> tuple[int, tuple[int, ...], Any]:
    """T, *B and the compute dtype."""
    shape, dtype = _spec("xs", xs)
    features = expected.features
    batch_axes = len(shape) - len(features) - 1
    if batch_axes < 0 or shape[1 + batch_axes :] != features:
        letters = ", ".join(map(str, features))
        raise ValueError(f"xs: got shape {shape}, expected (T, *B, {letters})")
    if shape[0] < 1:
        raise ValueError(f"xs: got shape {shape}, expected at least 1 time step")
    of_16_bits = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits == 16
    if dtype != expected.dtype and not of_16_bits:
        hint = (
            ""
            if jnp.issubdtype(dtype, jnp.inexact)
            else "; indices go through an embedding or one_hot first"
        )
        raise TypeError(
            f"xs: got dtype {dtype.name}, expected {expected.dtype.name}, that of params, "
            f"or a floating dtype of 16 bits{hint}"
        )
    return shape[0], shape[1 : 1 + batch_axes], dtype


def _check_accumulation(given: Any, compute_dtype: Any) -> Any:
    """The dtype of sums."""
    if given is None:
        return default_accumulation_dtype(compute_dtype)
    expected = f"a floating dtype at least as wide as that of xs, {compute_dtype.name}"
    try:
        dtype = jax.dtypes.canonicalize_dtype(given)
    except TypeError:
        raise TypeError(f"accumulation_dtype: got {given!r}, expected {expected}") from None
    floating = jnp.issubdtype(dtype, jnp.floating)
    if not floating or jnp.finfo(dtype).bits < jnp.finfo(compute_dtype).bits:
        raise TypeError(f"accumulation_dtype: got {dtype.name}, expected {expected}")
    return dtype


def _check_carry(
    argument: str,
    recurrence: Recurrence,
    carry: Carry,
    expected: _ExpectedCarry,
    precisions: tuple[Any, ...],
) -> None:
    leaves, structure = jax.tree.flatten(carry)
    if structure != expected.structure:
        raise ValueError(
            f"{argument}: got {structure}, expected {expected.structure}, "
            f"as {recurrence.name}.initial_carry"
        )
    for path, leaf, want in zip(expected.paths, leaves, expected.leaves, strict=True):
        name = argument + path
        shape, dtype = _spec(name, leaf)
        if shape != want.shape:
            raise ValueError(f"{name}: got shape {shape}, expected {want.shape}")
        allowed = [counterpart(want.dtype, precision).name for precision in precisions]
        if dtype.name not in allowed:
            known = " or ".join(dict.fromkeys(allowed))
            raise TypeError(f"{name}: got dtype {dtype.name}, expected {known}")


def _check_lengths(lengths: Any, time_steps: int, batch_shape: tuple[int, ...]) -> None:
    shape, dtype = _spec("lengths", lengths)
    if not jnp.issubdtype(dtype, jnp.integer):
        raise TypeError(f"lengths: got dtype {dtype.name}, expected an integer dtype")
    if shape != batch_shape:
        raise ValueError(f"lengths: got shape {shape}, expected {batch_shape} (*B)")
    unknown = (jax.core.Tracer, jax.ShapeDtypeStruct)
    if any(isinstance(part, unknown) for part in jax.tree.leaves(lengths)):
        return
    values = np.asarray(lengths)
    outside = values[(values < 0) | (values > time_steps)]
    if outside.size:
        raise ValueError(
            f"lengths: got {outside.flat[0]}, expected values within 0 … {time_steps} (T)"
        )


def _asked_for(plan: str | Plan, request: Request) -> Plan:
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
    return plan
