"""What a foreign network becomes."""

from typing import NamedTuple

from rnnjax.layers.deep import Layer
from rnnjax.recurrences.protocol import Params


class Network(NamedTuple):
    """A stack of recurrent layers with its parameters: `scan_deep(*network, xs)` runs it.

    Attributes:
        layers: What each layer computes, bottom first.
        params: The parameters of each; `BidirectionalParams` of a bidirectional one.
    """

    layers: tuple[Layer, ...]
    params: tuple[Params, ...]
