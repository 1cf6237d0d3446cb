"""Whether a stage runs or waits, and for what: read by heartbeats, health, metrics and the watchdog."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import Literal

_COUNT = count(1)
_WORK: ContextVar[int] = ContextVar("batch in work", default=0)


class Vitals:
    """The state of one worker. Written on the event loop, read by any thread.

    Attributes:
        moves: rises with every sign of progress: a batch begun or ended, an output yielded.
        works: the batches in work, each with the number of its own signs of progress.
        deliveries: rises with every record that the log delivers.
        beats: rises with every turn of the event loop that the host's pulse takes.
        lag: records between the committed offsets and the ends of this worker's partitions.
        joining: the log has not yet given this worker its partitions, be they none.
        ending: it was asked to end, and finishes what it has begun.
        trouble: why the last try failed, until one succeeds: also while the next is on its way, however long it takes.
        doubt: what the watchdog has seen for half the time it allows; empty while all is well.
    """

    def __init__(self) -> None:
        self.moves = 0
        self.works: dict[int, int] = {}
        self.deliveries = 0
        self.beats = 0
        self.lag = 0
        self.joining = False
        self.ending = False
        self.trouble = ""
        self.doubt = ""
        self._reasons: list[str] = []

    @property
    def reason(self) -> str:
        """Why the stage waits, or tries again; empty when it does neither."""
        reasons = self._reasons[-1:]
        return reasons[0] if reasons else self.trouble

    @property
    def paused(self) -> bool:
        """Whether the stage waits for something that may pass."""
        return bool(self._reasons)

    @property
    def state(self) -> Literal["running", "paused"]:
        """As heartbeats say it."""
        return "paused" if self.reason else "running"

    def moved(self) -> None:
        """Something went on: with the batch in whose task this is called, if it is called in one."""
        self.moves += 1
        if (work := _WORK.get()) in self.works:
            self.works[work] += 1

    def delivered(self) -> None:
        """The log delivered a record."""
        self.deliveries += 1

    @contextmanager
    def pause(self, reason: str) -> Iterator[None]:
        """The stage waits inside this block, and says why."""
        self._reasons.append(reason)
        try:
            yield
        finally:
            self._reasons.remove(reason)
            self.moved()

    @contextmanager
    def work(self) -> Iterator[None]:
        """A batch is worked on inside this block."""
        work = next(_COUNT)
        token = _WORK.set(work)
        self.works[work] = 0
        self.moved()
        try:
            yield
        finally:
            self.trouble = ""
            del self.works[work]
            _WORK.reset(token)
            self.moved()
