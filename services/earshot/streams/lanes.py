"""Sources that go one before the other: a line for each, and a pause of its partitions where a line is full."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from earshot.kernel.fairness import Precedence, weight_ms
from earshot.kernel.topics import Topic
from earshot.streams.arrival import Arrived
from earshot.streams.collector import Line

FULL = 256
"""Events of a lane that wait here before it is paused. Once half of them are gone it is fetched from again, which may
take a second: what is left must last as long. They are small, the audio stays where it is."""
Valve = Callable[[Topic, bool], None]
"""Lets a source flow, or not."""


class Lanes:
    """The first source goes first; each later one keeps a tenth of the audio while one before it waits.

    A lane that is full is paused at the log, so that it takes no room from those that go before it. What was on its
    way by then still fits: what does not, at twice as much, waits in front, and everything behind it too.

    Args:
        topics: the sources, the one that goes first in front.
        valve: pauses and resumes a source.
        full: events of a lane that wait before it is paused.
    """

    def __init__(self, topics: Sequence[Topic], valve: Valve, full: int = FULL) -> None:
        self._topics = list(topics)
        self._valve = valve
        self._full = full
        self._lines = [Line(2 * full) for _ in topics]
        self._paused = [False for _ in topics]
        self._precedence = Precedence(0 for _ in topics)

    def __len__(self) -> int:
        """How many wait."""
        return sum(len(line) for line in self._lines)

    @property
    def audio_s(self) -> float:
        """Seconds of audio that wait."""
        return sum(line.audio_s for line in self._lines)

    @property
    def since(self) -> float:
        """When the one came that has waited longest."""
        return min(line.since for line in self._lines if len(line))

    def fits(self, arrived: Arrived) -> bool:
        """Whether there is room for one more in its lane."""
        return self._lines[self._topics.index(arrived.topic)].fits(arrived)

    def add(self, arrived: Arrived, at: float) -> None:
        """One more came; when its lane is full of what is still ours, it is paused."""
        lane = self._topics.index(arrived.topic)
        line = self._lines[lane]
        line.add(arrived, at)
        if len(line) >= self._full:
            line.purge()
        if len(line) >= self._full:  # each time: an assignment of partitions lets them flow again
            self._paused[lane] = True
            self._valve(self._topics[lane], False)

    def first(self) -> Arrived | None:
        """Who comes next, by precedence; what is no longer ours is dropped."""
        firsts = self._firsts()
        lane = self._precedence.choose(_weights(firsts))
        return None if lane is None else firsts[lane]

    def take(self) -> Arrived:
        """Take the one that comes next."""
        weights = _weights(self._firsts())
        lane = self._precedence.choose(weights)
        assert lane is not None
        self._precedence.served(lane, weights)
        taken = self._lines[lane].take()
        self._resume()
        return taken

    def clear(self) -> None:
        """Send everybody away."""
        for line in self._lines:
            line.clear()

    def _firsts(self) -> list[Arrived | None]:
        firsts = [line.first() for line in self._lines]
        self._resume()
        return firsts

    def _resume(self) -> None:
        for lane, line in enumerate(self._lines):
            if self._paused[lane] and len(line) <= self._full // 2:
                self._paused[lane] = False
                self._valve(self._topics[lane], True)


def _weights(firsts: Iterable[Arrived | None]) -> list[int | None]:
    return [None if first is None else weight_ms(round(first.audio_s * 1000)) for first in firsts]
