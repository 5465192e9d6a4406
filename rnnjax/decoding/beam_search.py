"""Beam search: a likely sequence where the likeliest of all is out of reach."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from rnnjax.layers.checks import check_size
from rnnjax.precision import default_accumulation_dtype

State = TypeVar("State")


class Hypotheses(NamedTuple):
    """What a search found, best first; N is the number of sequences, M of hypotheses of each.

    Attributes:
        tokens: `(length, N, M)` int32; the end token, and after it.
        lengths: `(N, M)` int32, Ty, the end token counted.
        log_probabilities: `(N, M)`, log P(y^<1>, …, y^<Ty>); −inf where there is no further one.
        scores: `(N, M)`, log P ÷ Ty^α.
    """

    tokens: Array
    lengths: Array
    log_probabilities: Array
    scores: Array


class _Beam(NamedTuple):
    time: Array
    state: Any
    tokens: Array  # (N, K, length)
    log_probabilities: Array  # (N, K)
    first_is_greedy: Array  # (N,)
    finished: Hypotheses  # tokens (N, M, length)


def beam_search(
    step: Callable[[State, Array], tuple[State, Array]],
    state: State,
    first_token: ArrayLike,
    length: int,
    *,
    beam_width: int,
    end_token: int,
    length_exponent: float = 0.7,
    count: int = 1,
) -> Hypotheses:
    """The best hypotheses of a beam: argmax_y log P(y^<1>, …, y^<Ty> | x) ÷ Ty^α, approximately.

    At every step each of the K best open hypotheses is extended by every token; those that end are
    kept apart, by their scores, and the K likeliest others go on. What greedy search takes is among
    these as long as it is open, so that the result is never below that of greedy search. The loop
    ends when no open hypothesis can overtake what is kept. One that is open after `length` steps
    counts as it stands.

    Compiled once for each shape; wrap the call in `jax.jit` where it is made again and again.

    Args:
        step: `(state, token (N, K)) -> (state, logits (N, K, V))`. What does not change from step
            to step, such as an encoder's outputs, it may hold with an axis of 1 in place of K.
        state: Leaves `(N, ...)`, before the first token is read; `step` gets them as `(N, K, ...)`.
        first_token: `(N,)` integer, the last known token, y^<0>.
        length: The most tokens of a hypothesis, the end token counted.
        beam_width: K; with 1 it is the greedy sequence, or one that scores higher by ending
            sooner or later.
        end_token: Ends a hypothesis.
        length_exponent: α, at least 0: 0 compares probabilities, which favours the short; 1 the
            mean of a token.
        count: M, how many hypotheses to return.

    Raises:
        TypeError: `first_token` is not integer.
        ValueError: A size is below 1, `first_token` has not one axis, `length_exponent` is
            negative, or `end_token` is outside 0 … V−1.

    References:
        Graves (2012), arXiv:1211.3711, section 3; Wu et al. (2016), arXiv:1609.08144, section 7,
        with Ty^α in place of their penalty.
    """
    for name, size in (("length", length), ("beam_width", beam_width), ("count", count)):
        check_size(name, size)
    if not length_exponent >= 0:
        raise ValueError(f"length_exponent: got {length_exponent}, expected at least 0")
    first_token = jnp.asarray(first_token)
    if not jnp.issubdtype(first_token.dtype, jnp.integer):
        raise TypeError(f"first_token: got dtype {first_token.dtype.name}, expected an integer one")
    if first_token.ndim != 1:
        raise ValueError(f"first_token: got shape {first_token.shape}, expected (N,)")
    rows = first_token.shape[0]
    state = jax.tree.map(
        lambda leaf: jnp.broadcast_to(
            jnp.asarray(leaf)[:, None], (rows, beam_width, *np.shape(leaf)[1:])
        ),
        state,
    )
    start = jnp.broadcast_to(first_token.astype(jnp.int32)[:, None], (rows, beam_width))
    shape = jax.eval_shape(step, state, start)[1]
    vocabulary_size, dtype = shape.shape[-1], default_accumulation_dtype(shape.dtype)
    if not 0 <= end_token < vocabulary_size:
        raise ValueError(f"end_token: got {end_token}, expected 0 … {vocabulary_size - 1}")

    def score(log_probabilities: Array, lengths: ArrayLike) -> Array:
        return log_probabilities / jnp.asarray(lengths, dtype) ** length_exponent

    def extend(beam: _Beam) -> _Beam:
        last = jnp.where(beam.time == 0, start, beam.tokens[..., beam.time - 1])
        state, logits = step(beam.state, last)
        predictions = jax.nn.log_softmax(logits.astype(dtype), axis=-1)
        together = beam.log_probabilities[..., None] + predictions  # (N, K, V)

        ended = together[..., end_token]
        lengths = jnp.full((rows, beam_width), beam.time + 1, jnp.int32)
        finished = _best(
            count,
            beam.finished,
            Hypotheses(  # after its end a hypothesis has the end token already
                beam.tokens, lengths, ended, score(ended, lengths)
            ),
        )

        greedy = jnp.argmax(predictions[:, 0], axis=-1)
        first_is_greedy = beam.first_is_greedy & (greedy != end_token)
        together = together.at[..., end_token].set(-jnp.inf)
        forced = first_is_greedy[:, None] & (jnp.arange(vocabulary_size) == greedy[:, None])
        rank = together.at[:, 0].set(jnp.where(forced, jnp.inf, together[:, 0]))
        _, best = lax.top_k(rank.reshape(rows, -1), beam_width)
        parents, tokens = best // vocabulary_size, (best % vocabulary_size).astype(jnp.int32)
        return _Beam(
            beam.time + 1,
            jax.tree.map(lambda leaf: _taken(leaf, parents), state),
            _taken(beam.tokens, parents).at[..., beam.time].set(tokens),
            jnp.take_along_axis(together.reshape(rows, -1), best, axis=1),
            first_is_greedy,
            finished,
        )

    def goes_on(beam: _Beam) -> Array:
        # An open hypothesis only gets less likely, and is divided by length^α at the most.
        at_best = score(jnp.max(beam.log_probabilities, axis=-1), length)
        return (beam.time < length) & jnp.any(at_best > beam.finished.scores[:, -1])

    nothing = jnp.full((rows, count), -jnp.inf, dtype)
    found = lax.while_loop(
        goes_on,
        extend,
        _Beam(
            jnp.zeros((), jnp.int32),
            state,
            jnp.full((rows, beam_width, length), end_token, jnp.int32),
            jnp.full((rows, beam_width), -jnp.inf, dtype).at[:, 0].set(0),
            jnp.full((rows,), True),
            Hypotheses(
                jnp.full((rows, count, length), end_token, jnp.int32),
                jnp.zeros((rows, count), jnp.int32),
                nothing,
                nothing,
            ),
        ),
    )
    open_still = jnp.where(found.time == length, found.log_probabilities, -jnp.inf)
    lengths = jnp.full((rows, beam_width), length, jnp.int32)
    best = _best(
        count,
        found.finished,
        Hypotheses(found.tokens, lengths, open_still, score(open_still, lengths)),
    )
    return best._replace(tokens=jnp.moveaxis(best.tokens, -1, 0))


def _best(count: int, *several: Hypotheses) -> Hypotheses:
    """The best of all, row by row."""
    together = jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=1), *several)
    _, places = lax.top_k(together.scores, count)
    return jax.tree.map(lambda leaf: _taken(leaf, places), together)


def _taken(leaf: Array, places: Array) -> Array:
    """`(N, K, ...)`, `(N, M)` integer `-> (N, M, ...)`."""
    return jnp.take_along_axis(leaf, places.reshape(*places.shape, *(1,) * (leaf.ndim - 2)), axis=1)
