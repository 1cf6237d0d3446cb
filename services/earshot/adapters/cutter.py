"""Where a recording is cut: at most 30 s a segment, in pauses, silence between them left out.

The policy, all of it:

- A segment begins and ends within silence; up to 2 s of that is kept as it is, longer silence is trimmed to 0.5 s.
- A pause longer than 2 s ends a segment of at least 5 s, one longer than 5 s ends any.
- What would pass 30 s is cut in the longest pause of its last 10 s; without one, where speech is least likely.
- Without speech there is no segment.

Cuts lie on frames of 512 samples, so they do not depend on how the samples came in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
FRAME = 512  # samples; what the Silero VAD looks at
MAX_SAMPLES = 30 * RATE  # one window of Whisper
EARLIEST_CUT_S = 20.0
KEPT_SILENCE_S = 2.0
PAD_S = 0.5
LONG_PAUSE_S = 2.0
LONG_PAUSE_AFTER_S = 5.0
VERY_LONG_PAUSE_S = 5.0
SPEECH, STILL_SPEECH = 0.5, 0.35  # the thresholds of Silero VAD's own examples: to begin, and to go on

Samples = NDArray[np.int16]


@dataclass(frozen=True)
class Cut:
    """A segment: its first sample counted from the recording's start, and its samples."""

    start: int
    samples: Samples


@dataclass(frozen=True)
class _Frame:
    samples: Samples
    probability: float
    speech: bool


def _frames(seconds: float) -> int:
    return int(seconds * RATE / FRAME)


class Cutter:
    """Fed with frames in order, yields segments as soon as their ends are known. Holds at most 30 s of samples."""

    def __init__(self) -> None:
        self._held: deque[_Frame] = deque()
        self._samples = 0  # held
        self._start = 0  # of the first held sample, in the recording
        self._silence = 0  # frames since the last segment's end or the recording's start that have no speech
        self._first: int | None = None  # held frame in which speech begins
        self._last = 0  # held frame after the last one with speech
        self._speaking = False

    def push(self, samples: Samples, probabilities: Sequence[float]) -> Iterator[Cut]:
        """Take whole frames with the speech probability of each; only the very last may be shorter."""
        for number, probability in enumerate(probabilities):
            frame = samples[number * FRAME : (number + 1) * FRAME]
            if self._first is not None and self._samples + len(frame) > MAX_SAMPLES:
                yield self._take(self._best_cut())
            self._speaking = probability >= (STILL_SPEECH if self._speaking else SPEECH)
            self._append(_Frame(frame, float(probability), self._speaking))
            if self._paused_long():
                yield self._take(self._last + _frames(PAD_S))

    def end(self) -> Iterator[Cut]:
        """The recording is over: the last segment, if there is speech in it."""
        if self._first is not None:
            silence = len(self._held) - self._last
            yield self._take(self._last + (silence if silence <= _frames(KEPT_SILENCE_S) else _frames(PAD_S)))

    def _append(self, frame: _Frame) -> None:
        self._held.append(frame)
        self._samples += len(frame.samples)
        if frame.speech:
            if self._first is None:
                self._trim_lead()
                self._first = len(self._held) - 1
            self._last = len(self._held)
        elif self._first is None:
            self._silence += 1
            if len(self._held) > _frames(KEPT_SILENCE_S):
                self._drop_first()

    def _trim_lead(self) -> None:
        """Speech begins in the newest frame: keep a short silence before it whole, of a long one only the end."""
        if self._silence > _frames(KEPT_SILENCE_S):
            while len(self._held) > _frames(PAD_S) + 1:
                self._drop_first()

    def _drop_first(self) -> None:
        gone = len(self._held.popleft().samples)
        self._samples -= gone
        self._start += gone

    def _paused_long(self) -> bool:
        if self._first is None:
            return False
        pause = len(self._held) - self._last
        long_enough = self._last >= _frames(LONG_PAUSE_AFTER_S)
        return pause > _frames(VERY_LONG_PAUSE_S) or (long_enough and pause > _frames(LONG_PAUSE_S))

    def _best_cut(self) -> int:
        """The frame to cut before: the middle of the longest pause in reach, else the least likely speech."""
        frames = list(self._held)
        earliest = _frames(EARLIEST_CUT_S)
        best, length, begin = 0, 0, earliest
        for number in range(earliest, len(frames) + 1):
            if number == len(frames) or frames[number].speech:
                if number - begin > length:
                    best, length = (begin + number + 1) // 2, number - begin
                begin = number + 1
        return best or min(range(earliest, len(frames)), key=lambda number: (frames[number].probability, -number))

    def _take(self, count: int) -> Cut:
        """The first frames as a segment; the rest begins the next one."""
        taken = [self._held.popleft() for _ in range(count)]
        cut = Cut(self._start, np.concatenate([frame.samples for frame in taken]))
        rest = list(self._held)
        self._held.clear()
        self._start += len(cut.samples)
        self._samples, self._silence, self._first, self._last = 0, 0, None, 0
        for frame in rest:
            self._append(frame)
        return cut
