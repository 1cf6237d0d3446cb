"""An agent that raises, poison, a refused send, a slow first message: stock Faust loses or blocks on every one."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from earshot.kernel.codec import Codec, Record
from earshot.kernel.events import SegmentCut, StageProgressed
from earshot.kernel.topics import AUDIO_SEGMENTS, AUDIO_TRANSCRIPTS, RECORDINGS_PROGRESS
from tests.fakes_stream import record_of
from tests.faults.conftest import EITHER
from tests.faults.guarantees import Outcome
from tests.faults.system import System
from tests.waiting import eventually


def headers(record: Record) -> dict[str, str]:
    return {name: value.decode("utf-8", "replace") for name, value in record.headers}


def poison(system: System) -> list[Record]:
    """Bad bytes, an unknown schema, a missing field, trailing bytes; each with a header that must survive."""
    good = record_of(system.segments(1)[0], -1)
    assert good.value is not None
    values = [b"\x00junk", b"\xc3\x01" + b"\x07" * 8, good.value[:-3], good.value + b"?"]
    return [Record(good.topic, good.key, value, (("origin", value[-2:]),)) for value in values]


@pytest.mark.row(11, "bad bytes, an unknown schema, a missing field, trailing bytes, a null, among good events")
async def test_poison_and_permanent_errors_are_put_aside_and_transient_ones_waited_out(
    system: System, outcome: Outcome
) -> None:
    bad = poison(system)
    never, later, *good = system.segments(8)
    never, later = (
        never.model_copy(update={"language": "permanent"}),
        later.model_copy(update={"language": "transient"}),
    )
    await system.publish(*good[:3])
    await system.put(AUDIO_SEGMENTS, *bad, Record("", b"gone:0", None))
    await system.publish(never, arrives=False)
    await system.publish(later, *good[3:])
    refused = record_of(never, -1)
    system.expected.poison = [record.value for record in (*bad, refused)]
    outcome.hit(await system.behind("copier"), faults=len(bad) + 1)
    with outcome.recovering():
        system.start("copier")
        system.start("shelver")
        await system.settles()
    await system.account(outcome)

    letters = {record.value: record for record in await system.letters()}
    places = {r.value: {(r.partition, r.offset)} for r in await system.records(AUDIO_SEGMENTS)}
    for record in bad:
        letter = letters[record.value]
        assert (letter.key, letter.headers[0]) == (record.key, record.headers[0])
        assert headers(letter)["earshot-error-code"] == "undecodable_event"
        topic, partition, offset = headers(letter)["earshot-source"].split("/")
        assert topic == system.settings.topic("audio.segments")
        assert (int(partition), int(offset)) in places[record.value]
    assert headers(letters[refused.value])["earshot-error-code"] == "never"
    events = [Codec().decode(RECORDINGS_PROGRESS, r.value or b"") for r in await system.records(RECORDINGS_PROGRESS)]
    failed = [event for event in events if isinstance(event, StageProgressed) and event.state == "failed"]
    assert {(event.stage, event.recording_id, event.index, event.code) for event in failed} == {
        ("copier", never.recording_id, never.index, "never")
    }
    assert len(system.shelf.notes("transient")) >= 4


@pytest.mark.row(2, "permanent, transient and unknown errors among good events; stock Faust commits past each")
async def test_an_error_is_put_aside_waited_out_or_stops_the_worker_and_no_offset_passes_it(
    system: System, outcome: Outcome
) -> None:
    kinds = ("permanent", "transient", "bug")
    events = [
        event.model_copy(update={"language": kind}) for event, kind in zip(system.segments(3), kinds, strict=True)
    ]
    never, later, bug = events
    await system.publish(never, arrives=False)
    await system.publish(later, *system.segments(6), bug, *system.segments(6))
    system.expected.poison = [record_of(never, -1).value]
    for _ in range(2):  # whoever starts it again does not help
        outcome.hit(await system.behind("copier"), faults=len(kinds))
        worker = system.start("copier")
        assert await worker.ended() == 70
        assert "ZeroDivisionError" in worker.log()
        assert await system.behind("copier") > 0
    system.shelf.note("mended")
    with outcome.recovering():
        system.start("copier")
        system.start("shelver")
        await system.settles()
    await system.account(outcome)


@pytest.mark.row(3, "the first message slow, eight behind it done; then `kill -9`; stock Faust loses the first")
async def test_a_slow_first_message_is_not_passed_by_the_fast_ones_behind_it(system: System, outcome: Outcome) -> None:
    """The report is faust-streaming #606: with ``kill -9`` the first message was lost.

    Here the second batch is done, acknowledged and would be committed while the first is still in work.
    """
    first, *_ = system.segments(1)
    behind = [first.model_copy(update={"index": first.index + 3 * n}) for n in range(1, 9)]  # the same partition
    await system.publish(first.model_copy(update={"language": "slow"}), *behind)
    worker = system.start("copier")
    await eventually(lambda: system.shelf.notes("slow"))
    await eventually(lambda: done_of(system, behind[3:]))
    elsewhere = first.model_copy(update={"index": first.index + 1})
    await system.publish(elsewhere)
    await eventually(lambda: committed(system))  # so a commit came after the second batch
    worker.signal(signal.SIGKILL)
    await worker.ended()
    outcome.hit(await system.behind("copier"))
    assert await system.behind("copier") == 9
    system.shelf.note("release")
    with outcome.recovering():
        system.start("copier")
        system.start("shelver")
        await system.settles()
    await system.account(outcome)


async def done_of(system: System, segments: list[SegmentCut]) -> bool:
    """Whether the progress of these segments is in the log."""
    events = [Codec().decode(RECORDINGS_PROGRESS, r.value or b"") for r in await system.records(RECORDINGS_PROGRESS)]
    return {event.index for event in segments} <= {getattr(event, "index", None) for event in events}


async def committed(system: System) -> bool:
    """Whether anything is committed."""
    return any(done for done, _ in (await system.lag("copier")).values())


@pytest.fixture
async def strict(kafka_url: str, tmp_path: Path) -> AsyncIterator[System]:
    """A pipeline whose broker refuses transcripts of more than 4 KB."""
    made = System(kafka_url, tmp_path)
    await made.prepare(audio_transcripts={"max.message.bytes": "4096", "compression.type": "uncompressed"})
    yield made
    await made.close()


@pytest.mark.kafka
@pytest.mark.row(10, "an output larger than the topic takes, among good ones")
async def test_an_output_that_the_broker_refuses_never_passes_its_input(strict: System, outcome: Outcome) -> None:
    huge, *good = strict.segments(4)
    huge = huge.model_copy(update={"language": "huge"})
    await strict.publish(huge, arrives=False)
    await strict.publish(*good)
    strict.expected.poison = [record_of(huge, -1).value]
    outcome.hit(await strict.behind("copier"))
    with outcome.recovering():
        strict.start("copier")
        strict.start("shelver")
        await strict.settles()
    await strict.account(outcome)
    (letter,) = await strict.letters()
    assert headers(letter)["earshot-error-code"] == "output_too_large"


@EITHER
async def test_while_a_dependency_is_down_the_stage_is_paused_with_its_reason(system: System) -> None:
    down = [item.model_copy(update={"language": "down"}) for item in system.segments(6)]
    await system.publish(*down)
    system.start("copier", stall_s=5.0)
    await eventually(lambda: system.state("copier") == ("paused", "The engine is down."))
    assert await system.behind("copier") == 6
    assert await system.letters() == []
    system.shelf.note("release")
    system.start("shelver")
    await system.settles()
    await eventually(lambda: system.state("copier") == ("running", ""))
    assert await system.letters() == []


@EITHER
async def test_a_costly_unit_that_hangs_ends_its_worker_and_is_dead_lettered_after_the_third_time(
    system: System,
) -> None:
    stuck = system.segments(1)[0].model_copy(update={"language": "hang"})
    await system.publish(stuck, arrives=False)
    for _ in range(3):
        worker = system.start("costly")
        assert await worker.ended() == 71, worker.log()
        assert await system.letters() == []
        assert await system.behind("costly") == 1
    system.expected.poison = [record_of(stuck, -1).value]
    system.start("costly")
    await system.settles("costly")
    assert headers((await system.letters())[0])["earshot-error-code"] == "unit_crashed"


@EITHER
async def test_a_missing_topic_stops_the_worker_and_says_what_to_do(broker: str, tmp_path: Path) -> None:
    system = System(broker, tmp_path)
    worker = system.start("copier")
    assert await worker.ended() == 78
    assert "earshot topics create" in worker.log()
    await system.close()


@EITHER
async def test_a_null_value_deletes_and_the_next_event_is_unaffected(system: System) -> None:
    gone, kept = system.segments(2)
    await system.publish_transcripts(gone, kept)
    system.start("shelver")
    await system.settles("shelver")
    del system.expected.texts[gone.recording_id, gone.index]
    await system.put(AUDIO_TRANSCRIPTS, Record("", AUDIO_TRANSCRIPTS.key(gone).encode(), None))
    await system.publish_transcripts(*system.segments(1))
    await system.settles("shelver")


@pytest.mark.parametrize("broker", ["sqlite"], indirect=True)
@pytest.mark.row(28, "a second process of a stage is started while the first is at work")
async def test_a_second_worker_of_a_stage_on_the_embedded_log_is_refused(system: System, outcome: Outcome) -> None:
    await system.publish(*[event.model_copy(update={"language": "slow"}) for event in system.segments(3)])
    first = system.start("copier")
    await eventually(lambda: system.shelf.notes("slow"))
    outcome.hit(await system.behind("copier"))
    second = system.start("copier")
    assert await second.ended() == 78, second.log()
    assert "already consumes" in second.log()
    system.shelf.note("release")
    with outcome.recovering():
        system.start("shelver")
        await system.settles()
    assert first.alive
    await system.account(outcome)
