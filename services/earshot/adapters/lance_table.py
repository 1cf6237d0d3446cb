"""One LanceDB table: a tenant's passages in one index, its writes one after another, its files kept few."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import structlog

from earshot.adapters import lance_rows as rows
from earshot.adapters.nearest import NearestSettings
from earshot.kernel.errors import Unavailable
from earshot.kernel.ports import IndexedPassage, PassageSet, ScoredPassage

WRITES_BEFORE_UPKEEP = 64
"""Every write leaves a small file, and rows that the keyword index has to scan until upkeep takes them in."""
UPKEEP_EVERY_S = 60.0
KEEP_VERSIONS = timedelta(minutes=2)
"""Longer than any query reads."""
PARTS_BEFORE_ANEW = 8
"""Every part is searched by itself, so many small ones cost more than a table that is partitioned anew."""
CONFLICT_TRIES = 5
ANSWER_WITHIN_S = 60.0
PARTITION_WITHIN_S = 3600.0
"""In the background, beside reads and writes."""
CLOSE_WITHIN_S = 10.0
_SOURCE = re.compile(r",? \S+\.rs:\d+:\d+")
"""Where in its own source LanceDB found out: of no use to who reads the reason."""

_log = structlog.get_logger()


@asynccontextmanager
async def answering(within_s: float = ANSWER_WITHIN_S) -> AsyncIterator[None]:
    """Turn what LanceDB raises into ``Unavailable``, and wait no longer than that."""
    try:
        async with asyncio.timeout(within_s):
            yield
    except (RuntimeError, OSError, ValueError) as error:  # TimeoutError is an OSError; LanceDB has no class of its own
        raise Unavailable(
            "vectors",
            f"LanceDB failed: {_SOURCE.sub('', str(error))}",
            next_step="Check the free space and the rights of its folder.",
        ) from error


class LanceTable:
    """Writes, queries and upkeep of one table.

    Args:
        name: of the table.
        table: as ``lancedb`` opened it.
        nearest: when vectors are partitioned, and how many partitions a query reads.
    """

    def __init__(self, name: str, table: Any, nearest: NearestSettings) -> None:
        self._name = name
        self._nearest = nearest
        self._table = table
        self._writing = asyncio.Lock()
        self._writes = 0
        self._kept_at = time.monotonic()
        self._upkeep: asyncio.Task[None] | None = None

    async def index_columns(self) -> None:
        """Create the indexes of the columns that conditions and keywords need, those that are missing."""
        from lancedb.index import FTS, BTree

        wanted = {
            # English stems; no stop words, because a query may consist of nothing else.
            "text": FTS(language="English", stem=True, remove_stop_words=False, ascii_folding=True),
            "id": BTree(),
            "recording_id": BTree(),
        }
        async with answering():
            there = {column for index in await self._table.list_indices() for column in index.columns}
        for column, index in wanted.items():
            if column not in there:
                await self._commit(partial(self._table.create_index, column, config=index))

    async def replace(self, sets: Sequence[PassageSet]) -> None:
        """Write the sets' passages, then delete the others of their segments.

        In this order a reader may see old beside new for a moment, and never a gap; a crash between the two is
        mended when the event is delivered again.
        """
        new = [rows.row(passage) for each in sets for passage in each.passages]
        async with self._writing:
            if new:
                await self._commit(lambda: self._upsert(new))
            await self._remove(rows.replaced(sets))

    async def delete(self, condition: str) -> None:
        """Delete what meets a condition."""
        async with self._writing:
            await self._remove(condition)

    async def passages(self, condition: str) -> list[IndexedPassage]:
        """What meets a condition, without vectors."""
        async with answering():
            found = await self._table.query().where(condition).select(list(rows.COLUMNS)).to_list()
        return [rows.passage(row) for row in found]

    async def relabel(self, speakers: Mapping[str, Sequence[str]]) -> None:
        """Change who speaks in rows, by id; without such a row nothing is inserted."""
        async with self._writing:
            await self._commit(lambda: self._relabel(speakers))

    async def by_words(self, text: str, where: str, limit: int) -> list[ScoredPassage]:
        """The best by BM25 over any of the words; a text has no syntax, and without words it finds nothing."""
        from lancedb.query import MatchQuery

        words = MatchQuery(text, "text")  # type: ignore[call-arg]  # mypy does not see the defaults of its dataclass
        query = self._table.query().nearest_to_text(words)
        return [
            ScoredPassage(rows.passage(row), float(row["_score"]))
            for row in await _found(query, where, limit, "_score")
        ]

    async def by_vector(self, vector: Sequence[float], where: str, limit: int) -> list[ScoredPassage]:
        """The best by cosine similarity among the passages that meet the condition.

        Without partitions all of them are compared. With them, those of the nearest ones; under a condition, which may
        leave few in each, of as many as it takes.
        """
        near = self._table.query().nearest_to(list(vector)).distance_type("cosine")
        query = near.maximum_nprobes(0) if where else near.nprobes(self._nearest.partitions_asked)
        found = await _found(query, where, limit, "_distance")
        return [ScoredPassage(rows.passage(row), 1.0 - float(row["_distance"])) for row in found]

    async def count(self, condition: str | None) -> int:
        """How many passages meet a condition."""
        async with answering():
            return int(await self._table.count_rows(condition))

    async def close(self) -> None:
        """Wait for upkeep that is going on; one that takes long is broken off, which leaves all that was there."""
        if self._upkeep is not None:
            _, long = await asyncio.wait([self._upkeep], timeout=CLOSE_WITHIN_S)
            for task in long:
                task.cancel()
            await asyncio.wait([self._upkeep])
        self._table.close()

    async def _upsert(self, new: list[dict[str, Any]]) -> None:
        import pyarrow as pa

        data = pa.Table.from_pylist(new, schema=await self._table.schema())
        merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        await merge.execute(data)

    async def _relabel(self, speakers: Mapping[str, Sequence[str]]) -> None:
        import pyarrow as pa

        columns = await self._table.schema()
        new = [{"id": key, "speakers": list(labels)} for key, labels in speakers.items()]
        data = pa.Table.from_pylist(new, schema=pa.schema([columns.field("id"), columns.field("speakers")]))
        await self._table.merge_insert("id").when_matched_update_all().execute(data)

    async def _remove(self, condition: str) -> None:
        """Delete what meets a condition; without any such row nothing is written, a delete of nothing would be."""
        async with answering():
            there = await self._table.query().where(condition).select(["id"]).limit(1).to_list()
        if there:
            await self._commit(lambda: self._table.delete(condition))

    async def _commit(self, write: Callable[[], Awaitable[Any]]) -> None:
        """Write, again when another process has written meanwhile, then see to upkeep."""
        for attempt in range(1, CONFLICT_TRIES + 1):
            try:
                async with answering():
                    await write()
                break
            except Unavailable as error:
                if "conflict" not in str(error).lower() or attempt == CONFLICT_TRIES:
                    raise
        self._writes += 1
        idle = self._upkeep is None or self._upkeep.done()
        due = self._writes >= WRITES_BEFORE_UPKEEP or time.monotonic() - self._kept_at > UPKEEP_EVERY_S
        if idle and due:
            self._upkeep = asyncio.create_task(self._keep(), name=f"upkeep of {self._name}")

    async def _keep(self) -> None:
        """Merge small files, take new rows into the indexes, drop old versions. A failure leaves all that was there."""
        try:
            async with self._writing:
                self._writes, self._kept_at = 0, time.monotonic()
                async with answering():
                    await self._table.optimize(cleanup_older_than=KEEP_VERSIONS)
            await self._partition()
        except Unavailable as error:
            _log.warning("upkeep_failed", table=self._name, error=str(error))

    async def _partition(self) -> None:
        """Partition the vectors where they are many; anew when what came later lies in many small parts.

        Each upkeep adds a part. The vectors stay as they are (no quantization), so partitions only decide what is
        compared.
        """
        from lancedb.index import IvfFlat

        async with answering(PARTITION_WITHIN_S):
            found = [index.name for index in await self._table.list_indices() if index.columns == ["vector"]]
            parts = (await self._table.index_stats(found[0])).num_indices if found else 0
            many = parts > PARTS_BEFORE_ANEW if found else await self._table.count_rows() > self._nearest.exact_up_to
            if many:
                await self._table.create_index("vector", config=IvfFlat(distance_type="cosine"), replace=True)


async def _found(query: Any, where: str, limit: int, score: str) -> list[dict[str, Any]]:
    """Run a query; the condition is applied before ranking."""
    async with answering():
        if where:
            query = query.where(where)
        rows_found: list[dict[str, Any]] = await query.select([*rows.COLUMNS, score]).limit(limit).to_list()
        return rows_found
