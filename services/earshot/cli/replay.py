"""``earshot replay``: what the log holds goes through once more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, cast

import typer

from earshot.adapters.wiring import Kit
from earshot.cli.events import topic_of
from earshot.cli.output import as_json, err, out
from earshot.cli.remote import Json
from earshot.kernel.codec import Codec, Record, headers_for
from earshot.kernel.dead_letters import ORIGIN
from earshot.kernel.errors import Permanent, Undecodable
from earshot.kernel.events import Event, SegmentTranscribed
from earshot.kernel.gate import Gate, Verdict, judge_shown
from earshot.kernel.ports import EventLog, Transcripts
from earshot.kernel.settings import Settings, load
from earshot.kernel.topics import Topic
from earshot.streams.arrival import identified

AT_ONCE = 200


@dataclass
class Count:
    """How many records were published again, and how many left out: deletions, the undecodable, what is not wanted."""

    replayed: int = 0
    left_out: int = 0


@dataclass(frozen=True)
class Replay:
    """Publishes the records of a topic again, as they are, behind those that are there.

    Every stage works on an event again only to the same end, so nothing changes that should not. A compacted topic
    keeps the last record of a key: there only the highest revision of a segment is sent, and should a higher one come
    meanwhile, it is sent behind ours.

    Args:
        log: read and written.
        codec: decodes values.
        gate: knows what is still wanted.
        transcripts: knows the highest revision of a segment.
        topic: to go through.
        name: its full name.
    """

    log: EventLog
    codec: Codec
    gate: Gate
    transcripts: Transcripts
    topic: Topic
    name: str

    async def run(self, recording_id: str, since: datetime | None) -> Count:
        """Replay up to the end as it is now; of one recording, or since a moment, if that is wished.

        Raises:
            Unavailable: the broker or the catalog does not answer; what was published before stays.
        """
        count = Count()
        async for batch in self._batches(recording_id, since):
            wanted = await self._wanted(batch)
            await self.log.publish([_again(record) for record, _ in wanted])
            await self._last_words(wanted)
            count.replayed += len(wanted)
            count.left_out += len(batch) - len(wanted)
        return count

    async def _batches(
        self, recording_id: str, since: datetime | None
    ) -> AsyncIterator[list[tuple[Record, Event | None]]]:
        batch: list[tuple[Record, Event | None]] = []
        earliest = since.timestamp() * 1000 if since is not None else 0.0
        async for record in self.log.tail([self.name], from_start=True, follow=False):
            event = self._read(record)
            if record.timestamp_ms < earliest or (
                recording_id and (event is None or event.recording_id != recording_id)
            ):
                continue
            batch.append((record, event))
            if len(batch) == AT_ONCE:
                yield batch
                batch = []
        if batch:
            yield batch

    def _read(self, record: Record) -> Event | None:
        if record.value is None:
            return None
        try:
            return identified(self.codec.decode(self.topic, record.value), record)
        except Undecodable:
            return None  # it lies in the dead letters already

    async def _wanted(self, batch: Sequence[tuple[Record, Event | None]]) -> list[tuple[Record, Event]]:
        known = [(record, event) for record, event in batch if event is not None]
        verdicts = await self.gate.verdicts([event for _, event in known], judge_shown)
        # what the catalog has never heard of may be an upload that no segmenter has seen yet
        living = [one for one, verdict in zip(known, verdicts, strict=True) if verdict in (Verdict.GO, Verdict.UNKNOWN)]
        return [(record, event) for record, event in living if await self._newer(event) is None]

    async def _newer(self, event: Event) -> SegmentTranscribed | None:
        """On a compacted topic, the transcript that must be the last one of its key instead of this."""
        if not self.topic.compacted:
            return None
        said = cast("SegmentTranscribed", event)
        highest = await self.transcripts.highest(said.tenant, said.recording_id, said.index)
        return highest if highest is not None and highest.revision > said.revision else None

    async def _last_words(self, sent: Sequence[tuple[Record, Event]]) -> None:
        """Read again what was read before the write: what came meanwhile gets the last word."""
        newer = [(record, await self._newer(event)) for record, event in sent]
        records = [self._record(record, event) for record, event in newer if event is not None]
        if records:
            await self.log.publish(records)

    def _record(self, place: Record, event: Event) -> Record:
        key, body = self.topic.key(event), self.codec.encode(self.topic, event)
        headers = headers_for(self.topic, event, key, body, "replay")
        return Record(self.name, key.encode(), body, tuple(headers.items()), place.partition)


def _again(record: Record) -> Record:
    headers = record.headers
    if record.header(ORIGIN) is None:
        headers = (*headers, (ORIGIN, f"{record.topic}/{record.partition}/{record.offset}".encode()))
    return replace(record, headers=headers, offset=-1, timestamp_ms=0)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("replay")(replay_topic)


def replay_topic(
    topic: Annotated[str, typer.Option(help="Name without prefix, for example audio.transcripts.")],
    recording: Annotated[str, typer.Option(help="Only of this recording.")] = "",
    since: Annotated[
        datetime | None, typer.Option(help="Only what the broker got at this moment or later (UTC).")
    ] = None,
    json: Json = False,
) -> None:
    """Send what the log holds of a topic through again. Nothing changes that should not."""
    known = topic_of(topic)
    if known.event is None:
        raise Permanent("Dead letters are replayed by `earshot dlq replay`.", next_step="Use that.")
    moment = since.replace(tzinfo=UTC) if since is not None and since.tzinfo is None else since
    count = asyncio.run(_replay(known, recording, moment))
    if json:
        as_json({"replayed": count.replayed, "left_out": count.left_out})
    else:
        out.print(f"{count.replayed} replayed")
        if count.left_out:
            err.print(f"{count.left_out} left out: deleted, undecodable, erased, cancelled or overtaken.")


async def _replay(topic: Topic, recording_id: str, since: datetime | None) -> Count:
    settings = load(Settings)
    kit = Kit(settings)
    name = settings.topic(topic.name)
    try:
        return await Replay(kit.log, kit.codec, Gate(kit.catalog), kit.catalog, topic, name).run(recording_id, since)
    finally:
        await kit.log.close()
        await kit.catalog.close()
