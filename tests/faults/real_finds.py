"""Looking at everything that a system of real stages holds: the oracle's eyes."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import closing

import httpx

from earshot.eraser.remains import remains
from earshot.kernel.codec import Record
from earshot.kernel.events import SegmentEmbedded, SegmentTranscribed
from earshot.kernel.ports import SearchFilters
from earshot.kernel.topics import AUDIO_EMBEDDINGS, AUDIO_TRANSCRIPTS, TOPICS, Topic
from tests.faults.real import Flow
from tests.faults.real_oracle import Passage, Seen

TENANT = "default"
TOMBSTONES = {"recordings", "leases", "audit"}
"""Tables that keep ids alone: the tombstone, what a segmenter held that died until it is pruned, who asked for what."""
MANY = 1000
"""More passages than any recording here has."""


async def records(flow: Flow, *topics: Topic) -> list[Record]:
    """Everything in some topics."""
    names = [flow.settings.topic(topic.name) for topic in topics]
    return [record async for record in flow.kit.log.tail(names, from_start=True, follow=False)]


async def last_values(flow: Flow, topic: Topic) -> dict[str, Record]:
    """The last record of every key."""
    return {(record.key or b"").decode(): record for record in await records(flow, topic)}


async def doubled_in_the_log(flow: Flow, recording_ids: Collection[str]) -> int:
    """How many transcripts of some recordings ``audio.transcripts`` holds beyond the first of each key and revision."""
    values = [record.value for record in await records(flow, AUDIO_TRANSCRIPTS) if record.value is not None]
    said = [flow.kit.codec.decode(AUDIO_TRANSCRIPTS, value) for value in values]
    places = [(e.recording_id, e.revision, e.index) for e in said if isinstance(e, SegmentTranscribed)]
    ours = [place for place in places if place[0] in recording_ids]
    return len(ours) - len(set(ours))


async def dead_letters(flow: Flow) -> list[str]:
    """Every dead letter, with its reason."""
    letters = await records(flow, *[topic.dead_letters for topic in TOPICS])
    return [f"dead-lettered: {dict(letter.headers)}" for letter in letters]


async def see(flow: Flow, recording_ids: Collection[str]) -> dict[str, Seen]:
    """All that is found of some recordings."""
    published: dict[str, dict[int, str]] = defaultdict(dict)
    for record in (await last_values(flow, AUDIO_TRANSCRIPTS)).values():
        if record.value is not None:
            said = flow.kit.codec.decode(AUDIO_TRANSCRIPTS, record.value)
            assert isinstance(said, SegmentTranscribed)
            published[said.recording_id][said.index] = said.text
    embedded = await _embedded(flow)
    return {each: await _see(flow, each, published[each], embedded[each]) for each in recording_ids}


async def _see(flow: Flow, recording_id: str, published: dict[int, str], embedded: Sequence[SegmentEmbedded]) -> Seen:
    job = await flow.job(recording_id)
    answer = await flow.http.get(f"/recordings/{recording_id}/transcript")
    told = answer.json()["segments"] if answer.status_code == httpx.codes.OK else []
    return Seen(
        state=job["state"],
        revision=job["revision"],
        transcript=[(segment["index"], segment["text"]) for segment in told if segment.get("text") is not None],
        published=published,
        embedded=[
            (event.revision, event.index, passage.ordinal, passage.text)
            for event in embedded
            if event.revision == job["revision"]
            for passage in event.passages
        ],
        indexed=await indexed(flow, recording_id),
        counted=await counted(flow, recording_id),
    )


async def not_told(flow: Flow, recording_id: str) -> list[str]:
    """Passages that do not say who speaks in them as the turns do."""
    voices = (await flow.kit.catalog.voices(TENANT, [recording_id])).get(recording_id)
    if voices is None:
        return ["nobody knows who speaks"]
    return [
        f"passage {each.id} of revision {each.revision} says {each.speakers}"
        for index in await flow.kit.vectors.indexes()
        for each in await flow.kit.vectors.passages_of(index, TENANT, recording_id)
        if each.speakers != voices.who(each.revision, each.start_ms, each.end_ms, ())
    ]


async def _embedded(flow: Flow) -> dict[str, list[SegmentEmbedded]]:
    """By recording, the last event of each segment and revision."""
    last: dict[tuple[str, int, int], SegmentEmbedded] = {}
    for record in await records(flow, AUDIO_EMBEDDINGS):
        event = flow.kit.codec.decode(AUDIO_EMBEDDINGS, record.value or b"")
        assert isinstance(event, SegmentEmbedded)
        last[event.recording_id, event.revision, event.index] = event
    by_recording: dict[str, list[SegmentEmbedded]] = defaultdict(list)
    for event in last.values():
        by_recording[event.recording_id].append(event)
    return by_recording


async def indexed(flow: Flow, recording_id: str) -> list[Passage]:
    """Every passage of a recording in every index the catalog knows: a search by vector that excludes nothing."""
    found: list[Passage] = []
    for index in await flow.kit.catalog.indexes():
        hits = await flow.kit.vectors.search(
            index.name,
            TENANT,
            text="",
            vector=[1.0] + [0.0] * (index.dimensions - 1),
            mode="vector",
            filters=SearchFilters(recording_ids=(recording_id,)),
            limit=MANY,
        )
        found += [
            (hit.passage.revision, hit.passage.segment_index, hit.passage.ordinal, hit.passage.text) for hit in hits
        ]
    return found


async def counted(flow: Flow, recording_id: str) -> int:
    """How many passages the vector store counts in all its indexes."""
    return sum([await flow.kit.vectors.count(name, TENANT, recording_id) for name in await flow.kit.vectors.indexes()])


# --- what is left of what was erased or cancelled -----------------------------------------------------------------


async def left_of_erased(flow: Flow, recording_id: str) -> list[str]:
    """What ``earshot erase --verify`` finds, but for the log's own last line, and every row of the catalog."""
    *found, _log = await remains(flow.kit, TENANT, recording_id)
    rows = await asyncio.to_thread(_rows_about, flow, recording_id)
    return found + [f"row in {table}: {row}" for table, row in rows if table not in TOMBSTONES]


def _rows_about(flow: Flow, recording_id: str) -> list[tuple[str, str]]:
    """Every row of the catalog in which the id of a recording stands."""
    found: list[tuple[str, str]] = []
    with closing(sqlite3.connect(f"file:{flow.data}/catalog.sqlite?mode=ro", uri=True)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            rows = db.execute(f'SELECT * FROM "{table}"').fetchall()
            found += [(table, str(row)[:300]) for row in rows if recording_id in str(row)]
    return found


async def left_of_cancelled(flow: Flow, recording_id: str, revision: int) -> list[str]:
    """Passages, transcripts and blobs of a cancelled attempt."""
    found = [f"indexed: {passage}" for passage in await indexed(flow, recording_id) if passage[0] == revision]
    found += [f"row: {row}" for row in await flow.kit.catalog.stored(TENANT, recording_id) if row[0] == revision]
    derived = f"{TENANT}/recordings/{recording_id}/{revision}/"
    found += [f"blob: {key}" async for key, _ in flow.kit.blobs.list(derived)]
    for record in (await last_values(flow, AUDIO_TRANSCRIPTS)).values():
        said = flow.kit.codec.decode(AUDIO_TRANSCRIPTS, record.value) if record.value is not None else None
        if said is not None and (said.recording_id, said.revision) == (recording_id, revision):
            found.append(f"on audio.transcripts: {record.key!r}")
    return found


async def unused_transcripts(flow: Flow) -> list[str]:
    """Cached transcripts that no stored segment of the tenant names: nothing would ever delete them."""
    with closing(sqlite3.connect(f"file:{flow.data}/catalog.sqlite?mode=ro", uri=True)) as db:
        used = {cache_key for (cache_key,) in db.execute("SELECT DISTINCT cache_key FROM transcript_segments")}
    return [f"cached: {key}" async for key, _ in flow.kit.blobs.list(f"{TENANT}/transcripts/") if key not in used]


async def source_is_kept(flow: Flow, recording_id: str) -> bool:
    """Whether the audio of a recording is still there."""
    recording = await flow.kit.catalog.recording(TENANT, recording_id)
    assert recording is not None
    assert recording.source_key is not None
    return await flow.kit.blobs.size(recording.source_key) > 0
