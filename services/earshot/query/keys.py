"""API keys of a tenant over HTTP, and tickets: links to media that need no header."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Self

from fastapi import APIRouter, Request
from fastapi import Path as PathParameter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from earshot.adapters.access import DoorkeeperOf, access, doorkeeper_of
from earshot.adapters.problems import Refused, documented
from earshot.adapters.web import Caller, KitOf, Tenant
from earshot.kernel import access as kernel
from earshot.kernel.access import Scope
from earshot.kernel.events import TENANT_PATTERN
from earshot.kernel.ports.access import ApiKey, KeyKind

TICKET_S = 3600
MOST_OVERLAP_H = 24 * 30
ADMIN = access("admin")
router = APIRouter(tags=["keys"])
KeyId = Annotated[str, PathParameter(max_length=100, pattern=r"^[\x21-\x7e]+$", description="As the list names it.")]
CollectionName = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class KeyRequest(BaseModel):
    """A key that is wished for."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "search page", "scopes": ["read"]}]}
    )

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
    scopes: list[Scope] = Field(["read"], min_length=1, max_length=4, description="What it allows.")
    collections: list[CollectionName] | None = Field(
        None, min_length=1, max_length=100, description="The only collections it shows and takes; null: all."
    )
    expires_at: AwareDatetime | None = Field(None, description="When it stops; null: when it is revoked.")
    tenant: Annotated[str, StringConstraints(pattern=TENANT_PATTERN)] | None = Field(
        None, description="Whose; another than one's own is for who runs the system."
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.collections is not None and "admin" in self.scopes:
            raise ValueError("an admin's key cannot be limited to collections")
        if self.expires_at is not None and self.expires_at <= datetime.now(UTC):
            raise ValueError("expires_at has passed")
        return self


class Rotation(BaseModel):
    """How a key is replaced."""

    model_config = ConfigDict(extra="forbid")

    overlap_hours: float = Field(0, ge=0, le=MOST_OVERLAP_H, description="So long the old key goes on.")


class KeyView(BaseModel):
    """What is known of a key; the key itself is shown once, when it is made."""

    id: str
    tenant: str
    name: str
    hint: str = Field(description="How it begins.", examples=["earshot_4fGh"])
    scopes: list[str]
    collections: list[str] | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="True to a minute.")
    revoked_at: datetime | None


class NewKeyView(KeyView):
    """The same with the key."""

    key: str = Field(description="Keep it: it is shown this once, and only its hash is stored.")


class KeyList(BaseModel):
    """Every key of a tenant, newest first."""

    items: list[KeyView]
    next: None = None


class TicketView(BaseModel):
    """A ticket."""

    ticket: str = Field(description="Put it as `ticket` into the URL of a recording's audio.")
    expires_at: datetime


@router.get("/keys", responses=documented(422), openapi_extra=ADMIN)
async def list_keys(tenant: Tenant, kit: KitOf) -> KeyList:
    """The tenant's keys; what they open, and when they last did."""
    return KeyList(items=[_view(key) for key in await kit.catalog.keys(tenant)])


@router.post("/keys", status_code=201, responses=documented(404, 422), openapi_extra=ADMIN)
async def create_key(request: Request, wished: KeyRequest, caller: Caller, kit: KitOf) -> NewKeyView:
    """Make a key. It is shown this once."""
    tenant = wished.tenant or caller.tenant
    if tenant == caller.tenant:
        await kit.catalog.create_tenant(tenant)  # known from now on, if nothing was uploaded before
    elif not caller.operator:
        raise _unknown_tenant()
    await doorkeeper_of(request).record(request)
    text = kernel.new_key()
    collections = None if wished.collections is None else tuple(wished.collections)
    key = _new(text, "key", wished.name, tenant, wished.scopes, collections, caller.key_id, wished.expires_at)
    await kit.catalog.add_key(key, kernel.hash_of(text))
    return NewKeyView(**_view(key).model_dump(), key=text)


@router.delete("/keys/{id}", responses=documented(404, 422), openapi_extra=ADMIN)
async def revoke_key(id: KeyId, tenant: Tenant, kit: KitOf, keeper: DoorkeeperOf) -> KeyView:  # noqa: A002 - the name in the path
    """Revoke a key: it opens nothing any more, at the latest after a second."""
    revoked = await kit.catalog.revoke_key(tenant, id)
    keeper.ring.forget()
    return _view(revoked)


@router.post("/keys/{id}/rotate", status_code=201, responses=documented(404, 422), openapi_extra=ADMIN)
async def rotate_key(
    id: KeyId,  # noqa: A002 - the name in the path
    how: Rotation,
    caller: Caller,
    kit: KitOf,
    keeper: DoorkeeperOf,
) -> NewKeyView:
    """Make a key like an old one, which stops at once or after an overlap."""
    old = next((key for key in await kit.catalog.keys(caller.tenant) if key.id == id), None)
    if old is None:
        raise Refused(404, "unknown_key", "There is no such key.", next_step="List them with GET /api/v1/keys.")
    text = kernel.new_key()
    new = _new(text, "key", old.name, old.tenant, old.scopes, old.collections, caller.key_id, old.expires_at)
    until = datetime.now(UTC) + timedelta(hours=how.overlap_hours)
    await kit.catalog.replace_key(caller.tenant, id, new, kernel.hash_of(text), until)
    keeper.ring.forget()
    return NewKeyView(**_view(new).model_dump(), key=text)


@router.post("/tickets", status_code=201, responses=documented(422), openapi_extra=access("read", audited=False))
async def create_ticket(caller: Caller, kit: KitOf) -> TicketView:
    """Make a ticket for players, which cannot send headers; it opens audio alone, for an hour, as far as the key."""
    text, expires_at = kernel.new_key(), datetime.now(UTC) + timedelta(seconds=TICKET_S)
    collections = None if caller.collections is None else tuple(sorted(caller.collections))
    await kit.catalog.create_tenant(caller.tenant)
    ticket = _new(text, "ticket", "ticket", caller.tenant, ["read"], collections, caller.key_id, expires_at)
    await kit.catalog.add_key(ticket, kernel.hash_of(text))
    return TicketView(ticket=text, expires_at=expires_at)


def _new(
    text: str,
    kind: KeyKind,
    name: str,
    tenant: str,
    scopes: Sequence[str],
    collections: tuple[str, ...] | None,
    by: str,
    expires_at: datetime | None,
) -> ApiKey:
    at, in_order = datetime.now(UTC), tuple(scope for scope in kernel.SCOPES if scope in scopes)
    id_, hint = kernel.new_key_id(), kernel.hint_of(text)
    return ApiKey(tenant, id_, kind, name, hint, in_order, collections, at, by, expires_at)


def _unknown_tenant() -> Refused:
    next_step = "Make keys for your own tenant."
    return Refused(404, "unknown_tenant", "There is no such tenant.", next_step=next_step)


def _view(key: ApiKey) -> KeyView:
    collections = None if key.collections is None else list(key.collections)
    return KeyView(
        id=key.id,
        tenant=key.tenant,
        name=key.name,
        hint=key.hint,
        scopes=list(key.scopes),
        collections=collections,
        created_at=key.created_at,
        created_by=key.created_by,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
        revoked_at=key.revoked_at,
    )
