"""Every place in which a recording leaves something, in memory; the catalog on SQLite in a folder of the test."""

from __future__ import annotations

from typing import cast

from earshot.adapters.catalog import Catalog
from earshot.adapters.wiring import Kit
from earshot.eraser.erase import Stores, erase
from earshot.eraser.remains import remains
from earshot.eraser.topic import TranscriptTopic
from earshot.kernel.codec import Codec, Record
from earshot.kernel.ports import IndexedPassage, StoredSegment
from earshot.kernel.settings import Settings
from earshot.kernel.stage import Delivery
from earshot.kernel.topics import AUDIO_TRANSCRIPTS, RECORDINGS_ERASED, all_topics
from tests.fakes_catalog import erasure, transcribed
from tests.fakes_log import FakeLog
from tests.fakes_media import FakeBlobs
from tests.fakes_vectors import FakeVectors

TENANT = "default"
MODELS = ("one", "two")


class House:
    """Everything a recording leaves traces in."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.blobs, self.vectors = FakeBlobs(), FakeVectors()
        self.log = FakeLog({topic.name: 3 for topic in all_topics()})
        self.codec, self.settings = Codec(), Settings(_env_file=None)
        self.topic = TranscriptTopic(self.log, self.codec, AUDIO_TRANSCRIPTS.name)
        self.stores = Stores(catalog, self.blobs, self.vectors, self.topic.set)

    @property
    def kit(self) -> Kit:
        """As a kit, for what takes one."""
        return cast("Kit", self)

    async def erase(self, delivery: Delivery) -> None:
        assert [output async for output in erase([delivery], self.stores)] == []

    async def remains(self, recording_id: str) -> list[str]:
        """What is found of a recording, without the last line about the broker."""
        return (await remains(self.kit, TENANT, recording_id))[:-1]

    async def publish(self) -> int:
        """What the relay does: everything in the outbox goes out. How many erasures there were among it."""
        rows = await self.catalog.pending(10_000)
        await self.log.publish([Record(row.topic, row.key.encode(), row.value, row.headers) for row in rows])
        await self.catalog.mark_sent([row.id for row in rows])
        return sum(row.topic == RECORDINGS_ERASED.name for row in rows)

    async def erase_published(self, since: int = 0) -> int:
        """What the eraser does with every event on its topic from that one on; how many there are."""
        records = self.log.on(RECORDINGS_ERASED.name)
        for record in records[since:]:
            await self.erase(Delivery(self.codec.decode(RECORDINGS_ERASED, record.value), record))
        return len(records)

    async def fill(self, recording_id: str, revision: int, segments: int = 2, tenant: str = TENANT) -> None:
        """What the stages make of one attempt."""
        await self.blobs.put(f"{tenant}/recordings/{recording_id}/source", b"audio")
        for index in range(segments):
            event = transcribed(tenant, recording_id, index, revision)
            cache_key = f"{tenant}/transcripts/{recording_id}-{index}-{revision}"
            await self.blobs.put(f"{tenant}/recordings/{recording_id}/{revision}/segments/{index:06d}.flac", b"flac")
            await self.blobs.put(cache_key, b"cached")
            await self.catalog.store([StoredSegment(event, cache_key)])
            await self.topic.set({index: event}, erasure(tenant, recording_id, 1, "erased"))
            for model in MODELS:
                await self._index(model, tenant, recording_id, revision, index)

    async def _index(self, model: str, tenant: str, recording_id: str, revision: int, index: int) -> None:
        passage = IndexedPassage(
            f"{recording_id}-{revision}-{index}", recording_id, revision, index, 0, 0, 1, "x", "c", "", (), None, False
        )
        await self.vectors.prepare(model, 0)
        await self.vectors.replace(model, tenant, recording_id, revision, index, [passage])

    def last_revisions(self, recording_id: str) -> dict[int, int | None]:
        """By segment, the revision of the last value on the topic."""
        last: dict[int, int | None] = {}
        for record in self.log.on(AUDIO_TRANSCRIPTS.name):
            key, _, index = record.key.decode().partition(":")
            if key == recording_id:
                event = None if record.value is None else Codec().decode(AUDIO_TRANSCRIPTS, record.value)
                last[int(index)] = None if event is None else event.revision
        return last
