"""Uploads that wait for their turn: who goes next, and what is in flight."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.kernel.fairness import CLASSES, Flight, Precedence, Round, Schedule, Turn, Waiting, Window
from earshot.kernel.outbox import Backlog

LOST_AFTER = timedelta(days=1)
"""A job in flight that has not moved for so long is in nobody's way any more: its events may have been lost."""
_WHAT = (t.outbox.c.id, t.outbox.c.tenant, t.outbox.c.lane, t.outbox.c.audio_ms)


def let_go(connection: sa.Connection, window: Window, limit: int) -> int:
    """Let the uploads go whose turn it is: free their rows, count them in flight, keep who is next.

    Two that do so at once come one after the other.

    Returns:
        How many may go.
    """
    connection.execute(sa.select(t.lanes).order_by(t.lanes.c.lane).with_for_update()).all()
    schedule = plan(connection, window)
    chosen = _choose(schedule, limit)
    for each in chosen:
        _free(connection, each)
    _keep(connection, schedule)
    return len(chosen)


def anybody_may_go(connection: sa.Connection, window: Window) -> bool:
    """Whether :func:`let_go` would let anything go; this only reads."""
    first = sa.select(sa.literal(1)).where(t.outbox.c.lane.is_not(None)).limit(1)
    return connection.scalar(first) is not None and plan(connection, window).next() is not None


def plan(connection: sa.Connection, window: Window) -> Schedule:
    """The schedule as it was left, over what waits now."""
    credit = {row.lane: row.credit for row in connection.execute(sa.select(t.lanes))}
    turns: list[list[Turn]] = [[] for _ in CLASSES]
    for row in connection.execute(sa.select(t.turns).order_by(t.turns.c.place)):
        turns[row.lane].append(Turn(row.tenant, row.deficit_ms))
    return Schedule(
        Precedence(credit.get(lane, 0) for lane, _ in enumerate(CLASSES)),
        [Round(each) for each in turns],
        Flight(window, in_flight(connection)),
        [head for lane, _ in enumerate(CLASSES) for head in _heads(connection, lane)],
        lambda taken: _after(connection, taken),
    )


def in_flight(connection: sa.Connection) -> dict[str, int]:
    """Milliseconds of audio on their way through the stages, by tenant."""
    job = t.jobs.c
    moving = (job.in_flight_ms.is_not(None), job.updated_at > t.now() - LOST_AFTER)
    query = sa.select(job.tenant, sa.func.sum(job.in_flight_ms)).where(*moving).group_by(job.tenant)
    return {tenant: int(total) for tenant, total in connection.execute(query)}


def backlog(connection: sa.Connection) -> Backlog:
    """What waits for its turn, and what is in flight."""
    c = t.outbox.c
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(c.audio_ms), 0)).where(c.lane.is_not(None))
    uploads, audio_ms = connection.execute(query).one()
    return Backlog(int(uploads), int(audio_ms), sum(in_flight(connection).values()))


def _heads(connection: sa.Connection, lane: int) -> list[Waiting]:
    """The first of each tenant in a class, by one seek for each tenant instead of a look at every row."""
    row = t.outbox.alias("row")
    ring = sa.select(sa.func.min(row.c.tenant).label("tenant")).where(row.c.lane == lane).cte("ring", recursive=True)
    following = sa.select(sa.func.min(row.c.tenant)).where(row.c.lane == lane, row.c.tenant > ring.c.tenant)
    ring = ring.union_all(sa.select(following.scalar_subquery()).where(ring.c.tenant.is_not(None)))
    first = sa.select(sa.func.min(row.c.id)).where(row.c.lane == lane, row.c.tenant == ring.c.tenant)
    firsts = sa.select(first.scalar_subquery().label("id")).where(ring.c.tenant.is_not(None)).subquery("firsts")
    return _waiting(connection.execute(sa.select(*_WHAT).join(firsts, firsts.c.id == t.outbox.c.id)))


def _after(connection: sa.Connection, taken: Waiting) -> Waiting | None:
    c = t.outbox.c
    mine = (c.lane == taken.lane, c.tenant == taken.tenant, c.id > taken.id)
    return next(iter(_waiting(connection.execute(sa.select(*_WHAT).where(*mine).order_by(c.id).limit(1)))), None)


def _waiting(rows: Iterable[sa.Row[Any]]) -> list[Waiting]:
    return [Waiting(row.id, row.tenant, row.lane, row.audio_ms) for row in rows]


def _choose(schedule: Schedule, limit: int) -> list[Waiting]:
    chosen: list[Waiting] = []
    while len(chosen) < limit and (following := schedule.next()) is not None:
        chosen.append(following)
    return chosen


def _free(connection: sa.Connection, chosen: Waiting) -> None:
    """The upload may go; its job, the latest of the recording, is in flight from now on."""
    c, job = t.outbox.c, t.jobs.c
    connection.execute(sa.update(t.outbox).where(c.id == chosen.id).values(lane=None))
    recording = sa.select(c.recording_id).where(c.id == chosen.id).scalar_subquery()
    latest = sa.select(sa.func.max(job.revision)).where(job.tenant == chosen.tenant, job.recording_id == recording)
    mine = (job.tenant == chosen.tenant, job.recording_id == recording, job.revision == latest.scalar_subquery())
    connection.execute(sa.update(t.jobs).where(*mine).values(in_flight_ms=chosen.audio_ms, updated_at=t.now()))


def _keep(connection: sa.Connection, schedule: Schedule) -> None:
    connection.execute(sa.delete(t.turns))
    rows = [
        {"lane": lane, "tenant": turn.tenant, "place": place, "deficit_ms": turn.deficit_ms}
        for lane, ring in enumerate(schedule.rounds)
        for place, turn in enumerate(ring.turns)
    ]
    if rows:
        connection.execute(sa.insert(t.turns), rows)
    for lane, credit in enumerate(schedule.precedence.credit):
        connection.execute(sa.update(t.lanes).where(t.lanes.c.lane == lane).values(credit=credit))
