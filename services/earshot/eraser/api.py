"""Whole tenants erased, what is left of what was erased, and how long a tenant's recordings are kept, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import cache
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as PathParameter
from pydantic import BaseModel, ConfigDict, Field

from earshot.adapters.access import about_recordings, access, doorkeeper_of
from earshot.adapters.problems import Refused, documented
from earshot.adapters.web import KitOf, Tenant
from earshot.adapters.wiring import Kit
from earshot.eraser.remains import Report, look_for_recording, look_for_tenant
from earshot.eraser.settings import EraserSettings
from earshot.kernel.access import Principal
from earshot.kernel.errors import UnknownRecording
from earshot.kernel.events import TENANT_PATTERN
from earshot.kernel.ports.retention import TenantErasure
from earshot.kernel.settings import load

PREFIX = "/api/v1"
MOST_DAYS = 36_500
ADMIN = access("admin")
router = APIRouter(prefix=PREFIX, tags=["erasure"])
Look = Annotated[
    bool, Query(description="Whether every store and the whole log are looked through, which may take a minute.")
]
State = Literal["live", "erasing", "erased"]


async def meant(
    request: Request,
    tenant: Annotated[str, PathParameter(pattern=TENANT_PATTERN, description="One's own; any, for who runs all.")],
    own: Tenant,
) -> str:
    """The tenant that a path names. Raises ``Refused`` (404) for another's, whether there is one or not."""
    caller: Principal = request.state.caller
    if tenant != own and not caller.operator:
        raise Refused(404, "unknown_tenant", "There is no such tenant.", next_step="Name the key's own.")
    return tenant


Meant = Annotated[str, Depends(meant)]


class FindView(BaseModel):
    """Something that is still somewhere."""

    place: str = Field(description="A store, or a topic.", examples=["blobs"])
    what: str = Field(examples=["3 objects"])
    wrong: bool = Field(description="It should be gone.")
    until: datetime | None = Field(description="When the broker has deleted it at the latest; null: nobody can say.")


class Remains(BaseModel):
    """What was found of what was erased; null where nobody looked."""

    found: list[FindView] | None = Field(None, description="Every place with something.")
    clean: bool | None = Field(None, description="All is gone that should be.")
    complete: bool | None = Field(None, description="The log was read to its end.")
    last_bytes_leave_by: datetime | None = Field(
        None, description="When the last bytes have left the broker at the latest; null: none, or nobody can say."
    )


class RecordingErasure(Remains):
    """How far the erasure of a recording is."""

    recording_id: str
    state: State
    erased_at: datetime | None = Field(description="When it was decided.")
    gone_at: datetime | None = Field(description="When the last of it was deleted.")


class TenantErasureView(Remains):
    """How far the erasure of a tenant is."""

    tenant: str
    state: State
    since: datetime | None = Field(description="When it was asked for; null: none is under way.")
    recordings: int = Field(description="How many the tenant had then.")
    left: int = Field(description="How many of them still have something somewhere.")
    done_at: datetime | None = Field(description="When the last one ended; new uploads are taken in from then on.")


class Keeping(BaseModel):
    """How long the recordings of a tenant are kept."""

    model_config = ConfigDict(extra="forbid")

    retain_days: int | None = Field(
        ge=1,
        le=MOST_DAYS,
        description="From when a recording came in, for collections that say nothing themselves; null: for ever.",
    )


@router.get("/recordings/{id}/erasure", responses=documented(404, 429))
async def recording_erasure(
    request: Request,
    id: Annotated[str, PathParameter(max_length=100, pattern=r"^[\x21-\x7e]+$")],  # noqa: A002 - the name in the path
    tenant: Tenant,
    kit: KitOf,
    look: Look = False,
) -> RecordingErasure:
    """How far the erasure of a recording is, and what is left of it."""
    gone = await kit.catalog.gone(tenant, id)
    if gone is None and await kit.catalog.recording(tenant, id) is None:
        raise UnknownRecording("There is no recording with this id, nor was there.")
    about_recordings(request, id)
    state: State = "live" if gone is None else "erasing" if gone.gone_at is None else "erased"
    view = RecordingErasure(
        recording_id=id,
        state=state,
        erased_at=gone.erased_at if gone else None,
        gone_at=gone.gone_at if gone else None,
    )
    if not look:
        return view
    return view.model_copy(update=await _looked(lambda: look_for_recording(kit, tenant, id, _settings().verify_s)))


@router.delete("/tenants/{tenant}", status_code=202, responses=documented(404, 422), openapi_extra=ADMIN)
async def erase_tenant(tenant: Meant, request: Request, response: Response, kit: KitOf) -> TenantErasureView:
    """Erase all that a tenant has, keys and all: nothing of it is found any more, nothing new comes in meanwhile."""
    await doorkeeper_of(request).record(request)
    response.headers["Location"] = f"{PREFIX}/tenants/{tenant}/erasure"
    return await _view(kit, await kit.catalog.erase_tenant(tenant))


@router.get("/tenants/{tenant}/erasure", responses=documented(404, 422, 429), openapi_extra=ADMIN)
async def tenant_erasure(tenant: Meant, kit: KitOf, look: Look = False) -> TenantErasureView:
    """How far the erasure of a tenant is, and what is left of it."""
    view = await _view(kit, await kit.catalog.tenant_erasure(tenant))
    if not look:
        return view
    return view.model_copy(update=await _looked(lambda: look_for_tenant(kit, tenant, _settings().verify_s)))


@router.get("/tenants/{tenant}/retention", responses=documented(404, 422), openapi_extra=ADMIN)
async def tenant_retention(tenant: Meant, kit: KitOf) -> Keeping:
    """How long the recordings of a tenant are kept."""
    return Keeping(retain_days=await kit.catalog.tenant_retention(tenant))


@router.put("/tenants/{tenant}/retention", responses=documented(404, 422), openapi_extra=ADMIN)
async def keep_tenant(tenant: Meant, keeping: Keeping, kit: KitOf) -> Keeping:
    """Say how long the recordings of a tenant are kept. What is older already is erased."""
    await kit.catalog.keep_tenant(tenant, keeping.retain_days)
    return keeping


@cache
def _settings() -> EraserSettings:
    return load(EraserSettings)


_looking = asyncio.Lock()
"""One look at a time: each reads the whole log."""


async def _looked(look: Callable[[], Awaitable[Report]]) -> dict[str, object]:
    if _looking.locked():
        raise Refused(429, "too_many_looks", "Somebody is looking through the log.", next_step="Ask again in a minute.")
    async with _looking:
        report = await look()
    return {
        "found": [FindView(**vars(find)) for find in report.found],
        "clean": report.clean,
        "complete": report.complete,
        "last_bytes_leave_by": report.last_bytes,
    }


async def _view(kit: Kit, erasure: TenantErasure) -> TenantErasureView:
    state: State = "live"
    if erasure.since is not None:
        state = "erasing"
    elif erasure.done_at is not None and not await kit.catalog.rows_of(erasure.tenant):
        state = "erased"  # and nothing came since
    return TenantErasureView(
        tenant=erasure.tenant,
        state=state,
        since=erasure.since,
        recordings=erasure.recordings,
        left=erasure.left,
        done_at=erasure.done_at,
    )
