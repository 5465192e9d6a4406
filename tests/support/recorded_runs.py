"""Run folders as training leaves them, written in no time."""

import json
import math
from pathlib import Path
from typing import Any

from rnnjax.training.metrics import JsonLines
from rnnjax.training.run_folder import open_run_folder

BASELINES = {"order 3": 2.5, "characters by frequency": 4.8}


def write_run(
    path: Path,
    *,
    seed: int = 0,
    steps: int = 400,
    total_steps: int = 400,
    score: float | None = 2.3,
    sample: str = "ROMEO:\nA sample.\n",
    data: str = "a" * 64,
    **config: Any,
) -> Path:
    """A run with curves up to `steps`, and with a report if it has a score."""
    config = {
        "seed": seed,
        "model": {"recurrence": "lstm", "hidden_sizes": [8, 8]},
        "optimizer": {"learning_rate": 6e-3, "total_steps": total_steps, "clip_norm": 5.0},
    } | config
    digests = {"data": data, "config": f"{seed:064x}", "code": "c" * 64}
    with open_run_folder(
        path, config, command=["train", f"--seed={seed}"], fingerprint=digests
    ) as run:
        lines = JsonLines(path / "metrics.jsonl")
        for step in range(20, steps + 1, 20):
            bits = 2.2 + seed / 5 + 2.5 * math.exp(-step / 100)
            lines.log(
                step,
                {
                    "train/loss": 20 * bits,
                    "train/bits_per_character": bits,
                    "train/gradient_norm": 3 + seed + math.sin(step) + 10 * math.exp(-step / 50),
                    "train/learning_rate": 2e-3 * (3 - seed) * (1 - step / total_steps),
                    "train/steps_per_second": 4.0 + seed,
                },
            )
            if step % 100 == 0:
                lines.log(step, {"held_out/bits_per_character": bits + 0.1})
        lines.close()
        if score is not None:
            report = {
                "metric": "bits_per_character",
                "lower_is_better": True,
                "step": steps,
                "parameters": 1234,
                "test": {"bits_per_character": score, "perplexity": 2**score},
                "baselines": {"validation": BASELINES, "test": BASELINES},
                "sample": sample,
            }
            (path / "report.json").write_text(json.dumps(run.start | report))
    return path
