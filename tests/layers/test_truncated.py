from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.contract import BATCH, case
from support.tolerances import assert_close

import rnnjax
from rnnjax.layers.truncated import scan_truncated

T, EVERY = 7, 3  # two whole pieces and a remainder
DTYPE = "float64"
CELL = rnnjax.elman  # the cheapest to compile


@pytest.fixture(scope="module")
def this():
    """Lengths 0, T and 4: a row without steps, one over all borders, one that ends past the first.

    Resets are some at a border and some within a piece.
    """
    resets = jnp.zeros((T, BATCH), bool).at[2 * EVERY, 1].set(True).at[1, 2].set(True)
    return case(CELL, T, DTYPE)._replace(resets=resets)


def weighted(tree):
    """A scalar that weighs every output differently, and is a sum over rows and steps."""
    leaves = jax.tree.leaves(tree)
    return sum(jnp.sum(jnp.sin(leaf) * (index + 1)) for index, leaf in enumerate(leaves))


def scalar_of_pieces(params, xs, carry, fresh, this):
    """The loss of every piece of every row by itself, each begun from a constant carry."""
    total = jnp.zeros(())
    for row, length in enumerate(np.asarray(this.lengths)):
        here, own_fresh = jax.tree.map(lambda c, row=row: c[row], (carry, fresh))
        for start in range(0, length, EVERY):
            end = min(start + EVERY, length)
            if start > 0:  # a number that nothing is known about
                here = jax.lax.stop_gradient(here)
            here, ys = rnnjax.scan(
                CELL,
                params,
                xs[start:end, row],
                here,
                resets=this.resets[start:end, row],
                fresh_carry=own_fresh,
                plan="reference",
            )
            total += weighted(ys)
        total += 2 * weighted(here)
    return total


def scalar_of_scan(params, xs, carry, fresh, this, scan):
    after, ys = scan(
        CELL, params, xs, carry, lengths=this.lengths, resets=this.resets, fresh_carry=fresh
    )
    return weighted(ys) + 2 * weighted(after)


def test_gradients_are_those_of_the_pieces_begun_from_constant_carries(this):
    """And the values are those of the whole; with no border, the gradients too."""
    fresh = jax.tree.map(lambda c: jnp.cos(c), this.carry)
    whole = partial(rnnjax.scan, plan="reference")
    scalars = {
        "pieces": scalar_of_pieces,
        "whole": partial(scalar_of_scan, scan=whole),
        "no border": partial(scalar_of_scan, scan=partial(scan_truncated, every=100)),
    }
    for plan in ("reference", "fused"):
        scan = partial(scan_truncated, every=EVERY, plan=plan)
        scalars[plan] = partial(scalar_of_scan, scan=scan)

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def everything(params, xs, carry, fresh):
        return {
            name: jax.value_and_grad(scalar, (0, 1, 2, 3))(params, xs, carry, fresh, this)
            for name, scalar in scalars.items()
        }

    results = everything(this.params, this.xs, this.carry, fresh)
    for plan in ("reference", "fused"):
        assert_close(results[plan], results["pieces"], DTYPE, plan)
    assert_close(results["no border"], results["whole"], DTYPE)
    assert_close(results["pieces"][0], results["whole"][0], DTYPE)
    truncated, full = (jax.tree.leaves(results[name][1]) for name in ("pieces", "whole"))
    assert all(np.any(np.abs(a - b) > 1e-3) for a, b in zip(truncated, full, strict=True))


def test_values_and_carries_are_those_of_the_whole_in_mixed_precision(this):
    """The carry is not rounded to 16 bits at a border: it is equal in 32."""
    params, carry = jax.tree.map(lambda a: a.astype(jnp.float32), (this.params, this.carry))
    xs = this.xs.astype(jnp.bfloat16)

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def both():
        options = {"lengths": this.lengths, "plan": "reference"}
        whole = rnnjax.scan(CELL, params, xs, carry, **options)
        from_none = scan_truncated(CELL, params, xs, every=EVERY, plan="reference")
        return scan_truncated(CELL, params, xs, carry, every=EVERY, **options), whole, from_none

    (after, ys), (whole_after, whole_ys), from_none = both()
    assert_close(after, whole_after, "float32")
    assert_close(ys, whole_ys, "bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves((ys, from_none))} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in jax.tree.leaves(after)} == {jnp.dtype(jnp.float32)}


def test_the_program_does_not_grow_with_the_number_of_pieces(this):
    def size(time_steps):
        xs = jax.ShapeDtypeStruct((time_steps, *this.xs.shape[1:]), this.xs.dtype)
        run = partial(scan_truncated, CELL, this.params, every=EVERY, plan="reference")
        return str(jax.make_jaxpr(run)(xs)).count(" = ")  # one an equation

    assert size(7) == size(3001)


def test_bad_arguments_are_refused(this):
    bad: tuple[Any, ...] = (0, True, 2.0)
    for every in bad:
        with pytest.raises(ValueError, match=f"every: got {every}, expected an integer of at"):
            scan_truncated(CELL, this.params, this.xs, every=every)
    with pytest.raises(ValueError, match="lengths: got 9, expected values within 0 … 7"):
        scan_truncated(CELL, this.params, this.xs, every=2, lengths=np.array([1, 9, 2]))
