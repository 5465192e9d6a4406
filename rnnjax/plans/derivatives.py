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


def _lower_refusal(_context: Any, tangent: Any, *, plan: str) -> Any:
    return _refuse_forward_mode(tangent, plan=plan)


# The identity on tangents. Reverse mode transposes it and never evaluates it; forward mode
# evaluates it, and is told.
_reverse_mode_tangent = Primitive("rnnjax_reverse_mode_tangent")
_reverse_mode_tangent.def_impl(_refuse_forward_mode)
_reverse_mode_tangent.def_abstract_eval(lambda tangent, **_: tangent)
ad.deflinear2(_reverse_mode_tangent, lambda cotangent, *_, **__: [cotangent])
batching.defvectorized(_reverse_mode_tangent)
mlir.register_lowering(_reverse_mode_tangent, _lower_refusal)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _reverse_mode_only(plan: str, value: Any) -> Any:
    del plan
    return value


@_reverse_mode_only.defjvp
def _(plan: str, primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    return _reverse_mode_only(plan, *primals), _reverse_mode_tangent.bind(*tangents, plan=plan)


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
    return jax.tree.map(partial(_reverse_mode_only, plan), tree)


def first_order_only(plan: str, tree: Any) -> Any:
    """The same tree; any derivative of it raises `NotImplementedError` naming the plan."""
    return jax.tree.map(partial(_first_order_only, plan), tree)
