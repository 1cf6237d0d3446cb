"""What a replay sends, and that a higher revision always keeps the last word on a compacted topic."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

import pytest

from earshot.cli.replay import Replay
from earshot.kernel import ids
from earshot.kernel.codec import Codec, Record
from earshot.kernel.events import Engine, SegmentTranscribed
from earshot.kernel.gate import Gate, RecordingKey, Standing
from earshot.kernel.ports import StoredSegment
from earshot.kernel.topics import AUDIO_TRANSCRIPTS
from tests.fakes_log import FakeLog
from tests.fakes_speech import FakeTranscripts

CODEC, NAME = Codec(), AUDIO_TRANSCRIPTS.name
ONE, OTHER = ids.derive("one"), ids.derive("other")


class FakeStandings:
    def __init__(self, **by_recording: Standing) -> None:
        self.found = {("default", name): standing for name, standing in by_recording.items()}

    async def standings(self, keys: Collection[RecordingKey]) -> Mapping[RecordingKey, Standing]:
        return {key: self.found[key] for key in keys if key in self.found}


def said(text: str, *, revision: int = 1, recording_id: str = ONE, index: int = 0) -> SegmentTranscribed:
    about = {"recording_id": recording_id, "revision": revision, "index": index, "start_ms": 0, "end_ms": 9}
    return SegmentTranscribed(text=text, engine=Engine(name="e"), **about)  # type: ignore[arg-type]


def record(event: SegmentTranscribed | None, at_ms: int = 0, recording_id: str = ONE) -> Record:
    key = AUDIO_TRANSCRIPTS.key(event) if event is not None else f"{recording_id}:0"
    value = None if event is None else CODEC.encode(AUDIO_TRANSCRIPTS, event)
    return Record(NAME, key.encode(), value, (("ce_id", b"1"),), 0, timestamp_ms=at_ms)


def texts(log: FakeLog) -> list[str]:
    values = [each.value for each in log.records]
    return ["" if value is None else CODEC.decode(AUDIO_TRANSCRIPTS, value).text for value in values]  # type: ignore[attr-defined]


async def replay(
    log: FakeLog, transcripts: FakeTranscripts, *standings: tuple[str, Standing], **wished: object
) -> list[str]:
    """Replay; return the texts of what was published behind."""
    before = len(log.records)
    gate = Gate(FakeStandings(**dict(standings)))
    everything: dict[str, object] = {"recording_id": "", "since": None}
    await Replay(log, CODEC, gate, transcripts, AUDIO_TRANSCRIPTS, NAME).run(**(everything | wished))  # type: ignore[arg-type]
    return texts(log)[before:]


LIVE = Standing("live", 1)


async def test_records_go_behind_as_they_are_in_their_order() -> None:
    log = FakeLog({NAME: 1})
    await log.publish([record(said("a")), record(said("b", index=1))])
    assert await replay(log, FakeTranscripts(), (ONE, LIVE)) == ["a", "b"]
    first, again = log.records[0], log.records[2]
    assert (again.key, again.value) == (first.key, first.value)
    assert again.headers == (*first.headers, ("earshot-origin", b"audio.transcripts/0/0"))


@pytest.mark.parametrize(
    "standing", [Standing("erased", 1), Standing("cancelled", 1), Standing("live", 3, visible_from=3)]
)
async def test_what_is_erased_cancelled_or_overtaken_is_left_out(standing: Standing) -> None:
    log = FakeLog({NAME: 1})
    await log.publish([record(said("a")), record(None)])
    assert await replay(log, FakeTranscripts(), (ONE, standing)) == []


async def test_only_what_is_wished_for_is_sent() -> None:
    log = FakeLog({NAME: 1})
    await log.publish([record(said("a"), 1000), record(said("b", recording_id=OTHER), 2000), record(said("c"), 3000)])
    both = ((ONE, LIVE), (OTHER, LIVE))
    assert await replay(log, FakeTranscripts(), *both, since=datetime.fromtimestamp(3, UTC)) == ["c"]
    log.records = log.records[:3]
    assert await replay(log, FakeTranscripts(), *both, recording_id=OTHER) == ["b"]


async def test_a_lower_revision_is_not_sent_behind_a_higher_one() -> None:
    log, transcripts = FakeLog({NAME: 1}), FakeTranscripts()
    await log.publish([record(said("old")), record(said("new", revision=2))])
    await transcripts.store([StoredSegment(said("old"), ""), StoredSegment(said("new", revision=2), "")])
    assert await replay(log, transcripts, (ONE, Standing("live", 2, visible_from=1))) == ["new"]


class Overtaking(FakeLog):
    """A higher revision is stored and published right before what is being replayed arrives."""

    transcripts: FakeTranscripts

    async def publish(self, records: Sequence[Record]) -> None:
        if any(name == "earshot-origin" for each in records for name, _ in each.headers):
            newer = said("new", revision=2)
            await self.transcripts.store([StoredSegment(newer, "")])
            await super().publish([record(newer)])
        await super().publish(records)


async def test_what_overtakes_a_replay_in_its_middle_keeps_the_last_word() -> None:
    log = Overtaking({NAME: 1})
    log.transcripts = FakeTranscripts()
    await log.publish([record(said("old"))])
    assert await replay(log, log.transcripts, (ONE, LIVE)) == ["new", "old", "new"]
