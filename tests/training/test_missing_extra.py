import subprocess
import sys

WITHOUT_EXTRAS = """
import importlib, sys

def try_to_import(*names):
    for name in names:
        try:
            importlib.import_module(f"rnnjax.training.{name}")
        except ImportError as error:
            print(error)

EXTRAS = ("orbax", "tensorboard", "rich", "matplotlib")
sys.modules |= dict.fromkeys(EXTRAS)
for name in ("optimizer", "step", "loop", "loop_config", "precision", "run_folder", "fingerprint"):
    importlib.import_module(f"rnnjax.training.{name}")
try_to_import("checkpoints", "metrics", "progress", "plots")
for name in EXTRAS:
    del sys.modules[name]
sys.modules["jinja2"] = None
try_to_import("plots", "report_page")
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
        f"rnnjax.training.report_page needs jinja2: {advice}",
    ]
