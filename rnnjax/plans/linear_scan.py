"""Elementwise linear recurrences, solved for all of time at once."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name

from rnnjax.plans.masking import select, zero_unless
from rnnjax.plans.segments import states_entered
from rnnjax.recurrences.linear import AFFINE, Semiring

STATE_BEFORE_SHARD = "state before a shard"
"""How `jax.checkpoint` policies call the state at a border between devices."""

Emit = Callable[[Array, Array], Array]
"""`(the state that a step saw, the state after it) -> what is written down`."""


def linear_scan(
    decay: Array,
    drive: Array,
    initial: Array,
    blocked: Array | None = None,
    *,
    reverse: bool = False,
    chunk_steps: int | None = None,
    over: str | None = None,
) -> Array:
    """Solve h^<t> = decay^<t> h^<t-1> + drive^<t>, elementwise, for all t.

    Time is cut into chunks. All chunks run side by side from zero, to learn what each does to a
    state; the states at their borders follow by an associative scan over chunks; then all chunks
    run side by side again, from the right states. Three times the multiplications of a loop, in
    `chunk_steps` + O(log(T / chunk_steps)) dependent steps. Of one step a chunk it is the textbook
    scan in O(log T), of T steps it is a loop. The derivative is such a scan in the other direction.

    Args:
        decay: `(T, *B, ...)`, real or complex.
        drive: The same shape and dtype.
        initial: `(*B, ...)`: h^<0>.
        blocked: `(T, *B)` bool: h^<t> = drive^<t> there, whatever h^<t-1> is, NaN too.
        reverse: From the last step to the first.
        chunk_steps: 1 … T; None chooses by platform and size.
        over: Inside `jax.shard_map`, the axis of devices that time is sharded over, see
            `semiring_scan`.

    Returns:
        `(T, *B, ...)`: h^<1> … h^<T>.

    Raises:
        ValueError: Shapes differ from the above.
        TypeError: A forward-mode derivative was asked for.

    References:
        Blelloch (1990), Prefix Sums and Their Applications, sections 1.4 and 1.4.1; Martin and
        Cundy (2018), Parallelizing Linear Recurrent Neural Nets over Sequence Length, section 2.
    """
    if decay.shape != drive.shape or drive.shape[1:] != initial.shape:
        raise ValueError(
            f"decay, drive, initial: got shapes {decay.shape}, {drive.shape}, {initial.shape}, "
            "expected (T, ...) twice and (...)"
        )
    if blocked is not None and blocked.shape != drive.shape[: blocked.ndim]:
        raise ValueError(
            f"blocked: got shape {blocked.shape}, expected that of drive less features"
        )
    return _affine_scan(_Order(reverse, chunk_steps, over), decay, drive, initial, blocked)


class _Order(NamedTuple):
    """How time is gone through."""

    reverse: bool
    chunk_steps: int | None
    over: str | None


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _affine_scan(
    order: _Order, decay: Array, drive: Array, initial: Array, blocked: Array | None
) -> Array:
    return semiring_scan(AFFINE, decay, drive, initial, blocked, **order._asdict())


def _affine_scan_forward(
    order: _Order, decay: Array, drive: Array, initial: Array, blocked: Array | None
) -> tuple[Array, Any]:
    states = semiring_scan(AFFINE, decay, drive, initial, blocked, **order._asdict())
    return states, (decay, initial, blocked, states)


def _affine_scan_backward(
    order: _Order, residuals: Any, dstates: Array
) -> tuple[Array, Array, Array, None]:
    """With g^<t> the whole cotangent of h^<t>: g^<t> = dh^<t> + decay^<t+1> g^<t+1>.

    What goes from step to step is decay^<t> g^<t>, the cotangent of the state that step t saw.
    """
    decay, initial, blocked, states = residuals
    reverse, over = order.reverse, order.over
    entered = states_entered_over(states, initial, reverse, over)
    if blocked is not None:
        decay, entered = zero_unless(~blocked, (decay, entered))
    # The state that a step of the adjoint sees is that cotangent of the step after it.
    from_later = semiring_scan(
        AFFINE,
        decay,
        decay * dstates,
        jnp.zeros_like(initial),
        emit=lambda before, _: before,
        **order._replace(reverse=not reverse)._asdict(),
    )
    cotangent = dstates + from_later
    first = -1 if reverse else 0
    dinitial = decay[first] * cotangent[first]
    if over is not None:  # the first of all steps is that of one shard
        dinitial = jnp.where(_place(over, reverse) == 0, dinitial, jnp.zeros_like(dinitial))
    return entered * cotangent, cotangent, dinitial, None


_affine_scan.defvjp(_affine_scan_forward, _affine_scan_backward)


class _Total(NamedTuple):
    """What a run of steps does to a state: decay ⊗ state ⊕ drive, or the drive alone."""

    decay: Array
    drive: Array
    blocked: Array | None


def semiring_scan(
    semiring: Semiring,
    decay: Array,
    drive: Array,
    initial: Array,
    blocked: Array | None = None,
    *,
    reverse: bool = False,
    chunk_steps: int | None = None,
    over: str | None = None,
    emit: Emit = lambda _, after: after,
) -> Array:
    """`linear_scan` over any semiring, differentiated by JAX step by step.

    Where time is sharded over devices, each has one part of it, all of one length, and what was
    said of chunks is said of shards once more: each learns what its part does to a state, the
    states at the borders of shards follow by an associative scan over devices, of
    1 + ⌈log2(devices − 1)⌉ rounds in which each sends one decay and one drive of a step's size.

    Args:
        semiring: What decay ⊗ state ⊕ drive is.
        decay: `(T, *B, ...)`.
        drive: The same shape.
        initial: `(*B, ...)`.
        blocked: `(T, *B)` bool.
        reverse: From the last step to the first.
        chunk_steps: 1 … T; None chooses.
        over: Inside `jax.shard_map`, the axis of devices that time is sharded over: T is then the
            length of a shard, while `initial` is the state before the first step of all.
        emit: What to write down of each step.

    Returns:
        `(T, *B, ...)`.
    """
    time_steps = drive.shape[0]
    if chunk_steps is None:
        chunk_steps = default_chunk_steps(time_steps, jax.default_backend())
    chunk_steps = min(chunk_steps, time_steps)
    chunks = -(-time_steps // chunk_steps)
    missing = chunks * chunk_steps - time_steps

    def step(state: Array, slices: tuple[Array, Array, Array | None]) -> tuple[Array, Array]:
        decay, drive, blocked = slices
        after = semiring.apply(state, decay, drive)
        if blocked is not None:
            after = select(blocked, drive, after)
        return after, emit(state, after)

    if chunks == 1 and over is None:
        return lax.scan(step, initial, (decay, drive, blocked), reverse=reverse)[1]

    def by_step(array: Array, fill: Any) -> Array:
        """`(T, ...) -> (K, C, ...)`: step k of every chunk; the missing steps run first."""
        if missing:
            filler = jnp.full((missing, *array.shape[1:]), fill, array.dtype)
            array = jnp.concatenate([array, filler] if reverse else [filler, array])
        return jnp.swapaxes(array.reshape(chunks, chunk_steps, *array.shape[1:]), 0, 1)

    def side_by_side(array: Array) -> Array:
        """The inverse of `by_step`."""
        array = jnp.swapaxes(array, 0, 1).reshape(chunks * chunk_steps, *array.shape[2:])
        return array[:time_steps] if reverse else array[missing:]

    slices = (
        by_step(decay, semiring.one),
        by_step(drive, semiring.zero),
        None if blocked is None else by_step(blocked, False),
    )
    through = _through(semiring, _totals(semiring, slices, reverse), reverse)
    if over is not None:
        shard = jax.tree.map(lambda a: a[0 if reverse else -1], through)
        before = _before_shard(semiring, shard, over, reverse)
        initial = _named(_after(semiring, before, initial))
    ends = _after(semiring, through, initial)
    starts = states_entered(ends, initial, reverse)
    return side_by_side(lax.scan(step, starts, slices, reverse=reverse)[1])


def _totals(semiring: Semiring, slices: tuple[Array, Array, Array | None], reverse: bool) -> _Total:
    """What each chunk does, `(C, *B, ...)`."""

    def step(total: _Total, step_slices: tuple[Array, Array, Array | None]) -> tuple[_Total, None]:
        return _then(semiring, total, _Total(*step_slices)), None

    (decay, drive, blocked), steps = slices, slices[0].shape[0]
    first = -1 if reverse else 0
    rest = slice(0, steps - 1) if reverse else slice(1, steps)
    begin = _Total(decay[first], drive[first], None if blocked is None else blocked[first])
    if steps == 1:
        return begin
    later = jax.tree.map(lambda a: a[rest], slices)
    return lax.scan(step, begin, later, reverse=reverse)[0]


def _then(semiring: Semiring, first: _Total, second: _Total) -> _Total:
    """The first, and after it the second."""
    decay = semiring.compose(first.decay, second.decay)
    drive = semiring.apply(first.drive, second.decay, second.drive)
    if first.blocked is None or second.blocked is None:
        return _Total(decay, drive, None)
    return _Total(
        decay, select(second.blocked, second.drive, drive), first.blocked | second.blocked
    )


def _through(semiring: Semiring, totals: _Total, reverse: bool) -> _Total:
    """What all chunks up to each do, itself included, `(C, *B, ...)`."""
    return lax.associative_scan(
        lambda first, second: _then(semiring, first, second), totals, reverse=reverse
    )


def _after(semiring: Semiring, total: _Total, initial: Array) -> Array:
    """The state after what was totalled."""
    states = semiring.apply(initial, total.decay, total.drive)
    return states if total.blocked is None else select(total.blocked, total.drive, states)


def _place(over: str, reverse: bool) -> Array:
    """The number of this device's shard of time in the order of running."""
    place = lax.axis_index(over)
    return lax.axis_size(over) - 1 - place if reverse else place


def _from_earlier(tree: Any, by: int, over: str, reverse: bool) -> Any:
    """What the shard `by` places earlier has, leaf by leaf; zeros where there is none."""
    pairs = [(i, i + by) for i in range(lax.axis_size(over) - by)]
    if reverse:
        pairs = [(later, earlier) for earlier, later in pairs]
    return jax.tree.map(lambda a: lax.ppermute(a, over, pairs), tree)


def _before_shard(semiring: Semiring, shard: _Total, over: str, reverse: bool) -> _Total:
    """What all shards before this one do together; nothing on the first.

    Each round doubles how many shards are covered (Hillis and Steele 1986, Data Parallel
    Algorithms, on prefix sums).
    """
    place = _place(over, reverse)

    def earlier(total: _Total, by: int) -> _Total:
        decay, drive, blocked = _from_earlier(total, by, over, reverse)
        exists = place >= by
        return _Total(
            jnp.where(exists, decay, jnp.full_like(decay, semiring.one)),
            jnp.where(exists, drive, jnp.full_like(drive, semiring.zero)),
            blocked,  # where there is none it came as zero
        )

    total, covered = earlier(shard, 1), 1
    while covered < lax.axis_size(over) - 1:
        total = _then(semiring, earlier(total, covered), total)
        covered *= 2
    return total


def _named(state: Array) -> Array:
    """The state, which a policy of `jax.checkpoint` can keep: that spares it an exchange.

    In real parts, for JAX 0.10 cannot keep a complex number that is also used elsewhere.
    """
    if not jnp.iscomplexobj(state):
        return checkpoint_name(state, STATE_BEFORE_SHARD)
    parts = checkpoint_name((state.real, state.imag), STATE_BEFORE_SHARD)
    return lax.complex(*parts)


def states_entered_over(states: Array, initial: Array, reverse: bool, over: str | None) -> Array:
    """`states_entered` where time may be sharded over devices.

    Args:
        states: `(T, *B, ...)`, of this shard.
        initial: `(*B, ...)`, before the first step of all.
        reverse: Whether the last step comes first.
        over: The axis of devices that time is sharded over, or None.
    """
    if over is not None:
        last = _from_earlier(states[0 if reverse else -1], 1, over, reverse)
        initial = jnp.where(_place(over, reverse) == 0, initial, last)
    return states_entered(states, initial, reverse)


def of_last_shard(tree: Any, over: str, reverse: bool) -> Any:
    """What the shard that runs last has, on all devices, leaf by leaf."""
    is_last = _place(over, reverse) == lax.axis_size(over) - 1
    return jax.tree.map(lambda a: lax.psum(jnp.where(is_last, a, jnp.zeros_like(a)), over), tree)


def default_chunk_steps(time_steps: int, platform: str) -> int:
    """How long a chunk is unless asked for otherwise.

    On a CPU all of time, a loop: chunks were faster at no size that was tried there, not for a
    state of four numbers either. Elsewhere, where width is free, √T, which was not measured.
    """
    return time_steps if platform == "cpu" else max(1, round(time_steps**0.5))
