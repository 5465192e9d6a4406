"""How far back a network remembers: what a state still owes to the one k steps before it."""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from rnnjax.diagnostics.step_jacobian import step_jacobians
from rnnjax.recurrences.protocol import Carry, Params, Recurrence


def memory_profile(
    recurrence: Recurrence, params: Params, xs: ArrayLike, carry: Carry | None = None
) -> Array:
    """The most that a change of the state can still change it k steps later.

    ‖∂carry^<Tx>/∂carry^<Tx-k>‖₂ = ‖J^<Tx> J^<Tx-1> … J^<Tx-k+1>‖₂,  k = 0 … Tx

    The spectral norm of a product of step Jacobians, so that no loss is needed. At k = 0 it is 1.
    Of a diagonal linear recurrence it is max |a|^k. Long products end in 0 or ∞ where the dtype
    ends.

    Args:
        recurrence: What is computed in one step.
        params: Its parameters.
        xs: `(T, *B, I)`, of the parameters' dtype.
        carry: Leaves `(*B, H)`: carry^<0>; None is the recurrence's own.

    Returns:
        `(T + 1, *B)`, by k.

    Raises:
        TypeError: As `rnnjax.scan`, or `xs` is not of the parameters' dtype.
        ValueError: As `rnnjax.scan`.

    References:
        Pascanu, Mikolov and Bengio (2013), arXiv:1211.5063, equation 5.
    """
    return _norms_of_products(step_jacobians(recurrence, params, xs, carry))


def effective_memory_length(profile: ArrayLike, share: float = 0.95) -> Array:
    """The number of last steps that hold most of a profile.

    min n with Σ_{k<n} p_k ≥ share · Σ_k p_k

    Of p_k = a^k, as k goes on, it is ⌈log(1 − share) / log a⌉: with a share of 1 − 1/e the time
    constant −1 / log a. Of a profile that does not fall it is the share of its length, which says
    only that the sequences were too short to tell.

    Args:
        profile: `(T + 1, *B)`, not negative, by k steps back: of `memory_profile`, or
            `gradient_norms_through_time` from its end, `[::-1]`.
        share: Within (0, 1].

    Returns:
        `(*B)` int32, 1 … T + 1; of a profile that is zero throughout 1.

    Raises:
        ValueError: `share` is out of range, or the profile has no axis or no step.
    """
    profile = jnp.asarray(profile)
    if profile.ndim < 1 or profile.shape[0] < 1:
        raise ValueError(f"profile: got shape {profile.shape}, expected (T + 1, *B)")
    if not 0 < share <= 1:
        raise ValueError(f"share: got {share}, expected within (0, 1]")
    # Scaled first: a sum of norms near the end of the dtype is none.
    largest = jnp.max(profile, axis=0)
    sums = jnp.cumsum(profile / jnp.where(largest > 0, largest, jnp.ones_like(largest)), axis=0)
    return (jnp.argmax(sums >= share * sums[-1], axis=0) + 1).astype(jnp.int32)


@jax.jit
def _norms_of_products(jacobians: Array) -> Array:
    identity = jnp.broadcast_to(
        jnp.eye(jacobians.shape[-1], dtype=jacobians.dtype), jacobians.shape[1:]
    )

    def body(product: Array, jacobian: Array) -> tuple[Array, Array]:
        product = product @ jacobian
        return product, product

    _, products = lax.scan(body, identity, jacobians, reverse=True)
    # An infinite or undefined matrix has no singular values, and LAPACK may not say so.
    is_finite = jnp.all(jnp.isfinite(products), axis=(-2, -1))
    finite = jnp.where(is_finite[..., None, None], products, jnp.zeros_like(products))
    norms = jnp.linalg.norm(finite, ord=2, axis=(-2, -1))
    norms = jnp.where(is_finite, norms, jnp.full_like(norms, jnp.inf))
    return jnp.concatenate([jnp.ones_like(norms[:1]), norms[::-1]])
