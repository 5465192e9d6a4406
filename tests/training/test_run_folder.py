import json
import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import jax
import pytest

from rnnjax.training.optimizer import OptimizerConfig
from rnnjax.training.run_folder import RunFolderError, config_of, open_run_folder, read_config


@dataclass(frozen=True)
class RunConfig:
    hidden_size: int = 8
    data: Path = Path("corpus")
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)


def files(folder):
    return {p.name: p.read_text() for p in folder.iterdir() if p.name != "lock"}


def test_a_run_writes_its_config_command_and_versions(tmp_path):
    path = tmp_path / "runs" / "one"
    for is_new in (True, False):
        with open_run_folder(path, RunConfig(), command=["train", "--out", "a b"]) as run:
            assert (run.path, run.is_new) == (path, is_new)
    config = json.loads((path / "config.json").read_text())
    assert config == run.config
    assert config["data"] == "corpus"
    assert config["optimizer"]["b2"] == 0.999
    starts = json.loads((path / "run.json").read_text())
    assert [start["command"] for start in starts] == ["train --out 'a b'"] * 2
    assert starts[0]["versions"]["jax"] == jax.__version__
    assert set(starts[0]["versions"]) == {"python", "jax", "jaxlib", "optax", "rnnjax"}
    assert starts[0]["started"].endswith("+00:00")


def test_another_config_is_refused_by_naming_each_field(tmp_path):
    with open_run_folder(tmp_path, RunConfig()):
        pass
    before = files(tmp_path)
    other = RunConfig(16, optimizer=OptimizerConfig(clip_norm=None, total_steps=5))
    message = (
        "made with another one: hidden_size was 8, now 16; optimizer.clip_norm was 1.0, now None$"
    )
    with (
        pytest.raises(RunFolderError, match=message),
        open_run_folder(tmp_path, other, may_differ={"optimizer.total_steps"}),
    ):
        pass
    assert files(tmp_path) == before


def test_other_data_is_refused_and_other_code_is_recorded(tmp_path):
    def opened(data, code):
        return open_run_folder(tmp_path, {}, fingerprint={"data": data, "code": code})

    for code in ("1", "2"):
        with opened("a", code):
            pass
    starts = json.loads((tmp_path / "run.json").read_text())
    assert [start["fingerprint"]["code"] for start in starts] == ["1", "2"]
    message = "^data: the run in .* was made with other rows: fingerprint a, now b$"
    with pytest.raises(RunFolderError, match=message), opened("b", "2"):
        pass
    with open_run_folder(tmp_path, {}) as run:
        assert "fingerprint" not in run.start


def test_a_field_that_may_differ_is_written_anew(tmp_path):
    with open_run_folder(tmp_path, RunConfig()):
        pass
    longer = RunConfig(optimizer=replace(OptimizerConfig(), total_steps=2000))
    with open_run_folder(tmp_path, longer, may_differ=["optimizer.total_steps"]) as run:
        assert not run.is_new
    with open_run_folder(tmp_path, longer):
        pass


def test_a_field_added_or_dropped_is_a_difference(tmp_path):
    with open_run_folder(tmp_path, {"a": 1}):
        pass
    with (
        pytest.raises(RunFolderError, match="a was 1, now 'absent'; b was 'absent', now 2"),
        open_run_folder(tmp_path, {"b": 2}),
    ):
        pass


def test_a_config_is_read_back_as_it_was(tmp_path):
    config = RunConfig(16, Path("a b"), OptimizerConfig(clip_norm=None))
    with open_run_folder(tmp_path, config):
        pass
    assert read_config(tmp_path, RunConfig) == config
    with pytest.raises(FileNotFoundError):
        read_config(tmp_path / "absent", RunConfig)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hiden_size": 3}, "config: got unknown hiden_size, expected hidden_size, data"),
        ({"optimizer": {"speed": 1}}, "config: got unknown optimizer.speed, expected learning_r"),
        ({"optimizer": {"clip_norm": 0}}, "clip_norm: got 0, expected"),
    ],
)
def test_unknown_and_bad_fields_of_a_stored_config_are_refused(fields, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        config_of(RunConfig, fields)


HOLDER = """
import sys
from pathlib import Path
from rnnjax.training.run_folder import open_run_folder
with open_run_folder(Path(sys.argv[1]), {}):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_live_process_is_refused_and_a_dead_one_is_forgotten(tmp_path):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        message = f"^path: .* is in use by process {holder.pid}, expected"
        with pytest.raises(RunFolderError, match=message), open_run_folder(tmp_path, {}):
            pass
        holder.kill()
    with open_run_folder(tmp_path, {}) as run:
        assert not run.is_new


def test_an_exception_inside_frees_the_folder(tmp_path):
    with pytest.raises(KeyError), open_run_folder(tmp_path, {}):
        raise KeyError
    with open_run_folder(tmp_path, {}):
        pass


def test_bad_arguments_are_named(tmp_path):
    def open_and_close(path, config):
        with open_run_folder(path, config):
            pass

    with pytest.raises(ValueError, match=r"^config: got int, expected a dataclass"):
        open_and_close(tmp_path, 3)
    with pytest.raises(ValueError, match=r"^config: got a value of type set, expected JSON"):
        open_and_close(tmp_path, {"letters": {"a"}})
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"^path: got the file"):
        open_and_close(tmp_path / "file", {})
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"^path: got .*config.json damaged"):
        open_and_close(tmp_path, {})
