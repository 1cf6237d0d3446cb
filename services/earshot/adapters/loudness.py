"""Integrated loudness after ITU-R BS.1770-4, as EBU R 128 uses it: streaming, in constant memory.

Sound is K-weighted, its power taken over blocks of 400 ms that overlap by 75 %; blocks below -70 LUFS are left out,
then those 10 LU below the mean of the rest. The powers lie in a histogram, so that the length of a recording does not
matter. The filter, which is recursive, is applied as matrices to stretches of 32 samples: see :class:`Filter`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

HOP_S = 0.1
HOPS = 4  # in a block of 400 ms
ABSOLUTE_GATE = -70.0  # LUFS
RELATIVE_GATE = -10.0  # LU
OFFSET = -0.691  # makes a full-scale sine of 997 Hz in one channel -3.01 LUFS
BIN = 0.05  # LU; how finely the relative gate is placed
NOTHING = 1e-9  # what is left of a state that does not count any more
BINS = 2500  # from -70 LUFS up to +55, above what samples may be
STRETCH = 32  # samples that one matrix takes; measured the fastest of 16, 32, 64
STACK = 128  # stretches a product: small enough for a BLAS not to start threads for it
AT_ONCE = 16  # stacks filtered at once, of all channels together
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


class Filter:
    """The K-weighting of several channels: a recursive filter of order four, without a loop over samples.

    With its state ``s`` before a stretch ``x`` of 32 samples, its output is ``H x + O s`` and its state after it
    ``A s + G x``. The products with ``x`` are made for all stretches together, and so are the states, by doubling: from
    the state of a stretch without what came before, to that with 1, 2, 4, … before, until what is older has died away.

    Args:
        rate: samples a second.
        channels: how many.
    """

    def __init__(self, rate: int, channels: int) -> None:
        a, b, c, d = _state_space(rate)
        powers = [np.linalg.matrix_power(a, n) for n in range(STRETCH + 1)]
        impulse = np.array([d, *(c @ powers[n] @ b for n in range(STRETCH - 1))])
        lag = np.subtract.outer(np.arange(STRETCH), np.arange(STRETCH))  # of output and input
        self._through = np.where(lag >= 0, impulse[lag], 0.0).T.astype(np.float32)
        self._observe = np.stack([c @ power for power in powers[:-1]]).T.astype(np.float32)
        self._gather = np.stack([power @ b for power in powers[-2::-1]]).astype(np.float32)
        self._advance = powers[-1].T
        self._state = np.zeros((channels, len(b)))

    def push(self, samples: Array) -> Array:
        """Filter whole stacks: shape ``(channels, n)``, ``n`` a multiple of ``STACK * STRETCH``."""
        channels, count = samples.shape
        stacks = samples.reshape(channels, -1, STACK, STRETCH)
        states = self._states((stacks @ self._gather).reshape(channels, -1, self._state.shape[1]))
        heard = stacks @ self._through
        heard += states.astype(np.float32).reshape(*stacks.shape[:3], -1) @ self._observe
        return heard.reshape(channels, count)

    def _states(self, gathered: Array) -> NDArray[np.float64]:
        """The state before each stretch, from what each adds to it; the last one is kept for the next push."""
        states = np.concatenate([self._state[:, None], gathered], axis=1)
        advance, step = self._advance, 1
        while step < states.shape[1] and np.abs(advance).max() > NOTHING:
            states[:, step:] = states[:, step:] + states[:, :-step] @ advance
            advance, step = advance @ advance, 2 * step
        self._state = states[:, -1].copy()
        return states[:, :-1]


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
        self.block = STACK * STRETCH * max(1, AT_ONCE // len(weights))
        self._filter = Filter(rate, len(weights))
        self._roots = np.sqrt(np.asarray(weights, np.float32))[:, None]  # of the weights of powers
        self._plain = bool((self._roots == 1).all())
        self._hop = round(HOP_S * rate)
        self._rest = np.zeros(0, np.float32)
        self._hops = np.zeros(0)
        self._histogram = histogram

    def push(self, samples: Array) -> None:
        """Take samples of shape ``(channels, n)``, full scale 1."""
        count = samples.shape[1]
        if missing := self.block - count:
            samples = np.pad(samples, ((0, 0), (0, missing)))
        heard = self._filter.push(samples)
        if not self._plain:
            heard *= self._roots
        self._add(np.einsum("cn,cn->n", heard, heard)[:count])

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


Matrix = NDArray[np.float64]


def _state_space(rate: int) -> tuple[Matrix, Matrix, Matrix, float]:
    """The two biquads in a row as ``s' = A s + B x``, ``y = C s + D x`` (direct form II, transposed)."""
    (a1, b1, d1), (a2, b2, d2) = (_biquad(*coefficients) for coefficients in k_weighting(rate))
    first = np.array([1.0, 0.0])  # a biquad's output is its first state, and D x
    a = np.block([[a1, np.zeros((2, 2))], [np.outer(b2, first), a2]])
    return a, np.concatenate([b1, b2 * d1]), np.concatenate([d2 * first, first]), d1 * d2


def _biquad(b: tuple[float, float, float], a: tuple[float, float, float]) -> tuple[Matrix, Matrix, float]:
    matrix = np.array([[-a[1], 1.0], [-a[2], 0.0]])
    return matrix, np.array([b[1] - a[1] * b[0], b[2] - a[2] * b[0]]), b[0]
