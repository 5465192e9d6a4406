"""From sound to what a transcriber reads: steps of log-mel energies or cepstra, at any pace.

Features come from `kaldi-native-fbank` (Apache-2.0), because it computes Kaldi's log-mel energies
and MFCC as the sound comes in as well as at once, has no dependency, and is half a megabyte;
torchaudio would bring PyTorch and librosa Numba, and neither has a stream of features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import kaldi_native_fbank as kaldi
import numpy as np
from scipy.signal import resample_poly

from experiments.data.audio_files import RATE
from rnnjax.layers.checks import check_size

SHIFT, WINDOW = 0.010, 0.025
"""Seconds from one frame to the next, and of sound in a frame."""

QUIET = 3.0
"""Deviation of the noise that is added to what is held out, in units of a 16-bit sample.

Digital silence, which no microphone hears, is far from all else as a logarithm.
"""


@dataclass(frozen=True)
class Features:
    """What x^<t> is.

    Attributes:
        kind: "log_mel": energies of bands of the mel scale, as logarithms; "mfcc": their cosine
            transform, the cepstrum.
        size: Bands, or cepstral coefficients (13 are usual).
        stacked: Frames of 10 ms that make one step.

    Raises:
        ValueError: A number is below one, or there are more coefficients than bands.
    """

    kind: Literal["log_mel", "mfcc"] = "log_mel"
    size: int = 40
    stacked: int = 3

    def __post_init__(self) -> None:
        check_size("features.size", self.size)
        check_size("features.stacked", self.stacked)
        if self.kind == "mfcc" and self.size > BANDS:
            raise ValueError(f"features.size: got {self.size}, expected at most {BANDS} of MFCC")

    @property
    def input_size(self) -> int:
        """I, numbers of a step."""
        return self.size * self.stacked

    @property
    def step_seconds(self) -> float:
        """From one step to the next."""
        return self.stacked * SHIFT

    def known_at(self, step: int | np.ndarray) -> Any:
        """Seconds of sound that must have been heard for step t."""
        return (self.stacked * (np.asarray(step) + 1) - 1) * SHIFT + WINDOW

    def steps_within(self, seconds: float) -> int:
        """How many steps so many seconds of sound make."""
        return max(0, int((seconds - WINDOW + SHIFT + 1e-9) // self.step_seconds))


BANDS = 40
"""Bands under a cepstrum."""


class FrameStream:
    """Steps from sound that comes in pieces; pieces make the same steps as the whole."""

    def __init__(self, features: Features) -> None:
        self._features = features
        self._frames = 0
        options = kaldi.FbankOptions() if features.kind == "log_mel" else kaldi.MfccOptions()
        options.frame_opts.samp_freq = RATE
        options.frame_opts.frame_shift_ms = SHIFT * 1000
        options.frame_opts.frame_length_ms = WINDOW * 1000
        options.frame_opts.dither = 0.0
        if isinstance(options, kaldi.FbankOptions):
            options.mel_opts.num_bins = features.size
            self._stream = kaldi.OnlineFbank(options)
        else:
            options.mel_opts.num_bins = BANDS
            options.num_ceps = features.size
            options.use_energy = False
            self._stream = kaldi.OnlineMfcc(options)

    def accept(self, samples: np.ndarray) -> np.ndarray:
        """The steps that further samples (N,), in −1 … 1, complete: `(n, I)` float32."""
        self._stream.accept_waveform(RATE, np.asarray(samples, np.float32) * 32768)  # pyright: ignore[reportArgumentType]
        stacked = self._features.stacked
        ready = self._stream.num_frames_ready // stacked * stacked
        frames = np.zeros((ready - self._frames, self._features.size), np.float32)
        for row, index in enumerate(range(self._frames, ready)):
            frames[row] = self._stream.get_frame(index)
        self._stream.pop(len(frames))  # what it gave are views of its memory
        self._frames = ready
        return frames.reshape(-1, self._features.input_size)


def steps_of(features: Features, samples: np.ndarray) -> np.ndarray:
    """All steps of a sound, `(T, I)` float32; T is 0 of less than a window."""
    return FrameStream(features).accept(samples)


class Scale(NamedTuple):
    """What makes each number of a step have mean 0 and deviation 1 in the training part."""

    mean: np.ndarray  # (I,)
    deviation: np.ndarray  # (I,)

    def __call__(self, steps: np.ndarray) -> np.ndarray:
        """The steps scaled, float32."""
        return ((steps - self.mean) / self.deviation).astype(np.float32)


def scale_of(steps: Sequence[np.ndarray]) -> Scale:
    """The scale of all steps together."""
    together = np.concatenate(steps)
    return Scale(together.mean(0), np.maximum(together.std(0), 1e-3))


class Recording(NamedTuple):
    """One sound and what is said in it."""

    name: str
    speaker: str
    text: str
    samples: np.ndarray  # (N,) int16


class Heard(NamedTuple):
    """Recordings one after the other, as they are heard."""

    text: str
    samples: np.ndarray  # (N,) float32, −1 … 1
    spans: tuple[tuple[float, float], ...]  # seconds at which each recording begins and ends


def join(
    recordings: Sequence[Recording],
    rng: np.random.Generator,
    *,
    gap: float = 0.0,
    tail: float = 0.0,
    noise: float = QUIET,
    gain: float = 1.0,
) -> Heard:
    """Recordings in a row, with faint white noise over all.

    Texts of one character are joined as they are, as the digits of a number; others by a space.

    Args:
        recordings: At least one.
        rng: Of the gaps and of the noise.
        gap: Seconds between two at most; each is drawn evenly from 0 to it.
        tail: Seconds of noise alone after the last one.
        noise: Its deviation, in units of a 16-bit sample.
        gain: What the recordings are multiplied by.
    """
    parts, spans, place = [], [], 0
    for number, one in enumerate(recordings):
        if number:
            pause = int(rng.uniform(0, gap) * RATE)
            parts.append(np.zeros(pause))
            place += pause
        parts.append(gain * one.samples.astype(np.float64))
        spans.append((place / RATE, (place + len(one.samples)) / RATE))
        place += len(one.samples)
    parts.append(np.zeros(int(tail * RATE)))
    samples = np.concatenate(parts)
    samples = np.clip(samples + rng.normal(0, noise, len(samples)), -32768, 32767) / 32768
    between = "" if all(len(one.text) == 1 for one in recordings) else " "
    text = between.join(one.text for one in recordings)
    return Heard(text, samples.astype(np.float32), tuple(spans))


def at_speed(recording: Recording, speed: float) -> Recording:
    """The recording played faster or slower, and so higher or lower (Ko et al. 2015, Interspeech).

    Args:
        recording: What is played.
        speed: Above 1 is faster.
    """
    hundredths = round(100 * speed)
    if hundredths == 100:
        return recording
    samples = resample_poly(recording.samples.astype(np.float64), 100, hundredths)
    return recording._replace(samples=np.clip(np.round(samples), -32768, 32767).astype(np.int16))


@dataclass(frozen=True)
class Utterances:
    """What a transcriber learns from, `rnnjax.text.batches.Examples`."""

    frames: list[np.ndarray]  # (Tx, I) each, scaled
    labels: list[np.ndarray]  # (Ty,) int32
    first: list[np.ndarray]  # (Ty,) int32: the step at which each may be said first
    last: list[np.ndarray]  # and last

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, places: list[int]) -> dict[str, Any]:
        return {
            name: [getattr(self, name)[place] for place in places]
            for name in ("frames", "labels", "first", "last")
        }


def windows_of(
    features: Features,
    spans: Sequence[tuple[float, float]],
    deadline: float,
    slack: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The steps at which what is said in each span may be written, the last one by a deadline.

    Args:
        features: What a step is.
        spans: Seconds at which each begins and ends.
        deadline: Seconds after the end; below 0 is before it.
        slack: How many seconds before the deadline at most; None is from the beginning on.

    Returns:
        The first and the last step of each, `(Ty,)` int32; the last is known by the deadline. There
        is one step at least.
    """
    begins, ends = np.asarray(spans).T
    if slack is not None:
        begins = ends + deadline - slack
    first = np.asarray([features.steps_within(begin) for begin in begins], np.int32)
    last = np.asarray([features.steps_within(end) - 1 for end in ends + deadline], np.int32)
    last = np.maximum(last, 0)
    return np.minimum(first, last), last


def mask_stretches(
    frames: np.ndarray,
    lengths: np.ndarray,
    rng: np.random.Generator,
    *,
    stacked: int,
    bands: int,
    steps: int,
) -> np.ndarray:
    """Frames of which a stretch of bands and one of steps are hidden, others in each row.

    Hidden is 0, the mean of what is scaled. Twice in each row: as many bands as drawn evenly from 0
    to the most, from a random one on; and as many steps likewise.

    Args:
        frames: `(T, B, I)`; I is `stacked` times the bands.
        lengths: `(B,)`.
        rng: Random numbers.
        stacked: Frames in a step; the same bands of all are hidden.
        bands: The most bands of a stretch; 0 hides none.
        steps: The most steps of a stretch, and no more than a fifth of a row.

    References:
        Park et al. (2019), arXiv:1904.08779, section 2, without the warp of time.
    """
    hidden = frames.copy()
    size = frames.shape[2] // stacked
    by_band = hidden.reshape(*frames.shape[:2], stacked, size)  # a view
    for row, length in enumerate(lengths):
        for _ in range(2):
            width = int(rng.integers(0, min(bands, size) + 1))
            begin = int(rng.integers(0, size - width + 1))
            by_band[:, row, :, begin : begin + width] = 0
            width = int(rng.integers(0, min(steps, int(length) // 5) + 1))
            begin = int(rng.integers(0, int(length) - width + 1))
            hidden[begin : begin + width, row] = 0
    return hidden
