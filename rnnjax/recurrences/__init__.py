"""What a recurrence computes in one step, one file each. A new one is a file and a line below."""

from collections.abc import Mapping
from types import MappingProxyType

from rnnjax.recurrences.elman import elman as _elman
from rnnjax.recurrences.elman import elman_relu as _elman_relu
from rnnjax.recurrences.gru import gru as _gru
from rnnjax.recurrences.gru_reset_before import gru_reset_before as _gru_reset_before
from rnnjax.recurrences.lstm import lstm as _lstm
from rnnjax.recurrences.minimal_gru import minimal_gru as _minimal_gru
from rnnjax.recurrences.protocol import Recurrence

REGISTRY: Mapping[str, Recurrence] = MappingProxyType(
    {
        recurrence.name: recurrence
        for recurrence in (_elman, _elman_relu, _minimal_gru, _gru, _gru_reset_before, _lstm)
    }
)
"""Name -> record."""
