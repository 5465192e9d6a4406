"""Euclidean norms of trees, as one number and leaf by leaf."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from rnnjax.precision import default_accumulation_dtype


def global_norm(tree: Any) -> Array:
    """The Euclidean norm of all leaves together, accumulated in float32 or wider; () float32."""
    return jnp.sqrt(sum(map(_square, jax.tree.leaves(tree)), jnp.zeros((), jnp.float32)))


def norms_by_name(tree: Any) -> dict[str, Array]:
    """The norm of each leaf, () float32, under its path such as "layers/0/w_h"."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): jnp.sqrt(_square(leaf))
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _square(leaf: Array) -> Array:
    leaf = leaf.astype(default_accumulation_dtype(leaf.dtype))
    return jnp.sum(jnp.real(leaf * jnp.conj(leaf))).astype(jnp.float32)
