import math
import signal
import threading
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.training.loop import STEPS_IN_FLIGHT, Interrupted, train


class MemoryCheckpoints:
    """Checkpoints in memory, which is all the loop needs to know of them."""

    def __init__(self):
        self.saved = {}

    def save(self, state, metrics, metadata):
        self.saved[int(state.step)] = (jax.tree.map(jnp.copy, state), dict(metrics), metadata)
        return Path(f"step_{int(state.step)}")

    def would_be_best(self, metrics):
        losses = [m["loss"] for _, m, _ in self.saved.values() if "loss" in m]
        return "loss" in metrics and (not losses or metrics["loss"] < min(losses))


class MemoryLog:
    def __init__(self):
        self.lines = []

    def log(self, step, metrics):
        self.lines.append((step, dict(metrics)))

    def column(self, name):
        return {step: metrics[name] for step, metrics in self.lines if name in metrics}


def raising_batch(leaky, at_step, signal_number):
    def batch_at(step):
        if step == at_step:
            signal.raise_signal(signal_number)
        return leaky.batch(step)

    return batch_at


@pytest.fixture(scope="module")
def uninterrupted(leaky):
    return train(leaky.state(), leaky.step, leaky.batch, total_steps=12)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at_step", [0, 6, 11])
def test_an_interrupted_and_resumed_run_is_bit_equal(leaky, uninterrupted, at_step, signal_number):
    checkpoints = MemoryCheckpoints()
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted) as interruption:
        train(
            leaky.state(),
            leaky.step,
            raising_batch(leaky, at_step, signal_number),
            total_steps=12,
            checkpoints=checkpoints,
        )
    # The step whose batch was being made is finished, saved, and nothing after it is begun.
    assert interruption.value.step == at_step + 1
    assert interruption.value.exit_status == 128 + signal_number
    assert interruption.value.checkpoint == Path(f"step_{at_step + 1}")
    assert str(interruption.value) == (
        f"interrupted by {signal_number.name} after step {at_step + 1}; saved step_{at_step + 1}"
    )
    assert list(checkpoints.saved) == [at_step + 1]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    state = checkpoints.saved[at_step + 1][0]
    resumed = train(state, leaky.step, leaky.batch, total_steps=12)
    leaky.assert_equal(resumed.state, uninterrupted.state)


def test_a_second_signal_leaves_at_once(leaky):
    def batch_at(step):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second signal did not leave")

    checkpoints = MemoryCheckpoints()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as interruption:
        train(leaky.state(), leaky.step, batch_at, total_steps=3, checkpoints=checkpoints)
    assert not isinstance(interruption.value, Interrupted)
    assert checkpoints.saved == {}
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_in_the_last_evaluation_is_not_lost(leaky):
    def evaluate(state):
        signal.raise_signal(signal.SIGTERM)
        return {"loss": 1.0}

    checkpoints = MemoryCheckpoints()
    with pytest.raises(Interrupted, match="after step 2; saved step_2"):
        train(
            leaky.state(),
            leaky.step,
            leaky.batch,
            total_steps=2,
            evaluate=evaluate,
            checkpoints=checkpoints,
        )
    assert checkpoints.saved[2][1] == {"loss": 1.0}


def test_an_ignored_signal_stays_ignored(leaky):
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        batch_at = raising_batch(leaky, 0, signal.SIGINT)
        assert train(leaky.state(), leaky.step, batch_at, total_steps=2).step == 2
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, previous)


def test_outside_the_main_thread_handlers_stay_as_they_are(leaky):
    seen = []

    def run():
        def batch_at(step):
            seen.append(signal.getsignal(signal.SIGINT))
            return leaky.batch(step)

        train(leaky.state(), leaky.step, batch_at, total_steps=1)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


def test_logged_metrics_are_means_over_the_kept_steps_of_the_interval(leaky):
    def batch_at(step):
        return leaky.batch(step, scale=math.nan if step in (1, 2) else 1.0)

    log, every = MemoryLog(), MemoryLog()
    result = train(leaky.state(), leaky.step, batch_at, total_steps=7, log_every=3, logger=log)
    train(leaky.state(), leaky.step, batch_at, total_steps=7, log_every=1, logger=every)
    single = every.column("train/loss")
    assert list(single) == [1, 2, 3, 4, 5, 6, 7]
    assert math.isnan(single[2])
    assert math.isnan(single[3])
    loss = log.column("train/loss")
    assert loss == pytest.approx(
        {3: single[1], 6: np.mean([single[s] for s in (4, 5, 6)]), 7: single[7]}
    )
    assert log.column("train/skipped") == {3: 2.0, 6: 0.0, 7: 0.0}
    assert log.column("train/learning_rate")[6] == every.column("train/learning_rate")[6]
    clipped = every.column("train/clipped")
    assert result.skipped_steps == 2
    assert result.clipped_steps == sum(c for c in clipped.values() if not math.isnan(c)) > 0
    assert result.metrics["loss"] == loss[7]
    assert result.step == int(result.state.step) == 7


def test_evaluation_and_checkpoints_come_when_they_are_due(leaky):
    losses = iter([3.0, 1.0, 2.0])
    checkpoints, log = MemoryCheckpoints(), MemoryLog()
    result = train(
        leaky.state(),
        leaky.step,
        leaky.batch,
        total_steps=7,
        evaluate=lambda state: {"loss": next(losses)},
        evaluate_every=3,
        checkpoint_every=4,
        checkpoints=checkpoints,
        logger=log,
        metadata={"fingerprint": "leaky"},
    )
    assert log.column("held_out/loss") == {3: 3.0, 6: 1.0, 7: 2.0}
    # 3 and 6 are the best yet, 4 is due, 7 is the end; only evaluated ones have metrics.
    assert {step: metrics for step, (_, metrics, _) in checkpoints.saved.items()} == {
        3: {"loss": 3.0},
        4: {},
        6: {"loss": 1.0},
        7: {"loss": 2.0},
    }
    assert checkpoints.saved[4][2] == {"fingerprint": "leaky"}
    assert result.evaluation == {"loss": 2.0}


def test_a_finished_state_is_evaluated_and_left_alone(leaky, uninterrupted):
    state = jax.tree.map(jnp.copy, uninterrupted.state)
    result = train(
        state,
        leaky.step,
        leaky.batch,
        total_steps=12,
        evaluate=lambda state: {"steps": float(state.step)},
    )
    assert result.evaluation == {"steps": 12.0}
    leaky.assert_equal(result.state, uninterrupted.state)


def test_a_failure_keeps_the_last_checkpoint_and_says_so(leaky):
    def batch_at(step):
        if step == 5:
            raise OSError("the data went away")
        return leaky.batch(step)

    checkpoints = MemoryCheckpoints()
    with pytest.raises(OSError, match="the data went away") as failure:
        train(
            leaky.state(),
            leaky.step,
            batch_at,
            total_steps=9,
            checkpoint_every=2,
            checkpoints=checkpoints,
        )
    assert list(checkpoints.saved) == [2, 4]
    assert failure.value.__notes__ == [
        "training failed in step 5; last checkpoint it saved: step_4"
    ]


def test_the_host_runs_ahead_but_not_far(leaky):
    """Batch t+1 is made before the result of step t is asked for, and few results are pending."""
    finished, asked_at = [], {}

    class Scalar:
        def __init__(self, step):
            self.step = step

        def block_until_ready(self):
            finished.append(self.step)
            return self

    def train_step(state, batch):
        metrics: dict[str, Any] = {"loss": Scalar(batch)}
        return state, metrics

    def batch_at(step):
        asked_at[step] = len(set(finished))
        return step

    with pytest.raises(KeyError, match="skipped"):  # These metrics cannot be logged at the end.
        train(leaky.state(), train_step, batch_at, total_steps=8, log_every=8)
    assert [step - asked_at[step] for step in range(4, 8)] == [STEPS_IN_FLIGHT] * 4


@pytest.mark.parametrize("name", ["total_steps", "evaluate_every", "checkpoint_every", "log_every"])
@pytest.mark.parametrize("value", [0, -1, 2.5])
def test_a_bad_number_of_steps_is_named(leaky, name, value):
    counts: dict[str, Any] = {"total_steps": 1, name: value}
    with pytest.raises(ValueError, match=f"^{name}: got {value}, expected"):
        train(leaky.state(), leaky.step, leaky.batch, **counts)


def test_a_state_past_the_end_is_refused(leaky, uninterrupted):
    with pytest.raises(ValueError, match=r"^total_steps: got 4, expected at least .* 12"):
        train(uninterrupted.state, leaky.step, leaky.batch, total_steps=4)
