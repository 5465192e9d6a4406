"""Which plan `auto` takes, and why."""

from collections.abc import Mapping
from typing import NamedTuple

from rnnjax.plans.protocol import Plan, Request


class Explanation(NamedTuple):
    """What was chosen and why; `str()` of it is meant to be read."""

    plan: str
    reason: str
    cost: str
    derivatives: str
    refused: Mapping[str, str]  # plan -> why it was passed over

    def __str__(self) -> str:
        """A line for each field."""
        lines = [
            f"plan: {self.plan}",
            f"reason: {self.reason}",
            f"cost: {self.cost}",
            f"derivatives: {self.derivatives}",
        ]
        lines += [f"not {name}: {why}" for name, why in self.refused.items()]
        return "\n".join(lines)


def choose(request: Request, registry: Mapping[str, Plan]) -> tuple[Plan, Explanation]:
    """The plan that `auto` runs for a request, with the reason and what it passed over."""
    del request
    plan = registry["fused"]
    return plan, Explanation(plan.name, "", plan.cost, plan.derivatives, {})
