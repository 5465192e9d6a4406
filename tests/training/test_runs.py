import dataclasses
import json
import signal

import pytest

from rnnjax.training.checkpoints import Checkpoints
from rnnjax.training.loop import DivergedError, Interrupted
from rnnjax.training.loop_config import LoopConfig
from rnnjax.training.metrics import read_metrics
from rnnjax.training.run_folder import open_run_folder
from rnnjax.training.runs import train_in_folder

LOOP = LoopConfig(evaluate_every=2, checkpoint_every=2, log_every=1)


def evaluate(state):
    return {"loss": abs(float(state.step) - 4)}  # best at step 4


def run(leaky, folder, batch_at=None, loop=LOOP, said=None, **options):
    with open_run_folder(folder, {}) as opened:
        return train_in_folder(
            opened,
            leaky.state(),
            leaky.step,
            batch_at or leaky.batch,
            total_steps=8,
            evaluate=options.pop("evaluate", evaluate),
            metric="loss",
            loop=loop,
            say=(lambda text: None) if said is None else said.append,
            **options,
        )


def test_a_run_stopped_by_a_signal_goes_on_and_leaves_its_best(leaky, tmp_path):
    whole, said = run(leaky, tmp_path / "whole"), []
    folder = tmp_path / "parts"

    def evaluate_and_stop(state):
        if int(state.step) == 6:
            signal.raise_signal(signal.SIGTERM)
        return evaluate(state)

    with pytest.raises(Interrupted):
        run(leaky, folder, evaluate=evaluate_and_stop)
    parts = run(leaky, folder, said=said)
    leaky.assert_equal(parts.result.state, whole.result.state)
    assert (parts.best.step, whole.best.step) == (4, 4)
    leaky.assert_equal(parts.best.state, whole.best.state)
    assert said == [f"resuming from step 6 ({folder}/checkpoints/step_00000006)"]
    steps = {record["step"] for record in read_metrics(folder / "metrics.jsonl")}
    assert steps == set(range(1, 9))


def test_a_damaged_checkpoint_is_said_and_the_one_before_serves(leaky, tmp_path):
    whole, said = run(leaky, tmp_path), []
    newest = tmp_path / "checkpoints" / "step_00000008" / "checkpoint.json"
    newest.write_text(json.dumps({}))
    again = run(leaky, tmp_path, said=said)
    assert said[0].startswith("checkpoint step_00000008 is damaged (checkpoint.json is truncated")
    assert said[1].startswith("resuming from step 6 (")
    leaky.assert_equal(again.result.state, whole.result.state)


def test_patience_ends_a_run_and_it_is_said(leaky, tmp_path):
    said = []
    trained = run(leaky, tmp_path, loop=dataclasses.replace(LOOP, patience=1), said=said)
    assert (trained.result.step, trained.best.step) == (6, 4)
    assert said == ["stopped at step 6: 1 evaluations without a better one"]


def test_a_run_that_diverges_names_a_checkpoint_that_is_good(leaky, tmp_path):
    loop = dataclasses.replace(LOOP, stop_after_skipped=2)
    with pytest.raises(DivergedError) as divergence:
        run(
            leaky, tmp_path, lambda step: leaky.batch(step, 1.0 if step < 5 else float("nan")), loop
        )
    assert divergence.value.checkpoint is not None
    restored = Checkpoints(tmp_path / "checkpoints").restore_latest(leaky.state())
    assert restored is not None
    assert restored.path == divergence.value.checkpoint


def test_an_evaluation_that_is_never_finite_is_named(leaky, tmp_path):
    with pytest.raises(ValueError, match=r"^metric: got no finite 'loss' from evaluate"):
        run(leaky, tmp_path, evaluate=lambda state: {"loss": float("nan")})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("evaluate_every", 0),
        ("checkpoint_every", 1.5),
        ("log_every", True),
        ("patience", 0),
        ("stop_after_skipped", -1),
        ("batches_ahead", -1),
        ("keep_last", 0),
        ("minimum_gain", float("inf")),
    ],
)
def test_a_bad_field_is_named(field, value):
    with pytest.raises(ValueError, match=f"^{field}: got {value}, expected"):
        LoopConfig(**{field: value})
