import signal
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.training import checkpoints as module
from rnnjax.training.checkpoints import (
    Checkpoints,
    DamagedCheckpointError,
    ForeignCheckpointError,
)
from rnnjax.training.loop import Interrupted, train
from rnnjax.training.step import Counters, TrainState


def small_state(step=0, value=1.0):
    zero = jnp.int32(0)
    counters = Counters(zero, zero, zero, jnp.float32(jnp.nan), zero)
    params, key = {"w": jnp.full(3, value)}, jax.random.key(step)
    return TrainState(jnp.int32(step), params, (), (), key, counters, None)


def names(checkpoints):
    return sorted(path.name for path in checkpoints.folder.iterdir())


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def largest_array_file(path):
    return max((path / "arrays").rglob("d/*"), key=lambda file: file.stat().st_size)


def test_every_kind_of_leaf_returns_as_it_was(tmp_path):
    memory: dict[str, Any] = {
        "bfloat16": jnp.asarray([1.5, np.nan], jnp.bfloat16),
        "float64": np.asarray([0.1, -0.0, np.inf]),
        "int64": np.int64(2**40),
        "zero-dimensional": np.asarray(3, np.int16),
        "empty": jnp.zeros((0, 3), jnp.float32),
        "odd / name's": np.asarray([True, False]),
        "python": (7, 0.1, True, None),
        "keys": jax.random.split(jax.random.key(3, impl="rbg"), 2),
    }
    state = small_state(5)._replace(memory=memory)
    checkpoints = Checkpoints(tmp_path / "made" / "here")
    path = checkpoints.save(state, {"loss": 0.5}, {"fingerprint": "abc", "sizes": (1, 2)})
    assert path == checkpoints.folder / "step_00000005"
    template = jax.tree.map(lambda x: x, state)
    template.memory["python"] = (0, 0.0, False, None)
    restored = checkpoints.restore_latest(template, {"sizes": (1, 2)})
    assert restored is not None
    assert (restored.step, restored.metrics, restored.damaged) == (5, {"loss": 0.5}, ())
    assert restored.metadata == {"fingerprint": "abc", "sizes": [1, 2]}
    assert restored.versions["jax"] == jax.__version__
    assert jax.tree.structure(restored.state) == jax.tree.structure(state)
    for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(restored.state), strict=True):
        assert type(after) is type(before)
        if isinstance(before, jax.Array) and jnp.issubdtype(before.dtype, jax.dtypes.prng_key):
            assert jax.random.key_impl(after) == jax.random.key_impl(before)
            before, after = jax.random.key_data(before), jax.random.key_data(after)
        if isinstance(before, jax.Array | np.ndarray | np.generic):
            assert after.dtype == before.dtype
            assert np.asarray(after).tobytes() == np.asarray(before).tobytes()
        else:
            assert after == before


def test_without_x64_wide_numpy_leaves_stay_wide(tmp_path):
    with jax.enable_x64(False):
        state = small_state()._replace(memory=np.asarray([0.1]))
        Checkpoints(tmp_path).save(state, {}, {})
        restored = Checkpoints(tmp_path).restore_latest(state)
    assert restored is not None
    assert restored.state.memory.dtype == np.float64
    assert restored.state.memory[0] == 0.1
    assert restored.state.params["w"].dtype == jnp.float32


def test_an_empty_or_absent_folder_has_nothing(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        checkpoints = Checkpoints(folder, keep_best=1, best_metric="loss")
        assert checkpoints.restore_latest(small_state()) is None
        assert checkpoints.restore_best(small_state()) is None


def test_interrupted_and_resumed_from_disk_is_bit_equal(leaky, tmp_path):
    whole = train(leaky.state(), leaky.step, leaky.batch, total_steps=9)

    def batch_at(step):
        if step == 4:
            signal.raise_signal(signal.SIGINT)
        return leaky.batch(step)

    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(Interrupted):
        train(leaky.state(), leaky.step, batch_at, total_steps=9, checkpoints=checkpoints)
    restored = checkpoints.restore_latest(leaky.state(seed=1))
    assert restored is not None
    compiled = leaky.step._cache_size()
    resumed = train(restored.state, leaky.step, leaky.batch, total_steps=9)
    leaky.assert_equal(resumed.state, whole.state)
    assert leaky.step._cache_size() == compiled, "a restored state must not compile anew"


@pytest.mark.parametrize("lower_is_better", [True, False])
def test_the_last_and_the_best_are_kept(tmp_path, lower_is_better):
    checkpoints = Checkpoints(tmp_path, 2, 1, "score", lower_is_better)
    scores = [3.0, 1.0, 2.0, np.nan, None, 2.5]
    for step, score in enumerate(scores):
        score = score if lower_is_better or score is None else -score
        metrics = {} if score is None else {"score": score}
        assert checkpoints.would_be_best(metrics) == (step in (0, 1))
        checkpoints.save(small_state(step), metrics, {})
    assert names(checkpoints) == ["step_00000001", "step_00000004", "step_00000005"]
    best = checkpoints.restore_best(small_state())
    latest = checkpoints.restore_latest(small_state())
    assert best is not None
    assert latest is not None
    assert (best.step, latest.step) == (1, 5)


def test_a_save_that_fails_leaves_the_earlier_ones(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep_last=1)
    checkpoints.save(small_state(1), {}, {})

    def no_space(folder):
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module, "_manifest", no_space)
        with pytest.raises(OSError, match="No space left"):
            checkpoints.save(small_state(2), {}, {})
    restored = checkpoints.restore_latest(small_state())
    assert restored is not None
    assert (restored.step, restored.damaged) == (1, ())
    checkpoints.save(small_state(3), {}, {})
    assert names(checkpoints) == ["step_00000003"], "the half-written one is cleared away"


DAMAGES = {
    "arrays.* is truncated": lambda path: largest_array_file(path).write_bytes(b"x"),
    "arrays.* is corrupted": lambda path: flip_a_byte(largest_array_file(path)),
    "arrays.* is missing": lambda path: largest_array_file(path).unlink(),
    "checkpoint.json is corrupted": lambda path: flip_a_byte(path / "checkpoint.json"),
    "manifest.json is corrupted": lambda path: (path / "manifest.json").write_text('{"a": '),
    "manifest.json cannot be read": lambda path: (path / "manifest.json").unlink(),
    "extra does not belong": lambda path: (path / "extra").write_text("?"),
}


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep_last=len(DAMAGES) + 1)
    checkpoints.save(small_state(0, value=0.5), {}, {})
    for step, damage in enumerate(DAMAGES.values(), start=1):
        damage(checkpoints.save(small_state(step), {}, {}))
    restored = checkpoints.restore_latest(small_state())
    assert restored is not None
    assert (restored.step, float(restored.state.params["w"][0])) == (0, 0.5)
    expected = [(f"step_{step:08d}", reason) for step, reason in enumerate(DAMAGES, start=1)]
    for (name, reason), (wanted_name, wanted) in zip(
        restored.damaged, reversed(expected), strict=True
    ):
        assert name == wanted_name
        assert all(part in reason for part in wanted.split(".*")), reason


def test_after_a_damaged_one_saving_goes_on(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep_last=1)
    for step in (10, 20):
        Checkpoints(tmp_path, keep_last=9).save(small_state(step), {}, {})
    flip_a_byte(tmp_path / "step_00000020" / "checkpoint.json")
    checkpoints.save(small_state(15), {}, {})
    assert names(checkpoints) == ["step_00000015", "step_00000020"]
    checkpoints.save(small_state(20, value=2.0), {}, {})
    assert names(checkpoints) == ["step_00000020.1"]
    restored = checkpoints.restore_latest(small_state())
    assert restored is not None
    assert restored.damaged == ()
    assert float(restored.state.params["w"][0]) == 2.0


def test_when_all_are_damaged_each_is_named(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep_best=1, best_metric="loss")
    for step in (1, 2):
        flip_a_byte(checkpoints.save(small_state(step), {"loss": 1.0}, {}) / "checkpoint.json")
    with pytest.raises(DamagedCheckpointError, match=r"^checkpoints: .*_00000002: .*_00000001: "):
        checkpoints.restore_latest(small_state())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"params": {"w": jnp.ones(4)}}, r"params\['w'\] of shape \(3,\) .*expected \(4,\)"),
        ({"params": {"w": jnp.ones(3, jnp.int32)}}, r"dtype float64, expected \(3,\) and int32"),
        ({"params": {"v": jnp.ones(3)}}, r"params\['w'\] .* which this model does not have"),
        ({"memory": jnp.ones(2)}, r"no memory, expected one of shape \(2,\)"),
        ({"key": jax.ShapeDtypeStruct((2,), jnp.uint32)}, r"key of shape \(\) and dtype key<fry>"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(tmp_path, change, message):
    Checkpoints(tmp_path).save(small_state(), {}, {})
    with pytest.raises(ForeignCheckpointError, match=rf"^checkpoint {tmp_path}.*: got .*{message}"):
        Checkpoints(tmp_path).restore_latest(small_state()._replace(**change))


def test_a_checkpoint_of_another_fingerprint_is_refused(tmp_path):
    Checkpoints(tmp_path).save(small_state(), {}, {"fingerprint": "lstm", "seed": 1})
    with pytest.raises(ForeignCheckpointError, match="metadata fingerprint = 'lstm', expected 'gr"):
        Checkpoints(tmp_path).restore_latest(small_state(), {"fingerprint": "gru"})


def test_bad_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"^keep_last: got 0"):
        Checkpoints(tmp_path, keep_last=0)
    with pytest.raises(ValueError, match=r"^keep_best: got -1"):
        Checkpoints(tmp_path, keep_best=-1)
    with pytest.raises(ValueError, match=r"^best_metric: got None"):
        Checkpoints(tmp_path, keep_best=1)
    with pytest.raises(ValueError, match=r"^metadata: .* expected JSON"):
        Checkpoints(tmp_path).save(small_state(), {}, {"path": tmp_path})
    with pytest.raises(ValueError, match=r"^state: got str at memory, expected an array"):
        Checkpoints(tmp_path).save(small_state()._replace(memory="text"), {}, {})
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"^folder: got the file .*, expected a folder"):
        Checkpoints(tmp_path / "file").save(small_state(), {}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
