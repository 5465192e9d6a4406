"""Real processes on the loopback that train together, die, and go on, fewer or more of them."""

import json
import signal
import socket
import subprocess
import sys
from typing import Any

import jax
import pytest
from support import together
from support.simulated_devices import environment
from support.tolerances import assert_close

from rnnjax.training.checkpoints import Checkpoints
from rnnjax.training.processes import from_first_process, is_first_process, start_processes
from rnnjax.training.step import make_train_step

LOOPBACK = "127.0.0.1"


def free_port():
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return listener.getsockname()[1]


def start(told, **variables):
    return subprocess.Popen(
        [sys.executable, "-W", "error", together.__file__, json.dumps(told)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment() | variables,
    )


def ended(processes):
    """Exit codes, last lines and errors; none outlives the test."""
    try:
        outputs = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    codes = [process.returncode for process in processes]
    return codes, [output.splitlines()[-1:] for output, _ in outputs], [e for _, e in outputs]


def train_together(count, folder, steps, of_one: dict[int, Any] | None = None, **options):
    address = f"{LOOPBACK}:{free_port()}"
    run = {"folder": str(folder), "steps": steps, **options}
    return ended(
        [
            start({"start": [address, count, i], "run": run | (of_one or {}).get(i, {})})
            for i in range(count)
        ]
    )


def alone(steps):
    """By one process on one device, from the first step to the last."""
    with jax.enable_x64(False):
        train_step = make_train_step(together.loss_with("reference"), together.OPTIMIZER)
        state = together.new_state()
        for step in range(steps):
            state, _ = train_step(state, together.rows_at(step, range(together.BATCH)))
        return without_key(state)


def without_key(state):
    parts = (state.step, state.params, state.optimizer_state, state.memory)
    return parts, jax.random.key_data(state.key)


def saved_in(folder):
    """What the last checkpoint holds, restored by this process on one device."""
    with jax.enable_x64(False):
        restored = Checkpoints(folder / "checkpoints").restore_latest(together.new_state())
        assert restored is not None
        assert not restored.damaged
        return without_key(restored.state)


def test_two_processes_train_and_save_what_one_does(tmp_path):
    codes, lines, errors = train_together(2, tmp_path, 4, hidden=2)
    assert codes == [0, 0], errors
    told = "4 rows of 2 processes, from step 0"
    assert lines == [[f"{told} True"], [f"{told} False"]]
    assert_close(saved_in(tmp_path), alone(4), "float32")


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 2])
def test_a_process_is_killed_and_fewer_then_more_go_on(tmp_path, victim):
    codes, _, errors = train_together(4, tmp_path, 9, {victim: {"dies_at": 5}}, hidden=2)
    assert codes[victim] == -signal.SIGKILL
    assert all(code != 0 for code in codes), errors  # the others did not wait for ever
    codes, lines, errors = train_together(2, tmp_path, 7)
    assert codes == [0, 0], errors
    assert lines[0] == ["4 rows of 2 processes, from step 4 True"]
    codes, lines, errors = train_together(4, tmp_path, 9, hidden=4)
    assert codes == [0] * 4, errors
    assert lines[0] == ["2 rows of 4 processes, from step 7 True"]
    assert_close(saved_in(tmp_path), alone(9), "float32")


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_after_the_same_step(tmp_path):
    codes, lines, errors = train_together(2, tmp_path, 15, {1: {"stops_at": 5}})
    assert codes == [0, 0], errors
    assert lines == [["interrupted after 8 True"], ["interrupted after 8 False"]]
    codes, lines, errors = train_together(2, tmp_path, 10)
    assert codes == [0, 0], errors
    assert lines[0] == ["4 rows of 2 processes, from step 8 True"]
    assert_close(saved_in(tmp_path), alone(10), "float32")


@pytest.mark.slow
def test_under_slurm_no_argument_is_needed(tmp_path):
    """The variables of a job step of two tasks on this machine."""
    port = str(free_port())
    run = {"folder": str(tmp_path), "steps": 2}
    step = {
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_NODELIST": LOOPBACK,
        "SLURM_NTASKS": "2",
        "JAX_COORDINATOR_PORT": port,
        "JAX_COORDINATOR_BIND_ADDRESS": f"{LOOPBACK}:{port}",
    }
    codes, lines, errors = ended(
        [
            start({"start": [], "run": run}, SLURM_PROCID=task, SLURM_LOCALID=task, **step)
            for task in "01"
        ]
    )
    assert codes == [0, 0], errors
    assert lines[1] == ["4 rows of 2 processes, from step 0 False"]


@pytest.mark.slow
def test_a_process_that_does_not_come_is_told():
    program = (
        "import rnnjax.training.processes as p; p.start_processes({!r}, 2, {}, start_seconds=3)"
    )
    for number in (0, 1):
        address = f"{LOOPBACK}:{free_port()}"
        child = subprocess.run(
            [sys.executable, "-c", program.format(address, number)],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert child.returncode != 0
        assert "start_processes: not all processes have joined within 3 s" in child.stderr


@pytest.mark.slow
def test_processes_that_drew_other_parameters_are_refused(tmp_path):
    codes, _, errors = train_together(2, tmp_path, 2, {1: {"seed": 1}})
    assert codes == [1, 1], errors
    assert "(in process 0 they are those of the first)" in errors[0]
    assert "(in process 1 they differ from those of the first)" in errors[1]


@pytest.mark.slow
def test_an_error_in_one_process_ends_the_others(tmp_path):
    codes, _, errors = train_together(2, tmp_path, 9, {1: {"fails_at": 5}})
    assert all(code != 0 for code in codes), errors
    assert "no such row" in errors[1]
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())][-1:] == [
        "step_00000004"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("127.0.0.1:1234", 2, None), "process_id: got None beside another of the three"),
        ((None, 2, 0), "coordinator_address: got None beside another of the three"),
        (("node001", 2, 0), "coordinator_address: got 'node001', expected HOST:PORT"),
        (("node001:99999", 2, 0), "coordinator_address: got 'node001:99999', expected HOST:PORT"),
        (("127.0.0.1:1234", 0, 0), "num_processes: got 0, expected an integer of at least 1"),
        (("127.0.0.1:1234", 2, 2), "process_id: got 2, expected an integer below num_processes"),
    ],
)
def test_arguments_that_do_not_fit_are_told_before_anything_starts(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        start_processes(*arguments)


def test_one_process_agrees_with_itself():
    assert is_first_process()
    assert from_first_process(lambda: (1, "two")) == (1, "two")
    with pytest.raises(OSError, match="full"):
        from_first_process(_full)


def _full():
    raise OSError("the disk is full")
