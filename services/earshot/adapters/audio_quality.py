"""How a recording sounds, measured on the decoded frames before they are resampled. Constant memory, numpy alone.

What is measured, and how (the reasons are in docs/adr/0013):

- Loudness: :mod:`earshot.adapters.loudness`, over all channels.
- Peak: the highest sample of any channel, relative to full scale.
- Clipping: the share of moments at which some channel is at full scale, or flat within 0.2 dB of it.
- Bandwidth: up to where the mean spectrum stays within 60 dB of its strongest band, at the file's own sample rate.
- Speech ratio and SNR: from what the VAD heard, at 16 kHz (:class:`SpeechMeter`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earshot.adapters.cutter import FRAME, RATE, SPEECH, STILL_SPEECH, Samples
from earshot.adapters.loudness import Array, Histogram, LoudnessMeter

RATES = range(4_000, 400_001)  # what lies outside is no sound for people, or an attack on our memory
MAX_CHANNELS = 32
MAX_STRETCHES = 100  # a file that changes its format more often is measured up to there
LOUDEST = 8.0  # floats may exceed full scale; beyond 18 dB they are nonsense
FULL = 1 - 1 / 32768  # the highest positive sample of 16 bit
FLAT = 0.98  # telephone codecs reach no higher: 0.980 (mu-law), 0.984 (A-law)
BAND_HZ = 500
WINDOW_S = 0.2  # so often a spectrum is taken
BANDWIDTH_DB = 60.0
MIN_FRAMES = 10  # 0.3 s: so much without speech is needed to tell the noise
QUIETEST_DB = -101.1  # the rounding noise of 16 bit, 1/12 of a step squared
_SURROUND = frozenset({"BL", "BR", "SL", "SR"})
_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "flt": 1.0, "dbl": 1.0}
_KIND: dict[str, type[np.generic]] = {
    "u8": np.uint8, "s16": np.int16, "s32": np.int32, "flt": np.float32, "dbl": np.float64,
}  # fmt: skip


class AudioMeter:
    """Fed with decoded frames of any format, in order.

    Attributes:
        rate: samples a second of the first frame; ``None`` when the file's own is not known.
        channels: of the first frame.
    """

    def __init__(self) -> None:
        self.rate: int | None = None
        self.channels: int | None = None
        self._histogram = Histogram()
        self._form: tuple[Any, ...] | None = None
        self._stretch: _Stretch | None = None
        self._stretches = 0
        self._peak, self._clipped, self._count = 0.0, 0, 0
        self._bandwidth: int | None = None

    def frame(self, frame: Any) -> None:
        """Take a frame of PyAV; what differs in format from the one before begins a new stretch."""
        layout = frame.layout
        form = (frame.format.name, layout.name, layout.nb_channels, frame.sample_rate)
        if form != self._form:
            self._end_stretch()
            self._form = form
            self._stretches += 1
            self._stretch = _stretch(frame, self._histogram) if self._stretches <= MAX_STRETCHES else None
            self.rate = self.rate or frame.sample_rate
            self.channels = self.channels or layout.nb_channels
        if self._stretch is not None:
            self._stretch.push(_samples(frame))

    def resampled(self, samples: Samples) -> None:
        """Take 16 kHz mono samples, where nothing else is left of the file; they say nothing of its bandwidth."""
        if self._stretch is None:
            self._stretch = _Stretch("s16", RATE, (1.0,), self._histogram, spectrum=False)
        self._stretch.push(samples[None])

    def measures(self) -> dict[str, float | int | None]:
        """Everything so far, by the names of ``Quality``. The last call: nothing may follow."""
        self._end_stretch()
        loudness = self._histogram.integrated()
        return {
            "loudness_lufs": None if loudness is None else round(loudness, 2),
            "peak_dbfs": round(20 * math.log10(self._peak), 2) if self._peak > 0 else None,
            "clipped_ratio": round(self._clipped / self._count, 6) if self._count else 0.0,
            "bandwidth_hz": self._bandwidth,
            "sample_rate_hz": self.rate,
            "channels": self.channels,
        }

    def _end_stretch(self) -> None:
        stretch, self._stretch = self._stretch, None
        if stretch is None:
            return
        stretch.end()
        self._peak = max(self._peak, stretch.peak)
        self._clipped += stretch.clipped
        self._count += stretch.count
        bandwidth = stretch.spectrum.bandwidth() if stretch.spectrum else None
        self._bandwidth = max(self._bandwidth or 0, bandwidth) if bandwidth else self._bandwidth


def _stretch(frame: Any, histogram: Histogram) -> _Stretch | None:
    """For frames like this one; ``None`` for what is not measured."""
    channels = frame.layout.nb_channels
    if frame.format.packed.name not in _SCALE or frame.sample_rate not in RATES or not 0 < channels <= MAX_CHANNELS:
        return None
    names = [channel.name for channel in frame.layout.channels]
    weights = [_weight(name) for name in names] if len(names) == channels else [1.0] * channels
    return _Stretch(frame.format.packed.name, frame.sample_rate, weights, histogram)


def _samples(frame: Any) -> NDArray[Any]:
    """The samples of a frame, shape ``(channels, n)``; a view where it can be, which PyAV's own way never is."""
    kind, channels = _KIND[frame.format.packed.name], frame.layout.nb_channels
    if frame.format.is_planar and channels > 1:
        return np.stack([np.frombuffer(plane, kind, frame.samples) for plane in frame.planes])
    return np.frombuffer(frame.planes[0], kind, frame.samples * channels).reshape(-1, channels).T


def _weight(channel: str) -> float:
    """Of BS.1770-4, table 3: surround counts more, low-frequency effects do not."""
    return 0.0 if channel.startswith("LFE") else 1.41 if channel in _SURROUND else 1.0


class _Stretch:
    """A stretch of one format: collects frames and measures them a block at a time."""

    def __init__(
        self, form: str, rate: int, weights: Sequence[float], histogram: Histogram, *, spectrum: bool = True
    ) -> None:
        self._scale, self._unsigned = np.float32(1 / _SCALE[form]), form == "u8"
        self._channels = len(weights)
        self._loudness = LoudnessMeter(rate, weights, histogram)
        self.spectrum = _Spectrum(rate) if spectrum else None
        self._held: list[NDArray[Any]] = []
        self._waiting = 0
        self.peak, self.clipped, self.count = 0.0, 0, 0

    def push(self, samples: NDArray[Any]) -> None:
        """Take samples of shape ``(channels, n)``."""
        self._held.append(samples)
        self._waiting += samples.shape[1]
        if self._waiting >= self._loudness.block:
            self._drain(last=False)

    def end(self) -> None:
        """Measure what is left."""
        if self._held:
            self._drain(last=True)

    def _drain(self, *, last: bool) -> None:
        raw = np.concatenate(self._held, axis=1)
        block = self._loudness.block
        whole = raw.shape[1] if last else raw.shape[1] // block * block
        for start in range(0, whole, block):
            self._measure(self._scaled(raw[:, start : min(start + block, whole)]))
        self._held = [raw[:, whole:]] if whole < raw.shape[1] else []
        self._waiting = raw.shape[1] - whole

    def _scaled(self, raw: NDArray[Any]) -> Array:
        samples: Array = np.multiply(raw, self._scale, dtype=np.float32, order="C")
        if self._unsigned:
            samples -= 1
        return samples

    def _measure(self, samples: Array) -> None:
        top = float(max(samples.max(), -samples.min()))
        if not top <= LOUDEST:  # also true of NaN
            samples = np.clip(np.nan_to_num(samples), -LOUDEST, LOUDEST)
            top = float(np.abs(samples).max())
        self.peak = max(self.peak, top)
        self.count += samples.shape[1]
        if top >= FLAT:
            self.clipped += _clipped(samples)
        self._loudness.push(samples)
        if self.spectrum is not None:
            self.spectrum.push(samples)


def _clipped(samples: Array) -> int:
    """At how many moments some channel is clipped. A wave that is cut off at a lower level stays flat there."""
    level = np.abs(samples)
    clipped = level >= FULL
    flat = (level[:, 1:] >= FLAT) & (samples[:, 1:] == samples[:, :-1])
    clipped[:, 1:] |= flat
    clipped[:, :-1] |= flat
    return int(clipped.any(axis=0).sum())


class _Spectrum:
    """The mean power spectrum, from one window in every 200 ms."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._width = 1 << (rate // 40).bit_length()  # so bins lie 20 to 40 Hz apart
        self._step = max(self._width, round(WINDOW_S * rate))
        self._window = np.hanning(self._width).astype(np.float32)
        self._power = np.zeros(self._width // 2 + 1)

    def push(self, samples: Array) -> None:
        """Take a block of samples, shape ``(channels, n)``; what does not fill a step is left out."""
        channels, count = samples.shape[0], samples.shape[1] // self._step
        if count:
            windows = samples[:, : count * self._step].reshape(channels, count, self._step)[:, :, : self._width]
            spectra = np.fft.rfft(windows * self._window)
            for part in (spectra.real, spectra.imag):
                self._power += np.einsum("cwf,cwf->f", part, part)

    def bandwidth(self) -> int | None:
        """Upper edge of the highest band with sound, in Hz; ``None`` without any.

        A band is as strong as the median of its bins, so that a whistle is no bandwidth.
        """
        width = self._rate / self._width
        bins = max(1, round(BAND_HZ / width))
        count = len(self._power) // bins
        bands = np.median(self._power[: count * bins].reshape(count, bins), axis=1)
        if not bands.any():
            return None
        highest = int(np.flatnonzero(bands >= bands.max() * 10 ** (-BANDWIDTH_DB / 10))[-1])
        return min(round((highest + 1) * bins * width), self._rate // 2)


class SpeechMeter:
    """How much of a recording is speech, and how far it stands above the noise between.

    A frame of 32 ms is speech when the VAD gives it 0.5 or more, and noise below 0.35. The level of the speech is the
    mean power of its frames, less the noise; the noise floor is the median of the others, which a cough or a word that
    the VAD missed does not move. Digital silence, as a muted line has it, is no noise unless there is nothing else.
    """

    def __init__(self) -> None:
        self._frames = self._speaking = self._silent = 0
        self._speech_power = 0.0
        self._noise = np.zeros(220, np.int64)  # frames by level, in steps of half a decibel from -110 dBFS

    def push(self, samples: Samples, probabilities: Sequence[float]) -> None:
        """Take whole frames at 16 kHz with the speech probability of each; a short last one is left out."""
        count = len(samples) // FRAME
        chances = np.asarray(probabilities[:count])
        frames = samples[: count * FRAME].reshape(count, FRAME).astype(np.float32) / np.float32(32768)
        powers = np.square(frames).mean(axis=1, dtype=np.float64)
        speech = chances >= SPEECH
        self._frames += count
        self._speaking += int(speech.sum())
        self._speech_power += float(powers[speech].sum())
        noise = powers[chances < STILL_SPEECH]
        heard = noise[noise > 0]
        self._silent += len(noise) - len(heard)
        place = np.clip((10 * np.log10(heard) + 110) * 2, 0, 219).astype(np.int64)
        self._noise += np.bincount(place, minlength=220)

    def measures(self) -> dict[str, float | None]:
        """By the names of ``Quality``."""
        ratio = self._speaking / self._frames if self._frames else 0.0
        return {"speech_ratio": round(ratio, 4), "snr_db": self._snr()}

    def _snr(self) -> float | None:
        """In dB; ``None`` when there is no speech, or too little beside it to tell."""
        if not self._speaking:
            return None
        if (heard := int(self._noise.sum())) >= MIN_FRAMES:
            floor_db = -110 + (int(np.searchsorted(self._noise.cumsum(), heard / 2)) + 0.5) / 2
        elif self._silent >= MIN_FRAMES:
            floor_db = QUIETEST_DB
        else:
            return None
        floor = 10 ** (floor_db / 10)
        speech = max(self._speech_power / self._speaking - floor, floor / 1000)
        return round(10 * math.log10(speech / floor), 1)
