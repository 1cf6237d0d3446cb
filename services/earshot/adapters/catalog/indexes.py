"""Which indexes there are, and where the alias points."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.base import Part
from earshot.adapters.catalog.engine import insert
from earshot.kernel.errors import Permanent
from earshot.kernel.ports.indexes import Ends, Index, IndexState, NewIndex, in_state, serving


class IndexesPart(Part):
    """The authority on the alias: a unique index of the table allows one index to serve."""

    async def indexes(self) -> list[Index]:
        """Every index there ever was, by generation."""
        return await self._db.read(_indexes)

    async def first_index(self, new: NewIndex) -> Index:
        """The index that serves; where none ever did, this one from now on."""

        def work(connection: sa.Connection) -> Index:
            values = _values(new, generation=1, state="serving") | {"served_at": t.now()}
            connection.execute(insert(connection, t.indexes).values(values).on_conflict_do_nothing())
            found = serving(_indexes(connection))
            assert found is not None, "an index serves for ever from the first on"
            return found

        return await self._db.write(work)

    async def build_index(self, new: NewIndex, barrier: Ends) -> Index:
        """Begin to build an index, or find it being built, or serving already.

        Raises:
            Permanent: code ``reindexing``: another is being built or takes over.
        """

        def work(connection: sa.Connection) -> Index:
            known = _locked(connection)
            busy = in_state(known, "building", "leaving")
            for index in known:
                if index.name == new.name and (index.state == "building" or (index.state == "serving" and not busy)):
                    return index
            if busy:
                raise Permanent(
                    f"The index {busy[0].name} is {busy[0].state}; one is built at a time.",
                    next_step="Wait for it (earshot reindex --status), or give it up: earshot reindex --cancel",
                    code="reindexing",
                )
            generation = 1 + max((index.generation for index in known), default=1)
            values = _values(new, generation=generation, state="building") | {"barrier": _dump(barrier)}
            statement = insert(connection, t.indexes).values(values)
            connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))
            return next(index for index in _indexes(connection) if index.name == new.name)

        return await self._db.write(work)

    async def move_alias(self, name: str) -> None:
        """In one transaction: an index that is being built serves, and the one that served leaves."""

        def work(connection: sa.Connection) -> None:
            known = {index.name: index for index in _locked(connection)}
            if name in known and known[name].state == "building":
                for index in in_state(list(known.values()), "serving"):
                    _set(connection, index.name, state="leaving", until=None)
                _set(connection, name, state="serving", served_at=t.now())

        await self._db.write(work)

    async def set_until(self, name: str, ends: Ends) -> None:
        """What an index that leaves still takes in; the first to say so decides."""
        c = t.indexes.c
        update = sa.update(t.indexes).where(c.name == name, c.state == "leaving", c.until.is_(None))
        await self._db.write(lambda connection: connection.execute(update.values(until=_dump(ends))).close())

    async def change_index(self, name: str, before: Collection[IndexState], after: IndexState) -> bool:
        """Change the state of an index; ``False`` when it is in none of those states."""
        update = sa.update(t.indexes).where(t.indexes.c.name == name, t.indexes.c.state.in_(before))
        return await self._db.write(lambda connection: connection.execute(update.values(state=after)).rowcount == 1)


def _indexes(connection: sa.Connection) -> list[Index]:
    return [_index(row) for row in connection.execute(sa.select(t.indexes).order_by(t.indexes.c.generation))]


def _locked(connection: sa.Connection) -> list[Index]:
    """All, locked until the transaction ends; SQLite has one writer at a time and ignores the lock clause."""
    query = sa.select(t.indexes).order_by(t.indexes.c.generation).with_for_update()
    return [_index(row) for row in connection.execute(query)]


def _index(row: sa.Row[Any]) -> Index:
    return Index(
        name=row.name,
        encoder=row.encoder,
        model=row.model,
        dimensions=row.dimensions,
        generation=row.generation,
        state=row.state,
        created_at=row.created_at,
        barrier=_ends(row.barrier),
        until=None if row.until is None else _ends(row.until),
        served_at=row.served_at,
    )


def _values(new: NewIndex, *, generation: int, state: IndexState) -> dict[str, Any]:
    return {
        "name": new.name,
        "encoder": new.encoder,
        "model": new.model,
        "dimensions": new.dimensions,
        "generation": generation,
        "state": state,
        "barrier": "{}",
        "until": None,
        "created_at": t.now(),
        "served_at": None,
    }


def _set(connection: sa.Connection, name: str, **values: Any) -> None:
    connection.execute(sa.update(t.indexes).where(t.indexes.c.name == name).values(values))


def _dump(ends: Ends) -> str:
    return json.dumps({str(partition): end for partition, end in ends.items()})


def _ends(text: str) -> dict[int, int]:
    return {int(partition): int(end) for partition, end in json.loads(text).items()}
