"""Layer normalisation inside a step."""

import jax.numpy as jnp
from jax import Array, lax

EPSILON = 1e-5
"""As in the code of Ba et al.; a vector of equal entries becomes zero."""


def layer_norm(x: Array, gain: Array, epsilon: float = EPSILON) -> Array:
    """Mean zero and variance one over the last axis, times a gain; the caller adds a bias.

    LN(x; α) = α (x − μ) / √(σ² + ε),  μ = mean(x),  σ² = mean((x − μ)²)

    Args:
        x: `(..., H)`.
        gain: α, `(H,)`.
        epsilon: ε.

    References:
        Ba, Kiros and Hinton (2016), arXiv:1607.06450, equation 4.
    """
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    return gain * (centred * lax.rsqrt(variance + epsilon))
