"""Which plan `auto` takes, and why."""

from collections.abc import Mapping
from typing import NamedTuple

from rnnjax.plans.native import native_or
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


def first_that_serves(request: Request, registry: Mapping[str, Plan]) -> str:
    """The name of the plan that `auto` runs: in the order of preference, the first not to refuse.

    Of the rest nothing is asked: some refusals are traced, and a scan may be called in a loop.

    Raises:
        ValueError: Every plan refuses; the message says what each one lacks.
    """
    refused: dict[str, str] = {}
    for name in _preferences(request):
        refusal = registry[name].refusal(request)
        if refusal is None:
            return name
        refused[name] = refusal
    lacks = "; ".join(f"{name}: {why}" for name, why in refused.items())
    raise ValueError(f"plan: 'auto' found none that serves this ({lacks})")


def run_by_auto(request: Request, registry: Mapping[str, Plan]) -> Plan:
    """The plan of `first_that_serves`, and another where a program is not lowered for a CPU.

    Raises:
        ValueError: Every plan refuses; the message says what each one lacks.
    """
    name = first_that_serves(request, registry)
    return (
        native_or(registry[_elsewhere(request, registry)]) if name == "native" else registry[name]
    )


def _elsewhere(request: Request, registry: Mapping[str, Plan]) -> str:
    """What takes the place of the native plan where a program is lowered for another platform."""
    return first_that_serves(request._replace(platform="another platform"), registry)


def choose(request: Request, registry: Mapping[str, Plan]) -> tuple[Plan, Explanation]:
    """The plan that `auto` runs for a request, with the reason and what it passed over.

    Raises:
        ValueError: Every plan refuses; the message says what each one lacks.
    """
    chosen = first_that_serves(request, registry)
    preferences = _preferences(request)
    refused = {
        name: registry[name].refusal(request) or _passed_over(name, request)
        for name in preferences
        if name != chosen
    }
    plan = registry[chosen]
    reason = f"{preferences[chosen]} ({_described(request)})"
    if chosen == "native":
        reason += f"; {_elsewhere(request, registry)} where lowered for another platform"
    return plan, Explanation(plan.name, reason, plan.cost, plan.derivatives, refused)


ORDER = (
    "native",
    "associative",
    "fused",
    "reference",
    "checkpointed",
    "unrolled",
    "quasi_newton",
    "newton",
)
"""The first that serves is taken, but for what `_best_known` says."""

SMALL_STATE = 512
"""Numbers in the carries of all rows: up to so many, a loop written by hand gains nothing."""

FEW_ROWS = 4
"""Up to so many the native plan packs no weights for a single step, as in native/step.h."""

LONG_AND_WIDE = 2**20
"""Numbers in the carries of all rows and steps from which a whole sequence is slow to go over."""


def _preferences(request: Request) -> dict[str, str]:
    """Plan -> why it would be taken, best first."""
    reasons = {
        "native": "its compiled kernel is the fastest measured on a CPU, forward and gradient",
        "associative": "linear in its carry: all but a product a step leaves the loop",
        "fused": "the fastest gradient of those measured, level forward",
    }
    if request.platform != "cpu":
        reasons["fused"] = f"the fewest products in the loop; not measured on {request.platform}"
    in_order = {name: reasons.get(name, "what is preferred refuses") for name in ORDER}
    best = _best_known(request)
    return best | in_order | best  # in front, and with its own reason


def _best_known(request: Request) -> dict[str, str]:
    """What departs from the order, and why: read off `docs/results/plans` for a CPU."""
    if request.time_steps == 1:
        one_step = {"reference": "a single step leaves nothing to hoist or to fuse"}
        if request.platform == "cpu" and request.rows <= FEW_ROWS:
            return {"native": "a single step of few rows reads weights where they lie"} | one_step
        return one_step
    if request.platform != "cpu":
        return {}
    numbers = request.rows * request.carry_size
    name = request.recurrence.name
    if name in ("conv_lstm_1d", "conv_lstm_2d"):
        return {"reference": "a step's own products are large: measured faster than all else"}
    if name == "sru" and numbers <= SMALL_STATE:
        return {"reference": "a small elementwise step: measured faster than all else"}
    if name == "lru" and 2 * SMALL_STATE <= numbers <= 8 * SMALL_STATE:
        return {"fused": "measured faster than associative for a complex carry of this size"}
    if name in ("min_lstm", "sru_linear") and numbers * request.time_steps >= LONG_AND_WIDE:
        return {"fused": "measured faster than associative where this much passes through memory"}
    if request.recurrence.linear is not None and name != "lru" and numbers <= SMALL_STATE:
        return {"fused": "measured level with associative in training and faster forward"}
    return {}


def _passed_over(name: str, request: Request) -> str:
    """Why a plan that would serve is not the one taken."""
    return {
        "native": "its weights are packed anew each call, which so few steps do not repay",
        "associative": "nothing to gain from it",
        "reference": "a gradient keeps every intermediate and adds to the weights' gradient each "
        "step; ask for it where forward-mode or higher derivatives are needed",
        "fused": "slower where it was measured",
        "checkpointed": "less memory for a forward pass more; ask for it where memory is short",
        "newton": "several times the work; ask for it where width is free and T long",
        "quasi_newton": "several times the work; ask for it where width is free and T long",
        "unrolled": f"compiles {request.time_steps} copies of the step",
    }[name]


def _described(request: Request) -> str:
    asked = [
        name
        for name, wanted in (
            ("lengths", request.lengths),
            ("resets", request.resets),
            ("reverse", request.reverse),
        )
        if wanted
    ]
    options = f", with {', '.join(asked)}" if asked else ""
    return (
        f"{request.recurrence.name} in {request.dtype} on {request.platform}, "
        f"T={request.time_steps}, {request.rows} rows{options}"
    )
