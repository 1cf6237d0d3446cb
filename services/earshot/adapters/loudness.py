"""Integrated loudness after ITU-R BS.1770-4, as EBU R 128 uses it: streaming, in constant memory.

Sound is K-weighted, its power taken over blocks of 400 ms that overlap by 75 %; blocks below -70 LUFS are left out,
then those 10 LU below the mean of the rest. The powers lie in a histogram, so that the length of a recording does not
matter. The filter is applied in the frequency domain (overlap-save), many thousand samples at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

HOP_S = 0.1
HOPS = 4  # in a block of 400 ms
ABSOLUTE_GATE = -70.0  # LUFS
RELATIVE_GATE = -10.0  # LU
OFFSET = -0.691  # makes a full-scale sine of 997 Hz in one channel -3.01 LUFS
BIN = 0.05  # LU; how finely the relative gate is placed
BINS = 2500  # from -70 LUFS up to +55, above what samples may be
AT_ONCE = 1 << 17  # samples filtered at once, of all channels together
MEMORY_S = 0.08  # after so long, 14 time constants of the high-pass, an impulse has died away below -100 dB
# The analogue filters behind BS.1770's table of coefficients, which is for 48 kHz alone: a shelf for the head, a
# high-pass (as derived by B. De Man, "Evaluation of Implementations of the EBU R128 Loudness Measurement", 2018).
SHELF_HZ, SHELF_Q, SHELF_DB, SHELF_BAND = 1681.974450955533, 0.7071752369554196, 3.999843853973347, 0.4996667741545416
PASS_HZ, PASS_Q = 38.13547087602444, 0.5003270373238773

Array = NDArray[np.float32]
Coefficients = tuple[tuple[float, float, float], tuple[float, float, float]]


def k_weighting(rate: int) -> tuple[Coefficients, Coefficients]:
    """The two biquads of the K-weighting at a sample rate, each as (b0, b1, b2), (a0 = 1, a1, a2)."""
    k = math.tan(math.pi * SHELF_HZ / rate)
    high = 10 ** (SHELF_DB / 20)
    band = high**SHELF_BAND
    a0 = 1 + k / SHELF_Q + k * k
    shelf = (
        ((high + band * k / SHELF_Q + k * k) / a0, 2 * (k * k - high) / a0, (high - band * k / SHELF_Q + k * k) / a0),
        (1.0, 2 * (k * k - 1) / a0, (1 - k / SHELF_Q + k * k) / a0),
    )
    k = math.tan(math.pi * PASS_HZ / rate)
    a0 = 1 + k / PASS_Q + k * k
    high_pass = ((1.0, -2.0, 1.0), (1.0, 2 * (k * k - 1) / a0, (1 - k / PASS_Q + k * k) / a0))
    return shelf, high_pass


class Histogram:
    """Block powers of any number of blocks: how many there are and how much they add up to, by level."""

    def __init__(self) -> None:
        self._count = np.zeros(BINS, np.int64)
        self._power = np.zeros(BINS)

    def add(self, powers: NDArray[np.float64]) -> None:
        """Take the weighted powers of some blocks; those below the absolute gate are dropped."""
        powers = powers[powers > 0]
        levels = OFFSET + 10 * np.log10(powers)
        kept = levels >= ABSOLUTE_GATE
        place = np.minimum((levels[kept] - ABSOLUTE_GATE) / BIN, BINS - 1).astype(np.int64)
        self._count += np.bincount(place, minlength=BINS)
        self._power += np.bincount(place, weights=powers[kept], minlength=BINS)

    def integrated(self) -> float | None:
        """Loudness in LUFS; ``None`` when no block passed the gate."""
        if not self._count.any():
            return None
        gate = self._mean(0) + RELATIVE_GATE
        return self._mean(max(0, round((gate - ABSOLUTE_GATE) / BIN)))

    def _mean(self, first: int) -> float:
        return OFFSET + 10 * math.log10(self._power[first:].sum() / self._count[first:].sum())


class LoudnessMeter:
    """Adds the blocks of a stretch of one format to a histogram.

    Args:
        rate: samples a second.
        weights: of each channel: 1, 1.41 for surround, 0 for low-frequency effects.
        histogram: what the blocks are added to.

    Attributes:
        block: how many samples ``push`` takes; only the last push may have fewer.
    """

    def __init__(self, rate: int, weights: Sequence[float], histogram: Histogram) -> None:
        self._memory = math.ceil(MEMORY_S * rate)
        self._size = 1 << (4 * self._memory - 1).bit_length()
        self._step = self._size - self._memory
        self.block = self._step * max(1, AT_ONCE // (self._step * len(weights)))
        root = np.sqrt(np.asarray(weights, np.float32))  # of the weight of a power
        self._response = root[:, None, None] * _response(rate, self._size)
        self._before = np.zeros((len(weights), self._memory), np.float32)
        self._hop = round(HOP_S * rate)
        self._rest = np.zeros(0, np.float32)
        self._hops = np.zeros(0)
        self._histogram = histogram

    def push(self, samples: Array) -> None:
        """Take samples of shape ``(channels, n)``, full scale 1."""
        count = samples.shape[1]
        missing = -count % self._step
        whole = np.concatenate([self._before, np.pad(samples, ((0, 0), (0, missing))) if missing else samples], axis=1)
        self._before = whole[:, -self._memory :]
        windows = np.lib.stride_tricks.sliding_window_view(whole, self._size, axis=1)[:, :: self._step]
        spectra = np.fft.rfft(windows)
        spectra *= self._response
        heard = np.fft.irfft(spectra, n=self._size)[:, :, self._memory :]
        power = np.einsum("cws,cws->ws", heard, heard)
        self._add(power.reshape(-1)[:count])

    def _add(self, power: Array) -> None:
        """Take the weighted power of each moment: whole hops become blocks, the rest waits."""
        held = np.concatenate([self._rest, power])
        whole = len(held) // self._hop * self._hop
        self._rest = held[whole:]
        means = held[:whole].reshape(-1, self._hop).mean(axis=1).astype(np.float64)
        hops = np.concatenate([self._hops, means])
        if len(hops) >= HOPS:
            self._histogram.add(np.lib.stride_tricks.sliding_window_view(hops, HOPS).mean(axis=1))
        self._hops = hops[-(HOPS - 1) :]


@lru_cache(maxsize=4)
def _response(rate: int, size: int) -> NDArray[np.complex64]:
    """The K-weighting on the frequencies of a real FFT."""
    turn = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    response = np.ones_like(turn)
    for b, a in k_weighting(rate):
        response *= (b[0] + b[1] * turn + b[2] * turn**2) / (a[0] + a[1] * turn + a[2] * turn**2)
    narrow: NDArray[np.complex64] = response.astype(np.complex64)
    return narrow
