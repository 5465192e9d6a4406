"""Whether an installed rnnjax has its compiled kernels, or says why not; and that scans are right.

python tests/native/check_installed.py            # they must be there
python tests/native/check_installed.py missing    # they must not
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax
from rnnjax.recurrences.lstm import LSTMParams


def loss(params: LSTMParams, xs: jax.Array, plan: str) -> jax.Array:
    """Of all outputs, each weighed differently."""
    _, ys = rnnjax.scan(rnnjax.lstm, params, xs, plan=plan)
    return jnp.sum(jnp.sin(ys) * jnp.cos(jnp.arange(ys.size)).reshape(ys.shape))


def main(missing: bool) -> None:
    """Raise AssertionError unless all is as expected."""
    params = rnnjax.lstm.init(jax.random.key(0), 5, 33)
    xs = jax.random.normal(jax.random.key(1), (7, 9, 5))
    explanation = rnnjax.explain_plan(rnnjax.lstm, params, xs)
    if missing:
        assert explanation.plan == "fused", explanation
        assert "there was no C++ compiler" in explanation.refused["native"], explanation
    else:
        assert explanation.plan == "native", explanation
    found, expected = (
        jax.value_and_grad(loss, (0, 1))(params, xs, plan) for plan in ("auto", "reference")
    )
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * max(1, np.abs(b).max()))
    print(f"rnnjax in {rnnjax.__path__[0]}, auto takes {explanation.plan}, equals the reference")


if __name__ == "__main__":
    main(sys.argv[1:] == ["missing"])
