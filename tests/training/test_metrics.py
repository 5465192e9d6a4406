import math

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rnnjax.training.metrics import JsonLines, MetricLogger, TensorBoard, read_metrics


def scalars(folder, tag):
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


def test_each_line_is_on_disk_when_log_returns(tmp_path):
    lines = JsonLines(tmp_path / "new" / "metrics.jsonl")
    lines.log(1, {"train/loss": 2.5, "train/norm": math.inf})
    lines.log(2, {"train/loss": math.nan})
    text = (tmp_path / "new" / "metrics.jsonl").read_text()
    assert text == '{"step": 1, "train/loss": 2.5, "train/norm": null}\n' + (
        '{"step": 2, "train/loss": null}\n'
    )
    lines.close()


@pytest.mark.parametrize("cut", ["", '{"step": 4, "lo', '{"step": 4, "loss": 1}', "\0\0\0\0"])
def test_resuming_equals_never_having_been_interrupted(tmp_path, cut):
    def write(path, steps, start_step):
        lines = JsonLines(path, start_step)
        for step in steps:
            lines.log(step, {"loss": 1 / (1 + step)})
        lines.close()

    write(tmp_path / "whole", range(6), 0)
    write(tmp_path / "resumed", range(4), 0)
    with (tmp_path / "resumed").open("a") as file:
        file.write(cut)
    write(tmp_path / "resumed", range(3, 6), start_step=2)
    assert (tmp_path / "resumed").read_text() == (tmp_path / "whole").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["resumed", "whole"]


def test_a_new_run_leaves_nothing_of_an_old_one(tmp_path):
    for value in (1.0, 2.0):
        with MetricLogger(tmp_path) as logger:
            logger.log(1, {"loss": value})
    assert read_metrics(logger.path) == [{"step": 1, "loss": 2.0}]
    assert scalars(tmp_path / "tensorboard", "loss") == [(1, 2.0)]


def test_tensorboard_reads_back_what_was_logged_and_drops_what_a_resume_overwrites(tmp_path):
    first = TensorBoard(tmp_path)
    for step in (1, 2, 3):
        first.log(step, {"train/loss": float(step), "train/norm": 0.5})
    first.close()
    second = TensorBoard(tmp_path, start_step=2)
    second.log(3, {"train/loss": 30.0})
    second.close()
    assert scalars(tmp_path, "train/loss") == [(1, 1.0), (2, 2.0), (3, 30.0)]
    assert scalars(tmp_path, "train/norm") == [(1, 0.5), (2, 0.5)]


def test_event_files_are_read_in_the_order_in_which_they_were_made(tmp_path):
    made = []
    for _ in range(2):
        TensorBoard(tmp_path).close()
        (new,) = {path.name for path in tmp_path.iterdir()} - set(made)
        made.append(new)
    first, second = (name.split(".")[3] for name in made)
    assert int(first) < int(second)


def test_reading_tolerates_only_a_cut_last_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st')
    assert read_metrics(path) == [{"step": 1}]
    path.write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(ValueError, match=r"^path: got .* whose line 2 is no record"):
        read_metrics(path)


def test_a_negative_step_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^start_step: got -1, expected at least 0"):
        MetricLogger(tmp_path, -1)
