"""The ledger: a set whose states only rise, so any order and any repetition settle alike."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from earshot.adapters.catalog.ledger import tally_of
from earshot.kernel.codec import Record
from earshot.kernel.events import StageProgressed
from earshot.kernel.ledger import SPEAKER_STAGE, WHOLE, Entry, Tally, rise, settle, tally
from earshot.kernel.stage import Delivery
from earshot.kernel.topics import RECORDINGS_COMPLETED
from earshot.tracker.track import track
from tests.fakes_catalog import accepted, new_catalog, outbox, progressed, total

STATES = st.sampled_from(["pending", "failed", "done"])
LINES = st.one_of(
    st.builds(Entry, st.sampled_from(["transcriber", "indexer"]), st.integers(WHOLE, 1), STATES),
    st.builds(Entry, st.just(SPEAKER_STAGE), st.just(WHOLE), STATES),
)


@given(st.lists(STATES, min_size=1), st.randoms())
def test_a_line_ends_at_its_highest_state_in_any_order(states, random):
    def outcome() -> str:
        state = None
        for after in states:
            risen = rise(state, after)
            assert rise(risen, state or after) == risen
            state = risen
        return state

    first = outcome()
    random.shuffle(states)
    assert outcome() == first


def test_a_job_is_final_only_when_every_segment_is_accounted_for():
    assert settle(Tally(None, 5, 0, False, True)) == "running"
    assert settle(Tally(6, 5, 0, False, True)) == "running"
    assert settle(Tally(6, 5, 1, False, True)) == "failed"
    assert settle(Tally(6, 6, 0, False, True)) == "completed"
    assert settle(Tally(0, 0, 0, False, True)) == "completed"
    assert settle(Tally(None, 0, 0, True, True)) == "failed"
    assert settle(Tally(None, 0, 0, False, False)) == "pending"


def test_a_job_waits_for_its_speakers_and_says_when_they_could_not_be_found():
    """What was said is waited for all the same: a diarizer that failed early ends nothing."""
    assert settle(Tally(6, 6, 0, False, True, "pending")) == "running"
    assert settle(Tally(6, 6, 0, False, True, "done")) == "completed"
    assert settle(Tally(6, 6, 0, False, True, "failed")) == "failed"
    assert settle(Tally(6, 5, 0, False, True, "failed")) == "running"
    assert settle(Tally(None, 0, 0, False, False, "pending")) == "pending"


def test_a_segment_found_in_the_end_is_not_missing():
    lines = [Entry("transcriber", 0, "failed"), Entry("indexer", 0, "done"), Entry("embedder", 1, "failed")]
    assert tally(lines, 2) == Tally(2, 1, 1, False, True)


@pytest.fixture
async def catalog(tmp_path):
    catalog = await new_catalog(tmp_path)
    yield catalog
    await catalog.close()


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(LINES, min_size=3, max_size=15), st.data())
async def test_the_database_adds_up_as_the_kernel_does_in_any_order(catalog, lines, data):
    """Permuted, repeated and cut into batches, the same events settle equally, and completion is said once a state."""
    tallies, jobs = [], []
    for _ in range(2):
        job = await accepted(catalog)
        events = [_event(job, line) for line in lines] + [total(job, 2)]
        events = data.draw(st.permutations(events + data.draw(st.lists(st.sampled_from(events), max_size=4))))
        at = data.draw(st.integers(0, len(events)))
        await _track(catalog, events[:at])
        await _track(catalog, events[at:])
        key = ("default", job.job.recording_id, 1)
        tallies.append(await catalog._db.read(lambda connection, key=key: tally_of(connection, key, 2)))
        jobs.append(await catalog.job("default", job.job.id))
        said = [event for _, event in await outbox(catalog, "default", RECORDINGS_COMPLETED)]
        states = [event.state for event in said if event.recording_id == job.job.recording_id]
        assert len(states) == len(set(states))
        assert (jobs[-1].state in ("completed", "failed")) == (jobs[-1].state in states)
    risen: dict[tuple[str, int], str] = {("segmenter", WHOLE): "done"}
    for line in lines:
        risen[line.stage, line.index] = rise(risen.get((line.stage, line.index)), line.state)
    expected = tally([Entry(stage, index, state) for (stage, index), state in risen.items()], 2)
    assert tallies == [expected, expected]
    assert {job.state for job in jobs} == {settle(expected)}
    assert jobs[0].stages == jobs[1].stages


def _event(job, line: Entry) -> StageProgressed:
    return progressed(job, line.stage, None if line.index == WHOLE else line.index, line.state)


async def _track(catalog, events) -> None:
    batch = [Delivery(event, Record("recordings.progress", b"", b"")) for event in events]
    if batch:
        assert [output async for output in track(batch, catalog)] == []
