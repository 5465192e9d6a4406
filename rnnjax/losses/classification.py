"""The cross-entropy of one verdict a sequence, and what is reported of it."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rnnjax.losses.cross_entropy import cross_entropy_per_step, mean_over_counted


def classification_loss(
    logits: Array, labels: ArrayLike, weights: ArrayLike
) -> tuple[Array, dict[str, Array]]:
    """The cross-entropy of what each example is, averaged over the batch.

    loss = (1/B) Σ_b w_b L_b,  L = −log softmax(logits)[y]

    Thus each example of a corpus weighs the same, in whatever batch it stands.

    Args:
        logits: `(*B, K)`, floating.
        labels: `(*B,)` integer, 0 … K−1 wherever the weight is not 0.
        weights: `(*B,)` floating, 1 for an example, 0 for a missing one.

    Returns:
        loss: `()`, nats per example.
        metrics: `()` each: `cross_entropy` and `accuracy`, means over the examples, and to be
            added up over batches `nats`, `correct` and `examples`.

    Raises:
        TypeError: As `cross_entropy_per_step`.
        ValueError: As `cross_entropy_per_step`.
    """
    losses = cross_entropy_per_step(logits, labels, weights)
    weights = jnp.asarray(weights, losses.dtype)
    verdicts = jax.lax.argmax(logits, logits.ndim - 1, jnp.int32)
    is_right = verdicts == jnp.asarray(labels).astype(jnp.int32)
    nats, examples = jnp.sum(losses), jnp.sum(weights)
    correct = jnp.sum(jnp.where(is_right, weights, jnp.zeros_like(weights)))
    metrics = {
        "cross_entropy": mean_over_counted(nats, examples),
        "accuracy": mean_over_counted(correct, examples),
        "nats": nats,
        "correct": correct,
        "examples": examples,
    }
    return nats / losses.size, metrics
