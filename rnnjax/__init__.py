"""rnnjax: recurrences as pure functions, run along time by interchangeable, equally exact plans."""

from rnnjax import plans, recurrences
from rnnjax.recurrences.elman import elman, elman_relu
from rnnjax.recurrences.gru import gru
from rnnjax.recurrences.gru_reset_before import gru_reset_before
from rnnjax.recurrences.lstm import lstm
from rnnjax.recurrences.minimal_gru import minimal_gru
from rnnjax.recurrences.protocol import Recurrence
from rnnjax.scanning import explain_plan, one_step, scan, sequence_ends

__version__ = "0.1.0"

__all__ = [
    "Recurrence",
    "elman",
    "elman_relu",
    "explain_plan",
    "gru",
    "gru_reset_before",
    "lstm",
    "minimal_gru",
    "one_step",
    "plans",
    "recurrences",
    "scan",
    "sequence_ends",
]
