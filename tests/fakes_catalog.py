"""Short ways to make what the catalog is given. The catalog itself is real in tests: SQLite in a folder of a test."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from earshot.adapters.catalog import Catalog
from earshot.kernel import ids
from earshot.kernel.codec import Codec, Record
from earshot.kernel.events import AudioUploaded, Engine, Event, RecordingErased, SegmentTranscribed, StageProgressed
from earshot.kernel.fairness import Window
from earshot.kernel.outbox import OutboxRow
from earshot.kernel.ports import Accepted, CollectionSettings, NewRecording
from earshot.kernel.stage import Delivery
from earshot.kernel.topics import BY_NAME, RECORDINGS_ERASED, Topic

OPEN = Window(10**15, 10**15)
"""A window that everything fits in."""
TRACE = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}


async def new_catalog(folder: Path) -> Catalog:
    """An empty catalog on SQLite. Close it."""
    catalog = Catalog(f"sqlite:///{folder}/catalog.sqlite", Codec())
    await catalog.migrate()
    return catalog


def upload(tenant: str = "default", **fields: Any) -> AudioUploaded:
    """An upload with an id of its own; the same ``sha256`` unless said otherwise."""
    recording_id = fields.pop("recording_id", None) or ids.new_recording_id()
    about: dict[str, Any] = {"sha256": "aa" * 32, "title": "A talk", "uri": f"file:///blobs/{tenant}/{recording_id}"}
    return AudioUploaded(tenant=tenant, recording_id=recording_id, **(about | fields))


def new(of: AudioUploaded, **fields: Any) -> NewRecording:
    """What the door knows of an upload."""
    key = f"{of.tenant}/recordings/{of.recording_id}/source"
    return NewRecording(**({"upload": of, "source_key": key, "trace": TRACE} | fields))


async def accepted(
    catalog: Catalog, tenant: str = "default", *, claimed_ms: int | None = None, **fields: Any
) -> Accepted:
    """A recording of new audio, accepted."""
    fields.setdefault("sha256", ids.new_recording_id())
    return await catalog.accept(new(upload(tenant, **fields), claimed_ms=claimed_ms))


def transcribed(tenant: str, recording_id: str, index: int, revision: int = 1, **fields: Any) -> SegmentTranscribed:
    """A segment of 10 s."""
    about: dict[str, Any] = {
        "start_ms": index * 10_000,
        "end_ms": (index + 1) * 10_000,
        "text": f"segment {index} revision {revision}",
        "engine": Engine(name="test"),
    }
    place = {"tenant": tenant, "recording_id": recording_id, "index": index, "revision": revision}
    return SegmentTranscribed(**(about | place | fields))


def progressed(
    accepted_job: Accepted, stage: str, index: int | None, state: str = "done", **fields: Any
) -> StageProgressed:
    """What a stage says of a segment of 10 s, or of the whole."""
    job = accepted_job.job
    about: dict[str, Any] = {"tenant": job.tenant, "recording_id": job.recording_id, "revision": job.revision}
    if index is not None:
        about |= {"start_ms": index * 10_000, "end_ms": (index + 1) * 10_000}
    return StageProgressed(**(about | {"stage": stage, "index": index, "state": state} | fields))


def total(accepted_job: Accepted, segments: int) -> StageProgressed:
    """The segmenter's last word."""
    return progressed(accepted_job, "segmenter", None, segments_total=segments, start_ms=0, end_ms=segments * 10_000)


async def released(catalog: Catalog) -> list[OutboxRow]:
    """Every row waiting to be published; whatever waits for its turn has it now."""
    await catalog.let_go(OPEN, 100_000)
    return await catalog.pending(100_000)


async def outbox(catalog: Catalog, tenant: str, topic: Topic | None = None) -> list[tuple[OutboxRow, Event]]:
    """A tenant's rows waiting to be published, decoded; whatever waits for its turn has it now."""
    rows = [row for row in await released(catalog) if row.tenant == tenant]
    wanted = [row for row in rows if topic is None or row.topic == topic.name]
    return [(row, Codec().decode(BY_NAME[row.topic], row.value or b"")) for row in wanted]


def erasure(tenant: str, recording_id: str, revision: int, reason: str) -> Delivery[RecordingErased]:
    """A ``recordings.erased`` event, delivered."""
    event = RecordingErased(tenant=tenant, recording_id=recording_id, revision=revision, reason=reason)
    headers = tuple((name, value.encode()) for name, value in TRACE.items())
    return Delivery(event, Record(RECORDINGS_ERASED.name, recording_id.encode(), b"", headers))


class FakeLeases:
    """Leases in memory. ``failure``, when set, is raised by ``renew``.

    Attributes:
        held: owner and end by name.
        refused: how many renewals were answered with no.
        renewed: how many with yes.
    """

    def __init__(self) -> None:
        self.held: dict[str, tuple[str, float]] = {}
        self.failure: Exception | None = None
        self.refused = 0
        self.renewed = 0

    async def acquire(self, name: str, owner: str, ttl_s: float) -> bool:
        holder, until = self.held.get(name, (owner, 0.0))
        if holder != owner and until > time.monotonic():
            return False
        self.held[name] = (owner, time.monotonic() + ttl_s)
        return True

    async def renew(self, name: str, owner: str, ttl_s: float) -> bool:
        if self.failure is not None:
            raise self.failure
        if self.held.get(name, ("", 0.0))[0] != owner:
            self.refused += 1
            return False
        self.held[name] = (owner, time.monotonic() + ttl_s)
        self.renewed += 1
        return True

    async def release(self, name: str, owner: str) -> None:
        if self.held.get(name, ("", 0.0))[0] == owner:
            del self.held[name]


class FakeCollections:
    """Settings of collections by tenant and name."""

    def __init__(self) -> None:
        self.settings: dict[tuple[str, str], CollectionSettings] = {}

    async def collection_settings(self, tenant: str, collection: str) -> CollectionSettings:
        return self.settings.get((tenant, collection), CollectionSettings())

    async def configure_collection(self, tenant: str, collection: str, settings: CollectionSettings) -> None:
        self.settings[tenant, collection] = settings
