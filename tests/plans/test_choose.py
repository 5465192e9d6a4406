"""What `auto` takes, that it says why, and that nothing is silent."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from support.contract import case

import rnnjax
from rnnjax.plans.choose import choose
from rnnjax.plans.native_library import Library, library
from rnnjax.plans.protocol import Request

REQUEST = Request(
    recurrence=rnnjax.lstm,
    params=jax.eval_shape(lambda: rnnjax.lstm.init(jax.random.key(0), 4, 5)),
    time_steps=7,
    batch_shape=(2, 3),
    carry_size=10,
    dtype="float32",
    accumulation_dtype="float32",
    lengths=True,
    resets=False,
    reverse=True,
    platform="cpu",
)


def test_auto_tells_what_it_took_and_what_it_passed_over():
    plan, explanation = choose(REQUEST, rnnjax.plans.REGISTRY)
    assert explanation.plan == plan.name
    assert set(explanation.refused) == set(rnnjax.plans.REGISTRY) - {plan.name}
    for told in ("lstm", "float32", "cpu", "T=7", "6 rows", "with lengths, reverse"):
        assert told in explanation.reason
    text = str(explanation)
    assert f"plan: {plan.name}" in text
    assert "not unrolled: compiles 7 copies of the step" in text


def test_auto_takes_the_compiled_kernel_where_there_is_one_and_says_where_there_is_none(
    monkeypatch,
):
    if library().missing is None:
        assert choose(REQUEST, rnnjax.plans.REGISTRY)[0].name == "native"
    monkeypatch.setattr("rnnjax.plans.native.library", lambda: Library(None, "no compiler"))
    plan, explanation = choose(REQUEST, rnnjax.plans.REGISTRY)
    assert plan.name == "fused"
    assert explanation.refused["native"] == "no compiler"


def test_a_single_step_needs_no_plan_but_a_kernel_where_rows_are_few():
    one_step = REQUEST._replace(time_steps=1)
    assert choose(one_step, rnnjax.plans.REGISTRY)[0].name == "reference"
    few = one_step._replace(batch_shape=(2, 2))
    if library().missing is None:
        assert choose(few, rnnjax.plans.REGISTRY)[0].name == "native"
    for other in ({"platform": "tpu"}, {"dtype": "float64"}):
        assert choose(few._replace(**other), rnnjax.plans.REGISTRY)[0].name == "reference"


def test_auto_moves_on_from_a_plan_that_refuses_and_says_so():
    def refusal(request):
        return "it has no reverse" if request.reverse else None

    request = REQUEST._replace(dtype="float64")
    registry = dict(rnnjax.plans.REGISTRY)
    registry["fused"] = dataclasses.replace(registry["fused"], refusal=refusal)
    plan, explanation = choose(request, registry)
    assert plan.name == "reference"
    assert explanation.refused["fused"] == "it has no reverse"
    assert choose(request._replace(reverse=False), registry)[0].name == "fused"


def test_auto_fails_by_name_where_every_plan_refuses():
    registry = {
        name: dataclasses.replace(plan, refusal=lambda _: "no")
        for name, plan in rnnjax.plans.REGISTRY.items()
    }
    with pytest.raises(ValueError, match=r"plan: 'auto' found none .*fused: no; .*unrolled: no"):
        choose(REQUEST, registry)


def test_a_plan_asked_for_by_name_refuses_by_name():
    plan = dataclasses.replace(rnnjax.plans.fused_by(2), refusal=lambda _: "it has no resets")
    this = case(rnnjax.elman, 3, "float64")
    with pytest.raises(ValueError, match=r"plan: 'fused_by\(2\)' cannot serve this: it has no res"):
        rnnjax.scan(rnnjax.elman, this.params, this.xs, plan=plan)


def test_explain_plan_is_what_scan_does():
    this = case(rnnjax.elman, 3, "float64")
    traced = []

    def run(*arguments):
        traced.append(arguments)
        return rnnjax.plans.REGISTRY["reference"].run(*arguments)

    plan = dataclasses.replace(rnnjax.plans.REGISTRY["reference"], name="mine", run=run)
    assert rnnjax.explain_plan(rnnjax.elman, this.params, this.xs, plan=plan).plan == "mine"
    assert not traced
    _, ys = rnnjax.scan(rnnjax.elman, this.params, this.xs, plan=plan)
    assert len(traced) == 1
    assert ys.dtype == jnp.float64
