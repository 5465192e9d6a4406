"""Drawing tokens from a model's predictions, one after another."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from rnnjax.layers.checks import check_size

State = TypeVar("State")


def sample_tokens(
    key: Array,
    step: Callable[[State, Array], tuple[State, Array]],
    state: State,
    first_token: ArrayLike,
    length: int,
    *,
    temperature: ArrayLike = 1.0,
    top_k: int | None = None,
    top_p: ArrayLike | None = None,
    forbidden: ArrayLike | None = None,
) -> tuple[State, Array]:
    """Draw a sequence of tokens, each from the prediction that follows the one before.

    (state^<t>, logits^<t>) = step(state^<t-1>, y^<t-1>),  y^<t> ~ softmax(logits^<t> / temperature)

    The loop is one `jax.lax.scan`; wrap the call in `jax.jit` where it is made again and again.
    Token t depends on the key and on t, not on the length: a longer sample of the same key begins
    with the shorter one.

    Args:
        key: A random key; all rows of a batch draw from it, independently.
        step: `(state, token (*B,)) -> (state, logits (*B, V))`.
        state: Before the first token is read.
        first_token: `(*B,)` integer, the last known token, y^<0>.
        length: How many tokens to draw.
        temperature: `()`, at least 0. Below 1 likely tokens become likelier; 0 always takes the
            likeliest (greedy). It may be traced.
        top_k: Draw among the k likeliest; None is among all.
        top_p: `()`, in (0, 1]: draw among the fewest likeliest tokens whose probability, after the
            temperature and `top_k`, is together at least this. None or 1 is among all. It may
            be traced.
        forbidden: `(V,)` bool, tokens that are never drawn, such as UNK.

    Returns:
        state: After reading all tokens but the last drawn; to go on, give that one as
            `first_token`, and another key.
        tokens: `(length, *B)` int32.

    Raises:
        TypeError: `first_token` is not integer, or `forbidden` not bool.
        ValueError: `length` or `top_k` is below 1, `top_k` above V, `temperature` below 0, `top_p`
            outside (0, 1], or nothing is allowed.
    """
    check_size("length", length)
    check_sampling(temperature, top_k, top_p, forbidden)
    first_token = jnp.asarray(first_token)
    if not jnp.issubdtype(first_token.dtype, jnp.integer):
        raise TypeError(f"first_token: got dtype {first_token.dtype.name}, expected an integer one")

    def draw(carry: tuple[State, Array], time: Array) -> tuple[tuple[State, Array], Array]:
        state, logits = step(*carry)
        token = sample_token(
            jax.random.fold_in(key, time),
            logits,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            forbidden=forbidden,
        )
        return (state, token), token

    carry = state, first_token.astype(jnp.int32)
    (state, _), tokens = lax.scan(draw, carry, jnp.arange(length, dtype=jnp.uint32))
    return state, tokens


def sample_token(
    key: Array,
    logits: Array,
    *,
    temperature: ArrayLike = 1.0,
    top_k: int | None = None,
    top_p: ArrayLike | None = None,
    forbidden: ArrayLike | None = None,
) -> Array:
    """Draw one token of each row by the Gumbel-max trick.

    y = argmax_v (logits_v + temperature · g_v),  g ~ Gumbel(0, 1), over the tokens that are kept:
    a draw from softmax(logits / temperature) without a division, so that temperature 0 is greedy.

    Args:
        key: A random key.
        logits: `(*B, V)`.
        temperature: `()`, at least 0.
        top_k: As in `sample_tokens`.
        top_p: As in `sample_tokens`.
        forbidden: `(V,)` bool.

    Returns:
        `(*B,)` int32.

    Raises:
        TypeError: As `sample_tokens`.
        ValueError: As `sample_tokens`.

    References:
        Maddison et al. (2014), A* sampling, section 2.
    """
    check_sampling(temperature, top_k, top_p, forbidden)
    if jnp.finfo(logits.dtype).bits < 32:
        logits = logits.astype(jnp.float32)
    temperature = jnp.asarray(temperature, logits.dtype)
    if forbidden is not None:
        logits = keep_only(~_checked_forbidden(forbidden, logits.shape[-1]), logits)
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None:
        # Divided after the maximum is taken off, so that a temperature near 0 cannot overflow.
        below_maximum = logits - jnp.max(logits, axis=-1, keepdims=True)
        tempered = below_maximum / jnp.maximum(temperature, jnp.finfo(logits.dtype).tiny)
        logits = keep_only(keep_top_p(tempered, top_p) > -jnp.inf, logits)
    noise = jax.random.gumbel(key, logits.shape, logits.dtype)
    return jnp.argmax(logits + temperature * noise, axis=-1).astype(jnp.int32)


def keep_only(kept: Array, logits: Array) -> Array:
    """The logits with −∞ in place of what is not kept; `kept` `(V,)` or `(*B, V)` bool."""
    return jnp.where(kept, logits, jnp.full_like(logits, -jnp.inf))


def keep_top_k(logits: Array, k: int) -> Array:
    """The k greatest logits of each row, and −∞ elsewhere; of equals the first are kept.

    Args:
        logits: `(*B, V)`.
        k: 1 … V.

    Raises:
        ValueError: k is outside 1 … V.

    References:
        Fan et al. (2018), arXiv:1805.04833, section 5.
    """
    check_size("top_k", k)
    vocabulary_size = logits.shape[-1]
    if k > vocabulary_size:
        raise ValueError(f"top_k: got {k}, expected at most {vocabulary_size} (V)")
    return keep_only(_ranks(logits) < k, logits)


def keep_top_p(logits: Array, p: ArrayLike) -> Array:
    """The smallest set of greatest logits that holds a probability of at least p, −∞ elsewhere.

    At least one logit of each row is kept; p = 1 keeps all.

    Args:
        logits: `(*B, V)`, floating.
        p: `()`, in (0, 1].

    Raises:
        ValueError: p is known and outside (0, 1].

    References:
        Holtzman et al. (2020), The curious case of neural text degeneration, arXiv:1904.09751.
    """
    _check_top_p(p)
    p = jnp.asarray(p, logits.dtype)
    descending = jnp.flip(jnp.sort(jax.nn.softmax(logits, axis=-1), axis=-1), axis=-1)
    before = jnp.cumsum(descending, axis=-1) - descending
    # A token belongs to the set if those greater than it do not reach p. Rounding may let them
    # reach 1 too early, hence the second condition.
    count = jnp.sum((before < p) | (p >= 1), axis=-1, keepdims=True, dtype=jnp.int32)
    return keep_only(_ranks(logits) < count, logits)


def check_sampling(
    temperature: ArrayLike, top_k: int | None, top_p: ArrayLike | None, forbidden: ArrayLike | None
) -> None:
    """Refuse options of `sample_tokens` that are known to be bad; traced ones pass.

    Raises:
        TypeError: As `sample_tokens`.
        ValueError: As `sample_tokens`.
    """
    if _is_known(temperature) and not np.asarray(temperature) >= 0:
        raise ValueError(f"temperature: got {temperature}, expected at least 0")
    if top_k is not None:
        check_size("top_k", top_k)
    if top_p is not None:
        _check_top_p(top_p)
    if forbidden is not None:
        dtype = jnp.result_type(forbidden)
        if dtype != jnp.bool_:
            raise TypeError(f"forbidden: got dtype {dtype.name}, expected bool")
        if _is_known(forbidden) and np.asarray(forbidden).all():
            raise ValueError("forbidden: got every token, expected at least one that is allowed")


def _ranks(logits: Array) -> Array:
    """The place of each logit in descending order, equals in the order they stand; 0 is first."""
    order = jnp.argsort(logits, axis=-1, stable=True, descending=True)
    return jnp.argsort(order, axis=-1).astype(jnp.int32)


def _is_known(value: ArrayLike) -> bool:
    return not isinstance(value, jax.core.Tracer)


def _check_top_p(p: ArrayLike) -> None:
    if _is_known(p) and not 0 < np.asarray(p) <= 1:
        raise ValueError(f"top_p: got {p}, expected within (0, 1]")


def _checked_forbidden(forbidden: ArrayLike, vocabulary_size: int) -> Array:
    forbidden = jnp.asarray(forbidden)
    if forbidden.shape != (vocabulary_size,):
        raise ValueError(
            f"forbidden: got shape {forbidden.shape}, expected ({vocabulary_size},) (V,)"
        )
    return forbidden
