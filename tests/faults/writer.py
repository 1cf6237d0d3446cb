"""Publishes segments until it is ended, and names the acknowledged: ``python -m tests.faults.writer URL PREFIX``."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from itertools import count

from earshot.adapters.wiring import Kit
from earshot.kernel.codec import Record
from earshot.kernel.events import SegmentCut
from earshot.kernel.settings import Settings
from earshot.kernel.topics import AUDIO_SEGMENTS, slot_of_key
from tests.fakes_stream import record_of, segment
from tests.faults.system import PARTITIONS

AT_ONCE = 4


def placed(event: SegmentCut, topic: str) -> Record:
    """The record of a segment where its key belongs."""
    record = record_of(event, -1)
    return replace(record, topic=topic, partition=slot_of_key((record.key or b"").decode()) % PARTITIONS)


async def run(settings: Settings) -> None:
    log = Kit(settings).log
    topic = settings.topic(AUDIO_SEGMENTS.name)
    for first in count(0, AT_ONCE):
        events = [segment(n % 2, of=n // 2) for n in range(first, first + AT_ONCE)]
        await log.publish([placed(event, topic) for event in events])
        for event in events:
            print(json.dumps([event.recording_id, event.index]), flush=True)


if __name__ == "__main__":
    asyncio.run(run(Settings(broker_url=sys.argv[1], topic_prefix=sys.argv[2])))
