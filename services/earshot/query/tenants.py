"""Tenants over HTTP, for who runs the system."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from earshot.adapters.access import access
from earshot.adapters.problems import documented
from earshot.adapters.web import KitOf, Operator
from earshot.kernel.events import TENANT_PATTERN
from earshot.kernel.ports.access import Tenant

router = APIRouter(tags=["keys"])


class TenantRequest(BaseModel):
    """A tenant that is wished for."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"id": "school"}]})

    id: Annotated[str, StringConstraints(pattern=TENANT_PATTERN)] = Field(description="Its name, for ever.")


class TenantView(BaseModel):
    """Who owns recordings."""

    id: str
    created_at: datetime


class TenantList(BaseModel):
    """Every tenant, by id."""

    items: list[TenantView]
    next: None = None


@router.get("/tenants", responses=documented(), openapi_extra=access("admin"))
async def list_tenants(_operator: Operator, kit: KitOf) -> TenantList:
    """All tenants there are."""
    return TenantList(items=[_view(tenant) for tenant in await kit.catalog.list_tenants()])


@router.post("/tenants", status_code=201, responses=documented(422), openapi_extra=access("admin"))
async def create_tenant(wished: TenantRequest, _operator: Operator, kit: KitOf) -> TenantView:
    """Make a tenant; one that is there stays as it is. Keys make it usable: `POST /api/v1/keys` with `tenant`."""
    return _view(await kit.catalog.create_tenant(wished.id))


def _view(tenant: Tenant) -> TenantView:
    return TenantView(id=tenant.id, created_at=tenant.created_at)
