"""Corrections over HTTP: words, titles, tags, and the revisions that they leave."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Response
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from earshot.adapters.problems import documented
from earshot.adapters.web import KitOf, Tenant, mark_span
from earshot.kernel.events import Word
from earshot.kernel.lines import one_line, printable
from earshot.kernel.ports import Accepted
from earshot.kernel.ports.editing import Revision, RevisionKind
from earshot.kernel.revising import Correction
from earshot.kernel.telemetry import trace_headers
from earshot.query.edit import base_of, edit
from earshot.query.found import FoundRecording
from earshot.query.views import PREFIX, JobView, RecordingView, job_view, recording_view

MOST_REVISION = 2**63 - 1
MOST_MS = 100 * 3600 * 1000
NO_NULLS = ("title", "tags", "metadata")
_TAG = re.compile(r'"(\d{1,19})"')
router = APIRouter(tags=["recordings"])

Line = Annotated[str, AfterValidator(printable)]
Tag = Annotated[Line, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]
Name = Annotated[Line, Field(min_length=1, max_length=64)]
IfMatch = Annotated[
    str | None,
    Header(max_length=1000, description="The ETag of the transcript that is corrected; another one by now: 412."),
]


class Description(BaseModel):
    """What is said about a recording from now on; what is left out stays."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"title": "Lecture 3", "tags": ["exam", "enzymes"]}]}
    )

    title: Annotated[Line, Field(max_length=300)] | None = Field(None, description="Shown with every hit.")
    tags: Annotated[list[Tag], Field(max_length=50)] | None = Field(None, description="All of them, not only new ones.")
    metadata: Annotated[dict[Name, Annotated[Line, Field(max_length=1000)]], Field(max_length=50)] | None = Field(
        None, description="All of it."
    )
    recorded_at: AwareDatetime | None = Field(
        None, description="When it was said; null: unknown. The index holds it, so this is a new revision."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Description:
        if not self.model_fields_set:
            raise ValueError("nothing is to be changed")
        if nulls := [name for name in NO_NULLS if name in self.model_fields_set and getattr(self, name) is None]:
            raise ValueError(f"may not be null: {', '.join(nulls)}")
        return self


class CorrectedWord(BaseModel):
    """A word of a corrected segment; who says it stays as it was at that moment."""

    text: Annotated[str, AfterValidator(one_line), Field(min_length=1, max_length=500)]
    start_ms: int = Field(ge=0, le=MOST_MS)
    end_ms: int = Field(ge=0, le=MOST_MS)
    confidence: float | None = Field(None, ge=0, le=1)
    speaker: str | None = Field(None, max_length=200, description="Not looked at.")


class CorrectedSegment(BaseModel):
    """What a segment says from now on: its text, or its words with their times."""

    model_config = ConfigDict(extra="forbid")

    index: int = Field(ge=0, le=MOST_REVISION, description="As the transcript says.")
    text: Annotated[str, AfterValidator(one_line), Field(max_length=10_000)] | None = Field(
        None, description="Words that stay keep their times; the times of others are estimated. Empty: nothing is said."
    )
    words: Annotated[list[CorrectedWord], Field(max_length=2000)] | None = Field(
        None, description="In order, inside the segment."
    )

    @model_validator(mode="after")
    def _is_one_of_two(self) -> CorrectedSegment:
        if (self.text is None) == (self.words is None):
            raise ValueError("either text or words must be given")
        return self


class Corrections(BaseModel):
    """Segments that say something else from now on."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"segments": [{"index": 3, "text": "The mitochondrion makes ATP."}]}]},
    )

    segments: Annotated[list[CorrectedSegment], Field(min_length=1, max_length=200)]

    @model_validator(mode="after")
    def _names_each_once(self) -> Corrections:
        if len({segment.index for segment in self.segments}) < len(self.segments):
            raise ValueError("a segment is named twice")
        return self


class RevisionView(BaseModel):
    """One state of a recording's transcript."""

    revision: int
    kind: RevisionKind = Field(description="described: what is said about the recording changed, not its words.")
    changed: list[int] | None = Field(description="Indexes of the segments whose words changed; null: see `kind`.")
    restored_from: int | None
    current: bool = Field(description="It is the one that is shown.")
    created_at: datetime
    links: dict[str, str]


class RevisionList(BaseModel):
    """Every revision that is kept, newest first."""

    items: list[RevisionView]
    next: None = None


@router.patch("/recordings/{id}", responses=documented(404, 409, 422))
async def describe_recording(recording: FoundRecording, said: Description, tenant: Tenant, kit: KitOf) -> RecordingView:
    """Change the title, tags, metadata or date of a recording."""
    changes = {name: getattr(said, name) for name in said.model_fields_set}
    after = await kit.catalog.describe(tenant, recording.id, changes, trace_headers())
    return recording_view(after, await kit.catalog.job(tenant, recording.id))


_ACCEPTED: dict[int | str, dict[str, Any]] = {
    200: {"model": JobView, "description": "It says that already; this is the job that made it so."},
    202: {"description": "A new revision, on its way into the index; what was before is found until it is there."},
}


@router.patch("/recordings/{id}/transcript", status_code=202, responses=documented(404, 409, 412, 422, 429) | _ACCEPTED)
async def correct_transcript(
    recording: FoundRecording,
    asked: Corrections,
    tenant: Tenant,
    kit: KitOf,
    response: Response,
    if_match: IfMatch = None,
) -> JobView:
    """Correct what was understood, as a new revision. The ones before stay readable."""
    corrections = {segment.index: _correction(segment) for segment in asked.segments}
    accepted = await edit(tenant, recording.id, corrections, _expected(if_match), kit.catalog, trace_headers())
    if accepted is None:
        base = await kit.catalog.current_revision(tenant, recording.id)
        job = await kit.catalog.job(tenant, recording.id)
        assert job is not None
        response.status_code, response.headers["ETag"] = 200, etag(base)
        return job_view(job)
    return _begun(accepted, response)


@router.get("/recordings/{id}/revisions", responses=documented(404))
async def list_revisions(recording: FoundRecording, tenant: Tenant, kit: KitOf) -> RevisionList:
    """The revisions of a transcript that can be read and restored. What was never edited is kept while it is shown."""
    found = await kit.catalog.revisions(tenant, recording.id)
    return RevisionList(items=[_view(recording.id, revision) for revision in found])


@router.post(
    "/recordings/{id}/revisions/{revision}/restore",
    status_code=202,
    responses=documented(404, 409, 412, 422, 429) | _ACCEPTED,
)
async def restore_revision(
    recording: FoundRecording,
    revision: Annotated[int, Path(ge=1, le=MOST_REVISION)],
    tenant: Tenant,
    kit: KitOf,
    response: Response,
    if_match: IfMatch = None,
) -> JobView:
    """Make a new revision with the words of an earlier one, the original for example."""
    expected = _expected(if_match)
    base = None if expected is None else await base_of(tenant, recording.id, expected, kit.catalog)
    accepted = await kit.catalog.restore(tenant, recording.id, revision, base, trace_headers())
    return _begun(accepted, response)


def etag(revision: int) -> str:
    """The ETag of a revision's words."""
    return f'"{revision}"'


def _expected(if_match: str | None) -> frozenset[int] | None:
    """The revisions that ``If-Match`` names; ``None`` when any will do. What is no ETag of ours matches nothing."""
    if if_match is None or if_match.strip() == "*":
        return None
    return frozenset(int(number) for number in _TAG.findall(if_match))


def _correction(segment: CorrectedSegment) -> Correction:
    if segment.words is None:
        return Correction(text=segment.text)
    words = (word.model_dump() | {"speaker": None} for word in segment.words)
    return Correction(words=tuple(Word.model_validate(word) for word in words))


def _begun(accepted: Accepted, response: Response) -> JobView:
    view = job_view(accepted.job)
    response.headers["ETag"], response.headers["Location"] = etag(view.revision), view.links["self"]
    if not accepted.created:
        response.status_code = 200
        return view
    mark_span(accepted.job)
    return view


def _view(recording_id: str, revision: Revision) -> RevisionView:
    path = f"{PREFIX}/recordings/{recording_id}"
    return RevisionView(
        revision=revision.revision,
        kind=revision.kind,
        changed=None if revision.changed is None else list(revision.changed),
        restored_from=revision.restored_from,
        current=revision.current,
        created_at=revision.created_at,
        links={
            "transcript": f"{path}/transcript?revision={revision.revision}",
            "restore": f"{path}/revisions/{revision.revision}/restore",
        },
    )
