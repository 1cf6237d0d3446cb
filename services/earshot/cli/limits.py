"""``earshot tenants limits``: what a tenant may use."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from earshot.cli.keys import tenants
from earshot.cli.output import as_json, out
from earshot.cli.remote import Json
from earshot.client import Client
from earshot.kernel.errors import Permanent

_NAMES = {
    "minutes_a_day": "minutes of audio today (UTC)",
    "recordings_in_flight": "recordings in flight",
    "storage_bytes": "bytes of recordings",
}
_HOW = "A number, unlimited, or default: as the system's settings say."


def register(_app: typer.Typer) -> None:
    """Add the command of this module to ``earshot tenants``."""
    tenants.command("limits")(limits)


def limits(
    tenant: Annotated[str, typer.Argument(help="Whose limits.")],
    minutes_a_day: Annotated[str, typer.Option(help=f"Minutes of audio a day. {_HOW}")] = "",
    in_flight: Annotated[str, typer.Option(help=f"Recordings that wait or are worked on. {_HOW}")] = "",
    storage: Annotated[str, typer.Option(help=f"Bytes of its recordings, as they were sent. {_HOW}")] = "",
    json: Json = False,
) -> None:
    """Show what a tenant may use and uses now; with options, change it."""
    said = {"minutes_a_day": minutes_a_day, "recordings_in_flight": in_flight, "storage_bytes": storage}
    change = {name: _amount(name, text) for name, text in said.items() if text}
    path = f"/tenants/{quote(tenant, safe='')}/limits"
    client = Client()
    quota: dict[str, Any] = (client.call("PATCH", path, json=change) if change else client.call("GET", path)).json()
    if json:
        as_json(quota)
        return
    for name, words in _NAMES.items():
        limit = quota["limits"][name]
        whose = "its own" if name in quota["own"] else "the system's"
        allowed = "without a limit" if limit is None else f"of {limit:,}"
        out.print(f"{quota['used'][name]:,} {allowed} {words} ({whose})", markup=False)


def _amount(name: str, text: str) -> float | int | str | None:
    """As the interface takes it. Raises ``Permanent``."""
    if text in ("unlimited", "default"):
        return text if text == "unlimited" else None
    try:
        return float(text) if name == "minutes_a_day" else int(text)
    except ValueError:
        raise Permanent(f"{text!r} is no amount.", next_step=f"Say it so: {_HOW}") from None
