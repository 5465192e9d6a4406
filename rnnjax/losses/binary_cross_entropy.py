"""The cross-entropy of a prediction of many yes-or-no questions at each step."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def binary_cross_entropy_per_step(
    logits: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> Array:
    """The course's L^<t> of I answers that are independent given the past, in nats.

    L^<t> = −w^<t> Σ_i (y_i^<t> log ŷ_i^<t> + (1 − y_i^<t>) log (1 − ŷ_i^<t>)),  ŷ = σ(logits)

    Where the weight is 0 the loss is exactly 0 and has no gradient, whatever the logits (NaN too).
    Each term is softplus(logit) − y · logit, which neither overflows nor loses small losses.

    Args:
        logits: `(*S, I)`, floating; those below float32 are raised to it first.
        targets: `(*S, I)` bool, or numbers 0 … 1.
        weights: `(*S)` floating or bool; None is 1 everywhere.

    Returns:
        `(*S)`, `*S` being usually `(T, *B)`; float32, or float64 for logits in float64.

    Raises:
        TypeError: The logits are not floating.
        ValueError: Shapes differ.

    References:
        Boulanger-Lewandowski et al. (2012), arXiv:1206.6392, section 7: piano rolls.
    """
    logits, targets = jnp.asarray(logits), jnp.asarray(targets)
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"logits: got dtype {logits.dtype.name}, expected a floating dtype")
    if logits.ndim < 1 or targets.shape != logits.shape:
        raise ValueError(f"targets: got shape {targets.shape}, expected {logits.shape}")
    if jnp.finfo(logits.dtype).bits < 32:
        logits = logits.astype(jnp.float32)
    targets = targets.astype(logits.dtype)
    if weights is None:
        return jnp.sum(jax.nn.softplus(logits) - targets * logits, axis=-1)
    weights = jnp.asarray(weights)
    if weights.shape != logits.shape[:-1]:
        raise ValueError(f"weights: got shape {weights.shape}, expected {logits.shape[:-1]}")
    counts = weights.astype(jnp.bool_)
    # Selected before anything is computed: a NaN that is multiplied by 0 is still a NaN.
    logits = jnp.where(counts[..., None], logits, jnp.zeros_like(logits))
    losses = jnp.sum(jax.nn.softplus(logits) - targets * logits, axis=-1)
    weighted = losses * weights.astype(losses.dtype)
    return jnp.where(counts, weighted, jnp.zeros_like(losses))


def binary_mixture_cross_entropy_per_step(
    logits: ArrayLike,
    component_logits: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike | None = None,
) -> Array:
    """The course's L^<t> of I answers that hang together: a mixture of K independent ones, in nats.

    L^<t> = −w^<t> log Σ_k π_k Π_i ŷ_ki^{y_i} (1 − ŷ_ki)^{1 − y_i},  π = softmax(component logits)

    With K = 1 it is `binary_cross_entropy_per_step`. Where the weight is 0 the loss is exactly 0
    and has no gradient, whatever the logits.

    Args:
        logits: `(*S, K, I)`, floating.
        component_logits: `(*S, K)`, floating.
        targets: `(*S, I)` bool, or numbers 0 and 1.
        weights: `(*S)` floating or bool; None is 1 everywhere.

    Returns:
        `(*S)`; float32, or float64 for logits in float64.

    Raises:
        TypeError: The logits are not floating.
        ValueError: Shapes differ.
    """
    logits, components = jnp.asarray(logits), jnp.asarray(component_logits)
    targets = jnp.asarray(targets)
    if logits.ndim < 2 or components.shape != logits.shape[:-1]:
        raise ValueError(
            f"component_logits: got shape {components.shape}, expected {logits.shape[:-1]}"
        )
    if targets.shape != (*logits.shape[:-2], logits.shape[-1]):
        raise ValueError(
            f"targets: got shape {targets.shape}, expected {(*logits.shape[:-2], logits.shape[-1])}"
        )
    weights = jnp.asarray(True if weights is None else weights)
    if weights.ndim == 0:
        weights = jnp.broadcast_to(weights, components.shape[:-1])
    if weights.shape != components.shape[:-1]:
        raise ValueError(f"weights: got shape {weights.shape}, expected {components.shape[:-1]}")
    counts = weights.astype(jnp.bool_)[..., None]
    of_components = binary_cross_entropy_per_step(
        logits,
        jnp.broadcast_to(targets[..., None, :], logits.shape),
        jnp.broadcast_to(counts, components.shape),
    )
    components = jnp.where(counts, components, jnp.zeros_like(components))
    shares = jax.nn.log_softmax(components.astype(of_components.dtype), axis=-1)
    losses = -jax.nn.logsumexp(shares - of_components, axis=-1)
    weighted = losses * weights.astype(losses.dtype)
    return jnp.where(counts[..., 0], weighted, jnp.zeros_like(losses))
