import math
import signal
import threading
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.training.early_stopping import EarlyStopping
from rnnjax.training.interval import STEPS_IN_FLIGHT
from rnnjax.training.loop import DivergedError, Interrupted, train


class MemoryCheckpoints:
    """Checkpoints in memory, which is all the loop needs to know of them."""

    def __init__(self):
        self.saved = {}

    def save(self, state, metrics, metadata):
        self.saved[int(state.step)] = (jax.tree.map(jnp.copy, state), dict(metrics), metadata)
        return Path(f"step_{int(state.step)}")

    def finish(self):
        pass

    def last_good(self):
        return Path(f"step_{max(self.saved)}") if self.saved else None

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


class SignalAt:
    """Progress that raises signals as soon as it hears of a step."""

    def __init__(self, step, *signal_numbers):
        self.step, self.signal_numbers = step, signal_numbers

    def update(self, step, metrics):
        if step == self.step:
            for number in self.signal_numbers:
                signal.raise_signal(number)


@pytest.fixture(scope="module")
def uninterrupted(leaky):
    return train(leaky.state(), leaky.step, leaky.batch, total_steps=12)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at_step", [1, 7, 12])
def test_an_interrupted_and_resumed_run_is_bit_equal(leaky, uninterrupted, at_step, signal_number):
    checkpoints = MemoryCheckpoints()
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted) as interruption:
        train(
            leaky.state(),
            leaky.step,
            leaky.batch,
            total_steps=12,
            checkpoints=checkpoints,
            progress=SignalAt(at_step, signal_number),
        )
    # The step under way is finished, saved, and nothing after it is begun.
    assert interruption.value.step == at_step
    assert interruption.value.exit_status == 128 + signal_number
    assert interruption.value.checkpoint == Path(f"step_{at_step}")
    assert str(interruption.value) == (
        f"interrupted by {signal_number.name} after step {at_step}; saved step_{at_step}"
    )
    assert list(checkpoints.saved) == [at_step]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    state = checkpoints.saved[at_step][0]
    resumed = train(state, leaky.step, leaky.batch, total_steps=12)
    leaky.assert_equal(resumed.state, uninterrupted.state)


def test_a_second_signal_leaves_at_once(leaky):
    checkpoints = MemoryCheckpoints()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as interruption:
        train(
            leaky.state(),
            leaky.step,
            leaky.batch,
            total_steps=3,
            checkpoints=checkpoints,
            progress=SignalAt(1, signal.SIGINT, signal.SIGINT),
        )
    assert not isinstance(interruption.value, Interrupted)
    assert checkpoints.saved == {}
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("at_step", [3, 6])
def test_an_evaluation_left_out_by_a_signal_is_made_when_the_run_goes_on(leaky, at_step):
    options: dict[str, Any] = {"total_steps": 6, "evaluate_every": 3, "log_every": 6}

    def evaluate(state):
        return {"loss": float(state.params["a"])}

    whole, parts, checkpoints = MemoryLog(), MemoryLog(), MemoryCheckpoints()
    train(leaky.state(), leaky.step, leaky.batch, evaluate=evaluate, logger=whole, **options)
    options |= {"evaluate": evaluate, "logger": parts, "checkpoints": checkpoints}
    with pytest.raises(Interrupted):
        train(
            leaky.state(),
            leaky.step,
            leaky.batch,
            progress=SignalAt(at_step, signal.SIGTERM),
            **options,
        )
    assert at_step not in parts.column("held_out/loss")
    result = train(checkpoints.saved[at_step][0], leaky.step, leaky.batch, **options)
    assert parts.column("held_out/loss") == whole.column("held_out/loss")
    assert result.evaluation == {"loss": whole.column("held_out/loss")[6]}
    count = len(parts.lines)
    again = train(result.state, leaky.step, leaky.batch, **options)
    assert len(parts.lines) == count
    assert again.evaluation == result.evaluation


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
        progress = SignalAt(1, signal.SIGINT)
        state = leaky.state()
        assert train(state, leaky.step, leaky.batch, total_steps=2, progress=progress).step == 2
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
    leaky.assert_equal(
        result.state._replace(counters=()), uninterrupted.state._replace(counters=())
    )
    assert int(result.state.counters.evaluated_step) == 12


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
    assert failure.value.__notes__ == ["training failed in step 5; last good checkpoint: step_4"]


def test_the_host_runs_ahead_but_not_far(leaky):
    """Batch t+1 is made before the result of step t is asked for, and few results are pending."""
    finished, asked_at = [], {}

    class Scalar:
        def __init__(self, step):
            self.step = step

        def block_until_ready(self):
            finished.append(self.step)
            return self

        def __int__(self):
            finished.append(self.step)
            return 0

    def train_step(state, batch):
        metrics: dict[str, Any] = {"skipped_in_a_row": Scalar(batch)}
        return state, metrics

    def batch_at(step):
        asked_at[step] = len(set(finished))
        return step

    with pytest.raises(KeyError, match="skipped"):  # These metrics cannot be logged at the end.
        train(leaky.state(), train_step, batch_at, total_steps=8, log_every=8, batches_ahead=0)
    assert [step - asked_at[step] for step in range(4, 8)] == [STEPS_IN_FLIGHT] * 4


def test_equal_seeds_give_equal_bits_however_batches_are_made(leaky, uninterrupted):
    for ahead in (0, 1, 5):
        result = train(leaky.state(), leaky.step, leaky.batch, total_steps=12, batches_ahead=ahead)
        leaky.assert_equal(result.state, uninterrupted.state)
        assert 0 <= result.metrics["waiting_for_data"] <= 1


@pytest.mark.parametrize("log_every", [1, 100])
def test_many_steps_that_are_not_finite_end_the_run_and_name_the_last_checkpoint(leaky, log_every):
    def batch_at(step):
        return leaky.batch(step, scale=math.nan if step in (2, 3) or step >= 6 else 1.0)

    checkpoints, log = MemoryCheckpoints(), MemoryLog()
    with pytest.raises(DivergedError) as divergence:
        train(
            leaky.state(),
            leaky.step,
            batch_at,
            total_steps=50,
            checkpoint_every=5,
            log_every=log_every,
            stop_after_skipped=3,
            checkpoints=checkpoints,
            logger=log,
        )
    assert 9 <= divergence.value.step <= 9 + STEPS_IN_FLIGHT
    assert divergence.value.skipped_in_a_row == 3
    assert divergence.value.checkpoint == Path("step_5") or divergence.value.step > 10
    assert f"last good checkpoint: {divergence.value.checkpoint}" in str(divergence.value)
    for leaf in leaky.numpy_tree(checkpoints.saved[5][0].params):
        assert np.all(np.isfinite(leaf))
    if log_every == 1:
        rows = log.column("train/skipped_in_a_row")
        assert [rows[step] for step in range(1, 10)] == [0, 0, 1, 2, 0, 0, 1, 2, 3]


def test_any_number_of_steps_is_skipped_where_no_limit_is_set(leaky):
    result = train(
        leaky.state(),
        leaky.step,
        lambda step: leaky.batch(step, scale=math.nan),
        total_steps=25,
        stop_after_skipped=None,
    )
    assert result.skipped_steps == int(result.state.counters.skipped) == 25


SCORES = {2: 5.0, 4: 3.0, 6: math.nan, 8: 2.95, 10: 2.9, 12: 1.0}


@pytest.mark.parametrize(
    ("options", "end"),
    [
        ({"patience": 2}, 14),  # 8 and 10 are gains, if small ones
        ({"patience": 1}, 6),
        ({"patience": 2, "minimum_gain": 0.08}, 8),
        ({"patience": 3, "minimum_gain": 0.08}, 14),
        ({"patience": 2, "lower_is_better": False}, 6),
    ],
)
def test_early_stopping_stops_where_patience_ends_whether_or_not_interrupted(leaky, options, end):
    checkpoints = MemoryCheckpoints()
    arguments: dict[str, Any] = {
        "total_steps": 14,
        "evaluate": lambda state: {"loss": SCORES.get(int(state.step), 1.0)},
        "evaluate_every": 2,
        "early_stopping": EarlyStopping("loss", **options),
        "checkpoints": checkpoints,
    }
    whole = train(leaky.state(), leaky.step, leaky.batch, **arguments)
    assert (whole.step, whole.stopped_early) == (end, end < 14)
    assert max(checkpoints.saved) == end
    checkpoints.saved.clear()
    with pytest.raises(Interrupted):
        train(
            leaky.state(),
            leaky.step,
            leaky.batch,
            progress=SignalAt(4, signal.SIGTERM),
            **arguments,
        )
    resumed = train(checkpoints.saved[4][0], leaky.step, leaky.batch, **arguments)
    leaky.assert_equal(resumed.state, whole.state)
    assert resumed.stopped_early == whole.stopped_early
    count = len(checkpoints.saved)
    again = train(resumed.state, leaky.step, leaky.batch, **arguments)
    assert (again.step, len(checkpoints.saved)) == (end, count)


def test_bad_early_stopping_is_named(leaky):
    with pytest.raises(ValueError, match=r"^patience: got 0, expected"):
        EarlyStopping("loss", 0)
    with pytest.raises(ValueError, match=r"^minimum_gain: got -1, expected"):
        EarlyStopping("loss", 1, -1)
    watch = EarlyStopping("loss", 1)
    with pytest.raises(ValueError, match=r"^early_stopping: got one without evaluate"):
        train(leaky.state(), leaky.step, leaky.batch, total_steps=1, early_stopping=watch)
    with pytest.raises(ValueError, match=r"^metric: got 'loss', expected .* returns: accuracy"):
        train(
            leaky.state(),
            leaky.step,
            leaky.batch,
            total_steps=1,
            early_stopping=watch,
            evaluate=lambda state: {"accuracy": 1.0},
        )


@pytest.mark.parametrize(
    "name", ["total_steps", "evaluate_every", "checkpoint_every", "log_every", "stop_after_skipped"]
)
@pytest.mark.parametrize("value", [0, -1, 2.5])
def test_a_bad_number_of_steps_is_named(leaky, name, value):
    counts: dict[str, Any] = {"total_steps": 1, name: value}
    with pytest.raises(ValueError, match=f"^{name}: got {value}, expected"):
        train(leaky.state(), leaky.step, leaky.batch, **counts)


def test_a_state_past_the_end_is_refused(leaky, uninterrupted):
    with pytest.raises(ValueError, match=r"^total_steps: got 4, expected at least .* 12"):
        train(uninterrupted.state, leaky.step, leaky.batch, total_steps=4)
