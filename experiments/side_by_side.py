"""Runs of one small network side by side: several seeds, or several rates of learning, by `vmap`.

A hundred steps of all of them are one call of one compiled function, which draws their data too.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from rnnjax.training.norms import global_norm


class Runs(NamedTuple):
    """R runs of one network; all leaves begin with R."""

    params: Any
    optimizer_state: Any
    keys: Array  # (R,) what each draws its batches from
    rates: Array  # (R,) float32, of learning
    skipped: Array  # (R,) int32: steps not taken, since loss or gradient was not finite


class Problem(NamedTuple):
    """What is learned.

    Attributes:
        loss: `(params, batch) -> ()`.
        draw: `(key) -> batch`, traced: what a step learns from.
        score: `(params) -> a tree of ()`, of what is never learned from.
    """

    loss: Callable[[Any, Any], Array]
    draw: Callable[[Array], Any]
    score: Callable[[Any], Any]


TrainSome = Callable[[Runs, Array], tuple[Runs, Array, Any]]
"""`(runs, number of the first step) -> (runs, losses (steps, R), scores, leaves (R,))`."""


def new_runs(params: Sequence[Any], keys: Array, rates: Sequence[float], clip_norm: float) -> Runs:
    """Runs before their first step.

    Args:
        params: Of each run; the same may be given several times.
        keys: `(R,)`, as `Runs.keys`.
        rates: Of each run.
        clip_norm: As in `make_train_some`.

    Raises:
        ValueError: There are not as many of one as of the others.
    """
    if not len(params) == len(keys) == len(rates):
        raise ValueError(
            f"params, keys, rates: got {len(params)}, {len(keys)} and {len(rates)}, "
            "expected as many of each"
        )
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
    return Runs(
        stacked,
        jax.vmap(_adam(clip_norm).init)(stacked),
        keys,
        jnp.asarray(rates, jnp.float32),
        jnp.zeros(len(params), jnp.int32),
    )


def make_train_some(problem: Problem, *, steps: int, clip_norm: float) -> TrainSome:
    """Compile so many steps of Adam of all runs, and the score after them.

    θ' = θ − η Adam(g min(1, c / ‖g‖)),  g = ∂loss/∂θ

    A step whose loss or gradient is not finite is skipped. A batch depends on the run's key and the
    number of the step alone.

    Args:
        problem: What is learned.
        steps: In one call.
        clip_norm: c.

    References:
        Kingma and Ba (2015), arXiv:1412.6980. Pascanu et al. (2013), arXiv:1211.5063, section 3.2.
    """
    optimizer = _adam(clip_norm)

    def update(runs: Runs, number: Array) -> tuple[Runs, Array]:
        """A step of one run."""
        batch = problem.draw(jax.random.fold_in(runs.keys, number))
        loss, gradient = jax.value_and_grad(problem.loss)(runs.params, batch)
        is_finite = jnp.isfinite(loss) & jnp.isfinite(global_norm(gradient))
        with jax.numpy_dtype_promotion("standard"):  # Optax leans on implicit promotion.
            direction, after = optimizer.update(gradient, runs.optimizer_state)
        moved = jax.tree.map(lambda p, d: p - runs.rates * d, runs.params, direction)
        params, optimizer_state = jax.tree.map(
            lambda new, old: jnp.where(is_finite, new, old),
            (moved, after),
            (runs.params, runs.optimizer_state),
        )
        skipped = runs.skipped + (~is_finite).astype(jnp.int32)
        return Runs(params, optimizer_state, runs.keys, runs.rates, skipped), loss

    # To compile a program takes longer than most runs of it: a level lower is a third of that.
    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})
    def train_some(runs: Runs, first: Array) -> tuple[Runs, Array, Any]:
        numbers = first + jnp.arange(steps, dtype=jnp.int32)
        runs, losses = lax.scan(jax.vmap(update, in_axes=(0, None)), runs, numbers)
        return runs, losses, jax.vmap(problem.score)(runs.params)

    return train_some


def _adam(clip_norm: float) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(clip_norm), optax.scale_by_adam())


def each_done(jobs: Iterable[Callable[[], None]], workers: int) -> None:
    """Run jobs, so many at a time, until all are done.

    After an error, or Ctrl-C, no other job begins; it is raised when those that run have ended.

    Args:
        jobs: In the order in which they begin.
        workers: How many run at the same time, in threads: what is compiled or computed by JAX
            leaves Python to the others meanwhile.
    """
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
