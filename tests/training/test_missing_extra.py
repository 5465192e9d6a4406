import subprocess
import sys

WITHOUT_EXTRAS = """
import importlib, sys
for name in ("orbax", "tensorboard", "rich", "matplotlib"):
    sys.modules[name] = None
for name in ("optimizer", "step", "loop", "run_folder"):
    importlib.import_module(f"rnnjax.training.{name}")
for name in ("checkpoints", "metrics", "progress", "plots"):
    try:
        importlib.import_module(f"rnnjax.training.{name}")
    except ImportError as error:
        print(error)
"""


def test_only_what_needs_an_extra_asks_for_it():
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS], capture_output=True, text=True, check=True
    )
    advice = "pip install 'rnnjax-lib[train]'"
    assert run.stdout.splitlines() == [
        f"rnnjax.training.checkpoints needs orbax-checkpoint: {advice}",
        f"rnnjax.training.metrics needs tensorboard: {advice}",
        f"rnnjax.training.progress needs rich: {advice}",
        # plots reads the metrics file first, by the module that writes it.
        f"rnnjax.training.metrics needs tensorboard: {advice}",
    ]
