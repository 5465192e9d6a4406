"""What the two kinds of models, of frames and of tokens, have in common to be trained."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.music.windows import Window
from rnnjax.training.run_folder import RunFolder
from rnnjax.training.step import LossFunction, TrainState


class Task(NamedTuple):
    """A corpus and a model of it."""

    metric: str
    steps: str  # what a step is: "frames", "tokens"
    summary: str  # of the corpus, for one line
    data: Any  # what the fingerprint is of
    files: Mapping[str, str]  # text files that the run folder keeps for the model's use
    metadata: Mapping[str, Any]  # of checkpoints
    state: TrainState
    loss_function: LossFunction
    batch_at: Callable[[int], Any]
    evaluate: Callable[[Any], dict[str, float]]  # of params
    report: Callable[[Any, int, RunFolder], dict[str, Any]]  # of params and step


def make_nats_of(
    losses_of: Callable[[Any, Any, Window], tuple[Any, jax.Array]],
    initial_state: Callable[[Any], Any],
) -> Callable[[Any, Iterable[Window]], tuple[float, float, int, int]]:
    """`(params, windows) -> nats and number`, of first steps of pieces and of all others.

    Args:
        losses_of: `(params, state, window) -> (state, L^<t> (T, B))`.
        initial_state: `(params) -> state` before the first window.

    Returns:
        A function to (nats of first steps, nats of others, first steps, others), summed over
        windows of whole pieces.
    """

    @jax.jit
    def add_window(params: Any, carried: Any, window: Window) -> Any:
        state, sums = carried
        state, losses = losses_of(params, state, window)
        first = window.resets & (window.weights > 0)
        parts = jnp.stack([jnp.where(first, losses, 0).sum(), jnp.where(first, 0, losses).sum()])
        return state, sums + parts.astype(sums.dtype)

    def nats_of(params: Any, windows: Iterable[Window]) -> tuple[float, float, int, int]:
        carried = initial_state(params), jnp.zeros(2, jnp.float32)
        firsts = others = 0
        for window in windows:
            carried = add_window(params, carried, window)
            number = int((window.resets & (window.weights > 0)).sum())
            firsts += number
            others += int(window.weights.sum()) - number
        of_firsts, of_others = np.asarray(carried[1], np.float64).tolist()
        return of_firsts, of_others, firsts, others

    return nats_of
