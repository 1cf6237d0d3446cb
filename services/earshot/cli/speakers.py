"""``earshot speakers``: who speaks in a recording, and what they are called."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from earshot.cli.output import as_json, clock, err, out
from earshot.client import Client


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(speakers)


def speakers(
    id: Annotated[str, typer.Argument(help="Recording or job.")],  # noqa: A002 - the word users know
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[LABEL=NAME]...", help="Names to give; LABEL= takes one away.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Who speaks in a recording; with LABEL=NAME, what they are called from now on."""
    pairs = [item.partition("=") for item in names or ()]
    if wrong := [label for label, equals, _ in pairs if not (label and equals)]:
        raise typer.BadParameter(f"Write LABEL=NAME, not {wrong[0]!r}.")
    client = Client()
    path = f"/recordings/{client.recording_id(id)}/speakers"
    body = {label: name.strip() or None for label, _, name in pairs}
    answer = (client.call("PATCH", path, json=body) if body else client.call("GET", path)).json()
    if json:
        as_json(answer)
        return
    for item in answer["items"]:
        out.print(f"{escape(item['label']):<12} {clock(item['spoken_ms']):>9}  {escape(item['name'] or '')}".rstrip())
    if not answer["items"]:
        about = client.call("GET", "/").json()["diarization"]
        err.print("No speakers are known." if about["on"] else escape(about["detail"]))
