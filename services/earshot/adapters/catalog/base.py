"""What every part of the catalog shares."""

from __future__ import annotations

from typing import TypeVar

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.engine import Database
from earshot.kernel.codec import Codec
from earshot.kernel.ports.quotas import Limits

T = TypeVar("T")
CHUNK = 500
"""Rows or keys in one statement; PostgreSQL takes 65,535 parameters, SQLite 32,766."""


class Part:
    """One concern of the catalog, over the database all parts share; ``limits`` of tenants without their own."""

    def __init__(self, database: Database, codec: Codec, limits: Limits) -> None:
        self._db = database
        self._codec = codec
        self._limits = limits


def chunks(items: list[T]) -> list[list[T]]:
    """The items in lists of at most ``CHUNK``."""
    return [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]


def lock_recordings(
    connection: sa.Connection, keys: set[tuple[str, str]]
) -> dict[tuple[str, str], sa.Row[tuple[object, ...]]]:
    """The recordings of these (tenant, id), locked until the transaction ends, always in the same order.

    SQLite has one writer at a time and ignores the lock clause.
    """
    found: dict[tuple[str, str], sa.Row[tuple[object, ...]]] = {}
    place = sa.tuple_(t.recordings.c.tenant, t.recordings.c.id)
    for some in chunks(sorted(keys)):
        query = sa.select(t.recordings).where(place.in_(some)).order_by(*place.clauses).with_for_update()
        found |= {(row.tenant, row.id): row for row in connection.execute(query)}
    return found
