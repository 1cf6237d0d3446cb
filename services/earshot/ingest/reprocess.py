"""Transcripts that are to be made again, over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from earshot.adapters.access import check_collection
from earshot.adapters.problems import documented
from earshot.adapters.web import Caller, KitOf
from earshot.kernel.ledger import JobState
from earshot.kernel.ports.reprocessing import Selection
from earshot.kernel.telemetry import trace_headers

MOST = 100
"""Recordings in one request."""
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
router = APIRouter()


class ReprocessRequest(BaseModel):
    """Which recordings; all that is given must be true of one. Only those whose latest attempt has ended are meant."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"degraded": True, "dry_run": True}]})

    engine: Name | None = Field(None, description="Wrote at least one segment of the latest attempt down.")
    degraded: bool | None = Field(None, description="Whether a fallback wrote at least one of them down.")
    collection: Name | None = Field(None, description="The recording's collection.")
    edited: bool = Field(False, description="Also those whose words somebody corrected; their revisions are kept.")
    before: AwareDatetime | None = Field(
        None, description="Only attempts begun before; send `as_of` of the first answer with all that follow."
    )
    limit: int = Field(MOST, ge=1, le=MOST, description="At most so many recordings now, the oldest first.")
    dry_run: bool = Field(False, description="Only count.")

    @model_validator(mode="after")
    def _selects(self) -> ReprocessRequest:
        if self.engine is None and self.degraded is None and self.collection is None:
            raise ValueError("one of engine, degraded and collection must be given")
        return self


class NewJob(BaseModel):
    """A new attempt of a recording."""

    id: str
    recording_id: str
    revision: int
    state: JobState


class Reprocessed(BaseModel):
    """What was found, and what was begun."""

    matching: int = Field(description="Recordings that were found before anything was begun.")
    as_of: datetime = Field(description="Attempts begun from then on are not meant.")
    jobs: list[NewJob] = Field(description="What was begun now; ask again until it is empty.")


@router.post("/reprocess", status_code=202, responses=documented(422))
async def reprocess(asked: ReprocessRequest, response: Response, caller: Caller, kit: KitOf) -> Reprocessed:
    """Transcribe recordings again, with the engine there is now; what was found of them is found until then."""
    check_collection(caller, asked.collection or "")
    tenant = caller.tenant
    as_of = asked.before or datetime.now(UTC)
    selection = Selection(as_of, asked.engine, asked.degraded, asked.collection, asked.edited)
    matching = await kit.catalog.matching(tenant, selection)
    if asked.dry_run:
        response.status_code = 200
        return Reprocessed(matching=matching, as_of=as_of, jobs=[])
    jobs = await kit.catalog.reprocess(tenant, selection, asked.limit, trace_headers())
    begun = [NewJob(id=job.id, recording_id=job.recording_id, revision=job.revision, state=job.state) for job in jobs]
    return Reprocessed(matching=matching, as_of=as_of, jobs=begun)
