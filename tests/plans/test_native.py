"""The compiled kernels are the reference, in whatever way they are called."""

import json
import os
import subprocess
import sys
import threading
from functools import partial
from itertools import product

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from support.contract import EVERY_OPTION, Case, Options, case, normal, with_gradients
from support.simulated_devices import checks_in, environment, simulated_devices
from support.tolerances import assert_close

import rnnjax
from rnnjax.plans import native as plan_module
from rnnjax.plans.native import KERNELS, native_or, native_with
from rnnjax.plans.native_library import Library, instruction_sets, library

pytestmark = pytest.mark.skipif(
    library().missing is not None, reason="installed without compiled kernels"
)

LIGHTLY = {"xla_backend_optimization_level": 0}
MASKS = Options(lengths=True, resets=True, reverse=False)
MASKS_REVERSED = MASKS._replace(reverse=True)
with_devices = simulated_devices(__file__, 4)


def sized(recurrence: rnnjax.Recurrence, T: int, B: int, I: int, H: int) -> Case:  # noqa: E741
    """Random values of any sizes; the rows' lengths hold 0 and T where there are so many rows."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: recurrence.init(jax.random.key(0), I, H))
    params = jax.tree.map(lambda leaf: leaf / np.float32(np.sqrt(H)), normal(rng, shapes))
    carry = jax.eval_shape(lambda: recurrence.initial_carry(params, (B,)))
    lengths = rng.integers(0, T, B, endpoint=True)
    lengths[0], lengths[-1] = 0, T
    return Case(
        params,
        normal(rng, jax.ShapeDtypeStruct((T, B, I), "float32")),
        normal(rng, carry),
        jnp.asarray(lengths, jnp.int32),
        jnp.asarray(rng.random((T, B)) < 0.3),
    )


def every_way() -> dict[str, rnnjax.plans.Plan]:
    """Threads 1, 2 and more than there are; each instruction set that the processor runs."""
    plans = [native_with(threads=n) for n in (1, 2, 64)]
    plans += [native_with(instructions=name) for name in instruction_sets()]
    return {plan.name: plan for plan in (rnnjax.plans.REGISTRY["native"], *plans)}


ODD_SIZES = (
    ("elman", (1, 1, 1, 1)),
    ("lstm", (1, 33, 3, 100)),
    ("gru", (4, 5, 2, 17)),
    ("minimal_gru", (3, 33, 5, 3)),
)
ALL_SIZES = tuple(
    (recurrence.name, (T, B, 3, H))
    for recurrence in KERNELS
    for T, B, H in product((1, 6), (1, 5, 33), (1, 3, 17, 100))
)


@pytest.mark.parametrize(
    ("cases", "options"),
    [
        pytest.param(ODD_SIZES, (MASKS_REVERSED,), id="some"),
        pytest.param(ALL_SIZES, EVERY_OPTION, id="all", marks=pytest.mark.slow),
    ],
)
def test_odd_sizes_threads_and_instruction_sets(cases, options):
    for name, sizes in cases:
        recurrence, ways = rnnjax.recurrences.REGISTRY[name], every_way()
        this = sized(recurrence, *sizes)

        def everything(this, recurrence=recurrence, ways=ways):
            expected = [with_gradients(recurrence, "reference", o, this) for o in options]
            found = {
                way: [with_gradients(recurrence, plan, o, this) for o in options]
                for way, plan in ways.items()
            }
            return expected, found

        expected, found = jax.jit(everything, compiler_options=LIGHTLY)(this)
        for way, actual in found.items():
            assert_close(actual, expected, "float32", f"{name} {sizes} {way}")


def loss(recurrence, plan, params, xs):
    carry, ys = rnnjax.scan(recurrence, params, xs, plan=plan)
    return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(carry)) + jnp.sum(jnp.cos(ys))


def test_under_grad_vmap_scan_and_remat():
    """Also of one another, and over parameters as well as inputs."""
    recurrence, this = rnnjax.gru, case(rnnjax.gru, 4, "float32")
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, -leaf, 2 * leaf]), this.params)
    columns = jnp.stack([this.xs, this.xs[::-1]], axis=-1)

    def transformed(plan, params, xs):
        of = partial(loss, recurrence, plan)
        gradient = jax.grad(of, (0, 1))

        def descend(params, x):
            value, slope = jax.value_and_grad(of)(params, x)
            step = np.float32(0.1)
            return jax.tree.map(lambda p, g: p - step * g, params, slope), value

        return {
            "over params": jax.vmap(gradient, (0, None))(many, xs),
            "over inputs": jax.vmap(gradient, (None, -1))(params, columns),
            "over both": jax.vmap(jax.vmap(of, (None, -1)), (0, None))(many, columns),
            "in a loop": jax.lax.scan(descend, params, jnp.stack([xs, xs[::-1]])),
            "under remat": jax.grad(jax.checkpoint(of))(params, xs),
            "in a branch": jax.lax.cond(jnp.sum(xs) > 0, of, of, params, xs),
        }

    @partial(jax.jit, compiler_options=LIGHTLY)
    def both(params, xs):
        return {plan: transformed(plan, params, xs) for plan in ("reference", "native")}

    found = both(this.params, this.xs)
    assert_close(found["native"], found["reference"], "float32")


def test_without_jit():
    this = case(rnnjax.elman, 3, "float32")
    run = partial(with_gradients, rnnjax.elman, "native", MASKS)
    with jax.disable_jit():
        found = run(this)
    assert_close(found, jax.jit(run, compiler_options=LIGHTLY)(this), "float32")


def test_donated_arguments_are_used_and_nothing_is_lost():
    this = case(rnnjax.lstm, 4, "float32")

    def step(params, carry, xs):
        def of(params):
            after, ys = rnnjax.scan(rnnjax.lstm, params, xs, carry, plan="native")
            return jnp.sum(ys**2), after

        slope, after = jax.grad(of, has_aux=True)(params)
        return jax.tree.map(lambda p, g: p - g, params, slope), after

    expected = jax.jit(step)(this.params, this.carry, this.xs)
    given = jax.tree.map(jnp.copy, (this.params, this.carry))
    found = jax.jit(step, donate_argnums=(0, 1))(*given, this.xs)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_arrays_at_odd_addresses():
    this = case(rnnjax.lstm, 4, "float32")

    def moved(leaf, offset):
        memory = np.zeros(leaf.nbytes + 64, np.uint8)
        there = memory[offset : offset + leaf.nbytes].view(leaf.dtype).reshape(leaf.shape)
        there[...] = leaf
        return there

    run = jax.jit(lambda params, xs: rnnjax.scan(rnnjax.lstm, params, xs, plan="native"))
    expected = run(this.params, this.xs)
    for offset in (1, 4, 20):
        params, xs = jax.tree.map(
            partial(moved, offset=offset), jax.tree.map(np.asarray, (this.params, this.xs))
        )
        for given in ((params, xs), jax.device_put((params, xs))):
            jax.tree.map(np.testing.assert_array_equal, run(*given), expected)


def test_a_call_gives_the_same_bits_whoever_helps():
    """Threads of XLA come to help or not; what is summed in which order does not depend on it."""
    this = sized(rnnjax.lstm, 5, 33, 7, 40)
    run = jax.jit(partial(with_gradients, rnnjax.lstm, "native", MASKS))
    first = run(this)
    for _ in range(30):
        jax.tree.map(np.testing.assert_array_equal, run(this), first)


def in_threads(work, count):
    """Run `work(i)` in many threads; a failure in one is raised."""
    errors: list[BaseException] = []

    def guarded(i):
        try:
            work(i)
        except BaseException as error:  # noqa: BLE001  raised below
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def calls_at_once(repeats, count):
    cases = (
        (rnnjax.lstm, (3, 9, 4, 40)),
        (rnnjax.gru, (7, 1, 2, 5)),
        (rnnjax.elman, (2, 33, 6, 17)),
    )
    runs = []
    for recurrence, sizes in cases:
        this = sized(recurrence, *sizes)
        run = jax.jit(
            partial(with_gradients, recurrence, "native", MASKS), compiler_options=LIGHTLY
        )
        runs.append((run, this, run(this)))

    def work(i):
        run, this, expected = runs[i % len(runs)]
        for _ in range(repeats):
            jax.tree.map(np.testing.assert_array_equal, run(this), expected)

    in_threads(work, count)


def test_calls_from_many_threads_at_once():
    calls_at_once(repeats=20, count=6)


@pytest.mark.slow
def test_stress_of_calls_at_once():
    calls_at_once(repeats=2000, count=12)


def test_a_second_call_traces_and_compiles_nothing():
    this = case(rnnjax.elman, 3, "float32")
    traces: list[str] = []

    def listen(event, duration_secs, **kwargs):
        if event.startswith("/jax/core/compile/"):
            traces.append(event)

    def call(scale):
        # The plan is made anew, and is the same plan.
        plan = native_with(threads=2, instructions="baseline")
        for chosen in ("auto", "native", plan):
            rnnjax.scan(rnnjax.elman, this.params, scale * np.asarray(this.xs), plan=chosen)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        call(np.float32(1))
        assert traces
        traces.clear()
        call(np.float32(2))
        assert not traces
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def lowered(plan, platform):
    this = case(rnnjax.lstm, 3, "float32")
    gradient = jax.grad(partial(loss, rnnjax.lstm, plan), (0, 1))
    traced = jax.jit(gradient).trace(this.params, this.xs)
    return traced.lower(lowering_platforms=(platform,)).as_text()


def test_a_program_for_another_platform_has_no_kernel_in_it():
    for name in ("rnnjax_forward", "rnnjax_backward"):
        assert name in lowered("auto", "cpu")
        for platform in ("tpu", "cuda", "rocm"):
            assert name not in lowered("auto", platform)
    for plan in ("native", native_with(threads=1)):
        with pytest.raises(NotImplementedError, match=r"plan: 'native.*got a program lowered for"):
            lowered(plan, "tpu")


def test_what_runs_on_another_platform_is_the_other_plan(monkeypatch):
    """Run here as it would be there: values and gradients, masks too."""
    monkeypatch.setattr(plan_module, "on_cpu", lambda function, elsewhere: elsewhere)
    this = case(rnnjax.lstm, 4, "float32")
    there = native_or.__wrapped__(rnnjax.plans.REGISTRY["fused"])

    def both(this):
        return [
            with_gradients(rnnjax.lstm, plan, MASKS_REVERSED, this) for plan in (there, "reference")
        ]

    program = jax.jit(both).trace(this).jaxpr
    assert "ffi_call" not in str(program)
    found, expected = jax.jit(both, compiler_options=LIGHTLY)(this)
    assert_close(found, expected, "float32")


def test_explanation_says_what_runs_elsewhere():
    this = case(rnnjax.lstm, 3, "float32")
    reason = rnnjax.explain_plan(rnnjax.lstm, this.params, this.xs).reason
    assert reason.endswith("; fused where lowered for another platform")


def refused(recurrence, dtype, plan="native", **options):
    this = case(recurrence, 3, dtype)
    xs = options.pop("xs", this.xs)
    with pytest.raises(ValueError, match=r"plan: 'native.*cannot serve this: ") as error:
        rnnjax.scan(recurrence, this.params, xs, plan=plan, **options)
    explanation = rnnjax.explain_plan(recurrence, this.params, xs, **options)
    assert explanation.plan != "native"
    if plan == "native":
        assert explanation.refused["native"] in str(error.value)
    return str(error.value)


def test_what_it_has_no_kernel_for_is_refused_by_name_and_auto_moves_on():
    assert "kernel for elman, " in refused(rnnjax.indrnn, "float32")
    assert "none for indrnn" in refused(rnnjax.indrnn, "float32")
    assert "compute in float32, got float64" in refused(rnnjax.lstm, "float64")
    low = case(rnnjax.lstm, 3, "float32").xs.astype(jnp.bfloat16)
    assert "got bfloat16" in refused(rnnjax.lstm, "float32", xs=low)
    nothing = np.zeros((3, 0, 4), np.float32)
    assert "there are no rows" in refused(rnnjax.lstm, "float32", xs=nothing)


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_another_platform_is_refused_by_name_and_auto_moves_on(platform, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    assert f"compiled for a CPU, this runs on {platform}" in refused(rnnjax.lstm, "float32")


def test_a_missing_library_is_refused_by_name_and_auto_moves_on(monkeypatch):
    monkeypatch.setattr(plan_module, "library", lambda: Library(None, "there is no compiler"))
    assert "there is no compiler" in refused(rnnjax.lstm, "float32")


def test_options_are_refused_by_name():
    native_with(threads=1)  # which equals True and 1.0
    for threads in (0, -1, 1.5, 1.0, True, "2"):
        with pytest.raises(ValueError, match=r"threads: got .*, expected an integer of at least 1"):
            native_with(threads=threads)  # type: ignore[arg-type]
    this = case(rnnjax.lstm, 3, "float32")
    plan = native_with(instructions="mmx")
    with pytest.raises(
        ValueError, match=r"instructions: got 'mmx', this processor runs .*baseline"
    ):
        rnnjax.scan(rnnjax.lstm, this.params, this.xs, plan=plan)


def test_derivatives_that_it_does_not_have_are_refused_by_name():
    this = case(rnnjax.lstm, 3, "float32")
    of = partial(loss, rnnjax.lstm, native_with(threads=1), this.params)
    with pytest.raises(NotImplementedError, match=r"native_with\(threads=1\).* forward-mode"):
        jax.jvp(of, (this.xs,), (this.xs,))
    with pytest.raises(NotImplementedError, match=r"native_with\(threads=1\).*second order"):
        jax.grad(lambda xs: jnp.sum(jax.grad(of)(xs)))(this.xs)


GOOD = {
    "recurrence": "elman",
    "instructions": "best",
    "time_steps": np.int64(2),
    "rows": np.int64(3),
    "input_size": np.int64(4),
    "hidden_size": np.int64(5),
    "reverse": False,
    "masked": False,
    "save": False,
    "threads": np.int64(0),
}
SHAPES = ((2, 3, 4), (4, 5), (5, 5), (5,), (3, 5), (3, 5))


@pytest.mark.parametrize(
    ("attributes", "shapes", "message"),
    [
        ({}, ((2, 3, 5), *SHAPES[1:]), "xs: of another shape than the sizes say"),
        ({"hidden_size": np.int64(6)}, SHAPES, "w_x: of another shape"),
        ({"masked": True}, SHAPES, "flags: missing, or of another dtype"),
        ({}, SHAPES[:-1], "fresh: missing"),
        ({}, (*SHAPES, (1,)), "too many arrays"),
        ({"recurrence": "lsmt"}, SHAPES, "recurrence: there is no kernel for lsmt"),
        ({"instructions": "mmx"}, SHAPES, "instructions: this processor does not run mmx"),
        ({"save": True}, SHAPES, "saved: missing"),
    ],
)
def test_a_handler_sees_no_pointer_before_it_has_checked_the_array(attributes, shapes, message):
    results = [jax.ShapeDtypeStruct(shape, np.float32) for shape in ((2, 3, 5), (3, 5))]
    arrays = [np.zeros(shape, np.float32) for shape in shapes]
    call = jax.ffi.ffi_call("rnnjax_forward", results)
    with pytest.raises(Exception, match=f"INVALID_ARGUMENT: rnnjax: {message}"):
        jax.block_until_ready(call(*arrays, **(GOOD | attributes)))


# Several devices, in a child process.


def on_devices(*, axis_type=AxisType.Auto):
    return jax.make_mesh((4,), ("rows",), axis_types=(axis_type,))


def of_four_times_two_rows():
    """A case, and the gradient of its loss on one device."""
    this = sized(rnnjax.lstm, 3, 8, 4, 5)
    of = partial(loss, rnnjax.lstm)
    expected = jax.jit(jax.grad(partial(of, "reference"), (0, 1)))(this.params, this.xs)
    return this, of, expected


def check_every_device():
    this, of, expected = of_four_times_two_rows()
    gradient = jax.jit(jax.grad(partial(of, "native"), (0, 1)))

    def work(i):
        given = jax.device_put((this.params, this.xs), jax.devices()[i])
        found = gradient(*given)
        assert {leaf.device for leaf in jax.tree.leaves(found)} == {jax.devices()[i]}
        assert_close(found, expected, "float32", f"device {i}")

    in_threads(work, 4)


def check_sharded_rows():
    """XLA cannot cut the kernel's call up: it gathers the rows, and every device computes all."""
    this, of, expected = of_four_times_two_rows()
    mesh = on_devices()
    params = jax.device_put(this.params, NamedSharding(mesh, P()))
    xs = jax.device_put(this.xs, NamedSharding(mesh, P(None, "rows")))
    gradient = jax.jit(jax.grad(partial(of, "native"), (0, 1)))
    assert_close(gradient(params, xs), expected, "float32")
    assert "all-gather" in str(gradient.lower(params, xs).compile().as_text())


def of_shards(plans):
    """The gradient by parameters that all devices have is summed over devices, asked or not."""
    this, of, expected = of_four_times_two_rows()
    mesh, rows = on_devices(), P(None, "rows")
    for plan, check_vma in plans:

        def summed(params, xs, plan=plan):
            return jax.lax.psum(of(plan, params, xs), "rows")

        of_all = jax.shard_map(
            summed, mesh=mesh, in_specs=(P(), rows), out_specs=P(), check_vma=check_vma
        )
        found = jax.jit(jax.grad(of_all, (0, 1)))(this.params, this.xs)
        assert_close(found, expected, "float32", f"{plan} check_vma={check_vma}")


def check_shard_map():
    of_shards([("native", True), ("native", False), ("auto", True)])


def check_slow_shard_map_of_other_plans():
    of_shards(product(("fused", "reference", "unrolled"), (True, False)))


# Fewer and more threads than processors, each in a child process of its own.


def programs_of_threads():
    """Calls that share rows and units among threads."""
    for recurrence, sizes in ((rnnjax.lstm, (9, 33, 5, 40)), (rnnjax.gru, (9, 2, 5, 130))):
        run = jax.jit(partial(with_gradients, recurrence, "native", MASKS))
        yield partial(run, sized(recurrence, *sizes))


THREADS_SCRIPT = """
import os, sys
if sys.argv[1] == "1":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import json
import jax, numpy as np
from plans.test_native import programs_of_threads

runs = list(programs_of_threads())
results = [run() for run in runs]
before = len(os.listdir("/proc/self/task"))
for _ in range(20):
    jax.block_until_ready([run() for run in runs])
after = len(os.listdir("/proc/self/task"))
sums = [[float(np.abs(np.asarray(a)).sum()) for a in jax.tree.leaves(r)] for r in results]
print(json.dumps({"sums": sums, "more_threads": after - before}))
"""


def with_threads(count):
    child = subprocess.run(
        [sys.executable, "-c", THREADS_SCRIPT, str(count)],
        env=environment() | {"NPROC": str(count)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout.splitlines()[-1])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinities here")
@pytest.mark.parametrize("threads", [1, pytest.param(7, marks=pytest.mark.slow)])
def test_one_thread_and_more_than_there_are_processors(threads):
    """XLA's pool is as large as NPROC; a call makes no thread of its own."""
    found = with_threads(threads)
    assert found["more_threads"] == 0
    for sums, run in zip(found["sums"], programs_of_threads(), strict=True):
        expected = [float(np.abs(np.asarray(leaf)).sum()) for leaf in jax.tree.leaves(run())]
        np.testing.assert_allclose(sums, expected, rtol=1e-4)


@pytest.mark.slow
def test_a_pool_that_is_full_runs_tasks_at_once_and_nothing_waits_for_ever():
    """Long calls keep its threads; many short ones meanwhile fill its queues of 1024 tasks."""
    script = """
import threading
import jax, jax.numpy as jnp
import rnnjax

def made(T, B, H):
    params = rnnjax.lstm.init(jax.random.key(0), H, H)
    run = jax.jit(lambda xs: rnnjax.scan(rnnjax.lstm, params, xs, plan="native")[1])
    return lambda: run(jnp.ones((T, B, H))).block_until_ready()

long, short = made(2000, 16, 512), made(2, 1, 4)
long(), short()
busy = [threading.Thread(target=long) for _ in range(4)]
for thread in busy: thread.start()
for _ in range(20_000): short()
for thread in busy: thread.join()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_ten_thousand_calls_leak_nothing():
    this = sized(rnnjax.gru, 3, 5, 4, 33)
    run = jax.jit(partial(with_gradients, rnnjax.gru, "native", MASKS))

    def resident_bytes():
        with open("/proc/self/statm") as file:  # noqa: PTH123  of one line
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def call(times):
        for _ in range(times):
            jax.block_until_ready(run(this))

    call(2000)
    before = resident_bytes()
    call(10_000)
    # A leak of one call's smallest array, a (B, H) of floats, would be 6.6 MB.
    assert resident_bytes() - before < 4 * 2**20


@pytest.mark.parametrize("check", checks_in(globals()))
def test_with_four_devices(check, with_devices):
    with_devices(check)
