"""Clips become windows: what Whisper hears at once, as its features."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from earshot.adapters.flac import SAMPLE_RATE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

A = TypeVar("A")
B = TypeVar("B")
WINDOW = 30 * SAMPLE_RATE  # what Whisper was trained on; it is deaf to what comes later
EARLIEST = 20 * SAMPLE_RATE  # of a cut in what is longer
SHORTEST = SAMPLE_RATE // 10  # no word is said in less
FULL_SCALE = 32768.0
_BLOCK = SAMPLE_RATE // 20  # in which loudness is measured to find the quietest moment


@dataclass(frozen=True)
class Window:
    """At most 30 s of a clip.

    Attributes:
        clip: whose it is; for the caller.
        start_s: from the clip's start.
        end_s: from the clip's start.
        features: log mel, float32, shape ``(mels, 3000)``; silence behind the end.
        frames: how many of the 3000 are of the clip.
    """

    clip: int
    start_s: float
    end_s: float
    features: NDArray[np.float32]
    frames: int


def windows(clip: int, samples: NDArray[np.int16], extractor: Any) -> Iterator[Window]:
    """A clip's windows, usually one; none of a clip without room for a word.

    Args:
        clip: its number, for the caller.
        samples: 16 kHz, shape ``(n,)``.
        extractor: ``faster_whisper.feature_extractor.FeatureExtractor`` of the model.
    """
    from faster_whisper.audio import pad_or_trim

    for start, end in cuts(samples):
        if end - start >= SHORTEST:
            measured = extractor(samples[start:end].astype("float32") / FULL_SCALE)[..., :-1]
            features = pad_or_trim(measured.astype("float32"))
            frames = min(measured.shape[-1], features.shape[-1])
            yield Window(clip, start / SAMPLE_RATE, end / SAMPLE_RATE, features, frames)


def cuts(samples: NDArray[np.int16]) -> list[tuple[int, int]]:
    """Where windows begin and end: what is longer than 30 s is cut at its quietest moment between 20 s and 30 s."""
    found, start = [], 0
    while len(samples) - start > WINDOW:
        blocks = samples[start + EARLIEST : start + WINDOW].reshape(-1, _BLOCK).astype("float32")
        quietest = int((blocks**2).sum(axis=1).argmin())
        end = start + EARLIEST + quietest * _BLOCK + _BLOCK // 2
        found.append((start, end))
        start = end
    return [*found, (start, len(samples))]


def one_ahead(make: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """``make`` of each item, in order; while one is being used, the next is made in a thread, and no more."""
    waiting = deque[Future[B]]()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead") as pool:
        for item in items:
            waiting.append(pool.submit(make, item))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
