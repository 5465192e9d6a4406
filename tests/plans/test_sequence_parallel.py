"""Time or rows over eight simulated devices: the same values and gradients as on one."""

import re
from collections import Counter
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh
from support.contract import EVERY_OPTION, Case, Options, drawn_params, normal, with_gradients
from support.simulated_devices import checks_in, simulated_devices
from support.tolerances import assert_close

import rnnjax
from rnnjax.plans.data_parallel import data_parallel
from rnnjax.plans.sequence_parallel import sequence_parallel

TIME, BATCH = 8, 4
MASKS = Options(lengths=True, resets=True, reverse=False)
MASKS_REVERSED = MASKS._replace(reverse=True)
LINEAR = (
    "gated_diagonal",
    "lru",
    "mlstm",
    "qrnn",
)  # real, complex, (max, +) and matrices, no decay


@lru_cache
def mesh(time, data):
    return jax.make_mesh((time, data), ("time", "data"), axis_types=(AxisType.Auto,) * 2)


def random_case(recurrence, time_steps=TIME, dtype="float64"):
    """Lengths hold 0 and T; resets are neither all nor none, and at both ends of a row."""
    rng = np.random.default_rng(0)
    params = drawn_params(recurrence, dtype, 0)
    noise = normal(rng, params)
    resets = rng.random((time_steps, BATCH)) < 0.3
    resets[0, 1] = resets[-1, 1] = True
    return Case(
        jax.tree.map(lambda a, b: a + jnp.asarray(0.2, a.dtype) * b, params, noise),
        normal(rng, jax.ShapeDtypeStruct((time_steps, BATCH, 4), dtype)),
        normal(rng, recurrence.initial_carry(params, (BATCH,))),
        jnp.asarray([0, time_steps, time_steps // 2 + 1, 3], jnp.int32),
        jnp.asarray(resets),
    )


def compiled(recurrence, plan, option, case):
    function = partial(with_gradients, recurrence, plan, option)
    return jax.jit(function).lower(case).compile()


def equal_to_one_device(name, plan, options, time_steps=TIME, dtype="float64"):
    recurrence = rnnjax.recurrences.REGISTRY[name]
    case = random_case(recurrence, time_steps, dtype)
    for option in options:
        expected = compiled(recurrence, "reference", option, case)(case)
        actual = compiled(recurrence, plan, option, case)(case)
        assert_close(actual, expected, dtype, f"{name} {plan} {option}")


def collectives(program):
    names = "all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all"
    return Counter(re.findall(rf" ({names})(?:-start)?\(", program.as_text()))


def check_time_and_rows_over_devices_are_one_device():
    """NaN in padding, in an unused row and before a reset stays there too."""
    recurrence = rnnjax.gated_diagonal
    plan = sequence_parallel(mesh(4, 2), "time", rows="data")
    case = random_case(recurrence)
    padding = jnp.arange(TIME, dtype=jnp.int32)[:, None] >= case.lengths
    spoiled = case._replace(
        xs=jnp.where(padding[..., None], jnp.nan, case.xs),
        carry=case.carry.at[:2].set(jnp.nan),  # a row of length 0, and one that begins by a reset
    )
    for option in (MASKS, MASKS_REVERSED):
        actual = compiled(recurrence, plan, option, case)
        expected = compiled(recurrence, "reference", option, case)
        for this in (case, spoiled):
            assert_close(actual(this), expected(this), "float64", str(option))


def check_states_are_exchanged_in_logarithmic_rounds_and_once_each_way():
    """No activation moves: T / 8 steps of a row are more than what is sent of it."""
    case = random_case(rnnjax.gated_diagonal, time_steps=16)
    program = compiled(
        rnnjax.gated_diagonal, sequence_parallel(mesh(8, 1), "time"), EVERY_OPTION[0], case
    )
    rounds = 1 + 3  # one to the next device, then 1, 2 and 4 devices further
    exchanges = 2 * rounds * 2  # a decay and a drive, forward and backward
    found = collectives(program)
    assert set(found) == {"collective-permute", "all-reduce"}
    assert found["collective-permute"] == exchanges + 1  # and, backward, the state that is entered


def check_slow_every_form_of_a_linear_recurrence():
    for name in LINEAR:
        plan = sequence_parallel(mesh(8, 1), "time")
        equal_to_one_device(name, plan, (EVERY_OPTION[0], MASKS, MASKS_REVERSED), 16)


def check_slow_every_linear_recurrence_and_option():
    for name, recurrence in rnnjax.recurrences.REGISTRY.items():
        if recurrence.linear is not None:
            plan = sequence_parallel(mesh(2, 2), "time", rows="data", chunk_steps=2)
            equal_to_one_device(name, plan, EVERY_OPTION)


def check_slow_float32_and_long_time():
    plan = sequence_parallel(mesh(8, 1), "time")
    for name in LINEAR:
        equal_to_one_device(name, plan, (MASKS,), 64, "float32")


def check_slow_second_derivatives():
    recurrence = rnnjax.gated_diagonal
    case = random_case(recurrence)

    def slope(xs, plan):
        def loss(xs):
            _, ys = rnnjax.scan(recurrence, case.params, xs, case.carry, plan=plan)
            return jnp.sum(jnp.sin(ys))

        return jnp.sum(jnp.cos(jax.grad(loss)(xs)))

    second = jax.jit(jax.grad(slope), static_argnums=1)
    plan = sequence_parallel(mesh(4, 2), "time", rows="data")
    assert_close(second(case.xs, plan), second(case.xs, "reference"), "float64")


def check_what_cannot_be_shared_is_refused_by_name():
    params = jax.eval_shape(lambda: rnnjax.min_gru.init(jax.random.key(0), 4, 5))

    def refused(plan, shape, recurrence=rnnjax.min_gru, params=params):
        with pytest.raises(ValueError, match=r"^plan: .* cannot serve this: ") as error:
            rnnjax.explain_plan(
                recurrence, params, jax.ShapeDtypeStruct(shape, jnp.float32), plan=plan
            )
        return str(error.value)

    over_time = sequence_parallel(mesh(4, 2), "time", rows="data")
    over_rows = data_parallel(mesh(4, 2), plan="associative")
    gru = jax.eval_shape(lambda: rnnjax.gru.init(jax.random.key(0), 4, 5))
    assert "T is 10, no multiple of the 4 devices" in refused(over_time, (10, 2, 4))
    assert "has 3 rows, no multiple of the 2 devices" in refused(over_time, (8, 3, 4))
    assert "there is no batch axis to share among 2" in refused(over_time, (8, 4))
    assert "has 4 rows, no multiple of the 8 devices" in refused(over_rows, (8, 4, 4))
    for plan in (over_time, over_rows):
        assert "gru is not linear" in refused(plan, (8, 8, 4), rnnjax.gru, gru)


def plans_for(recurrence, case):
    for plan in rnnjax.plans.REGISTRY:
        try:
            rnnjax.explain_plan(recurrence, case.params, case.xs, plan=plan)
        except ValueError:
            continue
        yield plan


def every_plan_is_traced(names, options):
    """`check_vma` compares the types that loops carry; nothing is compiled."""
    for name in names:
        recurrence = rnnjax.recurrences.REGISTRY[name]
        case = random_case(recurrence, dtype="float32")
        for plan in plans_for(recurrence, case):
            over_rows = data_parallel(mesh(4, 1), plan=plan)
            for option in options:
                jax.eval_shape(partial(with_gradients, recurrence, over_rows, option), case)


def check_every_plan_is_traced_inside_shard_map():
    every_plan_is_traced(("elman",), EVERY_OPTION[:1])


def check_slow_every_plan_and_recurrence_is_traced_inside_shard_map():
    names = [name for name in rnnjax.recurrences.REGISTRY if not name.startswith("conv")]
    every_plan_is_traced(names, (EVERY_OPTION[0], MASKS_REVERSED))


def check_slow_every_plan_on_the_rows_of_each_device():
    for name, dtype in (("gru", "float32"), ("gru", "float64"), ("gated_diagonal", "float64")):
        recurrence = rnnjax.recurrences.REGISTRY[name]
        case = random_case(recurrence, dtype=dtype)
        for plan in ("auto", *plans_for(recurrence, case)):
            over_rows = data_parallel(mesh(4, 1), plan=plan)
            equal_to_one_device(name, over_rows, (MASKS, MASKS_REVERSED), dtype=dtype)
            program = compiled(recurrence, over_rows, MASKS, case)
            assert set(collectives(program)) == {"all-reduce"}, plan


with_devices = simulated_devices(__file__, 8)


@pytest.mark.parametrize("check", checks_in(globals()))
def test_with_eight_devices(check, with_devices):
    with_devices(check)


def test_a_plan_is_made_once_for_a_mesh_and_bad_names_are_told():
    one = Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1), ("time", "data"))
    assert sequence_parallel(one, "time", rows="data") is sequence_parallel(
        one, "time", rows="data"
    )
    assert data_parallel(one) is data_parallel(one, ("time", "data"), plan="auto")
    with pytest.raises(TypeError, match=r"^mesh: got str, expected a jax.sharding.Mesh"):
        sequence_parallel("mesh", "time")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"^axis: got .*'depth'.*, expected names of axes"):
        sequence_parallel(one, "depth")
    with pytest.raises(ValueError, match=r"^rows: got 'time', expected other axes than"):
        sequence_parallel(one, "time", rows="time")
    with pytest.raises(ValueError, match=r"^chunk_steps: got 0, expected"):
        sequence_parallel(one, "time", chunk_steps=0)
    with pytest.raises(ValueError, match=r"^axes: got \(\), expected at least one"):
        data_parallel(one, ())
    with pytest.raises(ValueError, match=r"^plan: got 'quick', expected one of auto, "):
        data_parallel(one, plan="quick")
    with pytest.raises(TypeError, match=r"^plan: got int, expected a name or a Plan"):
        data_parallel(one, plan=3)  # pyright: ignore[reportArgumentType]


def test_forward_mode_is_refused_by_name():
    one = Mesh(np.asarray(jax.devices()[:1]), ("time",))
    params = rnnjax.gated_diagonal.init(jax.random.key(0), 2, 2)
    plan = sequence_parallel(one, "time")
    xs = jnp.ones((2, 1, 2), jnp.float32)
    with pytest.raises(NotImplementedError, match="'sequence_parallel' has no forward-mode"):
        jax.jvp(lambda x: rnnjax.scan(rnnjax.gated_diagonal, params, x, plan=plan), (xs,), (xs,))
