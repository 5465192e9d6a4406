"""Loss scaling, for gradients that pass through float16, whose smallest number is 6e-8."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

FIRST_SCALE = 2.0**15
LARGEST_SCALE = 2.0**24
STEPS_TO_GROW = 1000


class LossScale(NamedTuple):
    """By what the loss is multiplied before the backward pass: a power of two, at least 1."""

    scale: Array  # () float32
    finite_steps: Array  # () int32, since the scale last changed


def initial_loss_scale() -> LossScale:
    """2¹⁵, so that the first steps find the largest scale that the gradient bears."""
    return LossScale(jnp.full((), FIRST_SCALE, jnp.float32), jnp.zeros((), jnp.int32))


def unscaled(gradient: Any, scale: Array) -> Any:
    """The gradient of the loss from that of the scaled loss, in its dtypes."""
    return jax.tree.map(lambda g: (g / scale.astype(g.real.dtype)).astype(g.dtype), gradient)


def next_loss_scale(loss_scale: LossScale, is_finite: Array) -> LossScale:
    """Halved after a step that is not finite, doubled after 1000 in a row that are.

    Args:
        loss_scale: of the step.
        is_finite: () bool, whether loss and gradient were.

    References:
        Micikevicius et al. (2018), arXiv:1710.03740, section 3.2, with the scale sought
        automatically as in its appendix.
    """
    grows = is_finite & (loss_scale.finite_steps + 1 >= STEPS_TO_GROW)
    scale = (
        jnp.where(is_finite, jnp.where(grows, 2.0, 1.0).astype(jnp.float32), jnp.float32(0.5))
        * loss_scale.scale
    )
    finite_steps = jnp.where(is_finite & ~grows, loss_scale.finite_steps + 1, 0)
    return LossScale(
        jnp.clip(scale, 1.0, LARGEST_SCALE).astype(jnp.float32), finite_steps.astype(jnp.int32)
    )
