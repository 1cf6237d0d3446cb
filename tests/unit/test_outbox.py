"""The outbox: whatever crashes when, every row is published at least once, in order, under the same id."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earshot.kernel.codec import Codec, Record
from earshot.kernel.outbox import OutboxRow, relay_once, row_for
from earshot.kernel.topics import AUDIO_UPLOADED
from tests.fakes_catalog import TRACE, upload


class Crash(Exception):
    """The process is gone."""


class Memory:
    """An outbox and a log of which every call may be the last: before it has taken effect, or just after."""

    def __init__(self, rows: int, crashes: Sequence[int | None]) -> None:
        self.waiting = [OutboxRow(n, "default", "t", f"k{n}", b"", (("ce_id", b"%d" % n),)) for n in range(rows)]
        self.log: list[Record] = []
        self._crashes = list(crashes)

    def _step(self, after: bool) -> None:
        if self._crashes and self._crashes[0] == after:
            self._crashes.pop(0)
            raise Crash
        if self._crashes and self._crashes[0] is None and after:
            self._crashes.pop(0)

    async def pending(self, limit: int) -> list[OutboxRow]:
        return self.waiting[:limit]

    async def publish(self, records: Sequence[Record]) -> None:
        for record in records:
            self._step(False)
            self.log.append(record)
            self._step(True)

    async def mark_sent(self, ids: Sequence[int]) -> None:
        self._step(False)
        self.waiting = [row for row in self.waiting if row.id not in ids]
        self._step(True)


def _record(row: OutboxRow) -> Record:
    return Record(row.topic, row.key.encode(), row.value, row.headers)


@given(st.integers(0, 8), st.integers(1, 4), st.lists(st.sampled_from([None, False, True]), max_size=25))
async def test_a_crash_at_any_point_loses_nothing_and_keeps_the_order(rows, limit, crashes):
    memory = Memory(rows, crashes)
    while memory.waiting:
        try:
            await relay_once(memory, memory, _record, limit)
        except Crash:
            continue
    first_seen = list(dict.fromkeys(record.header("ce_id") for record in memory.log))
    assert first_seen == [str(n) for n in range(rows)]
    assert all(record.key == f"k{record.header('ce_id')}".encode() for record in memory.log)


def test_the_same_event_has_the_same_id_and_its_trace():
    of = upload()
    rows = [row_for(AUDIO_UPLOADED, of, Codec(), "catalog", dict(TRACE)) for _ in range(2)]
    assert dict(rows[0].headers)["ce_id"] == dict(rows[1].headers)["ce_id"]
    assert dict(rows[0].headers)["traceparent"] == TRACE["traceparent"].encode()
    assert rows[0].key == of.recording_id


async def test_nothing_is_marked_sent_that_was_not_acknowledged():
    memory = Memory(3, [None, False])
    with pytest.raises(Crash):
        await relay_once(memory, memory, _record, 3)
    assert len(memory.waiting) == 3
