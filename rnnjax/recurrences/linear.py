"""Recurrences that are linear in their carry, said in a form that needs no loop over time.

One stage a leaf of the carry: leaf^<t> = decay^<t> ⊗ leaf^<t-1> ⊕ drive^<t>, elementwise. What does
not come from the leaf itself may come from z^<t> and from the earlier leaves, so that stages can be
solved one after another, each for all of time.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Semiring(NamedTuple):
    """What ⊕ and ⊗ are; a step is then associative with the next.

    Attributes:
        apply: `(leaf, decay, drive) -> decay ⊗ leaf ⊕ drive`.
        compose: `(first, second) -> second ⊗ first`, of two decays.
        one: The decay that leaves a leaf as it is, beside the drive `zero`.
        zero: The drive that adds nothing.
    """

    apply: Callable[[Array, Array, Array], Array]
    compose: Callable[[Array, Array], Array]
    one: float
    zero: float


AFFINE = Semiring(
    apply=lambda leaf, decay, drive: decay * leaf + drive,
    compose=lambda first, second: second * first,
    one=1.0,
    zero=0.0,
)
"""decay · leaf + drive."""

MAX_PLUS = Semiring(
    apply=lambda leaf, decay, drive: jnp.maximum(leaf + decay, drive),
    compose=lambda first, second: first + second,
    one=0.0,
    zero=-float("inf"),
)
"""max(leaf + decay, drive), as of a stabiliser in log space."""


class Stage(NamedTuple):
    """How one leaf of the carry goes on.

    Attributes:
        coefficients: `(params, z, entered) -> (decay, drive)`, where `entered` holds the earlier
            leaves as the step saw them. Both broadcast to the leaf; a decay of None says that
            nothing of the leaf stays: leaf^<t> = drive^<t>.
        semiring: What ⊕ and ⊗ are.
    """

    coefficients: Callable[[Any, Any, tuple[Array, ...]], tuple[Array | None, Array]]
    semiring: Semiring = AFFINE


class LinearForm(NamedTuple):
    """A whole step: the stages in the order of the carry's leaves, then the output.

    Attributes:
        stages: One a leaf.
        read: `(params, z, entered carry, new carry) -> y`.
    """

    stages: tuple[Stage, ...]
    read: Callable[[Any, Any, Any, Any], Array]


def linear_step(form: LinearForm, params: Any, carry: Any, z: Any) -> tuple[Any, Array]:
    """One step of a linear form, `(carry^<t-1>, z^<t>) -> (carry^<t>, y^<t>)`.

    Args:
        form: The stages and the output.
        params: The parameters.
        carry: Leaves `(*B, ...)`, one a stage.
        z: What `project` made of one input.
    """
    leaves, structure = jax.tree.flatten(carry)
    new = []
    for i, (stage, leaf) in enumerate(zip(form.stages, leaves, strict=True)):
        decay, drive = stage.coefficients(params, z, tuple(leaves[:i]))
        after = drive if decay is None else stage.semiring.apply(leaf, decay, drive)
        new.append(jnp.broadcast_to(after, leaf.shape))
    after_step = jax.tree.unflatten(structure, new)
    return after_step, form.read(params, z, carry, after_step)
