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


def normal(rng: np.random.Generator, tree: Any) -> Any:
    """Standard normal numbers in the shapes and dtypes of a tree; complex where it is."""

    def leaf(a: Any) -> Any:
        values = rng.normal(size=a.shape)
        if jnp.issubdtype(a.dtype, jnp.complexfloating):
            values = values + 1j * rng.normal(size=a.shape)
        return jnp.asarray(values, a.dtype)

    return jax.tree.map(leaf, tree)


@lru_cache
def drawn_params(recurrence: rnnjax.Recurrence, dtype: str, seed: int) -> Any:
    """Kept, for drawing compiles; drawn at once, for a tracer must not be kept."""
    with jax.ensure_compile_time_eval():
        return recurrence.init(jax.random.key(seed), INPUT, HIDDEN, dtype=dtype)


def case(recurrence: rnnjax.Recurrence, time_steps: int, dtype: str, seed: int = 0) -> Case:
    """Random values; lengths hold 0 and T; resets are neither all nor none."""
    rng = np.random.default_rng(seed)
    params = drawn_params(recurrence, dtype, seed)
    noise = normal(rng, params)
    params = jax.tree.map(lambda a, b: a + jnp.asarray(0.2, a.dtype) * b, params, noise)
    resets = rng.random((time_steps, BATCH)) < 0.4
    resets[0, 0], resets[-1, 1] = True, False
    xs = jax.ShapeDtypeStruct((time_steps, BATCH, *recurrence.input_shape(params)), dtype)
    return Case(
        params,
        normal(rng, xs),
        normal(rng, recurrence.initial_carry(params, (BATCH,))),
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
        total = jnp.zeros((), jnp.float32 if case.xs.dtype.itemsize == 2 else case.xs.dtype)
        for leaf in jax.tree.leaves(out):
            # A complex number is two real ones here, weighed differently too.
            parts = (leaf.real, leaf.imag) if jnp.iscomplexobj(leaf) else (leaf,)
            for shift, part in enumerate(parts):
                weights = jnp.cos(jnp.arange(leaf.size, dtype=total.dtype) + shift)
                values = part.astype(total.dtype)
                total += jnp.sum(weights.reshape(leaf.shape) * jnp.sin(values))
        return total, out

    (_, out), gradients = jax.value_and_grad(scalar, (0, 1, 2), has_aux=True)(
        case.params, case.xs, case.carry
    )
    return {"outputs": out, "gradients": gradients}


Pairs = tuple[tuple[Any, Options], ...]


def serving(recurrence: rnnjax.Recurrence, dtype: str) -> tuple[str, ...]:
    """The plans that do not refuse a recurrence; none may refuse an option."""
    params = jax.eval_shape(lambda: recurrence.init(jax.random.key(0), INPUT, HIDDEN, dtype=dtype))
    xs = jax.ShapeDtypeStruct((2, BATCH, *recurrence.input_shape(params)), dtype)

    def refuses(plan: str) -> bool:
        try:
            rnnjax.explain_plan(recurrence, params, xs, plan=plan)
        except ValueError:
            return True
        return False

    return tuple(plan for plan in PLANS if not refuses(plan))


# What reads the recurrence and handles masks in its own way; the others hand lengths and resets to
# the code of one of these, or to the same lines for all options, and a few options tell as much.
READERS = ("reference", "fused", "associative", "native")


def every_pair(plans: tuple[str, ...]) -> Pairs:
    return tuple(product(plans, EVERY_OPTION))


def most_pairs(plans: tuple[str, ...]) -> Pairs:
    """Every option where options are handled, all masks at once elsewhere."""
    return tuple(
        (plan, options)
        for plan, options in every_pair(plans)
        if plan in READERS or options == FEW_OPTIONS[-1]
    )


def few_pairs(plans: tuple[str, ...]) -> Pairs:
    """No option, and all masks in both directions."""
    return tuple(pair for pair in most_pairs(plans) if pair[1] in FEW_OPTIONS)


def fewest_pairs(plans: tuple[str, ...]) -> Pairs:
    """Every mask at once, for the plans that read a recurrence in their own way."""
    return tuple((plan, FEW_OPTIONS[-1]) for plan in plans if plan in READERS)


def native_pairs(plans: tuple[str, ...]) -> Pairs:
    """What `few_pairs` has of the native plan, which its program of float64 does not."""
    return few_pairs(tuple(plan for plan in plans if plan in ("reference", "native")))


@lru_cache(maxsize=1)
def program(recurrence_name: str, pairs: Pairs) -> Any:
    """`(case) -> {(plan, options): outputs and gradients}`, compiled once for each shape."""
    recurrence = rnnjax.recurrences.REGISTRY[recurrence_name]

    def everything(case: Case) -> list[Any]:
        return [with_gradients(recurrence, *pair, case) for pair in pairs]

    # What a plan computes does not depend on how hard LLVM tries; the time of the suite does.
    compiled = jax.jit(everything, compiler_options={"xla_backend_optimization_level": 0})
    return lambda case: dict(zip(pairs, compiled(case), strict=True))
