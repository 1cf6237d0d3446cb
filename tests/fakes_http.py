"""Fakes around the HTTP services: a catalog's recordings as far as the door needs them, a decoder, signs of life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

from earshot.kernel import ids
from earshot.kernel.errors import NotAudio, Permanent
from earshot.kernel.ports import Accepted, CutEnd, CutSegment, Job, NewRecording, Probe, Recording


class FakeRecordings:
    """The part of :class:`~earshot.kernel.ports.Recordings` that ingest calls. ``failure``, when set, is raised."""

    def __init__(self) -> None:
        self.accepted: list[NewRecording] = []
        self.failure: Exception | None = None
        self._keys: dict[str, tuple[str, Job]] = {}

    async def accept(self, new: NewRecording) -> Accepted:
        if self.failure is not None:
            raise self.failure
        if new.idempotency_key in self._keys:
            request_hash, job = self._keys[new.idempotency_key]
            if request_hash != new.request_hash:
                raise Permanent("used", code="idempotency_key_reused")
            return Accepted(job, created=False)
        for before in self.accepted:
            if new.segments is None and before.upload.sha256 == new.upload.sha256:
                return Accepted(self._job(before), created=False)
        self.accepted.append(new)
        if new.idempotency_key:
            self._keys[new.idempotency_key] = (new.request_hash, self._job(new))
        return Accepted(self._job(new), created=True)

    async def recording(self, tenant: str, recording_id: str) -> Recording | None:
        for new in self.accepted:
            if (new.upload.tenant, new.upload.recording_id) == (tenant, recording_id):
                return _recording(new)
        return None

    @staticmethod
    def _job(new: NewRecording) -> Job:
        at, upload = datetime.now(UTC), new.upload
        job_id = ids.job_id(upload.recording_id, 1)
        return Job(job_id, upload.recording_id, upload.tenant, 1, "pending", None, (), None, "", 1, at, at)


def _recording(new: NewRecording) -> Recording:
    upload = new.upload
    return Recording(
        id=upload.recording_id,
        tenant=upload.tenant,
        collection=upload.collection,
        title=upload.title,
        state="live",
        revision=1,
        visible_from=1,
        source_key=new.source_key,
        sha256=upload.sha256,
        media_type=upload.media_type,
        size_bytes=upload.size_bytes,
        language=upload.language,
        duration_ms=None,
        recorded_at=upload.recorded_at,
        created_at=datetime.now(UTC),
        metadata=upload.metadata,
    )


class FakeSniffer:
    """A :class:`~earshot.kernel.ports.Decoder` that takes everything that begins like a WAV file for sound."""

    async def probe(self, path: Path) -> Probe:
        beginning = await asyncio.to_thread(lambda: path.read_bytes()[:4])
        if beginning != b"RIFF":
            raise NotAudio("The file is something else.", next_step="Send audio.")
        return Probe("wav", "pcm_s16le", 1000)

    async def cut(self, path: Path) -> AsyncIterator[CutSegment | CutEnd]:
        raise NotAudio(f"Nobody cuts here: {path}.")
        yield  # makes it an iterator


class FakeAnswering:
    """A store or a log of which only its signs of life matter. ``failure``, when set, is raised by ``ping``."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.closed = False

    async def ping(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def close(self) -> None:
        self.closed = True
