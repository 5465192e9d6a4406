"""One function in a program that is lowered for a CPU, another in one for another platform."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import batching, mlir

_by_platform = Primitive("rnnjax_by_platform")
_by_platform.multiple_results = True


def on_cpu(function: Callable[..., Any], *, elsewhere: Callable[..., Any]) -> Callable[..., Any]:
    """`function` where a program is lowered for a CPU, `elsewhere` where for anything else.

    As `jax.lax.platform_dependent`, but `elsewhere` is not even traced unless it is lowered. Has no
    derivative: it is for use inside of hand-written ones.

    Args:
        function: Traced when called.
        elsewhere: Returns the same structure, shapes and dtypes.
    """

    def call(*arguments: Any) -> Any:
        leaves, structure = jax.tree.flatten(arguments)
        traced, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        results = _by_platform.bind(
            *leaves,
            cpu=traced,
            elsewhere=lambda *leaves: jax.tree.leaves(elsewhere(*structure.unflatten(leaves))),
        )
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return call


def _run_now(*leaves: Any, cpu: ClosedJaxpr, elsewhere: Any) -> list[Any]:
    del elsewhere
    return jaxpr_as_fun(cpu)(*leaves)


def _types(*_: Any, cpu: ClosedJaxpr, elsewhere: Any) -> Sequence[Any]:
    del elsewhere
    return cpu.out_avals


def _batched(leaves: Any, axes: Any, *, cpu: ClosedJaxpr, elsewhere: Any) -> tuple[Any, Any]:
    of_all = on_cpu(
        jax.vmap(jaxpr_as_fun(cpu), in_axes=tuple(axes)),
        elsewhere=jax.vmap(elsewhere, in_axes=tuple(axes)),
    )
    results = of_all(*leaves)
    return results, [0] * len(results)


def _lowered_on_cpu(context: Any, *leaves: Any, cpu: ClosedJaxpr, elsewhere: Any) -> Any:
    del elsewhere
    return mlir.lower_fun(jaxpr_as_fun(cpu), multiple_results=True)(context, *leaves)


def _lowered_elsewhere(context: Any, *leaves: Any, cpu: ClosedJaxpr, elsewhere: Any) -> Any:
    del cpu
    return mlir.lower_fun(elsewhere, multiple_results=True)(context, *leaves)


_by_platform.def_impl(_run_now)
_by_platform.def_abstract_eval(_types)
batching.primitive_batchers[_by_platform] = _batched
mlir.register_lowering(_by_platform, _lowered_on_cpu, platform="cpu")
mlir.register_lowering(_by_platform, _lowered_elsewhere)
