"""Counting recordings, and naming collections."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.base import Part, chunks
from earshot.kernel.ports.answers import Census, Listed


class CensusPart(Part):
    """The library as a whole. Counts what may be shown: neither erased nor cancelled in its first attempt."""

    async def census(
        self,
        tenant: str,
        *,
        recording_ids: Collection[str] | None = None,
        collection: str | None = None,
        among: Collection[str] | None = None,
        language: str | None = None,
        recorded_from: datetime | None = None,
        recorded_to: datetime | None = None,
        limit: int = 100,
    ) -> Census:
        """Recordings that may be shown and satisfy all of these; ``None`` does not restrict."""
        c = t.recordings.c
        shown = sa.or_(c.state == "live", sa.and_(c.state == "cancelled", c.revision > c.visible_from))
        mine = [c.tenant == tenant, shown]
        if collection is not None:
            mine.append(c.collection == collection)
        if among is not None:
            mine.append(c.collection.in_(sorted(among)))
        if language is not None:
            mine.append(c.language == language)
        dated = []
        if recorded_from is not None:
            dated.append(c.recorded_at >= recorded_from)
        if recorded_to is not None:
            dated.append(c.recorded_at <= recorded_to)
        wanted = [None] if recording_ids is None else chunks(sorted(set(recording_ids)))

        def work(connection: sa.Connection) -> Census:
            found = [_counted(connection, mine, dated, some, limit) for some in wanted]
            newest = sorted((row for each in found for row in each.newest), key=_newest_first, reverse=True)
            return Census(
                sum(each.count for each in found),
                sum(each.duration_ms for each in found),
                tuple(newest[:limit]),
                sum(each.undated for each in found),
            )

        return await self._db.read(work)

    async def collection_names(
        self, tenant: str, limit: int, among: Collection[str] | None = None
    ) -> list[tuple[str, datetime]]:
        """Collections that have a recording, by name, each with the moment it began."""
        c = t.recordings.c
        query = (
            sa.select(c.collection, sa.func.min(c.created_at).label("since"))
            .where(
                c.tenant == tenant, c.state != "erased", *([] if among is None else [c.collection.in_(sorted(among))])
            )
            .group_by(c.collection)
            .order_by(c.collection)
            .limit(limit)
        )
        rows = await self._db.read(lambda connection: list(connection.execute(query)))
        return [(row.collection, row.since) for row in rows]


def _counted(
    connection: sa.Connection,
    mine: list[sa.ColumnElement[bool]],
    dated: list[sa.ColumnElement[bool]],
    some: list[str] | None,
    limit: int,
) -> Census:
    c = t.recordings.c
    conditions = mine if some is None else [*mine, c.id.in_(some)]
    totals = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(c.duration_ms), 0)).select_from(t.recordings)
    count, duration_ms = connection.execute(totals.where(*conditions, *dated)).one()
    undated = 0
    if dated:
        undated = int(connection.execute(totals.where(*conditions, c.recorded_at.is_(None))).one()[0])
    newest = sa.select(t.recordings).where(*conditions, *dated)
    order = sa.func.coalesce(c.recorded_at, c.created_at).desc()
    rows = connection.execute(newest.order_by(order, c.id.desc()).limit(limit))
    return Census(int(count), int(duration_ms), tuple(_listed(row) for row in rows), undated)


def _listed(row: sa.Row[Any]) -> Listed:
    return Listed(
        row.id, row.title, row.collection, row.recorded_at, row.duration_ms, row.source_key is not None, row.created_at
    )


def _newest_first(listed: Listed) -> tuple[datetime, str]:
    return (listed.recorded_at or listed.created_at, listed.id)
