"""A worker process as ``earshot worker`` starts it, with one small stage that asks no gate."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

from earshot.adapters.wiring import Kit
from earshot.kernel.codec import Codec
from earshot.kernel.events import Event
from earshot.kernel.settings import Settings
from earshot.kernel.stage import Delivery, Output, Stage, progress
from earshot.kernel.topics import Topic
from earshot.streams.worker import run
from tests.fakes_stream import stage_of


async def note(deliveries: Sequence[Delivery[Any]]) -> AsyncIterator[Output]:
    for delivery in deliveries:
        yield progress("noter", delivery)


class BuggyCodec(Codec):
    """Fails at what it reads as no codec should."""

    def decode(self, topic: Topic, value: bytes) -> Event:
        raise ZeroDivisionError("a bug")


def create_stage(kit: Kit) -> Stage:
    if "buggy-codec" in sys.argv:
        kit.codec = BuggyCodec()
    return stage_of(note, name="noter", gated=False)


if __name__ == "__main__":
    sys.exit(run(create_stage, Settings()))
