"""LanceDB: vectors in a folder, no server. One table for each index and tenant, so tenants share nothing.

Reading looks for the newest version every time (``read_consistency_interval=0``), so what the indexer's process has
written is found by the query's at once: rows that the keyword index has not taken up yet are scanned.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from earshot.adapters import lance_rows as rows
from earshot.adapters.fusion import fuse
from earshot.adapters.guard import VECTORS, Figures, Guards, reads, writes
from earshot.adapters.lance_table import LanceTable, answering
from earshot.adapters.nearest import NearestSettings
from earshot.adapters.passage_sets import settle
from earshot.kernel.errors import Misconfigured
from earshot.kernel.events import TENANT_PATTERN
from earshot.kernel.ports import IndexedPassage, PassageSet, ScoredPassage, SearchFilters, SearchMode

CANDIDATES = 50
"""At least so many of each ranking are fused, so that a hit both know outranks the first of one."""
SETS_A_WRITE = 64
"""Segments replaced in one write: bounds the length of its condition."""
OPEN_TABLES = 256
INDEX_PATTERN = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,200}")


class LanceStore:
    """Passages in a folder.

    Args:
        path: the folder; made when it is not there.
        nearest: when vectors are partitioned, and how many partitions a query reads.
        figures: of the breakers.
    """

    def __init__(self, path: str | Path, nearest: NearestSettings | None = None, figures: Figures = VECTORS) -> None:
        self.guards = Guards("vectors", figures)
        self._nearest = nearest or NearestSettings()
        self._path = Path(path).resolve()
        self._database: Any = None
        self._opening = asyncio.Lock()
        self._tables: OrderedDict[str, LanceTable] = OrderedDict()

    @reads  # it hardly ever writes; its success says nothing of whether passages can be written
    async def prepare(self, index: str, dimensions: int) -> None:
        """Create the index unless it is there. Raises ``Misconfigured`` when it has other dimensions."""
        database = await self._connected()
        there_already = _checked(index) in await self._names()
        async with answering():
            if there_already:
                marker = await database.open_table(index)
            else:
                self._forget(index)  # another process may have dropped it since, and its tables with it
                marker = await database.create_table(index, schema=rows.schema(dimensions), exist_ok=True)
            there = (await marker.schema()).field("vector").type.list_size
        if there != dimensions:
            raise Misconfigured(f"The index {index} has {there} dimensions, the embedding model {dimensions}.")

    async def replace(
        self,
        index: str,
        tenant: str,
        recording_id: str,
        revision: int,
        segment_index: int,
        passages: Sequence[IndexedPassage],
    ) -> None:
        """Make these the only passages of the segment at this revision or below."""
        await self.replace_many(index, tenant, [PassageSet(recording_id, revision, segment_index, tuple(passages))])

    @writes
    async def replace_many(self, index: str, tenant: str, sets: Sequence[PassageSet]) -> None:
        """Make each set its segment's only passages, in as few writes as its bounds allow."""
        table = await self._make(index, tenant)
        settled = settle(sets)
        for at in range(0, len(settled), SETS_A_WRITE):
            await table.replace(settled[at : at + SETS_A_WRITE])

    @writes
    async def delete(
        self,
        index: str,
        tenant: str,
        recording_id: str,
        *,
        revision: int | None = None,
        up_to: int | None = None,
        segment_index: int | None = None,
    ) -> None:
        """Delete a recording's passages: of one revision, of those up to one, of one segment, or all."""
        table = await self._find(index, tenant)
        if table is not None:
            await table.delete(rows.of_recording(recording_id, revision, up_to, segment_index))

    @reads
    async def search(
        self,
        index: str,
        tenant: str,
        *,
        text: str,
        vector: Sequence[float] | None,
        mode: SearchMode,
        filters: SearchFilters,
        limit: int,
    ) -> list[ScoredPassage]:
        """The best passages: by BM25, by cosine similarity, or by both rankings fused.

        Vectors are compared exactly up to ``exact_up_to`` passages of a tenant; of more, those of the nearest
        partitions, and those written since the last upkeep.
        """
        table = await self._find(index, tenant)
        if table is None:
            return []
        where = rows.allowed(filters)
        if mode == "keyword":
            return await table.by_words(text, where, limit)
        if vector is None:
            raise ValueError(f"a {mode} search needs a vector")
        if mode == "vector":
            return await table.by_vector(vector, where, limit)
        depth = max(limit, CANDIDATES)
        rankings = await asyncio.gather(table.by_words(text, where, depth), table.by_vector(vector, where, depth))
        return fuse(rankings)[:limit]

    @reads
    async def passages_of(self, index: str, tenant: str, recording_id: str) -> list[IndexedPassage]:
        """Every passage of a recording, of every revision, without vectors."""
        table = await self._find(index, tenant)
        return [] if table is None else await table.passages(rows.of_recording(recording_id, None, None, None))

    @writes
    async def relabel(self, index: str, tenant: str, speakers: Mapping[str, Sequence[str]]) -> None:
        """Say who speaks in passages, by their ids, in one write. One that is gone meanwhile stays gone."""
        table = await self._find(index, tenant)
        if table is not None and speakers:
            await table.relabel(speakers)

    @reads
    async def count(self, index: str, tenant: str, recording_id: str | None = None) -> int:
        """How many passages a tenant, or one recording of its, has."""
        table = await self._find(index, tenant)
        if table is None:
            return 0
        return await table.count(None if recording_id is None else rows.of_recording(recording_id, None, None, None))

    @reads
    async def indexes(self) -> list[str]:
        """Every index there is: the tables that belong to no tenant."""
        return sorted(name for name in await self._names() if "." not in name)

    async def serve(self, _index: str) -> None:
        """Nothing: whoever opens the folder names the index."""

    @writes
    async def drop(self, index: str) -> None:
        """Delete the index's tables, the one that says that it is there last."""
        database = await self._connected()
        mine = [name for name in await self._names() if name.startswith(f"{_checked(index)}.")]
        self._forget(index)
        for name in [*mine, index]:
            async with answering():
                await database.drop_table(name, ignore_missing=True)

    @writes
    async def forget(self, index: str, tenant: str) -> None:
        """Delete the tenant's passages. The table stays, empty: another process may hold it open."""
        table = await self._find(index, tenant)
        if table is not None:
            await table.delete("true")

    def _forget(self, index: str) -> None:
        """Let go of an index's open tables, which are not those of an index that is made anew under its name."""
        for name in [name for name in self._tables if name.startswith(f"{index}.")]:
            del self._tables[name]

    async def ping(self) -> None:
        """Return when the folder can be read."""
        await self._names()
        self.guards.alive()

    async def close(self) -> None:
        """Wait for upkeep that is going on, and let go of the files."""
        for table in self._tables.values():
            await table.close()
        self._tables.clear()
        if self._database is not None:
            self._database.close()
            self._database = None

    async def _names(self) -> list[str]:
        database = await self._connected()
        names: list[str] = []
        token = None
        async with answering():
            while True:
                page = await database.list_tables(page_token=token, limit=1000)
                names.extend(page.tables)
                token = page.page_token
                if not token:
                    return names

    async def _connected(self) -> Any:
        async with self._opening:
            if self._database is None:
                import lancedb

                async with answering():
                    await asyncio.to_thread(self._path.mkdir, parents=True, exist_ok=True)
                    self._database = await lancedb.connect_async(self._path, read_consistency_interval=timedelta(0))
            return self._database

    async def _find(self, index: str, tenant: str) -> LanceTable | None:
        """The tenant's table; ``None`` when nothing was ever written to it."""
        name = _name(index, tenant)
        if name in self._tables:
            self._tables.move_to_end(name)
            return self._tables[name]
        database = await self._connected()
        if name not in await self._names():
            return None
        async with answering():
            return await self._opened(name, await database.open_table(name))

    async def _make(self, index: str, tenant: str) -> LanceTable:
        """The tenant's table, created with its index's columns when there is none."""
        found = await self._find(index, tenant)
        if found is not None:
            return found
        database = await self._connected()
        name = _name(index, tenant)
        async with answering():
            columns = await (await database.open_table(_checked(index))).schema()
            return await self._opened(name, await database.create_table(name, schema=columns, exist_ok=True))

    async def _opened(self, name: str, opened: Any) -> LanceTable:
        table = LanceTable(name, opened, self._nearest)
        await table.index_columns()
        table = self._tables.setdefault(name, table)
        if len(self._tables) > OPEN_TABLES:
            _, oldest = self._tables.popitem(last=False)
            await oldest.close()
        return table


def _checked(index: str) -> str:
    """The name of an index, which becomes the name of a folder. Raises ``ValueError``."""
    if not INDEX_PATTERN.fullmatch(index):
        raise ValueError(f"not the name of an index: {index!r}")
    return index


def _name(index: str, tenant: str) -> str:
    """The name of a tenant's table. Neither part may contain the dot between them, so no two pairs share a name."""
    if not re.fullmatch(TENANT_PATTERN.strip("^$"), tenant):
        raise ValueError(f"not the name of a tenant: {tenant!r}")
    return f"{_checked(index)}.{tenant}"
