"""Asked to end: the first SIGTERM or SIGINT drains, the second forces, and a deadline stands behind both."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EXIT_FORCED = 128 + signal.SIGTERM
"""Asked twice to end."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def end_within(seconds: float, code: int, end: Callable[[int], object] = os._exit) -> threading.Timer:
    """End the process with a code after so many seconds, whatever it does until then, unless the timer is cancelled."""
    timer = threading.Timer(seconds, end, [code])
    timer.daemon = True
    timer.start()
    return timer


class Ending:
    """Whether this process was asked to end, and the deadline of what it still does then.

    Args:
        within_s: so many seconds after it was asked the process is gone, with exit code 0.
        end: ends the process; tests pass their own.
    """

    def __init__(self, within_s: float, end: Callable[[int], object] = os._exit) -> None:
        self.asked = asyncio.Event()
        self._within_s = within_s
        self._end = end

    def ask(self) -> None:
        """What a signal does."""
        if self.asked.is_set():
            self._end(EXIT_FORCED)
            return
        self.asked.set()
        # Never cancelled: it also bounds what comes after the work, such as closing what does not answer.
        end_within(self._within_s, 0, self._end)

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Listen to SIGTERM and SIGINT inside this block, in the running event loop."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.ask)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)
