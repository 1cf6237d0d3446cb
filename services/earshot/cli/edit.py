"""``earshot edit``: corrected words, titles and tags, and the way back."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from earshot.cli.output import as_json, out
from earshot.client import Client
from earshot.kernel.errors import Permanent


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(edit)


def edit(
    id: Annotated[str, typer.Argument(help="Recording or job.")],  # noqa: A002 - the word users know
    segment: Annotated[int | None, typer.Option(min=0, help="Index of the segment whose text is given.")] = None,
    text: Annotated[str | None, typer.Option(help='What it says; "" for nothing.')] = None,
    title: Annotated[str | None, typer.Option(help="A new title.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help='All tags from now on; "" for none.')] = None,
    restore: Annotated[int | None, typer.Option(min=1, help="Revision whose words come back.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Correct a recording: the words of a segment, the title, the tags. Without options, list its revisions."""
    if (segment is None) != (text is None) or (text is not None and restore is not None):
        raise Permanent("It is not clear what is to change.", next_step="Give --segment with --text, or --restore.")
    client = Client()
    path = f"/recordings/{client.recording_id(id)}"
    done: dict[str, Any] = {}
    if described := _described(title, tag):
        done["recording"] = client.call("PATCH", path, json=described).json()
    if text is not None:
        done["job"] = _correct(client, path, segment, text)
    if restore is not None:
        done["job"] = client.call("POST", f"{path}/revisions/{restore}/restore").json()
    if not done:
        done["revisions"] = client.call("GET", f"{path}/revisions").json()["items"]
    if json:
        as_json(done)
        return
    _show(done)


def _described(title: str | None, tags: list[str] | None) -> dict[str, Any]:
    said: dict[str, Any] = {} if title is None else {"title": title}
    return said if not tags else said | {"tags": [tag for tag in tags if tag]}


def _correct(client: Client, path: str, segment: int | None, text: str) -> dict[str, Any]:
    """Send a correction of the words that are there now, and of no others."""
    seen = client.call("GET", f"{path}/transcript").headers["ETag"]
    body = {"segments": [{"index": segment, "text": text}]}
    job: dict[str, Any] = client.call("PATCH", f"{path}/transcript", json=body, headers={"If-Match": seen}).json()
    return job


def _show(done: dict[str, Any]) -> None:
    if "recording" in done:
        tags = ", ".join(done["recording"]["tags"])
        out.print(escape(f"{done['recording']['title']}{f'  [{tags}]' if tags else ''}"))
    if "job" in done:
        job = done["job"]
        out.print(
            f"Revision {job['revision']}, {job['state']}. It is found once it is indexed: earshot status {job['id']}"
        )
    for each in done.get("revisions", ()):
        what = each["kind"] if each["restored_from"] is None else f"{each['kind']} from {each['restored_from']}"
        which = "" if each["changed"] is None else f"  segments {', '.join(map(str, each['changed'])) or 'none'}"
        out.print(f"{each['revision']:>4}  {each['created_at'][:19]}  {what}{which}{'  (shown)' * each['current']}")
