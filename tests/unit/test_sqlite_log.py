"""The SQLite log beyond the contract: several processes, kill -9, groups, deletion, the doorbell, errors."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from earshot.adapters import sqlite_upkeep as upkeep
from earshot.adapters.doorbell import MAX_SOCKET_PATH, Doorbell, bell_folder
from earshot.adapters.sqlite_log import SqliteLog
from earshot.adapters.sqlite_records import Limits
from earshot.kernel.codec import Record
from earshot.kernel.errors import Misconfigured, Unavailable
from tests.processes import tied
from tests.waiting import eventually

WRITER = """
import asyncio, sys
from earshot.adapters.sqlite_log import SqliteLog
from earshot.kernel.codec import Record

async def main(path, name):
    log = SqliteLog(path)
    for n in range(100_000):
        await log.publish([Record("t", name.encode(), b"%d.%d" % (n, part), (), 0) for part in range(3)])
        print(n, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""
HOUR_MS = 3600 * 1000


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    """A log with the topics ``t`` (kept an hour) and ``c`` (compacted), of one partition each."""
    made = SqliteLog(tmp_path / "log.sqlite")
    await made.create({"t": {"retention.ms": str(HOUR_MS)}, "c": {"cleanup.policy": "compact"}}, 1)
    yield made
    await made.close()


async def contents(log: SqliteLog, topic: str) -> list[tuple[int, bytes | None]]:
    return [(record.offset, record.value) async for record in log.tail([topic], from_start=True, follow=False)]


async def test_killed_writers_lose_nothing_acknowledged_and_tear_no_transaction(log: SqliteLog) -> None:
    """Two processes write; each is killed at some moment, again and again."""
    acknowledged: dict[bytes, int] = {}
    for life in range(3):
        writers = {}
        for name in (b"a%d" % life, b"b%d" % life):
            command = tied([sys.executable, "-c", WRITER, str(log.path), name.decode()])
            writers[name] = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
        for name, writer in writers.items():
            assert writer.stdout is not None
            for _ in range(20):
                acknowledged[name] = int(await asyncio.wait_for(writer.stdout.readline(), 30))
            writer.send_signal(signal.SIGKILL)
            rest, _ = await writer.communicate()
            acknowledged[name] = max([acknowledged[name], *(int(line) for line in rest.splitlines() if line)])
    found = [record async for record in log.tail(["t"], from_start=True, follow=False)]
    assert [record.offset for record in found] == list(range(len(found))), "no gap, no offset twice"
    for name, last in acknowledged.items():
        values = [record.value for record in found if record.key == name]
        assert values[: 3 * (last + 1)] == [b"%d.%d" % (n, part) for n in range(last + 1) for part in range(3)]
        assert len(values) % 3 == 0, "a transaction is whole or absent"
    with closing(sqlite3.connect(log.path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_ring_wakes_a_reader_of_another_log_at_once(log: SqliteLog) -> None:
    """Far below the poll that would find it otherwise: the poll is put off for the test."""
    reader = SqliteLog(log.path)
    tail = reader.tail(["t"], from_start=False, follow=True)
    waiting = asyncio.ensure_future(anext(tail))
    await eventually(lambda: reader._bell is not None and reader._bell._socket is not None)
    reader._changed = lambda: asyncio.sleep(0, False)  # type: ignore[assignment, method-assign, return-value]
    await log.publish([Record("t", None, b"x")])
    assert (await asyncio.wait_for(waiting, 20)).value == b"x"
    await tail.aclose()  # type: ignore[attr-defined]
    await reader.close()


async def test_without_a_ring_the_poll_finds_it(log: SqliteLog) -> None:
    reader = SqliteLog(log.path)
    log._doorbell().ring = lambda: None  # type: ignore[method-assign]
    tail = reader.tail(["t"], from_start=False, follow=True)
    waiting = asyncio.ensure_future(anext(tail))
    await eventually(lambda: reader._bell is not None)
    await log.publish([Record("t", None, b"x")])
    assert (await asyncio.wait_for(waiting, 20)).value == b"x"
    await tail.aclose()  # type: ignore[attr-defined]
    await reader.close()


async def test_a_fetch_is_bounded_by_count_and_by_bytes_but_brings_one(log: SqliteLog) -> None:
    await log.publish([Record("t", None, b"x" * 1000) for _ in range(50)])

    async def count(limits: Limits) -> int:
        return sum(len(records) for records in (await log.fetch({("t", 0): 0}, limits)).values())

    assert await count(Limits(records=7)) == 7
    assert await count(Limits(size=10_000)) == 10
    assert await count(Limits(size=1)) == 1


async def test_partitions_take_turns_so_that_a_full_one_starves_none(log: SqliteLog) -> None:
    await log.publish([Record("t", None, b"x")] * 50 + [Record("c", b"k", b"y")])
    positions = {("t", 0): 0, ("c", 0): 0}
    served = [next(iter(await log.fetch(positions, Limits(records=5)))) for _ in range(2)]
    assert set(served) == {("t", 0), ("c", 0)}


async def test_offsets_go_on_after_everything_was_deleted(log: SqliteLog) -> None:
    await log.publish([Record("t", b"r", b"x")] * 3)
    assert await log.purge("r") == 0
    await log.publish([Record("t", None, b"y")])
    assert await contents(log, "t") == [(3, b"y")]


async def test_retention_deletes_what_is_old_and_consumed_by_every_group(log: SqliteLog) -> None:
    old = int(time.time() * 1000) - 2 * HOUR_MS
    await log.publish(
        [Record("t", None, b"old %d" % n, timestamp_ms=old) for n in range(4)] + [Record("t", None, b"new")]
    )
    await log.join("slow", [("t", 0)])
    await log.join("fast", [("t", 0)])
    await log.commit("fast", {("t", 0): 5})
    assert await log.maintain(every_ms=0)
    assert len(await contents(log, "t")) == 5, "the slow group has consumed nothing yet"
    await log.commit("slow", {("t", 0): 3})
    assert await log.maintain(every_ms=0)
    assert await contents(log, "t") == [(3, b"old 3"), (4, b"new")]
    await log.commit("slow", {("t", 0): 5})
    assert await log.maintain(every_ms=0)
    assert await contents(log, "t") == [(4, b"new")]
    assert await log.lag("slow", ["t"]) == {("t", 0): (5, 5)}


async def test_upkeep_is_done_once_in_its_interval_over_all_processes(log: SqliteLog) -> None:
    other = SqliteLog(log.path)
    assert await log.maintain()
    assert not await other.maintain()
    await other.close()


async def test_compaction_keeps_the_last_record_of_a_key(log: SqliteLog) -> None:
    await log.publish(
        [Record("c", b"a", b"1"), Record("c", b"b", b"1"), Record("c", b"a", b"2"), Record("t", b"a", b"1")]
    )
    await log.maintain(every_ms=0)
    assert await contents(log, "c") == [(1, b"1"), (2, b"2")]
    assert await contents(log, "t") == [(0, b"1")], "only compacted topics are"
    await log.publish([Record("c", b"b", None)])
    await log.maintain(every_ms=0)
    assert await contents(log, "c") == [(2, b"2"), (3, None)]


async def test_compaction_waits_for_every_group_and_then_comes_back(log: SqliteLog) -> None:
    await log.join("g", [("c", 0)])
    await log.publish([Record("c", b"a", b"1"), Record("c", b"a", b"2")])
    await log.maintain(every_ms=0)
    assert len(await contents(log, "c")) == 2
    await log.commit("g", {("c", 0): 2})
    await log.maintain(every_ms=0)
    assert await contents(log, "c") == [(1, b"2")]


async def test_null_values_disappear_after_their_time(log: SqliteLog) -> None:
    long_ago = int(time.time() * 1000) - upkeep.TOMBSTONES_KEPT_MS - 1
    await log.publish(
        [Record("c", b"a", b"1"), Record("c", b"a", None, timestamp_ms=long_ago), Record("c", b"b", None)]
    )
    await log.maintain(every_ms=0)
    assert await contents(log, "c") == [(2, None)]


async def test_an_erased_recording_leaves_no_byte_once_consumed(log: SqliteLog) -> None:
    """Nor its late records; other recordings, also those whose id begins the same, stay."""
    secret = b"the secret words"
    await log.join("g", [("t", 0)])
    mine = [Record("t", b"rec", secret), Record("t", b"rec:0", secret), Record("c", b"rec:12", secret)]
    others = [Record("t", b"rec2", b"o"), Record("c", b"rec2:0", b"o"), Record("c", b"re", b"o")]
    await log.publish(mine + others)
    assert await log.purge("rec") == 2, "the group has not consumed them"
    await log.commit("g", {("t", 0): 3})
    await log.publish([Record("c", b"rec:1", secret)])
    await log.maintain(every_ms=0)
    assert await log.remaining("rec") == 0
    left = [value for topic in ("t", "c") for _, value in await contents(log, topic)]
    assert left == [b"o"] * 3
    await log.close()
    for file in log.path.parent.iterdir():
        assert not file.is_file() or secret not in file.read_bytes(), file.name


async def test_one_consumer_a_group_until_it_lets_go(log: SqliteLog) -> None:
    other = SqliteLog(log.path)
    await log.join("g/1", [("t", 0)])
    await other.join("g2", [("t", 0)])
    with pytest.raises(Misconfigured, match=rf"Process {os.getpid()} already consumes as g/1"):
        await other.join("g/1", [("t", 0)])
    await log.close()
    await other.join("g/1", [("t", 0)])
    await other.close()


async def test_a_missing_topic_and_a_missing_partition_are_refused(log: SqliteLog) -> None:
    with pytest.raises(Misconfigured, match="nowhere"):
        await log.publish([Record("nowhere", None, b"x")])
    with pytest.raises(Misconfigured, match="none with number 9"):
        await log.publish([Record("t", None, b"x", (), 9)])


async def test_a_file_that_is_no_log_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    path.write_bytes(b"precious notes, not a database" * 100)
    log = SqliteLog(path)
    with pytest.raises(Misconfigured, match="damaged or no log"):
        await log.ping()
    await log.close()
    assert path.read_bytes() == b"precious notes, not a database" * 100


async def test_a_log_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    log = SqliteLog(path)
    with pytest.raises(Misconfigured, match="format 99"):
        await log.ping()
    await log.close()


async def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = SqliteLog(tmp_path / "file" / "log.sqlite")
    with pytest.raises(Unavailable) as caught:
        await log.ping()
    assert caught.value.dependency == "broker"
    await log.close()


async def test_a_full_disk_is_unavailable_and_nothing_of_the_group_is_kept(log: SqliteLog) -> None:
    """A page limit stands for the full disk: SQLite answers both with SQLITE_FULL."""
    await log.publish([Record("t", None, b"before")])
    await log._writer.call(lambda connection: connection.db.pragma("max_page_count", 1))
    with pytest.raises(Unavailable, match="disk has space"):
        await log.publish([Record("t", None, b"x" * 100_000)])
    await log._writer.call(lambda connection: connection.db.pragma("max_page_count", 1_000_000))
    await log.publish([Record("t", None, b"after")])
    assert await contents(log, "t") == [(0, b"before"), (1, b"after")]


async def test_after_closing_it_says_so(log: SqliteLog) -> None:
    await log.publish([Record("t", None, b"x")])
    await log.close()
    with pytest.raises(Unavailable, match="closed"):
        await log.publish([Record("t", None, b"y")])


async def test_a_lost_doorbell_folder_loses_no_record(log: SqliteLog) -> None:
    await log.publish([Record("t", None, b"x")])
    shutil.rmtree(bell_folder(log.path))
    await log.publish([Record("t", None, b"y")])
    await log.publish([Record("t", None, b"z")])
    assert [value for _, value in await contents(log, "t")] == [b"x", b"y", b"z"]


async def test_a_doorbell_works_below_any_path_and_sweeps_the_dead(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 40) / "log.sqlite"
    path.parent.mkdir()
    folder = bell_folder(path)
    assert len(os.fsencode(folder)) < MAX_SOCKET_PATH
    listener, ringer = Doorbell(path), Doorbell(path)
    listener.listen()
    dead = Doorbell(path)
    dead.listen()
    assert dead._socket is not None
    asyncio.get_running_loop().remove_reader(dead._socket.fileno())
    dead._socket.close()  # as a killed process would
    assert len(list(folder.iterdir())) == 2
    ringer.ring()
    await asyncio.wait_for(listener.rung.wait(), 20)
    assert len(list(folder.iterdir())) == 1
    listener.close()
    ringer.close()
    folder.rmdir()


async def test_a_group_that_is_forgotten_holds_nothing_back(log: SqliteLog, tmp_path: Path) -> None:
    """Not while somebody consumes as it; afterwards retention goes by the groups that are left."""
    for group in ("stays", "goes"):
        await log.join(group, [("t", 0)])
    old = int(time.time() * 1000) - 2 * HOUR_MS
    await log.publish([Record("t", b"k", b"v", (), 0, timestamp_ms=old)])
    await log.commit("stays", {("t", 0): 1})
    outside = SqliteLog(log.path)
    assert await outside.consumer_of("goes") == str(os.getpid())
    assert not await outside.unregister("goes")
    await log.maintain(every_ms=0)
    assert len(await contents(log, "t")) == 1
    await log.close()
    assert await outside.consumer_of("goes") is None
    assert await outside.unregister("goes")
    assert await outside.unregister("never-heard-of")
    await outside.maintain(every_ms=0)
    assert await contents(outside, "t") == []
    await outside.close()


async def test_a_group_that_starts_late_is_not_behind_for_what_was_deleted_before(log: SqliteLog) -> None:
    """Where nothing is left to be delivered, nothing is waited for; where something is, it is."""
    await log.publish([Record("c", key, b"v", (), 0) for key in (b"r1:0", b"r2:0", b"r2:1")])
    assert await log.lag("late", ["c"]) == {("c", 0): (0, 3)}
    await log.purge("r2")
    assert await log.lag("late", ["c"]) == {("c", 0): (0, 3)}
    await log.join("late", [("c", 0)])
    await log.commit("late", {("c", 0): 1})
    assert await log.lag("late", ["c"]) == {("c", 0): (3, 3)}
    await log.publish([Record("c", b"r3:0", b"v", (), 0)])
    assert await log.lag("late", ["c"]) == {("c", 0): (1, 4)}
