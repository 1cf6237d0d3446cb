"""The compacted topic of transcripts, as the eraser writes it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from earshot.kernel.codec import Codec, Record, headers_for
from earshot.kernel.events import RecordingErased, SegmentTranscribed
from earshot.kernel.ports import EventLog
from earshot.kernel.stage import Delivery
from earshot.kernel.topics import AUDIO_TRANSCRIPTS, segment_key, slot_of_key

SOURCE = "eraser"
"""``ce_source`` of what it publishes."""


class TranscriptTopic:
    """Sets last values of ``audio.transcripts``.

    Args:
        log: where the topic is.
        codec: frames events.
        name: the topic's full name.
    """

    def __init__(self, log: EventLog, codec: Codec, name: str) -> None:
        self._log = log
        self._codec = codec
        self._name = name

    async def set(self, values: Mapping[int, SegmentTranscribed | None], cause: Delivery[RecordingErased]) -> None:
        """Make these the last values by segment, in the trace of what caused it. Raises ``Unavailable``."""
        partitions = await self._log.partitions(self._name)
        trace = {name: text for name in ("traceparent", "tracestate") if (text := cause.record.header(name))}

        def records() -> list[Record]:
            return [
                self._record(segment_key(cause.event.recording_id, index), event, partitions, trace)
                for index, event in values.items()
            ]

        await self._log.publish(await asyncio.to_thread(records))

    def _record(self, key: str, event: SegmentTranscribed | None, partitions: int, trace: Mapping[str, str]) -> Record:
        value = None if event is None else self._codec.encode(AUDIO_TRANSCRIPTS, event)
        headers = headers_for(AUDIO_TRANSCRIPTS, event, key, value, SOURCE)
        headers |= {name: text.encode() for name, text in trace.items()}
        place = slot_of_key(key) % partitions
        return Record(self._name, key.encode(), value, tuple(headers.items()), place)
