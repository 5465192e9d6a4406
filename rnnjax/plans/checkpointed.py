"""Less memory for backpropagation through time, by running segments again."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from math import ceil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from rnnjax.plans import fused
from rnnjax.plans.checkpoint_schedule import binomial_schedule, fewest_free
from rnnjax.plans.derivatives import first_order_only, reverse_mode_only
from rnnjax.plans.fused import STEPS_A_BLOCK, STEPS_A_PRODUCT, steps_a_product
from rnnjax.plans.masking import per_step
from rnnjax.plans.protocol import FIRST_ORDER_REVERSE, Inputs, Plan, Request, check_size
from rnnjax.precision import cast_leaves, computing_in
from rnnjax.recurrences.protocol import Carry, Params, Recurrence

NAME = "checkpointed"


class Cut(NamedTuple):
    """How time is cut into segments, and how many carries between them are kept at a time."""

    length: int  # K, of every segment but a shorter last one in the order of running
    slots: int  # the carry before the first segment has one too


CutOf = Callable[[Recurrence, Params, Inputs], Cut | None]


class _Segment(NamedTuple):
    start: Any  # the first of its steps in time
    length: int


@dataclass(frozen=True)
class _Segments:
    """The segments of a scan in the order of running: equal ones, and a remainder."""

    time_steps: int
    length: int
    reverse: bool

    @property
    def equal(self) -> int:
        """How many equal ones."""
        return self.time_steps // self.length

    @property
    def count(self) -> int:
        """How many with the remainder."""
        return -(-self.time_steps // self.length)

    def at(self, number: Any) -> _Segment:
        """One of the equal ones; the number may be known only when running."""
        before = number * self.length
        start = self.time_steps - self.length - before if self.reverse else before
        return _Segment(start, self.length)

    def remainder(self) -> _Segment:
        """What comes after them; of length 0 where T is divided."""
        length = self.time_steps % self.length
        return _Segment(0 if self.reverse else self.time_steps - length, length)


class _Sums(NamedTuple):
    """What the backward pass carries from segment to segment."""

    dparams: Params
    dxs: Array  # (T, *B, I), filled segment by segment
    dcarry: Carry
    dfresh: Carry


def _part(inputs: Inputs, segment: _Segment, carry: Carry) -> Inputs:
    """The inputs of a segment, which begins with that carry."""
    xs, valid, resets = _slices(per_step(inputs), segment)
    return Inputs(xs, carry, inputs.fresh_carry, valid, resets)


def _slices(tree: Any, segment: _Segment) -> Any:
    return jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, *segment), tree)


def _written(array: Array, part: Array, segment: _Segment) -> Array:
    return lax.dynamic_update_slice_in_dim(array, part, segment.start, 0)


def _put(slots: Carry, slot: Any, carry: Carry) -> Carry:
    return jax.tree.map(partial(lax.dynamic_update_index_in_dim, index=slot, axis=0), slots, carry)


def _get(slots: Carry, slot: Any) -> Carry:
    return jax.tree.map(partial(lax.dynamic_index_in_dim, index=slot, keepdims=False), slots)


def _as_array(numbers: Any) -> Array:
    return jnp.asarray(numbers, jnp.int32)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _checkpointed(
    recurrence: Recurrence, reverse: bool, cut: Cut, params: Params, inputs: Inputs
) -> tuple[Carry, Array]:
    del cut
    return fused.run(recurrence, params, inputs, reverse, plan=NAME)


def _forward(
    recurrence: Recurrence, reverse: bool, cut: Cut, params: Params, inputs: Inputs
) -> tuple[tuple[Carry, Array], Any]:
    segments = _Segments(inputs.xs.shape[0], cut.length, reverse)
    schedule = binomial_schedule(segments.count, cut.slots)

    def run(carry: Carry, segment: _Segment) -> tuple[Carry, Array]:
        part = _part(inputs, segment, carry)
        return fused.run(recurrence, params, part, reverse, plan=NAME)

    def advance(state: Any, row: Any) -> tuple[Any, None]:
        carry, slots, ys = state
        number, slot = row
        segment = segments.at(number)
        slots = _put(slots, slot, carry)
        carry, here = run(carry, segment)
        return (carry, slots, _written(ys, here, segment)), None

    carry = inputs.carry
    _, one = jax.eval_shape(lambda carry: run(carry, segments.at(0)), carry)
    ys = jnp.zeros_like(one, shape=(segments.time_steps, *one.shape[1:]))
    slots = jax.tree.map(lambda a: jnp.zeros_like(a, shape=(cut.slots, *a.shape)), carry)
    rows = schedule.forward[: segments.equal]
    (carry, slots, ys), _ = lax.scan(advance, (carry, slots, ys), tuple(_as_array(rows).T))
    remainder = segments.remainder()
    if remainder.length:
        slots = _put(slots, schedule.forward[-1].slot, carry)
        carry, here = run(carry, remainder)
        ys = _written(ys, here, remainder)
    return (carry, ys), (params, inputs, slots)


def _backward(
    recurrence: Recurrence, reverse: bool, cut: Cut, residuals: Any, cotangents: Any
) -> tuple[Params, Inputs]:
    (params, inputs, slots), (dcarry, dys) = first_order_only(NAME, (residuals, cotangents))
    segments = _Segments(inputs.xs.shape[0], cut.length, reverse)
    schedule = binomial_schedule(segments.count, cut.slots)
    again = [advance for advances in schedule.again for advance in advances]

    def advance(index: Any, state: Any) -> Any:
        carry, slots = state
        number, slot = (column[index] for column in _as_array(again).T)
        slots = _put(slots, slot, carry)
        part = _part(inputs, segments.at(number), carry)
        carry, _ = fused.run(recurrence, params, part, reverse, plan=NAME)
        return carry, slots

    def back(sums: _Sums, carry: Carry, segment: _Segment) -> _Sums:
        part = _part(inputs, segment, carry)

        def run(params: Params, xs: Array, carry: Carry, fresh: Carry) -> tuple[Carry, Array]:
            here = part._replace(xs=xs, carry=carry, fresh_carry=fresh)
            return fused.run(recurrence, params, here, reverse, plan=NAME)

        _, vjp = jax.vjp(run, params, part.xs, carry, part.fresh_carry)
        dparams, dxs, dcarry, dfresh = vjp((sums.dcarry, _slices(dys, segment)))
        return _Sums(
            jax.tree.map(jnp.add, sums.dparams, dparams),
            _written(sums.dxs, dxs, segment),
            dcarry,
            jax.tree.map(jnp.add, sums.dfresh, dfresh),
        )

    def step(state: Any, row: Any) -> tuple[Any, None]:
        slots, sums = state
        number, start, first, last = row
        carry = _get(slots, start)
        if again:
            carry, slots = lax.fori_loop(first, last, advance, (carry, slots))
        return (slots, back(sums, carry, segments.at(number))), None

    zeros_like = partial(jax.tree.map, jnp.zeros_like)
    sums = _Sums(zeros_like(params), zeros_like(inputs.xs), dcarry, zeros_like(inputs.fresh_carry))
    remainder = segments.remainder()
    if remainder.length:
        sums = back(sums, _get(slots, schedule.starts[-1]), remainder)
    rows, done = [], 0
    for number in range(segments.equal):
        rows.append((number, schedule.starts[number], done, done + len(schedule.again[number])))
        done += len(schedule.again[number])
    (_, sums), _ = lax.scan(step, (slots, sums), tuple(_as_array(rows).T), reverse=True)
    return sums.dparams, Inputs(sums.dxs, sums.dcarry, sums.dfresh, valid=None, resets=None)


_checkpointed.defvjp(_forward, _backward)


def run(
    recurrence: Recurrence, params: Params, inputs: Inputs, reverse: bool, *, cut: CutOf
) -> tuple[Carry, Array]:
    """Keep carries between segments of time; backward, run a segment again, then differentiate it.

    Forward, `fused` runs segment by segment, and of all carries between them some are kept.
    Backward, from the last segment to the first, the carry before a segment is made from the
    nearest one kept before it, by running the segments in between; others are kept on the way, in
    places that are free again. Then `fused` runs the segment itself and differentiates it.

    Args:
        recurrence: What to run.
        params: Its parameters.
        inputs: All arrays besides.
        reverse: Whether to run from the last step to the first.
        cut: How to cut time into segments, from `(recurrence, params, inputs)`; `checkpointed`
            keeps nothing of a segment but the carry before it. None is `fused` as it is.
    """
    params, xs, carry, fresh = reverse_mode_only(
        NAME, (params, inputs.xs, inputs.carry, inputs.fresh_carry)
    )
    inputs = inputs._replace(xs=xs, carry=carry, fresh_carry=fresh)
    chosen = cut(recurrence, params, inputs)
    if chosen is None:
        return fused.run(recurrence, params, inputs, reverse, plan=NAME)
    return _checkpointed(recurrence, reverse, chosen, params, inputs)


def cut_by_levels(time_steps: int, levels: int) -> Cut:
    """The fewest carries and steps of a segment together, with no segment run too often.

    At most `(levels + 1) ⌈T^(1 / (levels + 1))⌉` of both, to the next multiple of a block.

    Args:
        time_steps: T.
        levels: How often at most a segment is run again, the run that is differentiated included.
    """
    root = ceil(round(time_steps ** (1 / (levels + 1)), 9))
    longest = min((levels + 1) * root + STEPS_A_BLOCK, time_steps)
    cuts = (_cut_at(time_steps, length, levels) for length in _lengths(longest))
    return min(cuts, key=lambda cut: (cut.slots + cut.length, cut.slots))


def _cut_at(time_steps: int, length: int, levels: int) -> Cut:
    return Cut(length, 1 + fewest_free(-(-time_steps // length), levels))


def _lengths(longest: int) -> Iterable[int]:
    """Lengths up to one, longest first, that leave `fused` no remainder."""
    if longest < STEPS_A_BLOCK:
        return (longest,)
    products = range(longest - longest % STEPS_A_PRODUCT, STEPS_A_PRODUCT, -STEPS_A_PRODUCT)
    below = min(longest, STEPS_A_PRODUCT)
    return (*products, *range(below - below % STEPS_A_BLOCK, 0, -STEPS_A_BLOCK))


def _cut_into(recurrence: Recurrence, params: Params, inputs: Inputs, *, segments: int) -> Cut:
    del recurrence, params
    time_steps = inputs.xs.shape[0]
    # The ceiling: never more segments than asked for, but for a shorter remainder.
    return _cut_at(time_steps, -(-time_steps // min(segments, time_steps)), levels=1)


def _cut_nested(recurrence: Recurrence, params: Params, inputs: Inputs, *, levels: int) -> Cut:
    del recurrence, params
    return cut_by_levels(inputs.xs.shape[0], levels)


class HeldBytes(NamedTuple):
    """What the gradient of a scan holds besides inputs, outputs and parameters, by counting."""

    a_parameter_gradient: int  # of one segment, before it is added to that of the others
    a_carry: int
    kept_a_step: int  # what `fused` saves, the outputs, and the outputs as the next step sees them
    sliced_a_step: int  # inputs, and the cotangents of inputs and outputs, as copies of a part
    cotangents_a_step: int  # of what is saved, until they are multiplied

    def by_fused(self, time_steps: int) -> int:
        """With nothing run again."""
        whole = max(time_steps - time_steps % STEPS_A_BLOCK, 1)
        # A remainder makes parts of all that goes along time.
        parts = self.sliced_a_step * time_steps if whole != time_steps else 0
        along_time = self.kept_a_step * time_steps + parts
        return along_time + self._product(steps_a_product(whole)) + self._once()

    def by(self, cut: Cut) -> int:
        """With the segments of a cut run again."""
        a_step = self.kept_a_step + self.sliced_a_step
        if cut.length <= STEPS_A_PRODUCT:
            in_work = (a_step + self.cotangents_a_step) * cut.length
        else:
            in_work = a_step * cut.length + self._product(STEPS_A_PRODUCT)
        return self.a_carry * cut.slots + in_work + self._once()

    def _once(self) -> int:
        # The carry on its way, its cotangent, and that of the fresh carry.
        return self.a_parameter_gradient + 3 * self.a_carry

    def _product(self, steps: int) -> int:
        """Steps that are taken out of longer arrays to share a product."""
        return (self.kept_a_step + self.sliced_a_step + self.cotangents_a_step) * steps


def held_bytes(recurrence: Recurrence, params: Params, inputs: Inputs) -> HeldBytes:
    """Count, on traces of a few steps, what `fused` keeps."""
    xs, valid, resets = per_step(inputs)
    once = (params, inputs.carry, inputs.fresh_carry)

    def traced(steps: int) -> Any:
        def outputs_and_residuals(along_time: Any, *once: Any) -> Any:
            xs, valid, resets = along_time

            def run(params: Params, carry: Carry, fresh: Carry, xs: Array) -> Any:
                part = Inputs(xs, carry, fresh, valid, resets)
                return fused.run(recurrence, params, part, reverse=False)

            (_, ys), vjp = jax.vjp(run, *once, xs)
            return ys, jax.tree.leaves(vjp)

        along_time = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct((steps, *a.shape[1:]), a.dtype), (xs, valid, resets)
        )
        return along_time, *jax.eval_shape(outputs_and_residuals, along_time, *once)

    # What fused keeps of a step is what grows with time; all else is the same at any length.
    (along_time, ys, residuals), (_, _, more) = traced(STEPS_A_BLOCK), traced(2 * STEPS_A_BLOCK)
    (xs, *masks) = along_time
    output = _bytes(ys)
    saved = _bytes(more) - _bytes(residuals) - _bytes(along_time) - output
    cotangents = saved
    if recurrence.mix is None:  # all steps are computed once more, in the large products
        cotangents += saved + STEPS_A_BLOCK * _bytes(inputs.carry) + output
    return HeldBytes(
        a_parameter_gradient=_bytes(params),
        a_carry=_bytes(inputs.carry),
        kept_a_step=(saved + 2 * output) // STEPS_A_BLOCK,
        sliced_a_step=(2 * _bytes(xs) + _bytes(masks) + output) // STEPS_A_BLOCK,
        cotangents_a_step=cotangents // STEPS_A_BLOCK,
    )


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def cut_within(time_steps: int, held: HeldBytes, bytes_limit: int) -> Cut | None:
    """The cheapest that stays within a limit: None, then the fewest levels, the longest segments.

    Levels go up to log2 T, where segments and carries are as few as they get.

    Raises:
        ValueError: None does.
    """
    if held.by_fused(time_steps) <= bytes_limit:
        return None
    least = held.by_fused(time_steps)
    for levels in range(1, max(1, (time_steps - 1).bit_length()) + 1):
        for length in _lengths(time_steps):
            cut = _cut_at(time_steps, length, levels)
            if held.by(cut) <= bytes_limit:
                return cut
            least = min(least, held.by(cut))
    raise ValueError(
        f"bytes_limit: got {bytes_limit}, expected at least {least} for a gradient over "
        f"{time_steps} steps"
    )


def _refusal_within(request: Request, *, bytes_limit: int) -> str | None:
    """The error of `cut_within`, before anything is traced but a few steps."""
    leaves, structure = jax.tree.flatten(request.params)
    return _known_refusal(request._replace(params=None), structure, tuple(leaves), bytes_limit)


# Kept, for a scan may be called in a loop.
@lru_cache
def _known_refusal(
    request: Request, structure: Any, leaves: tuple[Any, ...], bytes_limit: int
) -> str | None:
    request = request._replace(params=jax.tree.unflatten(structure, leaves))
    dtype, sums = jnp.dtype(request.dtype), jnp.dtype(request.accumulation_dtype)
    recurrence = computing_in(request.recurrence, dtype, sums)

    def mask(asked: bool) -> Any:
        shape = (request.time_steps, *request.batch_shape)
        return jax.ShapeDtypeStruct(shape, jnp.bool_) if asked else None

    def counted(params: Params) -> tuple[Params, Carry]:
        params = cast_leaves(params, sums)
        return params, recurrence.initial_carry(params, request.batch_shape)

    params, carry = jax.eval_shape(counted, request.params)
    features = recurrence.input_shape(params)
    xs: Any = jax.ShapeDtypeStruct((request.time_steps, *request.batch_shape, *features), dtype)
    inputs = Inputs(xs, carry, carry, mask(request.lengths), mask(request.resets))
    try:
        _cut_within(recurrence, params, inputs, bytes_limit=bytes_limit)
    except ValueError as error:
        return str(error)
    return None


def _cut_within(
    recurrence: Recurrence, params: Params, inputs: Inputs, *, bytes_limit: int
) -> Cut | None:
    held = held_bytes(recurrence, params, inputs)
    return cut_within(inputs.xs.shape[0], held, bytes_limit)


checkpointed = Plan(
    name=NAME,
    summary="√T segments, each computed again in the backward pass",
    run=partial(run, cut=partial(_cut_nested, levels=1)),
    derivatives=FIRST_ORDER_REVERSE,
    cost="a gradient keeps O(√T) carries and takes one forward pass more",
)


@lru_cache
def checkpointed_in(segments: int) -> Plan:
    """The checkpointed plan with at most `segments` segments, and a remainder where T asks for one.

    Raises:
        ValueError: `segments` is not an integer or below one.
    """
    check_size("segments", segments)
    return Plan(
        name=f"checkpointed_in({segments})",
        summary=f"{segments} segments, each computed again in the backward pass",
        run=partial(run, cut=partial(_cut_into, segments=segments)),
        derivatives=FIRST_ORDER_REVERSE,
        cost=f"a gradient keeps {segments} carries and a segment's; one forward pass more",
    )


@lru_cache
def checkpointed_nested(levels: int) -> Plan:
    """The checkpointed plan with segments of segments; with one level it is `checkpointed`.

    A gradient holds O(levels · T^(1 / (levels + 1))) carries and as many steps of one segment, for
    at most `levels` forward passes more.

    Raises:
        ValueError: `levels` is not an integer or below one.

    References:
        Griewank and Walther (2000), "Algorithm 799: revolve", ACM TOMS 26(1).
    """
    check_size("levels", levels)
    passes = "pass" if levels == 1 else "passes"
    return Plan(
        name=f"checkpointed_nested({levels})",
        summary=f"segments of segments, each computed again at most {levels} times",
        run=partial(run, cut=partial(_cut_nested, levels=levels)),
        derivatives=FIRST_ORDER_REVERSE,
        cost=f"a gradient keeps O({levels}·T^(1/{levels + 1})) carries and takes at most {levels} "
        f"forward {passes} more",
    )


@lru_cache
def checkpointed_within(bytes_limit: int) -> Plan:
    """The plan that computes least again among those whose gradient fits into so much memory.

    Counted is what the gradient of one scan holds besides its inputs, outputs and parameters and
    their cotangents, all rows of the batch together; under `vmap`, one of those mapped over. In
    order: `fused` as it is; one level with the fewest segments that fit; two levels; and so on.

    Args:
        bytes_limit: How many bytes. If none fits, a scan raises a ValueError that says the least.

    Raises:
        ValueError: `bytes_limit` is not an integer or below one.
    """
    check_size("bytes_limit", bytes_limit)
    return Plan(
        name=f"checkpointed_within({bytes_limit})",
        summary=f"as few computed again as {bytes_limit} bytes allow",
        run=partial(run, cut=partial(_cut_within, bytes_limit=bytes_limit)),
        derivatives=FIRST_ORDER_REVERSE,
        cost=f"a gradient holds {bytes_limit} bytes, for as few forward passes as that asks",
        refusal=partial(_refusal_within, bytes_limit=bytes_limit),
    )
