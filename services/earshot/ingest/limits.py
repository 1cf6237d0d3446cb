"""What a tenant may use and what it uses, over HTTP."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter
from fastapi import Path as PathParameter
from pydantic import BaseModel, ConfigDict, Field

from earshot.adapters.access import access
from earshot.adapters.problems import documented
from earshot.adapters.quotas import MINUTE_MS
from earshot.adapters.web import KitOf, Operator, Tenant
from earshot.adapters.wiring import Kit
from earshot.kernel.events import TENANT_PATTERN
from earshot.kernel.ports.quotas import NO_LIMIT, Resource

router = APIRouter(tags=["limits"])
Whose = Annotated[str, PathParameter(pattern=TENANT_PATTERN, description="A tenant.")]
Unlimited = Literal["unlimited"]
_RESOURCES: dict[str, Resource] = {
    "minutes_a_day": "audio_ms_a_day",
    "recordings_in_flight": "recordings_in_flight",
    "storage_bytes": "storage_bytes",
}
"""What the catalog calls each of them."""


class Amounts(BaseModel):
    """Of everything that is limited."""

    minutes_a_day: float | None = Field(description="Minutes of audio sent since midnight, UTC; null: no limit.")
    recordings_in_flight: int | None = Field(description="Recordings that wait or are worked on; null: no limit.")
    storage_bytes: int | None = Field(description="Bytes of the recordings that are kept; null: no limit.")


class Quota(BaseModel):
    """What a tenant may use, and what it uses now."""

    limits: Amounts
    used: Amounts
    own: list[str] = Field(description="Which of the limits are the tenant's own; the others are the system's.")


class Change(BaseModel):
    """New limits of a tenant; what is left out stays, null: as the system says."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"minutes_a_day": 600}]})

    minutes_a_day: Annotated[float, Field(gt=0, le=1e9)] | Unlimited | None = None
    recordings_in_flight: Annotated[int, Field(ge=1, le=2**40)] | Unlimited | None = None
    storage_bytes: Annotated[int, Field(ge=1, le=2**60)] | Unlimited | None = None

    @property
    def resources(self) -> dict[Resource, int | None]:
        """What was said, as the catalog counts."""
        changed: dict[Resource, int | None] = {}
        for name in self.model_fields_set:
            said = getattr(self, name)
            if name == "minutes_a_day" and isinstance(said, float):
                said = round(said * MINUTE_MS)
            changed[_RESOURCES[name]] = NO_LIMIT if said == "unlimited" else said
        return changed


@router.get("/limits", responses=documented())
async def own_limits(tenant: Tenant, kit: KitOf) -> Quota:
    """What one's own tenant may use, and what it uses now."""
    return await _quota(kit, tenant)


@router.get("/tenants/{tenant}/limits", responses=documented(422), openapi_extra=access("admin"))
async def tenant_limits(tenant: Whose, _operator: Operator, kit: KitOf) -> Quota:
    """What a tenant may use, and what it uses now; for who runs the system."""
    return await _quota(kit, tenant)


@router.patch("/tenants/{tenant}/limits", responses=documented(422), openapi_extra=access("admin"))
async def limit_tenant(tenant: Whose, change: Change, _operator: Operator, kit: KitOf) -> Quota:
    """Change what a tenant may use. Holds for what it sends from then on; for who runs the system."""
    await kit.catalog.limit(tenant, change.resources)
    return await _quota(kit, tenant)


async def _quota(kit: Kit, tenant: str) -> Quota:
    limits, used = await kit.catalog.limits(tenant), await kit.catalog.usage(tenant)
    own = await kit.catalog.own_limits(tenant)
    return Quota(
        limits=Amounts(
            minutes_a_day=None if limits.audio_ms_a_day is None else limits.audio_ms_a_day / MINUTE_MS,
            recordings_in_flight=limits.recordings_in_flight,
            storage_bytes=limits.storage_bytes,
        ),
        used=Amounts(
            minutes_a_day=round(used.audio_ms_a_day / MINUTE_MS, 2),
            recordings_in_flight=used.recordings_in_flight,
            storage_bytes=used.storage_bytes,
        ),
        own=[name for name, resource in _RESOURCES.items() if resource in own],
    )
