"""Inside `jax.shard_map`, where the type of an array says along which axes of devices it varies."""

from typing import Any

import jax


def vary_alike(tree: Any) -> Any:
    """The same values, each leaf typed to vary along every axis along which any leaf does.

    Loop carries and hand-written derivatives need types that agree. The derivative of the cast
    sums along the axis, as a gradient by replicated parameters must. Outside `shard_map` this does
    nothing.
    """
    leaves, structure = jax.tree.flatten(tree)
    axes = [jax.typeof(leaf).manual_axis_type.varying for leaf in leaves]
    everywhere = frozenset().union(*axes)
    return structure.unflatten(
        jax.lax.pcast(leaf, tuple(everywhere - own), to="varying")
        for leaf, own in zip(leaves, axes, strict=True)
    )
