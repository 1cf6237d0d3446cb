"""Two small stages in a row, each behaving as its events say, over stores that survive ``kill -9``.

``copier`` turns segments into transcripts; ``shelver`` writes each transcript's passages into a table, replacing what
was there. What an event's ``language`` says makes the copier misbehave.
"""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from earshot.kernel.codec import Record
from earshot.kernel.errors import Permanent, Unavailable
from earshot.kernel.events import Engine, SegmentCut, SegmentTranscribed
from earshot.kernel.gate import RecordingKey, Standing
from earshot.kernel.ports import Heartbeat
from earshot.kernel.stage import BatchPolicy, Delivery, Output, Stage, Stale, emit, erase_key, progress
from earshot.kernel.topics import AUDIO_SEGMENTS, AUDIO_TRANSCRIPTS, RECORDINGS_PROGRESS

WORDS = ("first", "second")
TABLES = """
CREATE TABLE IF NOT EXISTS passages (recording TEXT, segment INTEGER, text TEXT);
CREATE TABLE IF NOT EXISTS standings (tenant TEXT, recording TEXT, state TEXT, revision INTEGER,
    PRIMARY KEY (tenant, recording));
CREATE TABLE IF NOT EXISTS attempts (stage TEXT, unit TEXT, count INTEGER, PRIMARY KEY (stage, unit));
CREATE TABLE IF NOT EXISTS notes (name TEXT, detail TEXT);
CREATE TABLE IF NOT EXISTS beats (stage TEXT PRIMARY KEY, state TEXT, reason TEXT);
"""


class Shelf:
    """Everything durable beside the log, in one SQLite file: passages, standings, tries, heartbeats, notes."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "shelf.sqlite"
        with self._open() as db:
            db.executescript(TABLES)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=30)) as db, db:
            yield db

    def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._open() as db:
            return db.execute(statement, values).fetchall()

    def replace(self, recording: str, index: int, texts: Sequence[str]) -> None:
        with self._open() as db:
            db.execute("DELETE FROM passages WHERE recording = ? AND segment = ?", (recording, index))
            db.executemany("INSERT INTO passages VALUES (?, ?, ?)", [(recording, index, text) for text in texts])

    def passages(self) -> list[tuple[str, int, str]]:
        return [(str(a), int(b), str(c)) for a, b, c in self.run("SELECT recording, segment, text FROM passages")]

    def note(self, name: str, detail: str = "") -> int:
        """Write a note; how many of that name and detail there are now."""
        self.run("INSERT INTO notes VALUES (?, ?)", name, detail)
        return int(self.run("SELECT count(*) FROM notes WHERE name = ? AND detail = ?", name, detail)[0][0])

    def notes(self, name: str) -> list[str]:
        return [str(row[0]) for row in self.run("SELECT detail FROM notes WHERE name = ?", name)]

    # --- the kernel's ports -----------------------------------------------------------------------------------------

    async def standings(self, keys: Collection[RecordingKey]) -> Mapping[RecordingKey, Standing]:
        rows = await asyncio.to_thread(self.run, "SELECT tenant, recording, state, revision FROM standings")
        known = {(tenant, recording): Standing(state, revision) for tenant, recording, state, revision in rows}
        return {key: known.get(key, Standing("live", 1)) for key in keys}

    async def begin_first(self, stage: str, units: Sequence[str]) -> set[str]:
        statement = "INSERT INTO attempts VALUES (?, ?, 1) ON CONFLICT DO NOTHING RETURNING unit"
        return {row[0] for unit in units for row in await asyncio.to_thread(self.run, statement, stage, unit)}

    async def begin(self, stage: str, unit: str) -> int:
        statement = "INSERT INTO attempts VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count"
        return int((await asyncio.to_thread(self.run, statement, stage, unit))[0][0])

    async def forgive(self, stage: str, unit: str) -> None:
        statement = "UPDATE attempts SET count = count - 1 WHERE stage = ? AND unit = ?"
        await asyncio.to_thread(self.run, statement, stage, unit)

    async def finish(self, stage: str, units: Sequence[str]) -> None:
        for unit in units:
            await asyncio.to_thread(self.run, "DELETE FROM attempts WHERE stage = ? AND unit = ?", stage, unit)

    async def beat(self, beat: Heartbeat) -> None:
        statement = "INSERT OR REPLACE INTO beats VALUES (?, ?, ?)"
        await asyncio.to_thread(self.run, statement, beat.stage, beat.state, beat.reason)

    async def heartbeats(self) -> list[Heartbeat]:
        raise NotImplementedError  # the tests read the table


def passages_of(text: str) -> list[str]:
    """The passage set of a transcript."""
    return [f"{text}, {word} half" for word in WORDS]


def stages(shelf: Shelf) -> dict[str, Stage]:
    """Both stages by name."""
    copier = Stage(
        "copier",
        (AUDIO_SEGMENTS,),
        (AUDIO_TRANSCRIPTS, RECORDINGS_PROGRESS),
        Copier(shelf),
        undo=_withdraw,
        batch=BatchPolicy(max_events=4),
        batches_in_work=2,
    )
    shelver = Stage(
        "shelver",
        (AUDIO_TRANSCRIPTS,),
        (RECORDINGS_PROGRESS,),
        Shelver(shelf),
        undo=Shelver(shelf).undo,
        batch=BatchPolicy(max_events=2),
        tombstone=Shelver(shelf).tombstone,
    )
    costly = Stage(
        "costly",
        (AUDIO_SEGMENTS,),
        (AUDIO_TRANSCRIPTS, RECORDINGS_PROGRESS),
        Copier(shelf),
        batches_in_work=2,
        costly=True,
        deadline_s=1,
    )
    return {"copier": copier, "shelver": shelver, "costly": costly}


class Copier:
    """Segment in, transcript out; misbehaves where the event says so."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def __call__(self, deliveries: Sequence[Delivery[SegmentCut]]) -> AsyncIterator[Output]:
        for delivery in deliveries:
            text = await self._misbehave(delivery.event)
            yield emit(AUDIO_TRANSCRIPTS, transcript(delivery.event, text), delivery)
            yield progress("copier", delivery)

    async def _misbehave(self, event: SegmentCut) -> str:
        how = event.language
        tries = await asyncio.to_thread(self._shelf.note, how, str(event.index)) if how else 0
        if how == "permanent":
            raise Permanent("This one never.", code="never")
        if how == "transient" and tries <= 3:
            raise Unavailable("engine", "The engine is warming up.")
        if how == "bug" and not self._shelf.notes("mended"):
            raise ZeroDivisionError("a bug")
        if how in STALLS and not self._shelf.notes("mended"):
            await STALLS[how]()
        while how in ("slow", "down") and not self._shelf.notes("release"):
            if how == "down":
                raise Unavailable("engine", "The engine is down.")
            await asyncio.sleep(0.02)
        return text_of(event) * (20_000 if how == "huge" else 1)


async def _hang() -> None:
    """The unit never ends."""
    await asyncio.Event().wait()


async def _block() -> None:
    """The event loop does not turn any more."""
    time.sleep(3600)  # noqa: ASYNC251 - that is the fault


async def _starve() -> None:
    """Whatever fetches from the log in this process hangs from now on; the unit goes on."""
    for each in gc.get_objects():
        kind = f"{type(each).__module__}.{type(each).__name__}"
        if kind == "earshot.streams.kafka.Consumer":
            each._thread.thread_loop.call_soon_threadsafe(time.sleep, 3600)
        if kind == "earshot.streams.sqlite.Consumer":
            each.log_file._reader._thread.submit(time.sleep, 3600)


STALLS = {"hang": _hang, "block": _block, "starve": _starve}
"""Ways to stall in silence."""


class Shelver:
    """Transcript in, passages in the table."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def __call__(self, deliveries: Sequence[Delivery[SegmentTranscribed]]) -> AsyncIterator[Output]:
        for delivery in deliveries:
            event = delivery.event
            await asyncio.to_thread(self._shelf.replace, event.recording_id, event.index, passages_of(event.text))
            yield progress("shelver", delivery)

    async def undo(self, stale: Sequence[Stale]) -> AsyncIterator[Output]:
        for item in stale:
            event = item.delivery.event
            assert isinstance(event, SegmentTranscribed)
            await asyncio.to_thread(self._shelf.replace, event.recording_id, event.index, [])
        for _ in ():
            yield _

    async def tombstone(self, record: Record) -> AsyncIterator[Output]:
        recording, _, index = (record.key or b"").decode().partition(":")
        await asyncio.to_thread(self._shelf.replace, recording, int(index), [])
        for _ in ():
            yield _


async def _withdraw(stale: Sequence[Stale]) -> AsyncIterator[Output]:
    for item in stale:
        yield erase_key(AUDIO_TRANSCRIPTS, AUDIO_TRANSCRIPTS.key(item.delivery.event), item.delivery)


def text_of(event: SegmentCut) -> str:
    """What a segment says; so many characters of it where its language is ``size:N``."""
    said, size = f"{event.recording_id} at {event.index}", event.language.removeprefix("size:")
    return said.ljust(int(size), ".") if size.isdigit() else said


def transcript(event: SegmentCut, text: str) -> SegmentTranscribed:
    """The transcript of a segment."""
    return SegmentTranscribed(
        tenant=event.tenant,
        recording_id=event.recording_id,
        revision=event.revision,
        index=event.index,
        start_ms=event.start_ms,
        end_ms=event.end_ms,
        text=text,
        engine=Engine(name="copy"),
    )
