"""Answers, batches of searches and conversations over HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParameter
from opentelemetry import trace

from earshot.adapters.access import about_recordings, access, doorkeeper_of
from earshot.adapters.problems import Problem, Refused, documented, problem
from earshot.adapters.web import Caller, KitOf, Tenant
from earshot.kernel.access import Principal
from earshot.kernel.errors import EarshotError, Permanent
from earshot.kernel.ports.answers import AnswerRow, Conversation
from earshot.kernel.telemetry import trace_id_of
from earshot.query.answering.draft import Began, Cited, Done, Event, Reset, Token, Told
from earshot.query.answering.feed import EventStream, Feed, chunks_of, server_sent, unless_gone
from earshot.query.answering.messages import (
    AnswerRequest,
    AnswerView,
    BatchAnswer,
    BatchItem,
    BatchRequest,
    ConversationDetail,
    ConversationList,
    ConversationView,
    PeriodView,
    TurnView,
)
from earshot.query.answering.service import Answers, unknown_conversation
from earshot.query.messages import SearchRequest
from earshot.query.search import search
from earshot.query.views import read_cursor

router = APIRouter()
AT_ONCE = 4
"""Searches of one batch at the same time."""
EVENTS = {"text/event-stream": {"schema": {"type": "string"}}}
ConversationId = Annotated[str, PathParameter(pattern=r"^[A-Za-z0-9_-]{1,100}$")]


def answers_of(request: Request) -> Answers:
    """What answers are made with in this app."""
    found: Answers = request.app.state.answers
    return found


def within_of(caller: Principal) -> tuple[str, ...] | None:
    """The only collections a caller may see; ``None``: all."""
    return None if caller.collections is None else tuple(sorted(caller.collections))


# --- answers ----------------------------------------------------------------------------------------------------


@router.post(
    "/answers",
    tags=["answers"],
    response_model=AnswerView,
    responses=documented(404, 409, 422, 429) | {200: {"content": EVENTS, "model": AnswerView}},
    openapi_extra=access("read", limit="answers"),
)
async def ask(request: Request, asked: AnswerRequest, caller: Caller) -> Any:
    """Answer a question from what was said, every sentence with the second it comes from.

    As JSON, or as server-sent events: `began` (what was understood), `token` (text), `sentence`, `citation`, `reset`
    (what was shown is void), `done` (the whole answer), `error` (a problem).
    """
    if caller.collections is not None and asked.conversation_id is not None:
        raise Refused(
            403,
            "collection_not_allowed",
            "A conversation may be about all of the tenant.",
            next_step="Leave out conversation_id, or use a key without collections.",
        )
    feed = Feed(answers_of(request).tell(asked, caller.tenant, within_of(caller)))
    if asked.stream or "text/event-stream" in request.headers.get("accept", ""):
        return await streamed(request, feed)
    return await unless_gone(request, whole(request, feed))


async def whole(request: Request, feed: Feed[Event]) -> AnswerView:
    """The answer, once it is made."""
    try:
        while (event := await feed.next()) is not None:
            if isinstance(event, Done):
                return _audited(request, event.answer)
    finally:
        await feed.close()
    raise RuntimeError("an answer ended without being done")


async def streamed(request: Request, feed: Feed[Event]) -> EventStream:
    """The answer while it is made. What fails before anything is told is refused as always."""
    try:
        first = await unless_gone(request, feed.next())
    except BaseException:
        await feed.close()
        raise

    def written(event: Event) -> bytes:
        if isinstance(event, Done):
            _audited(request, event.answer)
        return server_sent(*_told(event))

    async def chunks() -> Any:
        if first is not None:
            yield written(first)
        try:
            async for chunk in chunks_of(feed, written):
                yield chunk
        except EarshotError as error:
            yield server_sent(json.loads(bytes(problem(error).body)), "error")

    return EventStream(chunks(), feed.close)


def _told(event: Event) -> tuple[Any, str]:
    """An event's data and name."""
    if isinstance(event, Token):
        return {"text": event.text}, "token"
    if isinstance(event, Told):
        return event.sentence.model_dump(mode="json"), "sentence"
    if isinstance(event, Cited):
        return event.citation.model_dump(mode="json"), "citation"
    if isinstance(event, Reset):
        return {"reason": event.reason}, "reset"
    if isinstance(event, Done):
        return event.answer.model_dump(mode="json", by_alias=True), "done"
    return _began(event), "began"


def _began(event: Began) -> dict[str, Any]:
    period = event.period
    shown = PeriodView(text=period.text, start=period.start, end=period.end) if period else None
    return {
        "rewritten": event.rewritten,
        "filters": event.filters.model_dump(mode="json", by_alias=True),
        "period": shown.model_dump(mode="json") if shown else None,
    }


def _audited(request: Request, view: AnswerView) -> AnswerView:
    about_recordings(request, *(each.recording_id for each in view.citations))
    return view


# --- batches ----------------------------------------------------------------------------------------------------


@router.post("/query/batch", tags=["query"], responses=documented(422), openapi_extra=access("read", limit="search"))
async def ask_many(request: Request, asked: BatchRequest, caller: Caller, kit: KitOf) -> BatchAnswer:
    """Up to 32 searches; one that cannot be done says why, and the others are answered."""
    started = time.perf_counter()
    await doorkeeper_of(request).count(request, caller, request.state.rule, cost=len(asked.queries) - 1)
    encoder = await request.app.state.alias.encoder()
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(query: SearchRequest) -> BatchItem:
        async with turns:
            try:
                judge = request.app.state.judge
                found = await search(query, caller.tenant, encoder, kit.vectors, kit.catalog, judge, within_of(caller))
            except Permanent as error:
                return BatchItem(answer=None, problem=Problem.model_validate_json(bytes(problem(error).body)))
        about_recordings(request, *(hit.recording_id for hit in found.hits))
        return BatchItem(answer=found, problem=None)

    items = await unless_gone(request, _all([one(query) for query in asked.queries]))
    took_ms = round((time.perf_counter() - started) * 1000)
    return BatchAnswer(items=items, took_ms=took_ms, trace_id=trace_id_of(trace.get_current_span()))


async def _all(works: list[Any]) -> list[BatchItem]:
    """All of them; the first that raises ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
    return [task.result() for task in tasks]


# --- conversations ----------------------------------------------------------------------------------------------


@router.get("/conversations", tags=["answers"], responses=documented(422))
async def list_conversations(
    tenant: Tenant,
    kit: KitOf,
    cursor: Annotated[str | None, Query(max_length=400, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> ConversationList:
    """Conversations, the last used first."""
    before = read_cursor(cursor) if cursor else None
    found = await kit.catalog.conversations(tenant, before=before, limit=limit + 1)
    shown = found[:limit]
    return ConversationList(
        items=[_conversation(each) for each in shown], next=_cursor_of(shown[-1]) if len(found) > limit else None
    )


@router.get("/conversations/{id}", tags=["answers"], responses=documented(404, 422))
async def get_conversation(
    id: ConversationId,  # noqa: A002 - the name in the path
    request: Request,
    tenant: Tenant,
    kit: KitOf,
) -> ConversationDetail:
    """A conversation with its answers. One that rests on an erased recording has lost its text."""
    known = await kit.catalog.conversation(tenant, id)
    if known is None:
        raise unknown_conversation()
    rows = await kit.catalog.answers_of(tenant, id, answers_of(request).settings.conversation_answers)
    return ConversationDetail(**_conversation(known).model_dump(), items=[_turn(row) for row in rows])


@router.delete("/conversations/{id}", tags=["answers"], status_code=204, responses=documented(404, 422))
async def delete_conversation(
    id: ConversationId,  # noqa: A002 - the name in the path
    tenant: Tenant,
    kit: KitOf,
) -> Response:
    """Delete a conversation with its answers."""
    if not await kit.catalog.forget_conversation(tenant, id):
        raise unknown_conversation()
    return Response(status_code=204)


def _conversation(known: Conversation) -> ConversationView:
    return ConversationView(
        id=known.id,
        title=known.title,
        answers=known.answers,
        created_at=known.created_at,
        updated_at=known.updated_at,
    )


def _turn(row: AnswerRow) -> TurnView:
    return TurnView(
        id=row.id,
        question=row.question,
        answer=json.loads(row.body) if row.body else None,
        created_at=row.created_at,
    )


def _cursor_of(known: Conversation) -> str:
    return base64.urlsafe_b64encode(json.dumps([known.updated_at.isoformat(), known.id]).encode()).decode()
