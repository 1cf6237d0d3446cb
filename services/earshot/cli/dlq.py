"""``earshot dlq list|show|replay|drop``: what could not be processed."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from earshot.cli.output import as_json, err, out
from earshot.cli.remote import Json
from earshot.client import Client
from earshot.kernel.errors import Permanent

dlq = typer.Typer(no_args_is_help=True, help="Dead letters: what could not be processed, and why.")
Stage = Annotated[str, typer.Option(help="Only what this stage gave up.")]
Reason = Annotated[str, typer.Option(help="Only this error code, for example blob_missing.")]
Topic = Annotated[str, typer.Option(help="Only from this topic, for example audio.uploaded.")]
Recording = Annotated[str, typer.Option(help="Only of this recording.")]
Since = Annotated[str, typer.Option(help="Failed at this moment or later, for example 2026-03-01T09:00:00Z.")]
Before = Annotated[str, typer.Option(help="Failed before this moment.")]
Ids = Annotated[list[str] | None, typer.Argument(help="As `earshot dlq list` names them.")]
All = Annotated[bool, typer.Option("--all", help="Every open letter that matches the options.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(dlq, name="dlq")


@dlq.command("list")
def list_letters(
    stage: Stage = "",
    reason: Reason = "",
    topic: Topic = "",
    recording: Recording = "",
    since: Since = "",
    before: Before = "",
    state: Annotated[str, typer.Option(help="open, replayed, dropped or all.")] = "open",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    json: Json = False,
) -> None:
    """What could not be processed, newest first. Exit code 1 when there is something."""
    given = {"stage": stage, "code": reason, "topic": topic, "recording_id": recording, "since": since, "to": before}
    params: dict[str, Any] = {name: value for name, value in given.items() if value}
    page = Client().call("GET", "/dead-letters", params=params | {"state": state, "limit": limit}).json()
    if json:
        as_json(page)
    else:
        for letter in page["items"]:
            out.print(f"{letter['id']}  {letter['failed_at'] or ''}  {letter['stage']}  {letter['code']}", markup=False)
            out.print(f"    {letter['error']}", markup=False)
        err.print(f"{len(page['items'])} letters{', and there are more' if page['next'] else ''}.")
    raise typer.Exit(1 if page["items"] and state == "open" else 0)


@dlq.command()
def show(letter: Annotated[str, typer.Argument(help="As `earshot dlq list` names it.")]) -> None:
    """One letter with everything that is known, as JSON."""
    as_json(Client().call("GET", f"/dead-letters/{letter}").json())


@dlq.command()
def replay(
    ids: Ids = None,
    every: All = False,
    stage: Stage = "",
    reason: Reason = "",
    topic: Topic = "",
    recording: Recording = "",
    since: Since = "",
    before: Before = "",
    json: Json = False,
) -> None:
    """Send records through once more, after the cause was mended."""
    _answer("replay", _which(ids, every, stage, reason, topic, recording, since, before), json)


@dlq.command()
def drop(
    ids: Ids = None,
    every: All = False,
    stage: Stage = "",
    reason: Reason = "",
    topic: Topic = "",
    recording: Recording = "",
    since: Since = "",
    before: Before = "",
    json: Json = False,
) -> None:
    """Put letters out of sight; the broker keeps their bytes until their time is over."""
    _answer("drop", _which(ids, every, stage, reason, topic, recording, since, before), json)


def _which(ids: list[str] | None, every: bool, *narrowing: str) -> dict[str, Any]:
    if bool(ids) == every:
        raise Permanent(
            "Say which letters: their ids, or --all.", next_step="`earshot dlq list` shows them; options narrow --all."
        )
    names = ("stage", "code", "topic", "recording_id", "failed_from", "failed_to")
    said = {name: value for name, value in zip(names, narrowing, strict=True) if value}
    if ids and said:
        raise Permanent("Options narrow --all; ids are taken as they are.", next_step="Leave one of both out.")
    return {"ids": ids or [], "all": every, **said}


def _answer(what: str, which: dict[str, Any], json: bool) -> None:
    """Replay or drop, as often as it takes to reach every letter that is meant."""
    client, done = Client(), list[str]()
    more = True
    while more:
        answer = client.call("POST", f"/dead-letters/{what}", json=which).json()
        done += answer["items"]
        more = answer["more"] and bool(answer["items"])
    if json:
        as_json({"items": done})
    else:
        for letter in done:
            out.print(escape(letter))
        err.print(f"{len(done)} {'replayed' if what == 'replay' else 'dropped'}.")
