"""What the catalog keeps of answers, conversations and costs, and how it counts, on every database."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.kernel.errors import Permanent
from earshot.kernel.ports.answers import AnswerRow, SpendingLimit, Spent
from tests.fakes_catalog import TRACE, accepted

AT = datetime(2026, 5, 1, tzinfo=UTC)
DAY = date(2026, 5, 1)


def row(tenant: str, conversation: str | None = None, *recordings: str, **fields) -> AnswerRow:
    about = {"kind": "answered", "question": "What?", "rewritten": "What then?", "body": '{"text": "said"}'}
    about |= {"provider": "none", "prompt": "", "prompt_hash": "", "created_at": AT}
    return AnswerRow(
        tenant=tenant, id=uuid.uuid4().hex, conversation_id=conversation, recordings=recordings, **(about | fields)
    )


async def test_a_conversation_grows_is_listed_by_its_last_answer_and_goes(catalog, tenant):
    for at, name in enumerate(("one", "two")):
        await catalog.keep_answer(row(tenant, name, created_at=AT + timedelta(hours=at)), f"Title {name}", 9)
    later = row(tenant, "one", question="And?", created_at=AT + timedelta(hours=5))
    await catalog.keep_answer(later, "not its first", 9)
    first, second = await catalog.conversations(tenant)
    assert [(each.id, each.title, each.answers) for each in (first, second)] == [
        ("one", "Title one", 2),
        ("two", "Title two", 1),
    ]
    assert (first.created_at, first.updated_at) == (AT, AT + timedelta(hours=5))
    assert await catalog.conversations(tenant, before=(first.updated_at, first.id), limit=5) == [second]
    assert [each.question for each in await catalog.answers_of(tenant, "one", 5)] == ["What?", "And?"]
    assert await catalog.answers_of(tenant, "one", 1) == [replace(later, recordings=())]
    for stranger in (f"{tenant}-other", ""):
        assert await catalog.conversation(stranger, "one") is None
        assert await catalog.conversations(stranger) == []
        assert await catalog.answers_of(stranger, "one", 5) == []
        assert not await catalog.forget_conversation(stranger, "one")
    assert await catalog.forget_conversation(tenant, "one")
    assert not await catalog.forget_conversation(tenant, "one")
    assert await catalog.answers_of(tenant, "one", 5) == []
    assert [each.id for each in await catalog.conversations(tenant)] == ["two"]


async def test_a_conversation_has_no_more_answers_than_it_may_even_at_once(catalog, tenant):
    keeping = [catalog.keep_answer(row(tenant, "full"), "Title", 3) for _ in range(6)]
    outcomes = await asyncio.gather(*keeping, return_exceptions=True)
    refused = [outcome for outcome in outcomes if outcome is not None]
    assert [type(outcome) for outcome in refused] == [Permanent] * 3
    assert len(await catalog.answers_of(tenant, "full", 9)) == 3


async def test_an_erasure_takes_the_text_of_answers_that_rest_on_it_before_and_after(catalog, tenant):
    gone, here = [(await accepted(catalog, tenant)).job.recording_id for _ in range(2)]
    await catalog.keep_answer(row(tenant, "c", gone, here), "Title", 9)
    await catalog.keep_answer(row(tenant, "c", here), "Title", 9)
    await catalog.erase(tenant, gone, TRACE)
    await catalog.keep_answer(row(tenant, "c", gone), "Title", 9)
    kept = await catalog.answers_of(tenant, "c", 9)
    assert [(each.body, each.rewritten) for each in kept] == [("", ""), ('{"text": "said"}', "What then?"), ("", "")]
    assert [each.question for each in kept] == ["What?"] * 3
    query = sa.select(t.answers.c.body).where(t.answers.c.tenant == tenant).order_by(t.answers.c.place)
    at_rest = await catalog._db.read(lambda connection: list(connection.scalars(query)))
    assert at_rest == ["", '{"text": "said"}', ""]


async def test_limits_of_a_day_are_by_provider_and_by_tenant(catalog):
    provider, limit = uuid.uuid4().hex, SpendingLimit(tokens=100, tenant_tokens=60, cost=1000)
    assert await catalog.reserve("a", provider, DAY, Spent(60, 10), limit)
    assert not await catalog.reserve("a", provider, DAY, Spent(1, 0), limit)
    assert not await catalog.reserve("b", provider, DAY, Spent(41, 0), limit)
    assert not await catalog.reserve("b", provider, DAY, Spent(1, 991), limit)
    assert await catalog.reserve("b", provider, DAY, Spent(40, 990), limit)
    await catalog.settle("b", provider, DAY, Spent(-30, -900))
    assert await catalog.spent(provider, DAY) == Spent(70, 100)
    assert await catalog.reserve("a", provider, DAY + timedelta(days=1), Spent(60, 0), limit)
    assert await catalog.reserve("a", f"{provider}-other", DAY, Spent(60, 0), limit)
    assert await catalog.reserve("a", provider, DAY, Spent(10**9, 10**9), SpendingLimit())


async def test_reservations_at_once_do_not_pass_a_limit_together(catalog):
    provider, limit = uuid.uuid4().hex, SpendingLimit(tokens=100)
    taking = [catalog.reserve("a", provider, DAY, Spent(30, 0), limit) for _ in range(8)]
    assert sum(await asyncio.gather(*taking)) == 3


async def test_recordings_are_counted_within_every_bound(catalog, tenant):
    made = {}
    for name, collection, at in (("one", "x", AT), ("two", "x", AT + timedelta(days=1)), ("three", "y", None)):
        job = await accepted(catalog, tenant, title=name, collection=collection, recorded_at=at)
        made[name] = job.job.recording_id
    whole = await catalog.census(tenant)
    assert (whole.count, whole.undated, {each.title for each in whole.newest}) == (3, 0, {"one", "two", "three"})
    dated = await catalog.census(tenant, recorded_from=AT, recorded_to=AT + timedelta(hours=1))
    assert ([each.title for each in dated.newest], dated.count, dated.undated) == (["one"], 1, 1)
    assert (await catalog.census(tenant, collection="x", limit=1)).count == 2
    assert [each.title for each in (await catalog.census(tenant, collection="x", limit=1)).newest] == ["two"]
    assert (await catalog.census(tenant, among=["y"])).count == 1
    assert (await catalog.census(tenant, among=[])).count == 0
    assert (await catalog.census(tenant, recording_ids=[made["two"], "unknown"])).count == 1
    assert (await catalog.census(tenant, recording_ids=[])).count == 0
    assert (await catalog.census(f"{tenant}-other")).count == 0
    await catalog.erase(tenant, made["three"], TRACE)
    assert (await catalog.census(tenant)).count == 2
    assert [name for name, _ in await catalog.collection_names(tenant, 10)] == ["x"]
    assert [name for name, _ in await catalog.collection_names(tenant, 10, ["y", "z"])] == []


async def test_a_recording_whose_only_attempt_was_cancelled_does_not_count(catalog, tenant):
    job = (await accepted(catalog, tenant)).job
    await catalog.cancel(tenant, job.id, TRACE)
    assert (await catalog.recording(tenant, job.recording_id)).state == "cancelled"
    assert (await catalog.census(tenant)).count == 0


async def test_loose_answers_and_costs_go_in_time_and_conversations_stay(catalog, tenant):
    provider, long_ago = uuid.uuid4().hex, datetime.now(UTC) - timedelta(days=500)
    for conversation in (None, "c"):
        await catalog.keep_answer(row(tenant, conversation, created_at=long_ago), "Title", 9)
    fresh = row(tenant, None, created_at=datetime.now(UTC))
    await catalog.keep_answer(fresh, "", 9)
    await catalog.reserve(tenant, provider, long_ago.date(), Spent(5, 5), SpendingLimit())
    await catalog.reserve(tenant, provider, datetime.now(UTC).date(), Spent(7, 7), SpendingLimit())
    await catalog.prune(datetime.now(UTC) - timedelta(days=7))
    assert await catalog.spent(provider, long_ago.date()) == Spent()
    assert await catalog.spent(provider, datetime.now(UTC).date()) == Spent(7, 7)
    assert len(await catalog.answers_of(tenant, "c", 9)) == 1
    assert (await catalog.rows_of(tenant))["answers"] == 2
