"""Training over eight simulated devices is training on one; what they send is counted."""

import logging
import re
import tempfile
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.simulated_devices import checks_in, simulated_devices
from support.tolerances import assert_close

from rnnjax.models.language_model import (
    LanguageModelConfig,
    init_language_model,
    initial_state,
    language_model_loss,
)
from rnnjax.plans.data_parallel import data_parallel
from rnnjax.text.streams import TextBatch
from rnnjax.training.checkpoints import Checkpoints
from rnnjax.training.devices import (
    HIDDEN,
    make_mesh,
    make_train_step_over,
    place_batch,
    place_state,
    rows_of_process,
    state_shardings,
)
from rnnjax.training.placement import (
    ONE_DEVICE,
    make_placed_train_step,
    place_rows,
    plan_of,
)
from rnnjax.training.run_folder import open_run_folder
from rnnjax.training.runs import train_in_folder
from rnnjax.training.step import initial_train_state, make_train_step

TIME, BATCH, VOCABULARY, UNITS = 5, 8, 12, 8
CONFIG = LanguageModelConfig(VOCABULARY, hidden_sizes=(UNITS,), embedding_size=4)
# No Adam: it makes steps of one size of gradients that are but rounding.
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, momentum=0.9))
STEPS = 3


def new_state():
    params = init_language_model(jax.random.key(0), CONFIG)
    memory = initial_state(CONFIG, params, (BATCH,))
    return initial_train_state(params, OPTIMIZER, memory, jax.random.key(1))


def batch_at(step):
    """Rows of unequal numbers of tokens: a mean over rows of means is not the mean."""
    rng = np.random.default_rng(step)
    tokens = rng.integers(0, VOCABULARY, (TIME + 1, BATCH)).astype(np.int32)
    resets = rng.random((TIME, BATCH)) < 0.1
    lengths = rng.integers(1, TIME + 1, BATCH)
    weights = (np.arange(TIME)[:, None] < lengths).astype(np.float32)
    return TextBatch(tokens[:-1], tokens[1:], resets, weights)


def trained(train_step, state, place=lambda batch: batch):
    metrics = {}
    for step in range(STEPS):
        state, metrics = train_step(state, place(batch_at(step)))
    return state, metrics


@lru_cache
def on_one_device():
    loss = partial(language_model_loss, CONFIG, plan="fused")
    return trained(make_train_step(loss, OPTIMIZER), new_state())


def over(hidden, plan):
    mesh = make_mesh(hidden=hidden)
    shardings = state_shardings(mesh, new_state())
    loss = partial(language_model_loss, CONFIG, plan=data_parallel(mesh, plan=plan))
    return mesh, shardings, make_train_step_over(mesh, shardings, loss, OPTIMIZER)


def without_key(state):
    return state._replace(key=jax.random.key_data(state.key))


def sent_bytes(program):
    """Bytes of the results of each kind of collective, but for scalars."""
    found = {}
    for types, kind in re.findall(
        r"= (.*?) (all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all)"
        r"(?:-start)?\(",
        program.as_text(),
    ):
        for shape in re.findall(r"f32\[([\d,]+)\]", types):
            size = int(np.prod([int(n) for n in shape.split(",")]))
            found[kind] = found.get(kind, 0) + 4 * size
    return found


@contextmanager
def compilations():
    """What JAX logs when it compiles."""
    lines = []

    class Handler(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    handler, logger = Handler(), logging.getLogger("jax")
    logger.addHandler(handler)
    try:
        with jax.log_compiles():
            yield lines
    finally:
        logger.removeHandler(handler)


def is_as_on_one_device(hidden, plan):
    """And the state stays where it was put, or the next step would compile anew."""
    mesh, shardings, train_step = over(hidden, plan)
    state = place_state(new_state(), shardings)
    with compilations() as compiled:
        after, metrics = trained(train_step, state, partial(place_batch, mesh))
    assert sum("Compiling jit(train_step)" in line for line in compiled) == 1
    expected, expected_metrics = on_one_device()
    assert_close(without_key(after), without_key(expected), "float32")
    assert_close(metrics, expected_metrics, "float32")
    for leaf, sharding in zip(jax.tree.leaves(after), jax.tree.leaves(shardings), strict=True):
        assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
    batch = place_batch(mesh, batch_at(0))
    program = train_step.lower(after, batch).compile()
    return after, sent_bytes(program)


def parameter_bytes():
    params = jax.eval_shape(lambda: init_language_model(jax.random.key(0), CONFIG))
    return 4 * sum(leaf.size for leaf in jax.tree.leaves(params))


def check_rows_over_devices_are_one_device_and_send_gradients_alone():
    _, sent = is_as_on_one_device(1, "auto")
    assert sent == {"all-reduce": parameter_bytes()}


def check_sharded_parameters_are_one_device_and_are_gathered_once():
    after, sent = is_as_on_one_device(4, "fused")
    assert sent["all-gather"] == sent["all-reduce"] == parameter_bytes()
    assert set(sent) == {"all-gather", "all-reduce"}
    w_h = after.params.layers[0].w_h
    assert w_h.sharding.spec == jax.sharding.PartitionSpec(None, HIDDEN)
    assert w_h.addressable_shards[0].data.shape == (UNITS, UNITS)  # a quarter of (H, 4H)


def check_a_checkpoint_goes_on_on_another_mesh():
    with tempfile.TemporaryDirectory() as folder:
        _, shardings, _ = over(4, "fused")
        state = place_state(new_state(), shardings)
        Checkpoints(Path(folder)).save(state, {}, {})
        for hidden in (1, 8):
            mesh = make_mesh(hidden=hidden)
            template = jax.tree.map(
                lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
                jax.eval_shape(new_state),
                state_shardings(mesh, new_state()),
            )
            restored = Checkpoints(Path(folder)).restore_latest(template)
            assert restored is not None
            assert_close(without_key(restored.state), without_key(new_state()), "float32")
            for leaf, like in zip(
                jax.tree.leaves(restored.state), jax.tree.leaves(template), strict=True
            ):
                assert leaf.sharding == like.sharding


def in_folder(folder, placement, total_steps):
    """The end of a run in its folder, which is resumed where there is one."""
    loss = partial(language_model_loss, CONFIG, plan=plan_of(placement, "fused"))
    seen, said = [], []

    def evaluate(state):
        (device,) = state.params.layers[0].w_h.devices()
        seen.append(device)
        return {"loss": -float(state.step)}

    with open_run_folder(Path(folder), {}) as run:
        trained = train_in_folder(
            run,
            new_state(),
            make_placed_train_step(placement, loss, OPTIMIZER),
            batch_at,
            total_steps=total_steps,
            evaluate=evaluate,
            metric="loss",
            placement=placement,
            say=said.append,
        )
    assert set(seen) == {jax.devices()[0]}
    return trained, said


def check_a_run_in_its_folder_is_that_of_one_device_and_goes_on_on_eight():
    expected, _ = on_one_device()
    with tempfile.TemporaryDirectory() as folder:
        in_folder(folder, ONE_DEVICE, STEPS - 1)
        trained, said = in_folder(folder, place_rows(BATCH), STEPS)
    assert said[0].startswith(f"resuming from step {STEPS - 1}")
    assert said[1] == "the rows of a batch are shared among 8 devices"
    for state in (trained.result.state, trained.best.state):
        for name in ("params", "optimizer_state", "memory"):
            assert_close(getattr(state, name), getattr(expected, name), "float32")
        assert {leaf.devices() == {jax.devices()[0]} for leaf in jax.tree.leaves(state)} == {True}


def check_as_many_devices_as_share_the_rows_evenly():
    assert {rows: place_rows(rows).mesh for rows in (1, 11)} == {1: None, 11: None}
    for rows, devices in ((6, 6), (7, 7), (8, 8), (20, 5), (64, 8)):
        mesh = place_rows(rows).mesh
        assert mesh is not None
        assert mesh.size == devices
    with pytest.raises(ValueError, match=r"^batch_size: got 0, expected at least 1"):
        place_rows(0)


def check_rows_go_where_they_belong_along_any_axis():
    mesh = make_mesh(hidden=2)
    batch = {"xs": np.arange(48.0).reshape(2, 8, 3), "lengths": np.arange(8)}
    placed = place_batch(mesh, batch, rows_axis={"xs": 1, "lengths": 0})
    for name, axis in (("xs", 1), ("lengths", 0)):
        np.testing.assert_array_equal(placed[name], batch[name])
        assert all(s.data.shape[axis] == 1 for s in placed[name].addressable_shards)
    np.testing.assert_array_equal(rows_of_process(mesh, 16), np.arange(16))


def check_what_does_not_divide_is_refused_by_name():
    mesh = make_mesh()
    for hidden in (3, 0, 16, 2.0):
        with pytest.raises(ValueError, match=f"^hidden: got {hidden}, expected a divisor of the 8"):
            make_mesh(hidden=hidden)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"^batch_size: got 12, expected a multiple of the 8"):
        rows_of_process(mesh, 12)
    with pytest.raises(ValueError, match=r"^batch\['xs'\]: got shape \(2, 3\), expected rows"):
        place_batch(mesh, {"xs": np.zeros((2, 3))})
    with pytest.raises(ValueError, match=r"^batch\['xs'\]: got shape \(8,\), expected rows"):
        place_batch(mesh, {"xs": np.zeros(8)})
    state = new_state()._replace(memory={"h": jnp.zeros((12, 2)), "count": jnp.int32(0)})
    with pytest.raises(ValueError, match=r"^memory\['h'\]: got 12 rows, expected a multiple"):
        state_shardings(mesh, state)


with_devices = simulated_devices(__file__, 8)


@pytest.mark.parametrize("check", checks_in(globals()))
def test_with_eight_devices(check, with_devices):
    with_devices(check)
