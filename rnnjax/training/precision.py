"""Mixed precision as a policy: four dtypes that a run states once."""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp

from rnnjax.precision import counterpart, default_accumulation_dtype
from rnnjax.training.loss_scale import LossScale, initial_loss_scale

DType = Literal["bfloat16", "float16", "float32", "float64"]
DTYPES: tuple[DType, ...] = ("bfloat16", "float16", "float32", "float64")


@dataclass(frozen=True)
class PrecisionPolicy:
    """In which dtype parameters are kept, products computed, outputs given and sums taken.

    With `compute` of 16 bits, keep parameters in float32: an update is often smaller than the
    distance from a parameter to the next number of 16 bits. Where anything is float16 the loss is
    scaled, see `rnnjax.training.loss_scale`; bfloat16 has the range of float32 and needs no scale.

    Attributes:
        parameter: of parameters, gradients and the optimiser's state.
        compute: of the factors of products, and of what goes from layer to layer.
        output: of what the loss is given, such as logits.
        accumulation: of sums, gates and carries; None is float32, or float64 if `compute` is.

    Raises:
        ValueError: a dtype is unknown, or `accumulation` has fewer bits than `compute`.
    """

    parameter: DType = "float32"
    compute: DType = "float32"
    output: DType = "float32"
    accumulation: DType | None = None

    def __post_init__(self) -> None:
        for name in ("parameter", "compute", "output", "accumulation"):
            dtype = getattr(self, name)
            if dtype not in DTYPES and not (name == "accumulation" and dtype is None):
                raise ValueError(f"{name}: got {dtype!r}, expected one of {', '.join(DTYPES)}")
        if jnp.finfo(self.accumulation_dtype).bits < jnp.finfo(self.compute).bits:
            raise ValueError(
                f"accumulation: got {self.accumulation} with compute = {self.compute}, "
                "expected at least as many bits"
            )

    @property
    def accumulation_dtype(self) -> Any:
        """`accumulation`, or what stands for None."""
        if self.accumulation is None:
            return default_accumulation_dtype(self.compute)
        return jnp.dtype(self.accumulation)

    def loss_scale(self) -> LossScale | None:
        """The first loss scale where anything is float16, None elsewhere: for the train state."""
        is_asked = "float16" in (self.parameter, self.compute, self.output)
        return initial_loss_scale() if is_asked else None

    def to_parameter(self, tree: Any) -> Any:
        """Floating and complex leaves in the precision of parameters; others as they are."""
        return _cast(tree, self.parameter)

    def to_compute(self, tree: Any) -> Any:
        """Floating and complex leaves in the precision of products; others as they are.

        It is enough to cast the inputs of the first layer: the layers of this library compute in
        the dtype of their inputs, and round wider parameters where they multiply by them, so that
        gradients of parameters are summed in `accumulation`.
        """
        return _cast(tree, self.compute)

    def to_output(self, tree: Any) -> Any:
        """Floating and complex leaves in the precision of outputs; others as they are."""
        return _cast(tree, self.output)


def _cast(tree: Any, dtype: DType) -> Any:
    def leaf(array: Any) -> Any:
        array = jnp.asarray(array)
        is_cast = jnp.issubdtype(array.dtype, jnp.inexact)
        return array.astype(counterpart(array.dtype, dtype)) if is_cast else array

    return jax.tree.map(leaf, tree)
