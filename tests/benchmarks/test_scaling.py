import json
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Thread

import jax
import pytest

import rnnjax
from benchmarks import scaling
from benchmarks.collectives import Collective, collectives_in
from benchmarks.scaling import Config, examine, parse, run
from benchmarks.scaling_model import (
    ACCELERATORS,
    DEVICES,
    LongScan,
    LSTMTraining,
    all_reduce_seconds,
    rounds_of_exchange,
    sequence_efficiency,
    strong_efficiency,
    weak_efficiency,
)
from benchmarks.scaling_report import ALONE, Row, efficiency_of, plot, report_text

PROGRAM = """
  %a = (f32[12,4]{1,0}, f32[]) all-reduce(%x, %y), replica_groups={{0,1,2,3}}, to_apply=%sum
  ROOT %b = f32[8,32]{1,0} all-gather(%z), replica_groups=[2,4]<=[8], dimensions={1}
  %c = pred[3]{0} collective-permute(%z), source_target_pairs={{0,1},{1,2}}
  %d = c64[2]{0} all-reduce-start(%z), to_apply=%sum
  %e = c64[2]{0} all-reduce-done(%d)
  %f = f32[2,2]{1,0} dot(%z, %z)
"""


def test_collectives_are_read_off_a_program():
    found = collectives_in(PROGRAM, 8)
    assert found == [
        Collective("all-reduce", 4 * 48 + 4, 4),
        Collective("all-gather", 4 * 8 * 32, 4),
        Collective("collective-permute", 3, 8),
        Collective("all-reduce", 16, 8),
    ]
    assert [one.sent_bytes for one in found] == [2 * 0.75 * 196, 0.75 * 1024, 3.0, 2 * 7 / 8 * 16]
    with pytest.raises(ValueError, match=r"^program: got an array of dtype f4, expected one of"):
        collectives_in("%a = f4[2] all-gather(%z)", 8)


def test_the_model_counts_what_the_library_sends():
    training = LSTMTraining(layers=1, hidden_size=6)
    params = jax.eval_shape(lambda: rnnjax.lstm.init(jax.random.key(0), 6, 6))
    assert training.parameter_bytes == 4 * sum(leaf.size for leaf in jax.tree.leaves(params))
    for devices in range(1, 70):  # the exchange: one to the next, then twice as far each round
        covered, rounds = 0, 0
        while covered < devices - 1:
            covered, rounds = max(1, 2 * covered), rounds + 1
        assert rounds_of_exchange(devices) == rounds


def test_the_model_is_a_ring_and_no_efficiency_exceeds_one():
    training, scan = LSTMTraining(), LongScan()
    tpu, gpu = ACCELERATORS["TPU v5p"], ACCELERATORS["H100"]
    assert all_reduce_seconds(tpu, 8, 6e11) == pytest.approx(2 * 7 / 8, rel=1e-4)
    within, between = 2 * 7 / 8 * 45 / 450, 2 * 3 / 4 * (45 / 8) / 50
    assert all_reduce_seconds(gpu, 32, 45e9) == pytest.approx(within + between, rel=1e-3)
    for accelerator in (tpu, gpu):
        for efficiency in (
            [weak_efficiency(accelerator, training, n, 64) for n in DEVICES],
            [strong_efficiency(accelerator, training, n, 4096) for n in DEVICES],
            [sequence_efficiency(accelerator, scan, n) for n in DEVICES],
        ):
            assert efficiency == sorted(efficiency, reverse=True)
            assert 0 < efficiency[-1] < efficiency[0] <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"devices": (2, 4)}, "devices: got .2, 4., expected 1 among them"),
        ({"devices": (1, 3)}, "batch_size: got 64, expected a multiple of all devices, 3 too"),
        ({"devices": (1, 1)}, "devices: got .1, 1., expected each once"),
        ({"linear_recurrence": "gru"}, "linear_recurrence: got 'gru', expected some of gated_"),
        ({"budget_seconds": 0.0}, "budget_seconds: got 0.0, expected more than 0"),
    ],
)
def test_bad_config_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Config(**change)


def test_flags_stand_on_the_preset():
    full, quick = parse([]), parse(["--preset", "quick", "--time-steps", "8"])
    assert full == Config()
    assert (quick.time_steps, quick.devices) == (8, (1, 4))
    assert quick.out != full.out


ROWS = (
    Row("rows", 1, "", 0, 0.9e-3, 1e-3, 1.1e-3, 9),
    Row("rows, parameters sharded", 1, "", 0, 0.9e-3, 1e-3, 1.1e-3, 9),
    Row("time", 1, "", 0, 3e-3, 3e-3, 3e-3, 9),
    Row(ALONE, 1, "", 0, 2e-3, 2e-3, 2e-3, 9),
    Row("rows", 2, "1 all-reduce of 1048576 B", 2**20, 1e-3, 1.25e-3, 2e-3, 9),
    Row("rows, parameters sharded", 2, "2 all-gather of 8 B", 8, 1e-3, 2e-3, 2e-3, 9),
    Row("time", 2, "3 collective-permute of 8 B", 8, 4e-3, 4e-3, 4e-3, 9),
)
CONDITIONS = {
    "batch_size": 4, "time_steps": 5, "hidden_size": 6, "vocabulary_size": 7,
    "linear_recurrence": "min_gru", "long_batch_size": 8, "long_time_steps": 9,
    "machine": {
        "cpu": "Abacus", "cores": 2, "memory_bytes": 2**30, "system": "S", "architecture": "a",
    },
    "versions": {"jax": "1"},
}  # fmt: skip


def test_the_report_says_what_was_measured_and_what_was_not():
    assert efficiency_of(ROWS, ROWS[4]) == 0.8
    assert efficiency_of(ROWS, ROWS[6]) == 0.5  # of the plain plan on one device
    text = report_text("command", "date", CONDITIONS, ROWS)
    assert "| rows | 2 | 1 all-reduce of 1048576 B | 1.00 |" in text
    assert "| rows | 2 | 1.25 (1.00 … 2.00) | 80% |" in text
    assert "This is no speed-up of devices" in text
    assert "Nothing of this was measured" in text
    assert text.count("- Assumed: ") == 6
    for accelerator in ACCELERATORS:
        assert text.count(f"| {accelerator} | ") == len(DEVICES)
    measured, model = plot(ROWS).axes
    assert [line.get_label() for line in measured.lines] == [
        "rows", "rows, parameters sharded", "time",
    ]  # fmt: skip
    assert len(model.lines) == 3 * len(ACCELERATORS)


@contextmanager
def in_a_thread(work, *arguments):
    """A child that is none: the settings of a whole process are left alone."""
    assert work is scaling.examine_in_child
    reports = SimpleQueue()
    thread = Thread(target=examine, args=(reports.put, *arguments))
    thread.start()
    yield lambda seconds: reports.get(timeout=seconds)
    thread.join()


@pytest.mark.slow
def test_a_run_leaves_a_whole_report(tmp_path):
    config = Config(
        devices=(1,), batch_size=2, time_steps=3, hidden_size=4, vocabulary_size=5,
        long_time_steps=8, long_batch_size=2, budget_seconds=0.01, out=tmp_path,
    )  # fmt: skip
    rows = run(config, "command", in_a_thread)
    assert [row.computation for row in rows] == ["rows", "rows, parameters sharded", "time", ALONE]
    assert all(row.sent_bytes == 0 and row.seconds > 0 for row in rows)
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert results["command"] == "command"
    assert {path.name for path in tmp_path.iterdir()} == {
        "results.json", "results.csv", "table.md", "plot.png",
    }  # fmt: skip
