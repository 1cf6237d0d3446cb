"""What was done with dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.base import Part, chunks
from earshot.adapters.catalog.engine import insert
from earshot.kernel.dead_letters import Outcome


class LettersPart(Part):
    """The letters that were answered; those not here are open."""

    async def outcomes(self, letters: Sequence[str]) -> dict[str, Outcome]:
        """What was done with each of these letters; open ones are left out."""
        c = t.dead_letters.c

        def work(connection: sa.Connection) -> dict[str, Outcome]:
            found: dict[str, Outcome] = {}
            for some in chunks(list(letters)):
                for row in connection.execute(sa.select(c.id, c.outcome).where(c.id.in_(some))):
                    found[row.id] = cast("Outcome", row.outcome)
            return found

        return await self._db.read(work)

    async def answer(self, letters: Sequence[str], outcome: Outcome) -> None:
        """Remember what was done with them; the last word counts."""
        at = t.now()

        def work(connection: sa.Connection) -> None:
            for some in chunks(sorted(set(letters))):
                rows = insert(connection, t.dead_letters).values(
                    [{"id": one, "outcome": outcome, "at": at} for one in some]
                )
                said = {"outcome": outcome, "at": at}
                connection.execute(rows.on_conflict_do_update(index_elements=["id"], set_=said))

        await self._db.write(work)
