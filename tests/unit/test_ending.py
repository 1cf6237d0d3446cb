"""Asked to end: once it drains, twice it is forced, and nothing outlasts the deadline."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

from earshot.kernel.ending import EXIT_FORCED, Ending
from tests.waiting import eventually


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_asks_and_the_second_forces(number: signal.Signals) -> None:
    codes: list[int] = []
    ending = Ending(3600, codes.append)
    with ending.on_signals():
        os.kill(os.getpid(), number)
        await asyncio.wait_for(ending.asked.wait(), 10)
        assert codes == []
        os.kill(os.getpid(), number)
        await eventually(lambda: codes)
    assert codes == [EXIT_FORCED] == [143]
    _forget_timers()


async def test_what_has_not_ended_by_the_deadline_is_ended_as_if_it_had() -> None:
    codes: list[int] = []
    ending = Ending(0.01, codes.append)
    ending.ask()
    await eventually(lambda: codes)
    assert codes == [0]


def _forget_timers() -> None:
    """Those of an hour, which only a process that ends would not wait for."""
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.cancel()
