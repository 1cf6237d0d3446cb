"""What happens to a batch: acknowledged only after everything it caused, poison put aside, outages waited out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any

import pytest

from earshot.kernel.codec import Codec, Record
from earshot.kernel.errors import Misconfigured, Permanent, Unavailable, UnitCrashed
from earshot.kernel.events import AudioUploaded, Engine, SegmentTranscribed, StageProgressed
from earshot.kernel.gate import Standing
from earshot.kernel.ids import bare_recording_id, foreign_recording_id
from earshot.kernel.stage import Delivery, Output, Stale, emit, erase_key, progress
from earshot.kernel.topics import AUDIO_SEGMENTS, AUDIO_TRANSCRIPTS, AUDIO_UPLOADED, RECORDINGS_PROGRESS, slot_of_key
from tests.fakes_stream import PARTITIONS, Bench, FakeProducer, record_of, recording, segment, stage_of
from tests.waiting import eventually

DLQ = "audio.segments.dlq"


def transcript(delivery: Delivery[Any]) -> Output:
    event = delivery.event
    said = SegmentTranscribed(
        tenant=event.tenant,
        recording_id=event.recording_id,
        revision=event.revision,
        index=event.index,
        start_ms=event.start_ms,
        end_ms=event.end_ms,
        text=f"segment {event.index}",
        engine=Engine(name="copy"),
    )
    return emit(AUDIO_TRANSCRIPTS, said, delivery)


async def copy(deliveries: Sequence[Delivery[Any]]) -> AsyncIterator[Output]:
    for delivery in deliveries:
        yield transcript(delivery)


class Failing:
    """A verb that raises, so many times, for chosen indexes; remembers the indexes of every call."""

    def __init__(self, errors: dict[int, list[Exception]]) -> None:
        self.errors = errors
        self.calls: list[list[int]] = []

    async def __call__(self, deliveries: Sequence[Delivery[Any]]) -> AsyncIterator[Output]:
        self.calls.append([delivery.event.index for delivery in deliveries])
        for delivery in deliveries:
            left = self.errors.get(delivery.event.index, [])
            if left:
                raise left.pop(0)
            yield transcript(delivery)


def headers(record: Record) -> dict[str, str]:
    return {name: value.decode("utf-8", "replace") for name, value in record.headers}


def failures(bench: Bench) -> list[StageProgressed]:
    events = [
        Codec().decode(RECORDINGS_PROGRESS, record.value or b"") for record in bench.producer.of("recordings.progress")
    ]
    return [event for event in events if isinstance(event, StageProgressed) and event.state == "failed"]


async def test_nothing_is_acknowledged_before_the_broker_has_every_output() -> None:
    bench = Bench(stage_of(copy))
    bench.producer.held = asyncio.Event()
    working = asyncio.create_task(bench.process(record_of(segment(0), 0), record_of(segment(1), 1)))
    await eventually(lambda: bench.vitals.paused)  # a slow send shows as a pause
    assert bench.acked == []
    bench.producer.held.set()
    await working
    assert bench.acked == [0, 1]
    assert [record.topic for record in bench.producer.sent] == ["audio.transcripts"] * 2
    assert bench.points == ["after_fetch", "in_work", "in_work", "after_send", "after_ack"]


class Unreachable(FakeProducer):
    """Takes no record before the test says so, as a client does that cannot find the broker."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()

    async def send(self, record: Record) -> Awaitable[None]:
        await self.reached.wait()
        return await super().send(record)


async def test_a_record_that_the_client_does_not_even_take_shows_as_a_pause_too() -> None:
    producer = Unreachable()
    bench = Bench(stage_of(copy), producer)
    working = asyncio.create_task(bench.process(record_of(segment(0), 0)))
    await eventually(lambda: "has not acknowledged" in bench.vitals.reason)
    producer.reached.set()
    await working
    assert (bench.acked, bench.vitals.paused) == ([0], False)


async def test_outputs_carry_cloud_events_headers_their_key_and_its_partition() -> None:
    bench = Bench(stage_of(copy))
    await bench.process(record_of(segment(3), 0))
    (out,) = bench.producer.sent
    assert out.key == f"{recording(0)}:3".encode()
    assert out.partition == slot_of_key(f"{recording(0)}:3") % PARTITIONS
    assert headers(out)["ce_source"] == "/earshot/copier"
    assert headers(out)["ce_type"] == "earshot.SegmentTranscribed"


async def test_the_gate_is_asked_once_before_and_once_after_a_batch() -> None:
    bench = Bench(stage_of(copy))
    await bench.process(*[record_of(segment(n), n) for n in range(4)])
    assert bench.standings.asked == 2


async def test_a_stage_that_keeps_the_catalog_itself_asks_no_gate() -> None:
    bench = Bench(stage_of(copy, gated=False))
    await bench.process(record_of(segment(0), 0))
    assert bench.standings.asked == 0
    assert bench.acked == [0]


@pytest.mark.parametrize("state", ["erased", "cancelled"])
async def test_what_was_withdrawn_is_not_worked_on(state: Any) -> None:
    verb = Failing({})
    bench = Bench(stage_of(verb))
    bench.standings.known["t", recording(0)] = Standing(state, 1)
    await bench.process(record_of(segment(0), 0), record_of(segment(0, of=1), 1))
    assert verb.calls == [[0]]
    assert sorted(bench.acked) == [0, 1]
    assert bench.producer.of(DLQ) == []


async def test_what_is_erased_during_the_work_is_undone_before_the_acknowledgement() -> None:
    order: list[str] = []

    async def work(deliveries: Sequence[Delivery[Any]]) -> AsyncIterator[Output]:
        yield transcript(deliveries[0])
        bench.standings.known["t", recording(0)] = Standing("erased", 1)

    async def undo(stale: Sequence[Stale]) -> AsyncIterator[Output]:
        order.append(f"undo {stale[0].verdict.value}, acked {bench.acked}")
        yield erase_key(AUDIO_TRANSCRIPTS, f"{recording(0)}:0", stale[0].delivery)

    bench = Bench(stage_of(work, undo=undo))
    await bench.process(record_of(segment(0), 7))
    assert order == ["undo erased, acked []"]
    assert [record.value is None for record in bench.producer.sent] == [False, True]
    assert bench.acked == [7]


async def test_a_verdict_that_changes_while_it_is_acted_on_is_acted_on_again() -> None:
    verdicts: list[str] = []

    async def work(deliveries: Sequence[Delivery[Any]]) -> AsyncIterator[Output]:
        yield transcript(deliveries[0])
        bench.standings.known["t", recording(0)] = Standing("cancelled", 1)

    async def undo(stale: Sequence[Stale]) -> AsyncIterator[Output]:
        verdicts.append(stale[0].verdict.value)
        bench.standings.known["t", recording(0)] = Standing("live", 2)  # tried again meanwhile
        yield erase_key(AUDIO_TRANSCRIPTS, f"{recording(0)}:0", stale[0].delivery)

    bench = Bench(stage_of(work, undo=undo))
    await bench.process(record_of(segment(0), 0))
    assert verdicts == ["cancelled", "overtaken"]
    assert bench.acked == [0]


async def test_an_outage_during_the_undoing_never_skips_it() -> None:
    undone: list[int] = []

    async def undo(stale: Sequence[Stale]) -> AsyncIterator[Output]:
        undone.append(len(stale))
        if len(undone) == 1:
            raise Unavailable("vectors", "The store does not answer.")
        yield erase_key(AUDIO_TRANSCRIPTS, f"{recording(0)}:0", stale[0].delivery)

    async def work(deliveries: Sequence[Delivery[Any]]) -> AsyncIterator[Output]:
        yield transcript(deliveries[0])
        bench.standings.known["t", recording(0)] = Standing("erased", 1)

    bench = Bench(stage_of(work, undo=undo))
    await bench.process(record_of(segment(0), 0))
    assert undone == [1, 1]
    assert [record.value is None for record in bench.producer.sent] == [False, True], "the work was done again"


async def test_outputs_of_a_worker_that_died_before_undoing_are_undone_by_the_next() -> None:
    async def undo(stale: Sequence[Stale]) -> AsyncIterator[Output]:
        yield erase_key(AUDIO_TRANSCRIPTS, f"{recording(0)}:0", stale[0].delivery)

    bench = Bench(stage_of(copy, undo=undo))
    bench.standings.known["t", recording(0)] = Standing("erased", 1)
    await bench.process(record_of(segment(0), 0))
    assert [record.value for record in bench.producer.sent] == [None]
    assert bench.acked == [0]


async def test_what_fails_because_it_was_erased_meanwhile_is_undone_and_no_dead_letter() -> None:
    """An erasure takes the audio from under whoever reads it."""

    async def undo(stale: Sequence[Stale]) -> AsyncIterator[Output]:
        yield erase_key(AUDIO_TRANSCRIPTS, f"{recording(0)}:0", stale[0].delivery)

    async def work(_: Sequence[Delivery[Any]]) -> AsyncIterator[Output]:
        bench.standings.known["t", recording(0)] = Standing("erased", 1)
        raise Permanent("There is nothing in the blob store.", code="blob_missing")
        yield

    bench = Bench(stage_of(work, undo=undo, costly=True))
    await bench.process(record_of(segment(0), 0))
    assert [(record.topic, record.value) for record in bench.producer.sent] == [("audio.transcripts", None)]
    assert bench.acked == [0]
    assert bench.attempts.counts == {}


async def test_unknown_recordings_are_dead_lettered_and_not_told_to_the_ledger() -> None:
    bench = Bench(stage_of(copy))
    bench.standings.known["t", recording(0)] = None
    await bench.process(record_of(segment(0), 0), record_of(segment(0, of=1), 1))
    (letter,) = bench.producer.of(DLQ)
    assert headers(letter)["earshot-error-code"] == "unknown_recording"
    assert failures(bench) == []
    assert sorted(bench.acked) == [0, 1]


async def test_unknown_recordings_are_adopted_where_the_stage_can() -> None:
    async def adopt(delivery: Delivery[Any]) -> None:
        bench.standings.known["t", delivery.event.recording_id] = Standing("live", 1)

    bench = Bench(stage_of(copy, adopt=adopt))
    bench.standings.known["t", recording(0)] = None
    await bench.process(record_of(segment(0), 0))
    assert bench.producer.of(DLQ) == []
    assert len(bench.producer.of("audio.transcripts")) == 1


async def test_what_cannot_be_adopted_is_dead_lettered_and_not_told_to_the_ledger() -> None:
    async def refuse(_delivery: Delivery[Any]) -> None:
        raise Permanent("Elsewhere.", code="foreign_uri")

    bench = Bench(stage_of(copy, adopt=refuse))
    bench.standings.known["t", recording(0)] = None
    await bench.process(record_of(segment(0), 0))
    assert headers(bench.producer.of(DLQ)[0])["earshot-error-code"] == "foreign_uri"
    assert bench.producer.of("recordings.progress") == []
    assert bench.acked == [0]


BAD = {
    "bad bytes": b"\x00\xff\x17 not an event",
    "unknown schema": b"\xc3\x01" + b"\x07" * 8 + b"body",
    "truncated": (record_of(segment(0), 0).value or b"")[:-4],
    "trailing bytes": (record_of(segment(0), 0).value or b"") + b"x",
    "another topic's event": record_of(segment(0), 0).value[:2] + b"\x01" * 8,  # type: ignore[index]
    "empty": b"",
}


@pytest.mark.parametrize("name", sorted(BAD))
async def test_poison_is_put_aside_with_its_bytes_headers_and_reason(name: str) -> None:
    bench = Bench(stage_of(copy))
    original = (("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"), ("twice", b"1"), ("twice", b"\xff"))
    poison = Record(AUDIO_SEGMENTS.name, b"key", BAD[name], original, 2, 41)
    await bench.process(poison, record_of(segment(5), 42))
    (letter,) = bench.producer.of(DLQ)
    assert (letter.key, letter.value) == (b"key", BAD[name])
    assert letter.headers[:3] == original
    why = headers(letter)
    assert why["earshot-stage"] == "copier"
    assert why["earshot-error-code"] == "undecodable_event"
    assert why["earshot-error"]
    assert why["earshot-source"] == "audio.segments/2/41"
    assert why["earshot-trace-id"] == "a" * 32
    assert why["earshot-failed-at"]
    assert bench.acked == [41, 42]
    assert len(bench.producer.of("audio.transcripts")) == 1


async def test_a_recording_id_that_is_no_uuid_is_poison() -> None:
    bench = Bench(stage_of(copy))
    await bench.process(record_of(segment(0, recording_id="a\x1fb"), 0))
    assert len(bench.producer.of(DLQ)) == 1


async def test_a_null_value_is_a_deletion_and_never_poison() -> None:
    bench = Bench(stage_of(copy))
    await bench.process(Record(AUDIO_SEGMENTS.name, b"key", None, (), 0, 5))
    assert bench.acked == [5]
    assert bench.producer.sent == []


async def test_a_stage_says_what_a_null_value_means() -> None:
    async def tombstone(record: Record) -> AsyncIterator[Output]:
        yield erase_key(AUDIO_TRANSCRIPTS, "x:0", Delivery(segment(0), record))

    bench = Bench(stage_of(copy, tombstone=tombstone))
    await bench.process(Record(AUDIO_SEGMENTS.name, b"x:0", None, (), 0, 5))
    assert [(record.topic, record.value) for record in bench.producer.sent] == [("audio.transcripts", None)]


async def test_a_permanent_error_is_dead_lettered_and_told_to_the_ledger_and_spares_the_batch() -> None:
    verb = Failing({1: [Permanent("No.", code="too_odd") for _ in range(2)]})
    bench = Bench(stage_of(verb))
    await bench.process(*[record_of(segment(n), n) for n in range(3)])
    (letter,) = bench.producer.of(DLQ)
    assert headers(letter)["earshot-error-code"] == "too_odd"
    (failed,) = failures(bench)
    assert (failed.stage, failed.index, failed.code, failed.detail) == ("copier", 1, "too_odd", "No.")
    assert (failed.start_ms, failed.end_ms) == (1000, 2000)
    assert verb.calls == [[0, 1, 2], [0], [1], [2]]
    assert bench.acked == [0, 1, 2]


async def test_a_transient_error_is_waited_out_with_its_reason_shown() -> None:
    verb = Failing({0: [Unavailable("vectors", "The store does not answer.") for _ in range(5)]})
    bench = Bench(stage_of(verb))
    await bench.process(record_of(segment(0), 0))
    assert bench.reasons == ["The store does not answer."] * 5
    assert all(0.25 * 2**n <= wait <= 0.5 * 2**n for n, wait in enumerate(bench.waits))
    assert bench.producer.of(DLQ) == []
    assert bench.acked == [0]
    assert not bench.vitals.paused


async def test_a_catalog_that_is_down_is_waited_out() -> None:
    bench = Bench(stage_of(copy))
    bench.standings.errors = [Unavailable("catalog", "It does not answer.") for _ in range(3)]
    await bench.process(record_of(segment(0), 0))
    assert len(bench.waits) == 3
    assert bench.acked == [0]


async def test_a_refused_send_never_acknowledges_the_input() -> None:
    bench = Bench(stage_of(copy))
    times = iter([Unavailable("broker", "It lost its leader."), None, None])
    bench.producer.refuse = lambda _record: next(times)
    await bench.process(record_of(segment(0), 0))
    assert len(bench.waits) == 1
    assert len(bench.producer.of("audio.transcripts")) == 1
    assert bench.acked == [0]


async def test_an_output_refused_for_good_dead_letters_its_input() -> None:
    bench = Bench(stage_of(copy))
    bench.producer.refuse = lambda record: (
        Permanent("Too large.", code="output_too_large") if record.topic == "audio.transcripts" else None
    )
    await bench.process(record_of(segment(0), 0))
    assert headers(bench.producer.of(DLQ)[0])["earshot-error-code"] == "output_too_large"
    assert failures(bench)[0].code == "output_too_large"
    assert bench.acked == [0]


async def test_an_unknown_error_leaves_the_event_unacknowledged() -> None:
    bench = Bench(stage_of(Failing({0: [ZeroDivisionError(), ZeroDivisionError()]})))
    with pytest.raises(ZeroDivisionError):
        await bench.process(record_of(segment(0), 0))
    assert bench.acked == []
    assert bench.producer.of(DLQ) == []


async def test_misconfiguration_is_raised_at_once() -> None:
    verb = Failing({0: [Misconfigured("No model.")]})
    bench = Bench(stage_of(verb))
    with pytest.raises(Misconfigured):
        await bench.process(record_of(segment(0), 0), record_of(segment(1), 1))
    assert verb.calls == [[0, 1]]
    assert bench.acked == []


async def test_cancelled_work_is_not_acknowledged_and_not_counted_as_a_crash() -> None:
    started = asyncio.Event()

    async def hang(_deliveries: Sequence[Delivery[Any]]) -> AsyncIterator[Output]:
        started.set()
        await asyncio.Event().wait()
        yield transcript(_deliveries[0])

    bench = Bench(stage_of(hang, costly=True))
    working = asyncio.create_task(bench.process(record_of(segment(0), 0)))
    await started.wait()
    assert bench.attempts.counts
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert bench.acked == []
    assert bench.attempts.counts == {}


async def test_the_third_crash_of_a_costly_unit_dead_letters_it_within_one_worker() -> None:
    verb = Failing({0: [UnitCrashed("The engine died.") for _ in range(9)]})
    bench = Bench(stage_of(verb, costly=True))
    await bench.process(record_of(segment(0), 0))
    assert len(verb.calls) == 3
    assert headers(bench.producer.of(DLQ)[0])["earshot-error-code"] == "unit_crashed"
    assert bench.attempts.counts == {}


async def test_a_unit_that_took_three_workers_down_is_dead_lettered_by_the_fourth() -> None:
    verb = Failing({})
    bench = Bench(stage_of(verb, costly=True))
    bench.attempts.counts[f"{recording(0)}:1:0"] = 3
    await bench.process(record_of(segment(0), 0), record_of(segment(1), 1))
    assert verb.calls == [[1]]
    assert headers(bench.producer.of(DLQ)[0])["earshot-error-code"] == "unit_crashed"
    assert sorted(bench.acked) == [0, 1]


async def test_an_unknown_error_of_a_costly_unit_stops_the_worker_twice_and_dead_letters_the_third_time() -> None:
    verb = Failing({0: [ZeroDivisionError("an inside") for _ in range(9)]})
    bench = Bench(stage_of(verb, costly=True))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await bench.process(record_of(segment(0), 0))
        assert bench.acked == []
    await bench.process(record_of(segment(0), 0))
    (letter,) = bench.producer.of(DLQ)
    assert "ZeroDivisionError" in headers(letter)["earshot-error"]
    assert not any("an inside" in event.detail or b"an inside" in str(letter).encode() for event in failures(bench))
    assert bench.acked == [0]


async def test_an_outage_does_not_count_as_a_try_of_a_costly_unit() -> None:
    verb = Failing({0: [Unavailable("engine", "Down.") for _ in range(7)]})
    bench = Bench(stage_of(verb, costly=True))
    await bench.process(record_of(segment(0), 0))
    assert bench.producer.of(DLQ) == []
    assert bench.attempts.counts == {}


async def test_an_outage_between_two_crashes_does_not_make_them_forgotten() -> None:
    crash, outage = UnitCrashed("The engine died."), Unavailable("engine", "Down.")
    verb = Failing({0: [crash, outage, crash, outage, outage, crash]})
    bench = Bench(stage_of(verb, costly=True))
    await bench.process(record_of(segment(0), 0))
    assert len(verb.calls) == 6
    assert headers(bench.producer.of(DLQ)[0])["earshot-error-code"] == "unit_crashed"
    assert bench.attempts.counts == {}


async def test_what_was_tried_before_is_tried_alone() -> None:
    verb = Failing({})
    bench = Bench(stage_of(verb, costly=True))
    bench.attempts.counts[f"{recording(0)}:1:1"] = 1
    await bench.process(*[record_of(segment(n), n) for n in range(3)])
    assert verb.calls == [[0, 2], [1]]


async def test_too_many_dead_letters_in_a_row_stop_the_worker() -> None:
    bench = Bench(stage_of(copy), limit=3)
    poison = [Record(AUDIO_SEGMENTS.name, b"k", b"?", (), 0, n) for n in range(4)]
    with pytest.raises(Misconfigured, match="3 events in a row"):
        await bench.process(*poison)
    assert len(bench.producer.of(DLQ)) == 3
    assert bench.acked == [0, 1, 2]


async def test_a_success_between_breaks_the_row() -> None:
    bench = Bench(stage_of(copy), limit=2)
    for n in range(6):
        await bench.process(Record(AUDIO_SEGMENTS.name, b"k", b"?", (), 0, 2 * n), record_of(segment(n), 2 * n + 1))
    assert len(bench.producer.of(DLQ)) == 6


async def test_a_dead_letter_topic_that_refuses_stops_the_worker() -> None:
    bench = Bench(stage_of(copy))
    bench.producer.refuse = lambda record: Permanent("Too large.") if record.topic == DLQ else None
    with pytest.raises(Misconfigured, match=r"max\.message\.bytes"):
        await bench.process(Record(AUDIO_SEGMENTS.name, b"k", b"?", (), 0, 0))
    assert bench.acked == []


async def test_a_foreign_upload_gets_its_id_from_its_headers_or_its_place() -> None:
    seen: list[str] = []

    async def note(deliveries: Sequence[Delivery[Any]]) -> AsyncIterator[Output]:
        seen.extend(delivery.event.recording_id for delivery in deliveries)
        for delivery in deliveries:
            yield progress("copier", delivery)

    bench = Bench(stage_of(note, sources=(AUDIO_UPLOADED,)))
    upload = record_of(AudioUploaded(tenant="t", uri="file:///t/a.wav"), 9, AUDIO_UPLOADED)
    named = Record(upload.topic, None, upload.value, (("ce_source", b"/theirs"), ("ce_id", b"7")), 3, 10)
    await bench.process(upload, named)
    assert seen == [bare_recording_id("t", "audio.uploaded", 0, 9), foreign_recording_id("t", "/theirs", "7")]
