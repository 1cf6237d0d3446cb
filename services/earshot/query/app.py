"""Finds and shows what was said, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from earshot import __version__
from earshot.adapters import chat_models, openai_errors, problems, rerankers, web
from earshot.adapters.access import about_recordings, access, doorkeeper_of
from earshot.adapters.encoders import choose
from earshot.adapters.named_encoders import encoder_of
from earshot.adapters.problems import documented
from earshot.adapters.web import Caller, KitOf, Operator, Tenant
from earshot.adapters.wiring import Kit
from earshot.kernel.ports import Encoder, Job, QualityBounds
from earshot.kernel.ports.indexes import Index
from earshot.kernel.settings import load
from earshot.kernel.telemetry import trace_headers
from earshot.query import audit, cues, keys, media, tenants
from earshot.query.alias import Alias
from earshot.query.answering.chat_routes import router as chat_router
from earshot.query.answering.routes import router as answers_router
from earshot.query.answering.service import Answers
from earshot.query.edit import words_of_revision
from earshot.query.edits import MOST_REVISION, Tag, etag
from earshot.query.edits import router as edits_router
from earshot.query.found import FoundJob, FoundRecording
from earshot.query.health import About, Readiness, degraded_of, diarization_of, engines_of, readiness
from earshot.query.messages import SearchAnswer, SearchRequest
from earshot.query.pages import pages
from earshot.query.progress import Streams, follow
from earshot.query.quality import quality_bounds
from earshot.query.search import Judge, search
from earshot.query.settings import AnswersSettings, QuerySettings, RerankerSettings
from earshot.query.speakers import router as speakers_router
from earshot.query.speakers import voices_of
from earshot.query.views import (
    PREFIX,
    JobView,
    RecordingList,
    RecordingView,
    TraceView,
    cursor_of,
    job_view,
    read_cursor,
    recording_view,
    trace_view,
)

api = APIRouter(prefix=PREFIX)
health = APIRouter(tags=["health"])
openai = APIRouter()
openai.include_router(chat_router)


# --- what this is -----------------------------------------------------------------------------------------------


@api.get("/", tags=["about"], responses=documented(), openapi_extra=access(audited=False))
async def about(caller: Caller, kit: KitOf) -> About:
    """What this is, its version, the engines in use, and who is asking."""
    beats = await kit.catalog.heartbeats()
    engines = engines_of(beats)
    return About(
        version=__version__,
        engines=engines,
        degraded=degraded_of(engines),
        diarization=diarization_of(beats),
        tenant=caller.tenant,
        scopes=sorted(caller.scopes),
    )


# --- jobs -------------------------------------------------------------------------------------------------------


@api.get("/jobs/{id}", tags=["jobs"], responses=documented(404), openapi_extra=access(audited=False))
async def get_job(job: FoundJob) -> JobView:
    """How far a job is."""
    return job_view(job)


@api.delete("/jobs/{id}", tags=["jobs"], responses=documented(404, 409), openapi_extra=access("write"))
async def cancel_job(job: FoundJob, tenant: Tenant, kit: KitOf) -> JobView:
    """Cancel a job that has not ended; what it made so far is removed."""
    return job_view(await kit.catalog.cancel(tenant, job.id, trace_headers()))


@api.post("/jobs/{id}/retry", tags=["jobs"], status_code=202, responses=documented(404, 409))
async def retry_job(job: FoundJob, tenant: Tenant, kit: KitOf, response: Response) -> JobView:
    """Try a failed or cancelled job again, as a new job."""
    again = await kit.catalog.retry(tenant, job.id, trace_headers())
    web.mark_span(again)
    view = job_view(again)
    response.headers["Location"] = view.links["self"]
    return view


def _streams(request: Request) -> Streams:
    streams: Streams = request.app.state.streams
    streams.check()
    return streams


@api.get(
    "/jobs/{id}/events",
    tags=["jobs"],
    response_class=EventSourceResponse,
    responses=documented(404, 429),
    openapi_extra=access(audited=False),
)
async def job_events(
    job: FoundJob,
    tenant: Tenant,
    kit: KitOf,
    streams: Annotated[Streams, Depends(_streams)],
    last_event_id: Annotated[str | None, Header(description="The last event seen; sent by browsers.")] = None,
) -> AsyncIterable[ServerSentEvent]:
    """The job at every change, as server-sent events, until it ends."""
    async for seen in follow(kit.catalog, tenant, job, last_event_id, streams):
        yield ServerSentEvent(data=job_view(seen).model_dump(mode="json"), event="job", id=str(seen.version))


@api.get("/jobs/{id}/trace", tags=["jobs"], responses=documented(404))
async def job_trace(job: FoundJob, tenant: Tenant, kit: KitOf) -> TraceView:
    """Every step from upload to search, as far as it is kept here."""
    spans = await asyncio.to_thread(kit.catalog.of_trace, tenant, job.trace_id)
    return trace_view(job.trace_id, spans)


# --- the question -----------------------------------------------------------------------------------------------


@api.post("/query", tags=["query"], responses=documented(422), openapi_extra=access("read", limit="search"))
async def ask(request: Request, asked: SearchRequest, caller: Caller, kit: KitOf) -> SearchAnswer:
    """Find what was said, by words and by meaning; each hit points at its second."""
    encoder = await request.app.state.alias.encoder()
    within = None if caller.collections is None else tuple(sorted(caller.collections))
    judge = request.app.state.judge
    answer = await search(asked, caller.tenant, encoder, kit.vectors, kit.catalog, judge, within)
    about_recordings(request, *(hit.recording_id for hit in answer.hits))
    return answer


# --- recordings -------------------------------------------------------------------------------------------------


@api.get("/recordings", tags=["recordings"], responses=documented(422))
async def list_recordings(
    caller: Caller,
    kit: KitOf,
    quality: Annotated[QualityBounds, Depends(quality_bounds)],
    collection: Annotated[str | None, Query(max_length=64, pattern=r"^[\w .-]*$")] = None,
    tag: Annotated[
        list[Tag],
        Query(max_length=10, description="Only recordings with this tag; several must all be there."),
    ] = [],  # noqa: B006 - FastAPI copies it
    cursor: Annotated[str | None, Query(max_length=400, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> RecordingList:
    """Recordings, newest first; those that were not measured are outside every bound of quality."""
    before = read_cursor(cursor) if cursor else None
    tenant, among = caller.tenant, caller.collections
    found = await kit.catalog.recordings(
        tenant, collection=collection, among=among, tags=tag, quality=quality, before=before, limit=limit + 1
    )
    shown = found[:limit]
    items = [recording_view(recording, await kit.catalog.job(tenant, recording.id)) for recording in shown]
    return RecordingList(items=items, next=cursor_of(shown[-1]) if len(found) > limit else None)


@api.get("/recordings/{id}", tags=["recordings"], responses=documented(404))
async def get_recording(recording: FoundRecording, tenant: Tenant, kit: KitOf) -> RecordingView:
    """One recording and its latest job."""
    return recording_view(recording, await kit.catalog.job(tenant, recording.id))


@api.delete("/recordings/{id}", tags=["recordings"], status_code=204, responses=documented(404))
async def erase_recording(request: Request, recording: FoundRecording, tenant: Tenant, kit: KitOf) -> Response:
    """Erase a recording: it cannot be found from now on, and all that was made of it is removed."""
    await doorkeeper_of(request).record(request)
    await kit.catalog.erase(tenant, recording.id, trace_headers())
    return Response(status_code=204)


_TRANSCRIPT_TYPES = {
    "json": "application/json",
    "txt": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}


@api.get(
    "/recordings/{id}/transcript",
    tags=["recordings"],
    response_class=Response,
    responses=documented(404, 422)
    | {200: {"content": {kind.split(";")[0]: {} for kind in _TRANSCRIPT_TYPES.values()}}},
)
async def get_transcript(
    recording: FoundRecording,
    tenant: Tenant,
    kit: KitOf,
    format: Annotated[Literal["json", "txt", "srt", "vtt"], Query()] = "json",  # noqa: A002 - the name in the query
    revision: Annotated[
        int | None, Query(ge=1, le=MOST_REVISION, description="An earlier one, as `GET …/revisions` lists them.")
    ] = None,
) -> Response:
    """What was said, as soon as it is transcribed; stretches that failed are marked missing.

    As JSON it has an ETag, the revision of its words, for `If-Match` of a correction.
    """
    voices = await voices_of(recording, tenant, kit)
    if revision is None:
        shown = await kit.catalog.current_revision(tenant, recording.id)
        heard = await kit.catalog.transcript(tenant, recording.id)
        missing = missing_of(await kit.catalog.job(tenant, recording.id))
    else:
        shown, missing = revision, []
        heard = await words_of_revision(tenant, recording.id, revision, kit.catalog)
    segments = await asyncio.to_thread(lambda: [voices.shown(segment) for segment in heard])
    if format == "json":
        body = cues.as_json(recording.id, shown, recording.language, recording.duration_ms, segments, missing)
        return JSONResponse(body, headers={"ETag": etag(shown)})
    if format == "txt":
        text = cues.as_text(segments, missing)
    else:
        text = cues.as_srt(segments) if format == "srt" else cues.as_vtt(segments)
    return Response(text, media_type=_TRANSCRIPT_TYPES[format])


def missing_of(job: Job | None) -> list[cues.Missing]:
    """The stretches that a failed job could not transcribe."""
    error: dict[str, Any] = dict(job.error or {}) if job else {}
    reason = str(error.get("detail") or error.get("code") or "")
    return [
        cues.Missing(int(gap["start_ms"]), int(gap["end_ms"]), str(gap.get("detail") or reason), gap.get("index"))
        for gap in error.get("missing") or []
    ]


@api.api_route(
    "/recordings/{id}/audio",
    methods=["GET"],
    tags=["recordings"],
    response_class=Response,
    responses=documented(404, 416) | {206: {"description": "The range asked for."}},
    openapi_extra=access(ticket=True),
)
async def get_audio(request: Request, recording: FoundRecording, kit: KitOf) -> Response:
    """The audio as it was uploaded; byte ranges are supported."""
    return await media.serve(request, recording, kit.blobs)


api.include_router(speakers_router)
api.include_router(edits_router)
api.include_router(keys.router)
api.include_router(tenants.router)
api.include_router(audit.router)
api.include_router(answers_router)


# --- health -----------------------------------------------------------------------------------------------------


@health.get("/health/live")
async def live() -> dict[str, str]:
    """This process answers."""
    return {"status": "live"}


@health.get("/health/ready", responses={503: {"model": Readiness}})
async def ready(
    request: Request,
    response: Response,
    kit: KitOf,
    stages: Annotated[bool, Query(description="Whether the stages count; false for a load balancer.")] = True,
) -> Readiness:
    """Each dependency's result, and each stage's sign of life."""
    result = await readiness(kit, request.app.state.query, with_stages=stages)
    if request.app.state.streams.ending:
        result = result.model_copy(update={"ready": False, "ending": True})
    if not result.ready:
        response.status_code, response.headers["Retry-After"] = 503, "1"
    return result


@health.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses=documented(),
    openapi_extra=access("admin", audited=False),
)
async def metrics(request: Request, _operator: Operator) -> Response:
    """Prometheus metrics of this process."""
    return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)


# --- the app ----------------------------------------------------------------------------------------------------


def _found(index: Index | None) -> Encoder:
    return choose() if index is None else encoder_of(index)


def _judge() -> Judge | None:
    """The reranker that the settings name, loaded by the first search; ``None`` without one."""
    settings = load(RerankerSettings)
    reranker = rerankers.choose(settings)
    return None if reranker is None else Judge(reranker, settings.candidates)


def prepare(app: FastAPI, encoder: Encoder | None = None) -> None:
    """Give an app what the query routes need; without ``encoder``, the one of the index that serves."""
    kit: Kit = app.state.kit
    app.state.alias = Alias(kit.catalog, _found if encoder is None else lambda _index: encoder)
    app.state.judge = _judge()
    app.state.query = settings = load(QuerySettings)
    app.state.streams = Streams(settings)
    app.state.answers = _answers(app, kit)
    openai_errors.install(app)


def _answers(app: FastAPI, kit: Kit) -> Answers:
    """What answers are made with, by the settings."""
    settings = load(AnswersSettings)
    models = chat_models.choose(settings.providers, kit.catalog)
    return Answers(app.state.alias, kit.vectors, kit.catalog, app.state.judge, models, settings)


def create_app(kit: Kit) -> FastAPI:
    """The query service on its own."""
    app = FastAPI(title="Earshot query", docs_url=None, redoc_url=None, telemetry=web.NO_TELEMETRY)
    web.install(app, kit)
    problems.install(app)
    prepare(app)
    for router in (api, openai, health, pages):
        app.include_router(router)
    return app
