"""Leaving alone, for a while, what has failed again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

FAILURES = 3
REST_S = 120.0


class Breaker:
    """Closed while all is well; open, after so many failures in a row, for a rest; then due: one may try again.

    May be shared by threads.

    Args:
        failures: so many in a row open it.
        rest_s: how long it stays open.
        clock: seconds that only rise.
    """

    def __init__(
        self, failures: int = FAILURES, rest_s: float = REST_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._failures, self._rest_s, self._clock = failures, rest_s, clock
        self._lock = Lock()
        self._in_a_row = 0
        self._until: float | None = None

    @property
    def closed(self) -> bool:
        """Whether all is well, as far as is known."""
        return self._until is None

    @property
    def in_a_row(self) -> int:
        """So many failures since the last success."""
        return self._in_a_row

    @property
    def rests_s(self) -> float:
        """How many seconds of the rest are left: 0 when it is closed, or due."""
        until = self._until
        return 0.0 if until is None else max(0.0, until - self._clock())

    @property
    def allows(self) -> bool:
        """Whether a try makes sense: it is closed, or due."""
        return self.rests_s == 0.0

    def succeeded(self) -> None:
        """All is well: the failures before are forgotten."""
        with self._lock:
            self._in_a_row, self._until = 0, None

    def failed(self) -> None:
        """One more failure; it opens when there were enough, and at once when it was only due."""
        with self._lock:
            self._in_a_row += 1
            enough = self._in_a_row >= self._failures or self._until is not None
        if enough:
            self.trip()

    def due(self) -> None:
        """It gave a sign of life: when it is open, its rest is over, and one may try."""
        with self._lock:
            if self._until is not None:
                self._until = self._clock()

    def trip(self, rest_s: float | None = None) -> None:
        """Open it without further failures, for ``rest_s`` or as long as always."""
        with self._lock:
            self._until = self._clock() + (self._rest_s if rest_s is None else rest_s)
