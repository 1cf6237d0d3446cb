"""Never alive and idle: ends a worker that is stuck, and never one that waits for a reason it shows."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import structlog

from earshot.streams.vitals import Vitals

EXIT_STUCK = 71
"""EX_OSERR of sysexits.h: not our input's fault, not our configuration's; start again."""
TICK_S = 0.5
DOUBT = 0.5
"""Of the time that is allowed: after so much of it the worker is not ready any more, and says why."""
log = structlog.get_logger()


class Watchdog:
    """Judges a worker by what changed between its ticks.

    Time is counted in ticks, so a machine that slept, or a process that was stopped, is not taken for stuck.

    Args:
        vitals: what is watched.
        deadline_s: work without any progress for longer is stuck.
        stall_s: an event loop that does not turn for longer is stuck.
        silence_s: lag without a delivery for longer is a dead consumer.
    """

    def __init__(self, vitals: Vitals, *, deadline_s: float, stall_s: float, silence_s: float) -> None:
        self._vitals = vitals
        self._deadline_s = deadline_s
        self._stall_s = stall_s
        self._silence_s = silence_s
        self._seen = (-1, -1, -1)
        self._works: dict[int, tuple[int, float]] = {}
        self._unturned_s = self._undelivered_s = 0.0

    def tick(self, passed_s: float) -> str:
        """Look, so many seconds after the last look; return why the worker is stuck, or nothing."""
        vitals = self._vitals
        moves, beats, deliveries = self._seen
        self._seen = (vitals.moves, vitals.beats, vitals.deliveries)
        self._unturned_s = 0.0 if vitals.beats != beats else self._unturned_s + passed_s
        works = vitals.works.copy()  # of the event loop's thread
        self._works = {work: (now, self._unmoved_s(work, now, passed_s)) for work, now in works.items()}
        silent = not (vitals.paused or works) and (vitals.moves, vitals.deliveries) == (moves, deliveries)
        waits = vitals.lag > 0 or vitals.joining
        self._undelivered_s = self._undelivered_s + passed_s if silent and waits else 0.0
        vitals.doubt = self._verdict(DOUBT)
        return self._verdict(1.0)

    def _unmoved_s(self, work: int, moves: int, passed_s: float) -> float:
        """How long a batch has shown no progress; each has its own deadline, and the others cannot hide it."""
        before, unmoved_s = self._works.get(work, (-1, 0.0))
        return unmoved_s + passed_s if before == moves and not self._vitals.paused else 0.0

    def _verdict(self, share: float) -> str:
        """What has lasted longer than a share of the time it is allowed."""
        stall_s, deadline_s, silence_s = (share * each for each in (self._stall_s, self._deadline_s, self._silence_s))
        if self._unturned_s > stall_s:
            return f"The event loop has not turned for {stall_s:g} s."
        if any(unmoved_s > deadline_s for _, unmoved_s in self._works.values()):
            return f"A unit has been in work for {deadline_s:g} s without any progress."
        if self._undelivered_s > silence_s:
            why = "the group was never joined" if self._vitals.joining else f"{self._vitals.lag} records wait"
            return f"Nothing was delivered for {silence_s:g} s: {why}."
        return ""


def watch(watchdog: Watchdog, tick_s: float = TICK_S, end: Callable[[int], object] = os._exit) -> threading.Event:
    """Tick on a thread of its own until the returned event is set; end the process when the worker is stuck."""
    done = threading.Event()

    def run() -> None:
        while not done.wait(tick_s):
            # One tick at most: the thread may have been stopped with the process.
            if reason := watchdog.tick(tick_s):
                log.critical("stuck", reason=reason)
                end(EXIT_STUCK)
                return

    threading.Thread(target=run, name="watchdog", daemon=True).start()
    return done
