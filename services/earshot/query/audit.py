"""Who read and erased what, over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, Field

from earshot.adapters.access import DoorkeeperOf, access
from earshot.adapters.problems import documented
from earshot.adapters.web import KitOf, Tenant
from earshot.kernel.ports.access import AuditEntry, AuditQuery

MOST_ID = 2**63 - 1
router = APIRouter(tags=["keys"])


class AuditView(BaseModel):
    """One thing that was done."""

    id: int
    at: datetime
    key_id: str = Field(description="Who: a key's id, `environment` (EARSHOT_API_KEY), `local`, or `oidc:SUBJECT`.")
    action: str = Field(description="Method and route.", examples=["GET /api/v1/recordings/{id}/transcript"])
    recordings: list[str] = Field(description="Which recordings were shown or changed.")
    address: str = Field(description="The network it came from: /24 of IPv4, /48 of IPv6.", examples=["192.0.2.0/24"])
    status: int = Field(description="Of the answer; 0: written before it was done, as for erasures.")
    trace_id: str


class AuditList(BaseModel):
    """Newest first."""

    items: list[AuditView]
    next: str | None = Field(description="Send it as `cursor` for what was before; null: there is no more.")


@router.get("/audit", responses=documented(422), openapi_extra=access("admin"))
async def list_audit(
    tenant: Tenant,
    kit: KitOf,
    keeper: DoorkeeperOf,
    key_id: Annotated[str, Query(max_length=200, description="Only what this key did.")] = "",
    recording_id: Annotated[str, Query(max_length=100, description="Only what was about this recording.")] = "",
    action: Annotated[str, Query(max_length=200, description="Only this method and route.")] = "",
    since: Annotated[AwareDatetime | None, Query(description="At this moment or later.")] = None,
    to: Annotated[AwareDatetime | None, Query(description="Before this moment.")] = None,
    cursor: Annotated[int | None, Query(ge=1, le=MOST_ID, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> AuditList:
    """Who read and erased what, and what was refused to whom; never what was in it."""
    await keeper.trail.flush()
    found = await kit.catalog.audit(tenant, AuditQuery(key_id, recording_id, action, since, to, cursor), limit + 1)
    shown = found[:limit]
    return AuditList(items=[_view(one) for one in shown], next=str(shown[-1].id) if len(found) > limit else None)


def _view(entry: AuditEntry) -> AuditView:
    return AuditView(
        id=entry.id,
        at=entry.at,
        key_id=entry.key_id,
        action=entry.action,
        recordings=list(entry.recordings),
        address=entry.address,
        status=entry.status,
        trace_id=entry.trace_id,
    )
