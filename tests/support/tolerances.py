"""The one table of tolerances: what two right ways to compute the same may differ by."""

from typing import Any

import jax
import numpy as np
import numpy.testing as npt

# Relative to the largest entry of the expected array: sums over time and batch are taken in
# another order, so an entry that nearly cancels carries the rounding of the large ones.
TOLERANCES = {"float64": 1e-12, "float32": 2e-5, "bfloat16": 3e-2}


def assert_close(actual: Any, expected: Any, dtype: str, context: str = "") -> None:
    """Every leaf equal within the dtype's tolerance, of the dtype, and NaN just where expected."""
    tolerance = TOLERANCES[dtype]
    assert jax.tree.structure(actual) == jax.tree.structure(expected), context
    for (path, a), e in zip(
        jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True
    ):
        name = f"{context} {jax.tree_util.keystr(path)}"
        assert a.shape == e.shape, f"{name}: {a.shape} is not {e.shape}"
        wide = np.complex128 if np.iscomplexobj(e) else np.float64
        assert np.iscomplexobj(a) == np.iscomplexobj(e), name
        a, e = np.asarray(a, wide), np.asarray(e, wide)
        scale = max(1.0, float(np.max(np.abs(e), initial=0.0, where=np.isfinite(e))))
        npt.assert_allclose(a, e, rtol=0, atol=tolerance * scale, err_msg=name)
