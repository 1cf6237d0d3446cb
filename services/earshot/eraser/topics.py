"""What the log still holds of what was erased."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from earshot.eraser.places import Find
from earshot.kernel import ids
from earshot.kernel.codec import Codec, Record
from earshot.kernel.dead_letters import origin_of
from earshot.kernel.errors import Undecodable
from earshot.kernel.events import AudioUploaded
from earshot.kernel.ports import EventLog
from earshot.kernel.settings import Settings
from earshot.kernel.topics import AUDIO_TRANSCRIPTS, AUDIO_UPLOADED, ROLL_MS, Topic, all_topics

LONGEST = AUDIO_UPLOADED.dead_letters
"""The topic that keeps what it has the longest: a dead letter."""
_UPLOADS = frozenset({AUDIO_UPLOADED.name, AUDIO_UPLOADED.dead_letters.name})
"""Where a foreign producer chooses the key."""


@dataclass
class _Seen:
    """What was found on one topic.

    ``keys`` says of each key whether its last value is one; ``newest_ms`` is when the last record was published.
    """

    number: int
    newest_ms: int
    keys: dict[bytes, bool]


def left_by(topic: Topic, newest_ms: int) -> datetime:
    """When a broker has deleted a record at the latest, that was published or replaced then."""
    return datetime.fromtimestamp(newest_ms / 1000, UTC) + timedelta(milliseconds=topic.retention_ms + ROLL_MS)


def never_later_than(gone_at: datetime) -> datetime:
    """When the last bytes have left every broker of what was deleted everywhere else at a moment."""
    return left_by(LONGEST, int(gone_at.timestamp() * 1000))


async def on_topics(
    log: EventLog, codec: Codec, settings: Settings, tenant: str, recordings: Collection[str], *, whole: bool
) -> AsyncIterator[Find]:
    """What the topics hold of these recordings of a tenant; with ``whole``, of every recording of it.

    Every record of every topic is read. Only the last values of ``audio.transcripts`` should be gone: of all else the
    broker has yet to delete what is past its time, or, embedded, what a consumer has yet to pass.

    Raises:
        Unavailable: the broker or the registry does not answer.
    """
    topics = {settings.topic(topic.name): topic for topic in all_topics()}
    there = await log.configurations(list(topics))
    meant = _meant(codec, tenant, frozenset(recordings), whole=whole)
    seen: dict[str, _Seen] = {}
    async for record in log.tail(list(there), from_start=True, follow=False) if there else _nothing():
        if meant(topics[record.topic], record):
            _count(seen.setdefault(record.topic, _Seen(0, 0, {})), record)
    for name, found in sorted(seen.items()):
        for find in _finds(name, topics[name], found, deletes_at_once=hasattr(log, "purge")):
            yield find


def _count(seen: _Seen, record: Record) -> None:
    seen.newest_ms = max(seen.newest_ms, record.timestamp_ms)
    seen.number += record.value is not None
    seen.keys[record.key or b""] = record.value is not None


def _finds(name: str, topic: Topic, seen: _Seen, *, deletes_at_once: bool) -> list[Find]:
    if topic.name == AUDIO_TRANSCRIPTS.name and (number := sum(seen.keys.values())):
        return [Find(name, f"{number} transcripts")]
    if not seen.number:
        return []
    if deletes_at_once:
        return [Find(name, f"{seen.number} records, each deleted once every consumer has passed it", wrong=False)]
    return [Find(name, f"{seen.number} records", wrong=False, until=left_by(topic, seen.newest_ms))]


def _meant(codec: Codec, tenant: str, ids_of: frozenset[str], *, whole: bool) -> Callable[[Topic, Record], bool]:
    def by_body(topic: Topic, record: Record) -> bool:
        try:
            event = codec.decode(AUDIO_UPLOADED, record.value or b"")
        except Undecodable:
            return False
        if event.tenant != tenant:
            return False
        assert isinstance(event, AudioUploaded)
        return whole or (event.recording_id or _derived(event.tenant, topic, record)) in ids_of

    def meant(topic: Topic, record: Record) -> bool:
        key = (record.key or b"").decode("utf-8", "replace").partition(":")[0]
        return key in ids_of or (topic.name in _UPLOADS and record.value is not None and by_body(topic, record))

    return meant


def _derived(tenant: str, topic: Topic, record: Record) -> str:
    """The id of a recording whose upload names none; empty where it cannot be told."""
    source, event_id = record.header("ce_source"), record.header("ce_id")
    try:
        if source and event_id:
            return ids.foreign_recording_id(tenant, source, event_id)
        place = origin_of(record)
        if place is None and topic is AUDIO_UPLOADED and record.partition is not None:
            place = (record.topic, record.partition, record.offset)
        return ids.bare_recording_id(tenant, *place) if place else ""
    except ValueError:
        return ""  # a header that no id is made of


async def _nothing() -> AsyncIterator[Record]:
    for _ in ():
        yield _
