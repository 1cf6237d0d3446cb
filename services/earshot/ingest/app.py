"""The door over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Header, Request, Response
from pydantic import BaseModel, Field

from earshot.adapters import problems, web
from earshot.adapters.access import about_recordings, access, check_collection
from earshot.adapters.problems import Refused, documented
from earshot.adapters.web import Caller, KitOf
from earshot.adapters.wiring import Kit
from earshot.ingest import collections, letters_api, limits, reprocess
from earshot.ingest.accept import accept
from earshot.ingest.settings import IngestSettings
from earshot.ingest.upload import offered
from earshot.kernel.ledger import JobState
from earshot.kernel.ports import Accepted, Decoder
from earshot.kernel.settings import load

PREFIX = "/api/v1"
_FORM: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {
                    "file": {"type": "string", "format": "binary", "description": "Audio, in any format FFmpeg reads."},
                    "transcript": {
                        "type": "string",
                        "format": "binary",
                        "description": "JSON, SRT or WebVTT. Used instead of speech recognition.",
                    },
                    "title": {"type": "string", "maxLength": 300, "example": "Lecture 3"},
                    "collection": {"type": "string", "default": "default", "example": "biology-101"},
                    "language": {"type": "string", "description": "BCP 47; empty: detected.", "example": "en"},
                    "task": {
                        "type": "string",
                        "enum": ["transcribe", "translate"],
                        "description": "translate: into English; empty: as the collection says.",
                    },
                    "priority": {"type": "string", "enum": ["high", "normal", "low"], "default": "normal"},
                    "recorded_at": {"type": "string", "format": "date-time", "example": "2026-03-01T09:00:00Z"},
                    "metadata": {
                        "type": "string",
                        "description": "A JSON object of strings, kept and returned.",
                        "example": '{"lecturer": "A. Turing"}',
                    },
                },
            }
        }
    },
}


IdempotencyKey = Annotated[
    str | None,
    Header(
        description="Makes a repeated request answer like the first.",
        min_length=1,
        max_length=200,
        pattern=r"^[ -~]*$",
    ),
]


class Links(BaseModel):
    """Where to look next."""

    job: str = Field(examples=["/api/v1/jobs/6f1c…"])
    events: str
    recording: str
    transcript: str
    audio: str


class AcceptedView(BaseModel):
    """An accepted recording."""

    id: str = Field(description="The job.")
    recording_id: str
    state: JobState
    links: Links


router = APIRouter(prefix=PREFIX, tags=["ingest"])
router.include_router(collections.router)
router.include_router(letters_api.router)
router.include_router(limits.router)
router.include_router(reprocess.router)


@router.post(
    "/ingest",
    status_code=202,
    responses=documented(400, 408, 413, 415, 422, 429, 507) | {202: {"description": "It will be processed."}},
    openapi_extra=access("write", limit="ingest") | {"requestBody": _FORM},
)
async def ingest(
    request: Request,
    response: Response,
    caller: Caller,
    kit: KitOf,
    idempotency_key: IdempotencyKey = None,
) -> AcceptedView:
    """Send a recording, or a transcript, or both; a transcript is used instead of speech recognition."""
    state: IngestState = request.app.state.ingest
    if state.receiving >= state.settings.max_uploads:
        raise Refused(429, "too_many_uploads", "Too many uploads are being received.", next_step="Send it again later.")
    state.receiving += 1
    try:
        async with offered(request, caller.tenant, state.settings, idempotency_key) as offer:
            check_collection(caller, offer.details.collection)
            accepted = await accept(offer, kit.blobs, state.decoder, kit.catalog)
    finally:
        state.receiving -= 1
    web.mark_span(accepted.job)
    about_recordings(request, accepted.job.recording_id)
    view = _view(accepted)
    response.headers["Location"] = view.links.job
    return view


class IngestState:
    """What the door keeps while it runs."""

    def __init__(self, settings: IngestSettings, decoder: Decoder) -> None:
        self.settings = settings
        self.decoder = decoder
        self.receiving = 0


def prepare(app: FastAPI, decoder: Decoder | None = None) -> None:
    """Give an app what the ingest routes need."""
    if decoder is None:
        from earshot.adapters.decoder import IsolatedDecoder

        decoder = IsolatedDecoder()
    app.state.ingest = IngestState(load(IngestSettings), decoder)


def create_app(kit: Kit, decoder: Decoder | None = None) -> FastAPI:
    """The ingest service on its own. ``decoder`` is for tests."""
    app = FastAPI(title="Earshot ingest", docs_url=None, redoc_url=None, telemetry=web.NO_TELEMETRY)
    web.install(app, kit)
    problems.install(app)
    prepare(app, decoder)
    app.include_router(router)
    return app


def _view(accepted: Accepted) -> AcceptedView:
    job = accepted.job
    recording = f"{PREFIX}/recordings/{job.recording_id}"
    links = Links(
        job=f"{PREFIX}/jobs/{job.id}",
        events=f"{PREFIX}/jobs/{job.id}/events",
        recording=recording,
        transcript=f"{recording}/transcript",
        audio=f"{recording}/audio",
    )
    return AcceptedView(id=job.id, recording_id=job.recording_id, state=job.state, links=links)
