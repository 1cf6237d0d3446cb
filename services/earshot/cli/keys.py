"""``earshot keys create|list|revoke|rotate`` and ``earshot tenants create|list``: who may do what."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.markup import escape

from earshot.cli.output import as_json, err, out
from earshot.cli.remote import Json
from earshot.client import Client
from earshot.kernel.errors import Permanent

keys = typer.Typer(no_args_is_help=True, help="API keys: who may do what.")
tenants = typer.Typer(no_args_is_help=True, help="Tenants: who owns recordings. For who runs the system.")
KeyId = Annotated[str, typer.Argument(help="As `earshot keys list` names it.")]
_DAYS = re.compile(r"^([0-9]{1,5})d$")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(keys, name="keys")
    app.add_typer(tenants, name="tenants")


@keys.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What you call it.")],
    scope: Annotated[list[str] | None, typer.Option(help="read, write, erase or admin; may be repeated.")] = None,
    collection: Annotated[list[str] | None, typer.Option(help="Only this collection; may be repeated.")] = None,
    expires: Annotated[str, typer.Option(help="90d, or a moment: 2027-01-01T00:00:00Z.")] = "",
    tenant: Annotated[str, typer.Option(help="Whose; for who runs the system.")] = "",
    json: Json = False,
) -> None:
    """Make a key. It is printed this once, alone on stdout."""
    wished: dict[str, Any] = {"name": name, "scopes": scope or ["read"], "collections": collection or None}
    wished |= {"expires_at": _moment(expires) if expires else None, "tenant": tenant or None}
    _show_new(Client().call("POST", "/keys", json=wished).json(), json)


@keys.command("list")
def list_keys(json: Json = False) -> None:
    """Every key of the tenant, newest first."""
    page = Client().call("GET", "/keys").json()
    if json:
        as_json(page)
        return
    for key in page["items"]:
        what = ",".join(key["scopes"]) + (f" in {', '.join(key['collections'])}" if key["collections"] else "")
        used = f"used {key['last_used_at']}" if key["last_used_at"] else "never used"
        out.print(f"{key['id']}  {key['hint']}…  {escape(key['name'])}  {escape(what)}  {_state(key)}, {used}")


@keys.command()
def revoke(key: KeyId, json: Json = False) -> None:
    """Make a key open nothing any more, at the latest after a second."""
    revoked = Client().call("DELETE", f"/keys/{key}").json()
    as_json(revoked) if json else out.print(f"{revoked['id']} is revoked.")


@keys.command()
def rotate(
    key: KeyId,
    overlap_hours: Annotated[float, typer.Option(min=0, max=720, help="So long the old key goes on.")] = 0,
    json: Json = False,
) -> None:
    """Make a key like an old one, which stops at once or after an overlap."""
    _show_new(Client().call("POST", f"/keys/{key}/rotate", json={"overlap_hours": overlap_hours}).json(), json)


@tenants.command("create")
def create_tenant(
    tenant: Annotated[str, typer.Argument(help="Its name, for ever: a-z, 0-9, - and _.")], json: Json = False
) -> None:
    """Make a tenant; then make keys for it: earshot keys create NAME --tenant TENANT --scope admin."""
    made = Client().call("POST", "/tenants", json={"id": tenant}).json()
    as_json(made) if json else out.print(made["id"])


@tenants.command("list")
def list_tenants(json: Json = False) -> None:
    """Every tenant."""
    page = Client().call("GET", "/tenants").json()
    as_json(page) if json else out.print("\n".join(f"{one['id']}  since {one['created_at']}" for one in page["items"]))


def _show_new(key: dict[str, Any], json: bool) -> None:
    if json:
        as_json(key)
        return
    out.print(key["key"])
    until = f"until {key['expires_at']}" if key["expires_at"] else "until it is revoked"
    err.print(f"{key['id']} of tenant {key['tenant']}: {', '.join(key['scopes'])}, {until}. It is shown this once.")


def _moment(text: str) -> str:
    """A moment as the interface takes it. Raises ``Permanent``."""
    if (days := _DAYS.match(text)) is not None:
        return (datetime.now(UTC) + timedelta(days=int(days[1]))).isoformat()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Permanent(f"{text!r} is no moment.", next_step="Write 90d, or 2027-01-01T00:00:00Z.") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def _state(key: dict[str, Any]) -> str:
    if key["revoked_at"]:
        return f"revoked {key['revoked_at']}"
    if key["expires_at"] and datetime.fromisoformat(key["expires_at"]) <= datetime.now(UTC):
        return f"expired {key['expires_at']}"
    return f"valid until {key['expires_at']}" if key["expires_at"] else "valid"
