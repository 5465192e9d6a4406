"""The spectral radius of a matrix of recurrent weights."""

import numpy as np
from jax.typing import ArrayLike


def spectral_radius(matrices: ArrayLike) -> np.ndarray:
    """The largest absolute value of an eigenvalue, max |λ_i(W)|.

    Of a linear recurrence it is the growth a step in the long run; of Elman's network at a state of
    zero likewise, since tanh'(0) = 1. A single step may grow more: see `singular_values_of_steps`.

    Args:
        matrices: `(..., H, H)`, real or complex.

    Returns:
        `(...)`, float64.

    Raises:
        ValueError: The last two axes are not a square.

    References:
        Pascanu, Mikolov and Bengio (2013), arXiv:1211.5063, section 2.1.
    """
    matrices = np.asarray(matrices)
    if matrices.ndim < 2 or matrices.shape[-1] != matrices.shape[-2]:
        raise ValueError(f"matrices: got shape {matrices.shape}, expected (..., H, H)")
    wide = np.complex128 if np.iscomplexobj(matrices) else np.float64
    return np.max(np.abs(np.linalg.eigvals(matrices.astype(wide))), axis=-1)
