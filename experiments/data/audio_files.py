"""Sound out of WAV files, none of which is trusted: one channel at one rate, or a clear error.

What is converted, and said: several channels to their mean, other rates to the one asked for by a
polyphase filter (`scipy.signal.resample_poly`), every width of samples to −1 … 1. What is refused:
a file that is no WAV, is damaged or truncated, holds less than is asked for, nothing, or numbers
that are not finite.
"""

import io
import struct
import warnings
from math import gcd
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.io import wavfile
from scipy.signal import resample_poly

RATE = 8_000
"""Of all samples of a corpus, in Hz: that of telephones, for which what we have was recorded."""

RATES = (2_000, 384_000)
"""The slowest and the fastest rate that is believed, in Hz."""

# What scipy raises on headers that were changed at random, besides ValueError.
_DAMAGED = (ValueError, struct.error, ZeroDivisionError, UnboundLocalError, OverflowError)


class Sound(NamedTuple):
    """Samples −1 … 1 of one channel, and what was converted to get them."""

    samples: np.ndarray  # (N,) float32
    conversions: tuple[str, ...]


def read_wav(path: Path, rate: int = RATE, *, shortest: float = 0.025) -> Sound:
    """The sound of a file; as `decode_wav`.

    Raises:
        ValueError: as `decode_wav`.
        OSError: the file cannot be read.
    """
    return decode_wav(path.read_bytes(), str(path), rate, shortest=shortest)


def decode_wav(content: bytes, name: str, rate: int = RATE, *, shortest: float = 0.025) -> Sound:
    """The sound of the content of a WAV file.

    Args:
        content: of the file.
        name: of the file, for errors.
        rate: of the samples asked for, in Hz.
        shortest: how many seconds there must be at least.

    Raises:
        ValueError: it is no WAV file of PCM or floating samples, or damaged, truncated, too short,
            of a rate outside `RATES`, or not finite.
    """
    if not content:
        raise ValueError(f"{name}: got an empty file, expected a WAV file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of chunks that are no sound
        warnings.filterwarnings("error", "Reached EOF", wavfile.WavFileWarning)
        try:
            found, samples = wavfile.read(io.BytesIO(content))
        except wavfile.WavFileWarning as warning:
            raise ValueError(f"{name}: is truncated ({warning})") from None
        except _DAMAGED as error:
            raise ValueError(f"{name}: is no WAV file, or a damaged one ({error})") from None
    if not RATES[0] <= found <= RATES[1]:
        raise ValueError(f"{name}: got a rate of {found} Hz, expected {RATES[0]} … {RATES[1]}")
    samples, conversions = _unit(samples), []
    if samples.ndim > 1:
        conversions.append(f"{samples.shape[1]} channels to their mean")
        samples = samples.mean(axis=1)
    if not np.isfinite(samples).all():
        raise ValueError(f"{name}: got samples that are not finite, expected sound")
    if len(samples) < shortest * found:
        raise ValueError(
            f"{name}: got {len(samples) / found * 1000:.0f} ms of sound, expected at least "
            f"{shortest * 1000:.0f} ms"
        )
    if found != rate:
        conversions.append(f"{found:,} Hz to {rate:,} Hz")
        common = gcd(found, rate)
        samples = resample_poly(samples, rate // common, found // common)
    return Sound(samples.astype(np.float32), tuple(conversions))


def as_int16(samples: np.ndarray) -> np.ndarray:
    """Samples −1 … 1 as integers; what is louder is clipped."""
    return np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)


def _unit(samples: np.ndarray) -> np.ndarray:
    """In float64, so that integers of every width are −1 … 1; 8 bits are unsigned in WAV."""
    if np.issubdtype(samples.dtype, np.floating):
        return samples.astype(np.float64)
    width = np.iinfo(samples.dtype)
    middle = 0 if width.min < 0 else 2 ** (width.bits - 1)
    return (samples.astype(np.float64) - middle) / 2 ** (width.bits - 1)
