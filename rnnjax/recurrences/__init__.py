"""What a recurrence computes in one step, one file each. A new one is a file and a line below."""

from collections.abc import Mapping
from types import MappingProxyType

from rnnjax.recurrences.conv_lstm import conv_lstm_1d as _conv_lstm_1d
from rnnjax.recurrences.conv_lstm import conv_lstm_2d as _conv_lstm_2d
from rnnjax.recurrences.elman import elman as _elman
from rnnjax.recurrences.elman import elman_relu as _elman_relu
from rnnjax.recurrences.gated_diagonal import gated_diagonal as _gated_diagonal
from rnnjax.recurrences.gru import gru as _gru
from rnnjax.recurrences.gru_layer_norm import gru_layer_norm as _gru_layer_norm
from rnnjax.recurrences.gru_reset_before import gru_reset_before as _gru_reset_before
from rnnjax.recurrences.indrnn import indrnn as _indrnn
from rnnjax.recurrences.lru import lru as _lru
from rnnjax.recurrences.lstm import lstm as _lstm
from rnnjax.recurrences.lstm_layer_norm import lstm_layer_norm as _lstm_layer_norm
from rnnjax.recurrences.lstm_peephole import lstm_peephole as _lstm_peephole
from rnnjax.recurrences.lstm_projected import lstm_projected as _lstm_projected
from rnnjax.recurrences.min_gru import min_gru as _min_gru
from rnnjax.recurrences.min_lstm import min_lstm as _min_lstm
from rnnjax.recurrences.minimal_gru import minimal_gru as _minimal_gru
from rnnjax.recurrences.mlstm import mlstm as _mlstm
from rnnjax.recurrences.protocol import Recurrence
from rnnjax.recurrences.qrnn import qrnn as _qrnn
from rnnjax.recurrences.rg_lru import rg_lru as _rg_lru
from rnnjax.recurrences.slstm import slstm as _slstm
from rnnjax.recurrences.sru import sru as _sru
from rnnjax.recurrences.sru_linear import sru_linear as _sru_linear

REGISTRY: Mapping[str, Recurrence] = MappingProxyType(
    {
        recurrence.name: recurrence
        for recurrence in (
            _elman,
            _elman_relu,
            _minimal_gru,
            _gru,
            _gru_reset_before,
            _lstm,
            _lstm_peephole,
            _lstm_projected,
            _lstm_layer_norm,
            _gru_layer_norm,
            _indrnn,
            _conv_lstm_1d,
            _conv_lstm_2d,
            _slstm,
            _gated_diagonal,
            _min_gru,
            _min_lstm,
            _sru,
            _sru_linear,
            _qrnn,
            _lru,
            _rg_lru,
            _mlstm,
        )
    }
)
"""Name -> record."""
