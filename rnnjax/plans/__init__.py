"""How a recurrence is run along time, one file each. A new plan is a file and a line below."""

from collections.abc import Mapping
from types import MappingProxyType

from rnnjax.plans.associative import associative as _associative
from rnnjax.plans.associative import associative_by
from rnnjax.plans.checkpointed import checkpointed as _checkpointed
from rnnjax.plans.checkpointed import checkpointed_in, checkpointed_nested, checkpointed_within
from rnnjax.plans.fused import fused as _fused
from rnnjax.plans.fused import fused_by
from rnnjax.plans.native import native as _native
from rnnjax.plans.native import native_with
from rnnjax.plans.newton import newton as _newton
from rnnjax.plans.newton import newton_with
from rnnjax.plans.protocol import Plan
from rnnjax.plans.quasi_newton import quasi_newton as _quasi_newton
from rnnjax.plans.quasi_newton import quasi_newton_with
from rnnjax.plans.reference import reference as _reference
from rnnjax.plans.unrolled import unrolled as _unrolled
from rnnjax.plans.unrolled import unrolled_by

REGISTRY: Mapping[str, Plan] = MappingProxyType(
    {
        plan.name: plan
        for plan in (
            _reference,
            _unrolled,
            _fused,
            _checkpointed,
            _associative,
            _native,
            _newton,
            _quasi_newton,
        )
    }
)
"""Name -> record. `auto` is no plan but a choice among these, see `rnnjax.plans.choose`."""

__all__ = [
    "REGISTRY",
    "Plan",
    "associative_by",
    "checkpointed_in",
    "checkpointed_nested",
    "checkpointed_within",
    "fused_by",
    "native_with",
    "newton_with",
    "quasi_newton_with",
    "unrolled_by",
]
