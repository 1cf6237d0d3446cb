"""A record as it arrives: decoded or refused, identified, and with the means to acknowledge it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from earshot.kernel import ids
from earshot.kernel.codec import Codec, Record
from earshot.kernel.dead_letters import origin_of
from earshot.kernel.errors import Permanent, Undecodable
from earshot.kernel.events import AudioUploaded, Event
from earshot.kernel.topics import Topic


@dataclass(frozen=True)
class Arrived:
    """One record of a source topic.

    Attributes:
        record: as it lies in the log.
        topic: which of ours it came from.
        event: decoded; ``None`` for a null value and for what cannot be decoded.
        error: why it cannot be decoded.
        ack: its work is done; its offset may be committed.
        ours: whether its partition is still this worker's, as it was on delivery.
    """

    record: Record
    topic: Topic
    event: Event | None
    error: Permanent | None
    ack: Callable[[], object]
    ours: Callable[[], bool] = lambda: True

    @property
    def audio_s(self) -> float:
        """Seconds of audio the event is about; 0 when it does not say."""
        start, end = getattr(self.event, "start_ms", None), getattr(self.event, "end_ms", None)
        return 0.0 if start is None or end is None else max(0.0, (end - start) / 1000)


class Reader:
    """Turns records into arrivals.

    Args:
        codec: decodes values.
        topics: source topics by full name, prefix included.
    """

    def __init__(self, codec: Codec, topics: Mapping[str, Topic]) -> None:
        self._codec = codec
        self._topics = topics

    async def read(self, record: Record, ack: Callable[[], object], ours: Callable[[], bool] = lambda: True) -> Arrived:
        """Decode and identify. Raises ``Unavailable`` while the schema registry does not answer."""
        topic = self._topics[record.topic]
        if record.value is None:
            return Arrived(record, topic, None, None, ack, ours)
        try:
            return Arrived(record, topic, identified(await self._decode(topic, record.value), record), None, ack, ours)
        except Permanent as error:
            return Arrived(record, topic, None, error, ack, ours)

    async def _decode(self, topic: Topic, value: bytes) -> Event:
        if self._codec.registry is None:
            return self._codec.decode(topic, value)
        return await asyncio.to_thread(self._codec.decode, topic, value)


def identified(event: Event, record: Record) -> Event:
    """The event with the id of its recording, derived where a foreign producer left it out.

    Raises:
        Undecodable: the id is no UUID in its canonical form, or cannot be derived.
    """
    if isinstance(event, AudioUploaded) and not event.recording_id:
        return event.model_copy(update={"recording_id": _derived(event.tenant, record)})
    if not ids.is_canonical(event.recording_id):
        raise Undecodable("recording_id is no UUID in its canonical lower-case form.")
    return event


def _derived(tenant: str, record: Record) -> str:
    source, event_id = record.header("ce_source"), record.header("ce_id")
    if not source or not event_id:
        where = origin_of(record) or (record.topic, record.partition or 0, record.offset)
        return ids.bare_recording_id(tenant, *where)
    try:
        return ids.foreign_recording_id(tenant, source, event_id)
    except ValueError as error:
        raise Undecodable(f"No recording id can be derived from ce_source and ce_id: {error}.") from error
