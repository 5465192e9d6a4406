"""A compiled kernel for the CPU: weights packed once, gates computed where the sums are."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.custom_derivatives import SymbolicZero, custom_vjp_primal_tree_values

from rnnjax.plans.by_platform import on_cpu
from rnnjax.plans.derivatives import first_order_only, reverse_mode_only
from rnnjax.plans.manual_axes import vary_alike
from rnnjax.plans.native_library import instruction_sets, library
from rnnjax.plans.protocol import FIRST_ORDER_REVERSE, Inputs, Plan, Request, check_size
from rnnjax.recurrences.elman import elman, elman_relu
from rnnjax.recurrences.gru import gru
from rnnjax.recurrences.lstm import lstm
from rnnjax.recurrences.minimal_gru import minimal_gru
from rnnjax.recurrences.protocol import Carry, Params, Recurrence

SAVED_UNITS = 16  # what is saved of a step is padded to so many hidden units, as in native/calls.h


class Kernel(NamedTuple):
    """What the compiled library says of a recurrence, see `native/kernels.cc`."""

    gates: int  # G
    saved: int  # vectors of H numbers that a step keeps for the backward pass
    sum_only: bool  # z and m are used only as their sum, so that their cotangents are one


KERNELS: Mapping[Recurrence, Kernel] = MappingProxyType(
    {
        elman: Kernel(gates=1, saved=1, sum_only=True),
        elman_relu: Kernel(gates=1, saved=1, sum_only=True),
        minimal_gru: Kernel(gates=2, saved=3, sum_only=True),
        gru: Kernel(gates=3, saved=5, sum_only=False),
        lstm: Kernel(gates=4, saved=5, sum_only=True),
    }
)
"""The recurrences that have one; the very records, for another may compute something else."""


class Options(NamedTuple):
    """How a kernel is called, besides its arrays."""

    recurrence: Recurrence
    reverse: bool
    threads: int  # at most; 0 is as many as XLA has
    instructions: str  # an instruction set, or "best"
    plan: str  # whom an error names
    carry: Any  # its structure
    elsewhere: Plan | None  # what a program runs that is lowered for another platform


class Arrays(NamedTuple):
    """All arrays of a call, with the batch axes as one."""

    xs: Array  # (T, B, I)
    carry: tuple[Array, ...]  # leaves (B, H)
    fresh: tuple[Array, ...]
    valid: Array | None  # (T, B) bool
    resets: Array | None


def _flags(arrays: Arrays) -> Array | None:
    """`(T, B)` uint8: 1 within the length, 2 a reset there; None where neither was asked for."""
    if arrays.valid is None and arrays.resets is None:
        return None
    everywhere = jnp.ones(arrays.xs.shape[:2], bool)
    valid = everywhere if arrays.valid is None else arrays.valid
    resets = ~everywhere if arrays.resets is None else arrays.resets & valid
    return valid.astype(jnp.uint8) + jnp.uint8(2) * resets.astype(jnp.uint8)


def _call(
    handler: str, options: Options, sizes: dict[str, int | bool], results: Any, arrays: Any
) -> Any:
    """Call a handler on the leaves of `arrays`; returns arrays in the structure of `results`."""
    leaves, structure = jax.tree.flatten(results)
    attributes = {n: v if isinstance(v, bool) else np.int64(v) for n, v in sizes.items()}
    call = jax.ffi.ffi_call(handler, leaves, vmap_method="sequential")
    found = call(
        *jax.tree.leaves(arrays),
        recurrence=options.recurrence.name,
        instructions=options.instructions,
        reverse=options.reverse,
        threads=np.int64(options.threads),
        **attributes,
    )
    _, found = vary_alike((arrays, found))  # the results of a foreign call are typed not to
    return jax.tree.unflatten(structure, found)


def _float32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _saved_shape(kernel: Kernel, time_steps: int, rows: int, hidden_size: int) -> tuple[int, ...]:
    padded = -(-hidden_size // SAVED_UNITS) * SAVED_UNITS
    return time_steps, rows, kernel.saved, padded


def _kernel_forward(options: Options, save: bool, params: Params, arrays: Arrays) -> Any:
    """`((last, ys), saved)`; nothing is saved unless asked for."""
    kernel = KERNELS[options.recurrence]
    time_steps, rows, input_size = arrays.xs.shape
    hidden_size = params.w_h.shape[0]
    flags = _flags(arrays)
    results = {
        "0 ys": _float32(time_steps, rows, hidden_size),
        "1 last": tuple(_float32(rows, hidden_size) for _ in arrays.carry),
        "2 saved": _float32(*_saved_shape(kernel, time_steps, rows, hidden_size)) if save else None,
    }
    found = _call(
        "rnnjax_forward",
        options,
        {
            "time_steps": time_steps,
            "rows": rows,
            "input_size": input_size,
            "hidden_size": hidden_size,
            "masked": flags is not None,
            "save": save,
        },
        results,
        (arrays.xs, *params, flags, arrays.carry, arrays.fresh),
    )
    return (found["1 last"], found["0 ys"]), found["2 saved"]


def _elsewhere(
    options: Options, params: Params, xs: Array, carry: Any, fresh: Any, valid: Any, resets: Any
) -> tuple[tuple[Array, ...], Array]:
    """`(last, ys)` in a program that is lowered for another platform."""
    if options.elsewhere is None:
        raise NotImplementedError(
            f"plan: {options.plan!r} has kernels for a CPU, got a program lowered for another "
            "platform, expected plan='auto', which runs another plan there"
        )
    carry, fresh = (options.carry.unflatten(leaves) for leaves in (carry, fresh))
    inputs = Inputs(xs, carry, fresh, valid, resets)
    last, ys = options.elsewhere.run(options.recurrence, params, inputs, options.reverse)
    return tuple(jax.tree.leaves(last)), ys


def _forward(options: Options, params: Params, arrays: Arrays, save: bool) -> Any:
    """`((last, ys), saved)`; nothing is saved unless asked for."""

    def elsewhere(params: Params, arrays: Arrays) -> Any:
        out = _elsewhere(options, params, *arrays)
        shape = _saved_shape(KERNELS[options.recurrence], *out[1].shape)
        return out, jnp.zeros(shape, jnp.float32) if save else None  # its gradient begins anew

    return on_cpu(partial(_kernel_forward, options, save), elsewhere=elsewhere)(params, arrays)


def _kernel_backward(
    options: Options,
    of_inputs: bool,
    params: Params,
    arrays: Arrays,
    ys: Array,
    saved: Array,
    dlast: tuple[Array, ...],
    dys: Array,
) -> Any:
    """`(dparams, dxs, dcarry, dfresh)`; None for dxs unless asked for."""
    kernel = KERNELS[options.recurrence]
    time_steps, rows, input_size = arrays.xs.shape
    hidden_size = ys.shape[-1]
    flags = _flags(arrays)
    gates_size = kernel.gates * hidden_size
    of_carry = tuple(_float32(rows, hidden_size) for _ in arrays.carry)
    biases = (_float32(gates_size),) * (1 if kernel.sum_only else 2)
    w_x, w_h, *_ = params
    found = _call(
        "rnnjax_backward",
        options,
        {
            "time_steps": time_steps,
            "rows": rows,
            "input_size": input_size,
            "hidden_size": hidden_size,
            "masked": flags is not None,
            "of_inputs": of_inputs,
        },
        {
            "0 dxs": _float32(*arrays.xs.shape) if of_inputs else None,
            "1 dparams": (
                _float32(input_size, gates_size),
                _float32(hidden_size, gates_size),
                *biases,
            ),
            "2 dcarry": of_carry,
            "3 dfresh": of_carry,
        },
        (arrays.xs, w_x, w_h, flags, arrays.carry, arrays.fresh, ys, saved, dys, dlast),
    )
    dparams = type(params)(*found["1 dparams"])
    return dparams, found["0 dxs"], found["2 dcarry"], found["3 dfresh"]


def _backward(options: Options, of_inputs: bool, *arrays: Any) -> Any:
    """`(dparams, dxs, dcarry, dfresh)`; None for dxs unless asked for."""

    def elsewhere(params: Params, arrays: Arrays, ys: Any, saved: Any, dlast: Any, dys: Any) -> Any:
        del ys, saved
        xs, carry, fresh, *masks = arrays
        _, pull_back = jax.vjp(
            lambda *changing: _elsewhere(options, *changing, *masks), params, xs, carry, fresh
        )
        dparams, dxs, dcarry, dfresh = pull_back((dlast, dys))
        return dparams, dxs if of_inputs else None, dcarry, dfresh

    return on_cpu(partial(_kernel_backward, options, of_inputs), elsewhere=elsewhere)(*arrays)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _native(options: Options, params: Params, arrays: Arrays) -> tuple[tuple[Array, ...], Array]:
    out, _ = _forward(options, params, arrays, save=False)
    return out


def _native_forward(options: Options, params: Any, arrays: Any) -> Any:
    # None or not, for what a backward pass is told must be arrays or structure.
    of_inputs = () if arrays.xs.perturbed else None
    params, arrays = first_order_only(options.plan, custom_vjp_primal_tree_values((params, arrays)))
    out, saved = _forward(options, params, arrays, save=True)
    return out, (params, arrays, out[1], saved, of_inputs)


def _native_backward(options: Options, residuals: Any, cotangents: Any) -> tuple[Params, Arrays]:
    cotangents = jax.tree.map(
        lambda c: jnp.zeros(c.shape, jnp.float32) if isinstance(c, SymbolicZero) else c,
        cotangents,
        is_leaf=lambda leaf: isinstance(leaf, SymbolicZero),
    )
    (params, arrays, ys, saved, of_inputs), (dlast, dys) = first_order_only(
        options.plan, (residuals, cotangents)
    )
    found = _backward(options, of_inputs is not None, params, arrays, ys, saved, dlast, dys)
    dparams, dxs, dcarry, dfresh = found
    return dparams, Arrays(dxs, dcarry, dfresh, None, None)


_native.defvjp(_native_forward, _native_backward, symbolic_zeros=True)


def run(
    recurrence: Recurrence,
    params: Params,
    inputs: Inputs,
    reverse: bool,
    *,
    plan: str = "native",
    threads: int = 0,
    instructions: str = "best",
    elsewhere: Plan | None = None,
) -> tuple[Carry, Array]:
    """Run the compiled kernel of a recurrence.

    Forward, the inputs of some steps are projected together, all gates of a block of hidden units
    are summed in registers, and nothing but the outputs is written to memory. Backward, some steps
    run in sequence, then one product for each weight and for the inputs takes them all.

    Args:
        recurrence: One of `KERNELS`.
        params: Its parameters, float32.
        inputs: All arrays besides, float32.
        reverse: Whether to run from the last step to the first.
        plan: The name that an error gives.
        threads: At most; 0 is as many as XLA has.
        instructions: An instruction set, or "best".
        elsewhere: What a program runs that is lowered for another platform; None is an error.
    """
    params, xs, carry, fresh = reverse_mode_only(
        plan, (params, inputs.xs, inputs.carry, inputs.fresh_carry)
    )
    time_steps, *batch_shape, _ = xs.shape
    leaves, structure = jax.tree.flatten(carry)

    def as_rows(leaf: Array, axes: int) -> Array:
        return leaf.reshape(*leaf.shape[:axes], -1, *leaf.shape[axes + len(batch_shape) :])

    arrays = Arrays(
        as_rows(xs, 1),
        tuple(as_rows(leaf, 0) for leaf in leaves),
        tuple(as_rows(leaf, 0) for leaf in jax.tree.leaves(fresh)),
        None if inputs.valid is None else as_rows(inputs.valid, 1),
        None if inputs.resets is None else as_rows(inputs.resets, 1),
    )
    options = Options(recurrence, reverse, threads, instructions, plan, structure, elsewhere)
    last, ys = cast("tuple[tuple[Array, ...], Array]", _native(options, params, arrays))
    rows = [leaf.reshape(*batch_shape, -1) for leaf in last]
    return jax.tree.unflatten(structure, rows), ys.reshape(time_steps, *batch_shape, -1)


def refusal(request: Request) -> str | None:
    """Why a request cannot be served; whether there is a library is asked last."""
    if request.platform != "cpu":
        return f"its kernels are compiled for a CPU, this runs on {request.platform}"
    if request.recurrence not in KERNELS:
        names = ", ".join(recurrence.name for recurrence in KERNELS)
        return f"there is a kernel for {names}, none for {request.recurrence.name}"
    dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(request.params)}
    dtypes |= {request.dtype, request.accumulation_dtype}
    if dtypes != {"float32"}:
        others = ", ".join(sorted(dtypes - {"float32"}))
        return f"its kernels compute in float32, got {others}"
    if request.rows == 0:
        return "there are no rows"
    return library().missing


native = Plan(
    name="native",
    summary="a compiled CPU kernel: packed weights, sums in registers, threads that share the work",
    run=run,
    derivatives=FIRST_ORDER_REVERSE,
    cost="a gradient keeps the gates of each step, and no cotangent of theirs for longer than some "
    "steps",
    refusal=refusal,
)


@lru_cache
def native_or(elsewhere: Plan) -> Plan:
    """The native plan, and another one in a program that is lowered for another platform."""
    return replace(native, run=partial(run, elsewhere=elsewhere))


def _refusal_of_instructions(instructions: str, request: Request) -> str | None:
    reason = refusal(request)
    if reason is None and instructions != "best" and instructions not in instruction_sets():
        known = ", ".join(instruction_sets())
        return f"instructions: got {instructions!r}, this processor runs {known}"
    return reason


@lru_cache(typed=True)  # True equals 1
def native_with(*, threads: int | None = None, instructions: str = "best") -> Plan:
    """The native plan with fewer threads, or with another instruction set than the best.

    Args:
        threads: At most so many, and never more than XLA has; None is as many.
        instructions: "best", or a set that the processor runs ("avx512", "avx2", "baseline").

    Raises:
        ValueError: `threads` is not an integer or below one.
    """
    if threads is not None:
        check_size("threads", threads)
    given = [
        *([] if threads is None else [f"threads={threads}"]),
        *([] if instructions == "best" else [f"instructions={instructions}"]),
    ]
    name = f"native_with({', '.join(given)})"
    return replace(
        native,
        name=name,
        run=partial(run, plan=name, threads=threads or 0, instructions=instructions),
        refusal=partial(_refusal_of_instructions, instructions),
    )
