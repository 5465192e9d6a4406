"""rnnjax: recurrences as pure functions, run along time by interchangeable, equally exact plans."""

from rnnjax import plans, recurrences
from rnnjax.convergence import scan_with_convergence
from rnnjax.recurrences.conv_lstm import conv_lstm_1d, conv_lstm_2d
from rnnjax.recurrences.elman import elman, elman_relu
from rnnjax.recurrences.gated_diagonal import gated_diagonal
from rnnjax.recurrences.gru import gru
from rnnjax.recurrences.gru_layer_norm import gru_layer_norm
from rnnjax.recurrences.gru_reset_before import gru_reset_before
from rnnjax.recurrences.indrnn import indrnn
from rnnjax.recurrences.lru import lru
from rnnjax.recurrences.lstm import lstm
from rnnjax.recurrences.lstm_layer_norm import lstm_layer_norm
from rnnjax.recurrences.lstm_peephole import lstm_peephole
from rnnjax.recurrences.lstm_projected import lstm_projected
from rnnjax.recurrences.min_gru import min_gru
from rnnjax.recurrences.min_lstm import min_lstm
from rnnjax.recurrences.minimal_gru import minimal_gru
from rnnjax.recurrences.mlstm import mlstm
from rnnjax.recurrences.protocol import Recurrence
from rnnjax.recurrences.qrnn import qrnn, qrnn_by
from rnnjax.recurrences.rg_lru import rg_lru
from rnnjax.recurrences.slstm import slstm
from rnnjax.recurrences.sru import sru
from rnnjax.recurrences.sru_linear import sru_linear
from rnnjax.scanning import explain_plan, one_step, scan, sequence_ends

__version__ = "0.1.0"

__all__ = [
    "Recurrence",
    "conv_lstm_1d",
    "conv_lstm_2d",
    "elman",
    "elman_relu",
    "explain_plan",
    "gated_diagonal",
    "gru",
    "gru_layer_norm",
    "gru_reset_before",
    "indrnn",
    "lru",
    "lstm",
    "lstm_layer_norm",
    "lstm_peephole",
    "lstm_projected",
    "min_gru",
    "min_lstm",
    "minimal_gru",
    "mlstm",
    "one_step",
    "plans",
    "qrnn",
    "qrnn_by",
    "recurrences",
    "rg_lru",
    "scan",
    "scan_with_convergence",
    "sequence_ends",
    "slstm",
    "sru",
    "sru_linear",
]
