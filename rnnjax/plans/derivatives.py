"""Refusing, by name, the derivatives that a hand-written backward pass does not have."""

from functools import partial
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def _refuse_forward_mode(tangent: Any, *, plan: str) -> Any:
    del tangent
    raise NotImplementedError(
        f"plan: {plan!r} has no forward-mode derivative (jvp, linearize, jacfwd, hessian), "
        "expected plan='reference', which has"
    )


def _refuse_to_lower(_context: Any, tangent: Any, *, plan: str) -> Any:
    return _refuse_forward_mode(tangent, plan=plan)


def _refuse_to_batch(tangents: Any, _axes: Any, *, plan: str) -> Any:
    return _refuse_forward_mode(tangents, plan=plan)


# The identity on tangents. Reverse mode transposes it and never evaluates nor batches it; forward
# mode does one or the other, and is told. JAX's own refusal for a custom VJP goes by the same.
_reverse_mode_tangent = Primitive("rnnjax_reverse_mode_tangent")
_reverse_mode_tangent.def_impl(_refuse_forward_mode)
_reverse_mode_tangent.def_abstract_eval(lambda tangent, **_: tangent)
ad.deflinear2(_reverse_mode_tangent, lambda cotangent, *_, **__: [cotangent])
batching.primitive_batchers[_reverse_mode_tangent] = _refuse_to_batch
mlir.register_lowering(_reverse_mode_tangent, _refuse_to_lower)

# The identity on values, with the above as its derivative. Not a `jax.custom_jvp`: `grad(vmap(f))`
# batches the rule of one, so that reverse mode would batch tangents too.
_reverse_mode_only = Primitive("rnnjax_reverse_mode_only")
_reverse_mode_only.def_impl(lambda value, **_: value)
_reverse_mode_only.def_abstract_eval(lambda value, **_: value)
ad.defjvp(
    _reverse_mode_only, lambda tangent, _, *, plan: _reverse_mode_tangent.bind(tangent, plan=plan)
)
batching.defvectorized(_reverse_mode_only)
mlir.register_lowering(_reverse_mode_only, lambda _context, value, **_: [value])


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _first_order_only(plan: str, value: Any) -> Any:
    del plan
    return value


@_first_order_only.defjvp
def _(plan: str, primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    del primals, tangents
    raise NotImplementedError(
        f"plan: {plan!r} has no derivative of its gradient (second order), "
        "expected plan='reference', which has"
    )


def reverse_mode_only(plan: str, tree: Any) -> Any:
    """The same tree; its forward-mode derivative raises `NotImplementedError` naming the plan."""
    return jax.tree.map(partial(_reverse_mode_only.bind, plan=plan), tree)


def first_order_only(plan: str, tree: Any) -> Any:
    """The same tree; any derivative of it raises `NotImplementedError` naming the plan."""
    return jax.tree.map(partial(_first_order_only, plan), tree)
