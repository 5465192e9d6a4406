"""The whole package in one real process, killed in every way and at any time, and started again."""

import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import killed_run

SCRIPT = Path(killed_run.__file__)


def start(folder, steps):
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(SCRIPT), str(folder), str(steps)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )


def lines_in(folder):
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_lines(process, folder, lines):
    while process.poll() is None and lines_in(folder) < lines:
        time.sleep(0.002)


def outcome(process):
    output, errors = process.communicate()
    return process.returncode, output, errors


def without_times(folder):
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    times = ("train/steps_per_second", "train/waiting_for_data")
    return [{name: value for name, value in r.items() if name not in times} for r in records]


def held_out(folder):
    return [record for record in without_times(folder) if "held_out/loss" in record]


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path):
    """Processes forked from one that has imported everything, for that takes longest."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.killed_run"])
    moments = random.Random(0)

    def run(folder, lines=None):
        process = context.Process(target=killed_run.main, args=(folder, 60))
        process.start()
        while lines is not None and process.is_alive() and lines_in(folder) < lines:
            time.sleep(0.002)
        if lines is not None:
            time.sleep(moments.uniform(0, 0.02))
            process.kill()
        process.join()
        return process.exitcode

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run(whole) == 0
    assert run(killed, lines=6) == -signal.SIGKILL
    assert not (killed / "digest").exists()
    assert run(killed) == 0
    assert (killed / "digest").read_text() == (whole / "digest").read_text()
    assert held_out(killed) == held_out(whole)


@pytest.mark.slow
def test_a_run_killed_at_random_times_ends_bit_equal(tmp_path):
    steps, moments = 2000, random.Random()
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process, began = start(whole, steps), time.monotonic()
    wait_for_lines(process, whole, 1)
    starting = time.monotonic() - began
    status, expected, errors = outcome(process)
    assert status == 0, errors
    training = time.monotonic() - began - starting
    delays = []
    for kill in range(12):
        process = start(killed, steps)
        if kill % 6 == 0:  # Before anything is trained, most likely.
            delays.append(moments.uniform(0, starting))
        else:
            wait_for_lines(process, killed, lines_in(killed) + 1)
            delays.append(moments.uniform(0, training / 16))
        time.sleep(delays[-1])
        process.kill()
        status, _, errors = outcome(process)
        assert status == -signal.SIGKILL, (delays, errors)
    status, output, errors = outcome(start(killed, steps))
    assert status == 0, (delays, errors)
    assert output == expected, delays
    assert held_out(killed) == held_out(whole), delays


@pytest.mark.slow
def test_a_run_ended_by_every_signal_ends_bit_equal(tmp_path):
    steps = 400
    status, expected, errors = outcome(start(tmp_path / "whole", steps))
    assert status == 0, errors
    killed = tmp_path / "killed"
    for lines, number in (
        (3, signal.SIGKILL),
        (11, signal.SIGINT),
        (35, signal.SIGTERM),
        (50, signal.SIGKILL),
    ):
        process = start(killed, steps)
        wait_for_lines(process, killed, lines)
        process.send_signal(number)
        status, output, errors = outcome(process)
        if number is signal.SIGKILL:
            assert status == -number, errors
        else:
            assert status == 128 + number, errors
            assert re.fullmatch(r"interrupted by \w+ after step \d+; saved .*\n", output), output
    status, output, errors = outcome(start(killed, steps))
    assert status == 0, errors
    assert output == expected
    assert held_out(killed) == held_out(tmp_path / "whole")
    whole_steps = {record["step"] for record in without_times(tmp_path / "whole")}
    assert whole_steps <= {record["step"] for record in without_times(killed)}
