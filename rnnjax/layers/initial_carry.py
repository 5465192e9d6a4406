"""An initial carry that is learned, as any other parameter is."""

import jax
import jax.numpy as jnp

from rnnjax.recurrences.protocol import Carry, Params, Recurrence


def init_learned_carry(recurrence: Recurrence, params: Params) -> Carry:
    """A carry to be learned; it begins as the recurrence's own initial carry.

    That of a deep network is `initial_deep_carry(layers, params, ())`, and of a bidirectional
    one `initial_bidirectional_carry(recurrences, params, ())`.

    Args:
        recurrence: What is computed.
        params: Its parameters.

    Returns:
        Leaves `(H,)`, without batch axes. Learn them beside the parameters.
    """
    return recurrence.initial_carry(params, ())


def broadcast_carry(learned: Carry, batch_shape: tuple[int, ...]) -> Carry:
    """One learned carry for every row of a batch.

    Give it to a scan as `carry`, and as `fresh_carry` too where there are `resets`: then every
    sequence begins with it. Its gradient is the sum over all sequences.

    Args:
        learned: Leaves `(H,)`.
        batch_shape: `*B`; `()` for none.

    Returns:
        Leaves `(*B, H)`.

    Raises:
        TypeError: `batch_shape` is not a tuple.
    """
    if not isinstance(batch_shape, tuple):
        raise TypeError(f"batch_shape: got {batch_shape!r}, expected a tuple of integers")
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*batch_shape, *leaf.shape)), learned)
