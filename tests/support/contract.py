"""One compiled program for all plans and options of a recurrence at one length and dtype."""

from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax

BATCH, INPUT, HIDDEN = 3, 4, 5
PLANS = tuple(rnnjax.plans.REGISTRY)
LENGTHS = (7, 2, 1)
DTYPES = ("float64", "float32")


class Options(NamedTuple):
    lengths: bool
    resets: bool
    reverse: bool


EVERY_OPTION = tuple(Options(*flags) for flags in product((False, True), repeat=3))
FEW_OPTIONS = (
    Options(lengths=False, resets=False, reverse=False),
    Options(lengths=True, resets=True, reverse=False),
    Options(lengths=True, resets=True, reverse=True),
)


class Case(NamedTuple):
    params: Any
    xs: Any
    carry: Any
    lengths: Any
    resets: Any


def case(recurrence: rnnjax.Recurrence, time_steps: int, dtype: str, seed: int = 0) -> Case:
    """Random values; lengths hold 0 and T; resets are neither all nor none."""
    rng = np.random.default_rng(seed)

    def like(tree: Any) -> Any:
        return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), a.dtype), tree)

    params = recurrence.init(jax.random.key(seed), INPUT, HIDDEN, dtype=dtype)
    params = jax.tree.map(lambda a, noise: a + 0.2 * noise, params, like(params))
    resets = rng.random((time_steps, BATCH)) < 0.4
    resets[0, 0], resets[-1, 1] = True, False
    return Case(
        params,
        jnp.asarray(rng.normal(size=(time_steps, BATCH, INPUT)), dtype),
        like(recurrence.initial_carry(params, (BATCH,))),
        jnp.asarray([0, time_steps, (time_steps + 1) // 2], jnp.int32),
        jnp.asarray(resets),
    )


def outputs(recurrence: rnnjax.Recurrence, plan: Any, options: Options, case: Case) -> Any:
    return rnnjax.scan(
        recurrence,
        case.params,
        case.xs,
        case.carry,
        lengths=case.lengths if options.lengths else None,
        resets=case.resets if options.resets else None,
        reverse=options.reverse,
        plan=plan,
    )


def with_gradients(recurrence: rnnjax.Recurrence, plan: Any, options: Options, case: Case) -> Any:
    """Outputs, and the gradients of a scalar that weighs every output differently."""

    def scalar(params: Any, xs: Any, carry: Any) -> Any:
        out = outputs(recurrence, plan, options, case._replace(params=params, xs=xs, carry=carry))
        total = jnp.zeros((), case.xs.dtype)
        for leaf in jax.tree.leaves(out):
            weights = jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape)
            total += jnp.sum(weights * jnp.sin(leaf))
        return total, out

    (_, out), gradients = jax.value_and_grad(scalar, (0, 1, 2), has_aux=True)(
        case.params, case.xs, case.carry
    )
    return {"outputs": out, "gradients": gradients}


EVERY_PAIR = tuple(product(PLANS, EVERY_OPTION))
# Where lengths and resets are handled in another plan's code, a few options tell as much.
BUILT_ON_ANOTHER = ("unrolled", "checkpointed")
MOST_PAIRS = tuple(
    (plan, options)
    for plan, options in EVERY_PAIR
    if plan not in BUILT_ON_ANOTHER or options in FEW_OPTIONS
)
FEW_PAIRS = tuple(product(PLANS, FEW_OPTIONS))


@lru_cache(maxsize=1)
def program(recurrence_name: str, pairs: tuple[tuple[str, Options], ...]) -> Any:
    """`(case) -> {(plan, options): outputs and gradients}`, compiled once for each shape."""
    recurrence = rnnjax.recurrences.REGISTRY[recurrence_name]

    def everything(case: Case) -> list[Any]:
        return [with_gradients(recurrence, *pair, case) for pair in pairs]

    # What a plan computes does not depend on how hard LLVM tries; the time of the suite does.
    compiled = jax.jit(everything, compiler_options={"xla_backend_optimization_level": 0})
    return lambda case: dict(zip(pairs, compiled(case), strict=True))
