"""Three dtypes: that of the parameters, that of the products, and that of the sums."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from rnnjax.recurrences.linear import LinearForm, Stage
from rnnjax.recurrences.protocol import Params, Recurrence


def default_accumulation_dtype(compute_dtype: DTypeLike) -> Any:
    """float32 for 16 bits, else the compute dtype itself."""
    dtype = jnp.dtype(compute_dtype)
    return jnp.dtype(jnp.float32) if jnp.finfo(dtype).bits < 32 else dtype


def cast_leaves(tree: Any, dtype: DTypeLike) -> Any:
    """Every floating leaf in `dtype`, every complex leaf in its complex counterpart."""
    return jax.tree.map(lambda leaf: leaf.astype(counterpart(leaf.dtype, dtype)), tree)


def returned_carry(after: Any, given: Any, dtype: DTypeLike) -> Any:
    """The carry after a scan in the dtypes of the one that was given, or else in `dtype`."""
    if given is None:
        return cast_leaves(after, dtype)
    return jax.tree.map(lambda new, old: new.astype(old.dtype), after, given)


def product_of_inputs(x: Array, w: Array) -> Array:
    """The product x W in the dtype of x, `(..., I) -> (..., O)`, summed as `scan` does by default.

    Args:
        x: `(..., I)`.
        w: `(I, O)`, rounded to the dtype of x.

    Returns:
        In `default_accumulation_dtype(x.dtype)`.
    """
    sums = default_accumulation_dtype(x.dtype)
    return jnp.matmul(x, w.astype(x.dtype), preferred_element_type=sums)


def counterpart(of: DTypeLike, dtype: DTypeLike) -> Any:
    """The dtype with the precision of `dtype` that is complex where `of` is.

    There are no complex numbers of 16-bit parts: theirs have 32.
    """
    if jnp.issubdtype(of, jnp.complexfloating):
        return jnp.dtype(jnp.complex128 if jnp.finfo(dtype).bits == 64 else jnp.complex64)
    return jnp.dtype(dtype)


@lru_cache
def computing_in(recurrence: Recurrence, compute_dtype: Any, accumulation_dtype: Any) -> Recurrence:
    """The recurrence with its products computed in one dtype and all else in another.

    It takes parameters and carry in the accumulation dtype, and inputs in any. The matrices are
    rounded within, step by step, so that a plan sums their gradients in the accumulation dtype.

    Args:
        recurrence: What is computed.
        compute_dtype: Of the factors of a product.
        accumulation_dtype: Of sums, gates, carry and outputs.
    """
    if compute_dtype == accumulation_dtype:
        return recurrence

    def rounded(params: Params) -> Params:
        return jax.tree.map(lambda w: w.astype(compute_dtype) if w.ndim > 1 else w, params)

    def with_rounded(function: Any) -> Any:
        def of_rounded(params: Params, *arguments: Any) -> Any:
            return function(rounded(params), *arguments)

        return None if function is None else of_rounded

    linear = recurrence.linear
    if linear is not None:
        linear = LinearForm(
            tuple(Stage(with_rounded(s.coefficients), s.semiring) for s in linear.stages),
            with_rounded(linear.read),
        )
    return replace(
        recurrence,
        project=lambda params, xs: recurrence.project(
            rounded(params), xs.astype(accumulation_dtype)
        ),
        step=with_rounded(recurrence.step),
        mix=with_rounded(recurrence.mix),
        linear=linear,
    )
