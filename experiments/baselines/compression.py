"""What a general compressor makes of a text: xz (LZMA) at its strongest preset, 9e.

Figures are bits per character, where a character is a decoded Unicode code point, not a byte; the
compressor reads the UTF-8 bytes of the documents one after the other.
"""

import lzma
from collections.abc import Sequence
from typing import NamedTuple


class CompressionScore(NamedTuple):
    """Bits per character of held-out text, by two measures."""

    alone: float  # the held-out text compressed by itself
    after_training: float  # how much longer the compressed training text grows when it is appended


def xz_bits_per_character(train: Sequence[str], held_out: Sequence[str]) -> CompressionScore:
    """Bits per character of held-out documents, alone and after the training documents.

    The second is the fair comparison with a trained model: (|xz(train + held out)| - |xz(train)|)
    over the held-out characters, with a dictionary that reaches back over all of the training text.

    Raises:
        ValueError: one of them has no text.
    """
    for name, documents in (("train", train), ("held_out", held_out)):
        if not any(documents):
            raise ValueError(f"{name}: got no text, expected at least one character")
    known = "".join(train).encode("utf-8", "surrogatepass")
    new = "".join(held_out).encode("utf-8", "surrogatepass")
    reach = len(known) + len(new)
    characters = sum(map(len, held_out))
    grown = _compressed_size(known + new, reach) - _compressed_size(known, reach)
    return CompressionScore(
        alone=8 * _compressed_size(new, reach) / characters,
        after_training=8 * grown / characters,
    )


def _compressed_size(content: bytes, reach: int) -> int:
    """Bytes of the raw LZMA2 stream, without the container's header and checksum."""
    dictionary = min(max(reach, 1 << 16), (1 << 32) - 1)
    chain = [
        {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": dictionary},
    ]
    return len(lzma.compress(content, format=lzma.FORMAT_RAW, filters=chain))
