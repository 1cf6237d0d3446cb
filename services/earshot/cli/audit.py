"""``earshot audit``: who read and erased what."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from earshot.cli.output import as_json, err, out
from earshot.cli.remote import Json
from earshot.client import Client


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(audit)


def audit(
    key: Annotated[str, typer.Option(help="Only what this key did.")] = "",
    recording: Annotated[str, typer.Option(help="Only what was about this recording.")] = "",
    action: Annotated[str, typer.Option(help="Only this method and route, as it is printed.")] = "",
    since: Annotated[str, typer.Option(help="At this moment or later, for example 2026-03-01T09:00:00Z.")] = "",
    before: Annotated[str, typer.Option(help="Before this moment.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    json: Json = False,
) -> None:
    """Who read and erased what, newest first; never what was in it."""
    given = {"key_id": key, "recording_id": recording, "action": action, "since": since, "to": before}
    params: dict[str, Any] = {name: value for name, value in given.items() if value}
    page = Client().call("GET", "/audit", params=params | {"limit": limit}).json()
    if json:
        as_json(page)
        return
    for entry in page["items"]:
        who = f"{entry['at']}  {entry['key_id']}  {entry['address'] or '-'}"
        out.print(f"{who}  {entry['status'] or 'before'}  {entry['action']}", markup=False)
        if entry["recordings"]:
            out.print(f"    {' '.join(entry['recordings'])}", markup=False)
    err.print(f"{len(page['items'])} entries{', and there are more' if page['next'] else ''}.")
