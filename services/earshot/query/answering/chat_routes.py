"""``/v1/chat/completions`` and ``/v1/models``, for clients that know OpenAI's interface. A model is a collection."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi import Path as PathParameter

from earshot.adapters.access import about_recordings, access
from earshot.adapters.openai_errors import documented, openai_error
from earshot.adapters.problems import Refused
from earshot.adapters.web import Caller, KitOf
from earshot.kernel.access import Principal
from earshot.kernel.errors import EarshotError
from earshot.query.answering.chat import (
    EVERYTHING,
    ChatRequest,
    Chunks,
    completion,
    history_of,
    question_of,
    sources,
)
from earshot.query.answering.draft import Done, Event, Reset, Token
from earshot.query.answering.feed import EventStream, Feed, chunks_of, server_sent, unless_gone
from earshot.query.answering.messages import AnswerRequest, AnswerView
from earshot.query.answering.routes import answers_of, whole, within_of
from earshot.query.messages import Filters

router = APIRouter(prefix="/v1", tags=["openai"])
MOST_MODELS = 1000
ModelId = Annotated[str, PathParameter(min_length=1, max_length=200)]


@router.post(
    "/chat/completions",
    responses=documented(400, 404, 413, 422, 429)
    | {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    openapi_extra=access("read", limit="answers"),
)
async def complete(request: Request, chat: ChatRequest, caller: Caller, kit: KitOf) -> Any:
    """Answer the last message of a chat from a collection, as OpenAI's clients expect it; also as a stream."""
    if chat.model != EVERYTHING:
        await _known(chat.model, caller, kit)
    collection = None if chat.model == EVERYTHING else chat.model
    asked = AnswerRequest(question=question_of(chat), filters=Filters.model_validate({"collection": collection}))
    base, created = str(request.base_url).rstrip("/"), int(time.time())
    telling = answers_of(request).tell(asked, caller.tenant, within_of(caller), history_of(chat), chat.longest)
    feed = Feed(telling)
    if not chat.stream:
        view = await unless_gone(request, whole(request, feed))
        return completion(view, chat.model, base, created)
    return await _streamed(request, feed, chat, base, created)


async def _streamed(request: Request, feed: Feed[Event], chat: ChatRequest, base: str, created: int) -> EventStream:
    try:
        await unless_gone(request, feed.next())  # what fails before anything is told is refused as always
    except BaseException:
        await feed.close()
        raise
    pieces = Chunks(f"chatcmpl-{uuid.uuid4().hex}", chat.model, created)
    with_usage = bool(chat.stream_options and chat.stream_options.include_usage)

    def ended(view: AnswerView) -> bytes:
        about_recordings(request, *(each.recording_id for each in view.citations))
        told = [pieces.text(sources(view.citations, base))] if view.citations else []
        return b"".join(map(server_sent, [*told, *pieces.end(view, with_usage=with_usage)]))

    def written(event: Event) -> bytes:
        if isinstance(event, Token):
            return server_sent(pieces.text(event.text))
        if isinstance(event, Reset):  # what was sent cannot be taken back here
            return server_sent(pieces.text(f"\n\n({event.reason} What stands above is void.)\n\n"))
        return ended(event.answer) if isinstance(event, Done) else b""

    return EventStream(_chunks(feed, written, server_sent(pieces.begin())), feed.close)


async def _chunks(feed: Feed[Event], written: Any, first: bytes) -> AsyncGenerator[bytes, None]:
    yield first
    try:
        async with aclosing(chunks_of(feed, written)) as chunks:
            async for chunk in chunks:
                yield chunk
    except EarshotError as error:
        yield server_sent(openai_error(error))
    yield b"data: [DONE]\n\n"


@router.get("/models", responses=documented())
async def list_models(caller: Caller, kit: KitOf) -> dict[str, Any]:
    """Every collection with a recording as a model, and `earshot` for all of them."""
    found = await kit.catalog.collection_names(caller.tenant, MOST_MODELS, within_of(caller))
    names = [(EVERYTHING, 0), *((name, int(since.timestamp())) for name, since in found if name != EVERYTHING)]
    return {"object": "list", "data": [_model(name, created) for name, created in names]}


@router.get("/models/{model}", responses=documented(404, 422))
async def get_model(model: ModelId, caller: Caller, kit: KitOf) -> dict[str, Any]:
    """One of them."""
    return _model(model, 0 if model == EVERYTHING else await _known(model, caller, kit))


async def _known(model: str, caller: Principal, kit: Any) -> int:
    """When a collection began, in seconds since the epoch. Raises ``Refused`` (404)."""
    among = within_of(caller)
    only = (model,) if among is None else tuple(name for name in among if name == model)
    found = await kit.catalog.collection_names(caller.tenant, 1, only)
    if not found:
        raise Refused(404, "model_not_found", "There is no collection of this name.", next_step="See GET /v1/models.")
    return int(found[0][1].timestamp())


def _model(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "earshot"}
