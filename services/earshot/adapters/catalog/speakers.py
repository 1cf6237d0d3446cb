"""Turns and names of speakers, and whether a new attempt has to wait for the diarizer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.base import Part, chunks, lock_recordings
from earshot.adapters.catalog.engine import insert
from earshot.adapters.catalog.heartbeats import ALIVE
from earshot.adapters.catalog.outbox import enqueue
from earshot.adapters.catalog.rows import cancelled_revisions
from earshot.kernel.codec import Codec
from earshot.kernel.errors import UnknownRecording
from earshot.kernel.events import SpeakersFound, StageProgressed
from earshot.kernel.ledger import SPEAKER_STAGE, WHOLE
from earshot.kernel.speakers import Voices
from earshot.kernel.topics import RECORDINGS_PROGRESS


class SpeakersPart(Part):
    """Who speaks in which recording."""

    async def store_turns(self, found: SpeakersFound) -> None:
        """Upsert by (recording, revision); what was erased or cancelled meanwhile is left out."""
        key = (found.tenant, found.recording_id)

        def work(connection: sa.Connection) -> None:
            row = lock_recordings(connection, {key}).get(key)
            if row is None or row.state == "erased" or found.revision in cancelled_revisions(connection, *key):
                return
            place = {"tenant": found.tenant, "recording_id": found.recording_id, "revision": found.revision}
            new = insert(connection, t.speaker_turns).values(**place, body=found.model_dump_json())
            upsert = new.on_conflict_do_update(index_elements=list(place), set_={"body": new.excluded.body})
            connection.execute(upsert)

        await self._db.write(work)

    async def voices(self, tenant: str, recording_ids: Collection[str]) -> Mapping[str, Voices]:
        """The turns and names of each of these recordings that has any."""
        wanted = sorted(set(recording_ids))

        def work(connection: sa.Connection) -> tuple[list[tuple[str, str]], list[tuple[str, str, str]]]:
            turns, names = list[tuple[str, str]](), list[tuple[str, str, str]]()
            c, n = t.speaker_turns.c, t.speaker_names.c
            for some in chunks(wanted):
                rows = connection.execute(
                    sa.select(c.recording_id, c.body).where(c.tenant == tenant, c.recording_id.in_(some))
                )
                turns += [(row.recording_id, row.body) for row in rows]
                called = sa.select(n.recording_id, n.label, n.name).where(n.tenant == tenant, n.recording_id.in_(some))
                names += [(row.recording_id, row.label, row.name) for row in connection.execute(called)]
            return turns, names

        if not wanted:
            return {}
        turns, names = await self._db.read(work)
        return await asyncio.to_thread(_voices, turns, names)

    async def forget_turns(
        self, tenant: str, recording_id: str, *, revision: int | None = None, up_to: int | None = None
    ) -> None:
        """Delete the turns of one revision, or of those up to one that a higher one replaces, or all."""
        c, higher = t.speaker_turns.c, t.speaker_turns.alias("higher")
        mine = sa.delete(t.speaker_turns).where(c.tenant == tenant, c.recording_id == recording_id)
        if revision is not None:
            mine = mine.where(c.revision == revision)
        if up_to is not None:
            replaced = sa.exists().where(
                higher.c.tenant == c.tenant, higher.c.recording_id == c.recording_id, higher.c.revision > c.revision
            )
            mine = mine.where(c.revision <= up_to, replaced)
        await self._db.write(lambda connection: connection.execute(mine).close())

    async def name_speakers(self, tenant: str, recording_id: str, names: Mapping[str, str | None]) -> None:
        """Call labels by names from now on; ``None`` takes a name away. Raises ``UnknownRecording``."""
        key, c = (tenant, recording_id), t.speaker_names.c
        place = {"tenant": tenant, "recording_id": recording_id}

        def work(connection: sa.Connection) -> None:
            row = lock_recordings(connection, {key}).get(key)
            if row is None or row.state == "erased":
                raise UnknownRecording("The recording was erased.")
            for label, name in sorted(names.items()):
                if name is None:
                    gone = sa.delete(t.speaker_names).where(c.tenant == tenant, c.recording_id == recording_id)
                    connection.execute(gone.where(c.label == label))
                    continue
                new = insert(connection, t.speaker_names).values(**place, label=label, name=name)
                upsert = new.on_conflict_do_update(index_elements=[*place, "label"], set_={"name": name})
                connection.execute(upsert)

        await self._db.write(work)

    async def speakers_named(self, tenant: str, name: str, limit: int) -> list[tuple[str, str]]:
        """(recording, label) of everyone called so, at most ``limit``."""
        c = t.speaker_names.c
        query = sa.select(c.recording_id, c.label).where(c.tenant == tenant, c.name == name)
        query = query.order_by(c.recording_id, c.label).limit(limit)
        return await self._db.read(
            lambda connection: [(row.recording_id, row.label) for row in connection.execute(query)]
        )


def _voices(turns: list[tuple[str, str]], names: list[tuple[str, str, str]]) -> dict[str, Voices]:
    found: dict[str, list[SpeakersFound]] = {}
    called: dict[str, dict[str, str]] = {}
    for recording_id, body in turns:
        found.setdefault(recording_id, []).append(SpeakersFound.model_validate_json(body))
    for recording_id, label, name in names:
        called.setdefault(recording_id, {})[label] = name
    return {key: Voices(found.get(key, ()), called.get(key)) for key in found.keys() | called.keys()}


def expect_speakers(
    connection: sa.Connection, codec: Codec, tenant: str, recording_id: str, revision: int, trace: Mapping[str, str]
) -> None:
    """Make a new attempt wait for the diarizer, if one that is on shows signs of life."""
    c = t.heartbeats.c
    alive = sa.select(c.info).where(c.stage == SPEAKER_STAGE, c.at >= t.now() - ALIVE)
    if not any("engine" in json.loads(info) for info in connection.scalars(alive)):
        return
    expected = StageProgressed(
        tenant=tenant, recording_id=recording_id, revision=revision, stage=SPEAKER_STAGE, index=None, state="pending",
        segments_total=None, start_ms=None, end_ms=None, code="", detail="",
    )  # fmt: skip
    line = {
        "tenant": tenant, "recording_id": recording_id, "revision": revision, "segment": WHOLE, "stage": SPEAKER_STAGE,
        "state": 0, "start_ms": None, "end_ms": None, "code": "", "detail": "",
    }  # fmt: skip
    connection.execute(sa.insert(t.progress).values(line))
    enqueue(connection, codec, RECORDINGS_PROGRESS, [expected], trace)
