"""Answers, their conversations, and what models cost."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.base import Part, chunks, lock_recordings
from earshot.adapters.catalog.engine import insert
from earshot.kernel.errors import Permanent
from earshot.kernel.ports.answers import AnswerRow, Conversation, SpendingLimit, Spent


class AnswersPart(Part):
    """Conversations of a tenant. The text of an answer goes with the first recording it rests on."""

    async def keep_answer(self, answer: AnswerRow, title: str, most: int) -> None:
        """Keep an answer, in its conversation when it has one."""

        def work(connection: sa.Connection) -> None:
            keys = {(answer.tenant, recording) for recording in answer.recordings}
            there = lock_recordings(connection, keys)
            erased = any(key not in there or there[key].state == "erased" for key in keys)
            values = _values(answer) | ({"body": "", "rewritten": ""} if erased else {})
            place = _next_place(connection, answer, title, most) if answer.conversation_id else 0
            connection.execute(sa.insert(t.answers).values(values | {"place": place}))
            if keys and not erased:
                sources = [{"tenant": a, "recording_id": b, "answer_id": answer.id} for a, b in sorted(keys)]
                connection.execute(sa.insert(t.answer_sources), sources)

        await self._db.write(work)

    async def conversation(self, tenant: str, conversation_id: str) -> Conversation | None:
        """One conversation."""
        c = t.conversations.c
        query = sa.select(t.conversations).where(c.tenant == tenant, c.id == conversation_id)
        row = await self._db.read(lambda connection: connection.execute(query).first())
        return None if row is None else _conversation(row)

    async def conversations(
        self, tenant: str, *, before: tuple[datetime, str] | None = None, limit: int = 50
    ) -> list[Conversation]:
        """The last used first."""
        c = t.conversations.c
        query = sa.select(t.conversations).where(c.tenant == tenant)
        if before is not None:
            at, last = before
            query = query.where(sa.or_(c.updated_at < at, sa.and_(c.updated_at == at, c.id < last)))
        query = query.order_by(c.updated_at.desc(), c.id.desc()).limit(limit)
        return await self._db.read(lambda connection: [_conversation(row) for row in connection.execute(query)])

    async def answers_of(self, tenant: str, conversation_id: str, limit: int) -> list[AnswerRow]:
        """The latest answers of a conversation, oldest first."""
        c, s, r = t.answers.c, t.answer_sources.c, t.recordings.c
        gone = (
            sa.exists()
            .where(s.tenant == c.tenant, s.answer_id == c.id)
            .where(r.tenant == s.tenant, r.id == s.recording_id, r.state == "erased")
        )
        query = sa.select(t.answers, gone.label("gone"))
        query = query.where(c.tenant == tenant, c.conversation_id == conversation_id)
        query = query.order_by(c.place.desc()).limit(limit)
        rows = await self._db.read(lambda connection: [_answer(row) for row in connection.execute(query)])
        return rows[::-1]

    async def forget_conversation(self, tenant: str, conversation_id: str) -> bool:
        """Delete a conversation with its answers; ``False`` when there is none."""
        c, a, s = t.conversations.c, t.answers.c, t.answer_sources.c

        def work(connection: sa.Connection) -> bool:
            mine = sa.select(a.id).where(a.tenant == tenant, a.conversation_id == conversation_id)
            connection.execute(sa.delete(t.answer_sources).where(s.tenant == tenant, s.answer_id.in_(mine)))
            connection.execute(sa.delete(t.answers).where(a.tenant == tenant, a.conversation_id == conversation_id))
            gone = connection.execute(sa.delete(t.conversations).where(c.tenant == tenant, c.id == conversation_id))
            return gone.rowcount > 0

        return await self._db.write(work)


def forget_answers(connection: sa.Connection, tenant: str, recording_ids: Collection[str]) -> None:
    """Take the text out of every answer that rests on one of these recordings: it has their words."""
    a, s = t.answers.c, t.answer_sources.c
    for some in chunks(sorted(recording_ids)):
        resting = sa.select(s.answer_id).where(s.tenant == tenant, s.recording_id.in_(some))
        blank = sa.update(t.answers).where(a.tenant == tenant, a.id.in_(resting)).values(body="", rewritten="")
        connection.execute(blank)
        connection.execute(sa.delete(t.answer_sources).where(s.tenant == tenant, s.recording_id.in_(some)))


def _next_place(connection: sa.Connection, answer: AnswerRow, title: str, most: int) -> int:
    """The answer's place in its conversation, which is made when it is new. Raises ``Permanent`` when it is full."""
    c = t.conversations.c
    place = {"tenant": answer.tenant, "id": answer.conversation_id}
    new = insert(connection, t.conversations).values(
        **place, title=title, answers=0, created_at=answer.created_at, updated_at=answer.created_at
    )
    connection.execute(new.on_conflict_do_nothing())
    mine = sa.and_(c.tenant == answer.tenant, c.id == answer.conversation_id)
    count = int(connection.scalar(sa.select(c.answers).where(mine).with_for_update()) or 0)
    if count >= most:
        raise Permanent(f"The conversation has {most} answers.", next_step="Begin a new one.", code="conversation_full")
    update = sa.update(t.conversations).where(mine).values(answers=count + 1, updated_at=answer.created_at)
    connection.execute(update)
    return count + 1


def _values(answer: AnswerRow) -> dict[str, Any]:
    names = (
        "tenant", "id", "conversation_id", "kind", "question", "rewritten", "body", "provider", "prompt", "prompt_hash",
        "created_at",
    )  # fmt: skip
    return {name: getattr(answer, name) for name in names}


def _answer(row: sa.Row[Any]) -> AnswerRow:
    return AnswerRow(
        tenant=row.tenant,
        id=row.id,
        conversation_id=row.conversation_id,
        kind=row.kind,
        question=row.question,
        rewritten="" if row.gone else row.rewritten,
        body="" if row.gone else row.body,
        provider=row.provider,
        prompt=row.prompt,
        prompt_hash=row.prompt_hash,
        created_at=row.created_at,
    )


def _conversation(row: sa.Row[Any]) -> Conversation:
    return Conversation(row.tenant, row.id, row.title, row.answers, row.created_at, row.updated_at)


class SpendingPart(Part):
    """Tokens and cost by day, provider and tenant."""

    async def reserve(self, tenant: str, provider: str, day: date, wanted: Spent, limit: SpendingLimit) -> bool:
        """Take so much of the day's limits; ``False``, with nothing taken, when one would be passed."""
        c = t.spending.c
        mine = sa.and_(c.day == day.isoformat(), c.provider == provider)
        sums = sa.select(
            sa.func.coalesce(sa.func.sum(c.tokens), 0).label("tokens"),
            sa.func.coalesce(sa.func.sum(sa.case((c.tenant == tenant, c.tokens), else_=0)), 0).label("own"),
            sa.func.coalesce(sa.func.sum(c.cost), 0).label("cost"),
        ).where(mine)

        def work(connection: sa.Connection) -> bool:
            # a row of nobody's, locked: reservations of one provider and day come one after another
            _add(connection, day, provider, "", Spent())
            connection.execute(sa.select(c.day).where(mine, c.tenant == "").with_for_update()).first()
            used = connection.execute(sums).one()
            passed = (
                0 < limit.tokens < int(used.tokens) + wanted.tokens
                or 0 < limit.tenant_tokens < int(used.own) + wanted.tokens
                or 0 < limit.cost < int(used.cost) + wanted.cost
            )
            if not passed:
                _add(connection, day, provider, tenant, wanted)
            return not passed

        return await self._db.write(work)

    async def settle(self, tenant: str, provider: str, day: date, difference: Spent) -> None:
        """Correct what was reserved by what was used."""
        await self._db.write(lambda connection: _add(connection, day, provider, tenant, difference))

    async def spent(self, provider: str, day: date) -> Spent:
        """What all tenants used of a provider on a day."""
        c = t.spending.c
        query = sa.select(sa.func.sum(c.tokens), sa.func.sum(c.cost)).where(
            c.day == day.isoformat(), c.provider == provider
        )
        row = await self._db.read(lambda connection: connection.execute(query).one())
        return Spent(int(row[0] or 0), int(row[1] or 0))


def _add(connection: sa.Connection, day: date, provider: str, tenant: str, more: Spent) -> None:
    c = t.spending.c
    key = {"day": day.isoformat(), "provider": provider, "tenant": tenant}
    new = insert(connection, t.spending).values(**key, tokens=more.tokens, cost=more.cost)
    sums = {"tokens": c.tokens + more.tokens, "cost": c.cost + more.cost}
    connection.execute(new.on_conflict_do_update(index_elements=list(key), set_=sums))
