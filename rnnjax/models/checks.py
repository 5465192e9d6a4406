"""What the configs of models have in common: which recurrences, and which dtypes."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.recurrences import REGISTRY
from rnnjax.recurrences.initializers import drawing_dtype

DTYPES = ("bfloat16", "float16", "float32", "float64")


@cache
def reads_vectors(recurrence: str) -> bool:
    """Whether a recurrence of the registry reads vectors, as a model of tokens needs it.

    A convolutional one reads images. Nothing is computed.
    """
    of_name = REGISTRY[recurrence]
    params = jax.eval_shape(lambda key: of_name.init(key, 1, 1), jax.random.key(0))
    return len(of_name.input_shape(params)) == 1


def check_recurrence(recurrence: str) -> None:
    """Refuse a recurrence that is not in the registry, or reads no vectors.

    Raises:
        ValueError: It is such a one.
    """
    if recurrence not in REGISTRY:
        raise ValueError(f"recurrence: got {recurrence!r}, expected one of {', '.join(REGISTRY)}")
    if not reads_vectors(recurrence):
        raise ValueError(
            f"recurrence: got {recurrence!r}, which reads images, expected one that reads vectors"
        )


def check_dtypes(config: Any) -> None:
    """Refuse dtypes that a model's config may not name; only its `dtype` must be given.

    Raises:
        ValueError: One is not of `DTYPES`.
    """
    for name in ("dtype", "compute_dtype", "output_dtype", "accumulation_dtype"):
        dtype = getattr(config, name)
        if dtype not in DTYPES and (name == "dtype" or dtype is not None):
            raise ValueError(f"{name}: got {dtype!r}, expected one of {', '.join(DTYPES)}")


def dtype_and_drawing_dtype(name: str) -> tuple[jnp.dtype, Any]:
    """The dtype of parameters, and that in which they are drawn before they are cast to it.

    Orthogonal matrices come from a QR decomposition, which there is only from float32 on.

    Raises:
        ValueError: The dtype is float64 while `jax_enable_x64` is off.
    """
    if name == "float64" and not jax.config.read("jax_enable_x64"):
        raise ValueError("dtype: got float64 while jax_enable_x64 is off, expected it on")
    dtype = jnp.dtype(name)
    return dtype, drawing_dtype(dtype)
