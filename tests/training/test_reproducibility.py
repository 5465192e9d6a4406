"""The same seed gives the same run, bit by bit."""

import json

from rnnjax.training.checkpoints import Checkpoints
from rnnjax.training.loop import train
from rnnjax.training.metrics import MetricLogger, read_metrics

TIMES = ("train/steps_per_second", "train/waiting_for_data")


def trained(leaky, folder, seed):
    """The state at the end, and all that was logged but how fast it went."""
    with MetricLogger(folder) as logger:
        result = train(
            leaky.state(seed),
            leaky.step,
            leaky.batch,
            total_steps=12,
            evaluate=lambda state: {"size": float(abs(state.params["w"]).sum())},
            evaluate_every=4,
            log_every=3,
            checkpoints=Checkpoints(folder / "checkpoints"),
            logger=logger,
        )
    records = read_metrics(logger.path)
    for record in records:
        for name in TIMES:
            record.pop(name, None)
    return result.state, json.dumps(records)


def test_the_same_seed_gives_the_same_run_and_another_one_another(leaky, tmp_path):
    (state, log), (again, log_again), (other, other_log) = (
        trained(leaky, tmp_path / name, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    leaky.assert_equal(state, again)
    assert log == log_again
    assert log != other_log
    assert (state.params["w"] != other.params["w"]).all()
    restored = Checkpoints(tmp_path / "a" / "checkpoints").restore_latest(leaky.state())
    assert restored is not None
    leaky.assert_equal(restored.state, again)
