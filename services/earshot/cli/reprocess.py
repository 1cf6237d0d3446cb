"""``earshot reprocess``: transcripts made again, with the engine there is now."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from earshot.cli.output import as_json, err, out
from earshot.client import Client
from earshot.kernel.errors import Permanent

AT_ONCE = 100
FIELDS = ("engine", "degraded", "collection")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(reprocess)


def reprocess(
    where: Annotated[
        list[str], typer.Option(help="engine=NAME, degraded=true or collection=NAME; several must all be true.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many recordings are meant.")] = False,
    edited: Annotated[bool, typer.Option("--edited", help="Also those whose words somebody corrected.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="At most so many recordings, the oldest first; 0: all.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Transcribe recordings again as a new attempt; what was found of them is found until the new one takes its place.

    Given again, it goes on with those that are left; what is under way already is not begun twice.
    """
    client, meant = Client(), _meant(where) | ({"edited": True} if edited else {})
    found = client.call("POST", "/reprocess", json=meant | {"dry_run": True}).json()
    wanted = min(found["matching"], limit or found["matching"])
    if not json:
        err.print(f"{found['matching']} recordings match; {0 if dry_run else wanted} will be transcribed again.")
    jobs = [] if dry_run else _begin(client, meant | {"before": found["as_of"]}, wanted)
    if json:
        as_json({"matching": found["matching"], "jobs": jobs})
    elif not dry_run:
        out.print(f"{len(jobs)} begun. See how they get on with: earshot status")


def _meant(where: list[str]) -> dict[str, Any]:
    """The fields of the request. Raises ``Permanent`` for what is no condition."""
    meant: dict[str, Any] = {}
    for text in where:
        name, equals, value = text.partition("=")
        if not equals or name not in FIELDS or not value or (name == "degraded" and value not in ("true", "false")):
            raise Permanent(
                f"{text!r} is no condition.", next_step="Write engine=NAME, degraded=true or collection=NAME."
            )
        meant[name] = value == "true" if name == "degraded" else value
    return meant


def _begin(client: Client, body: dict[str, Any], wanted: int) -> list[dict[str, Any]]:
    """Begin them, some at a time, until there are no more."""
    jobs: list[dict[str, Any]] = []
    columns = (TextColumn("reprocessing"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=False, refresh_per_second=2) as bar:
        task = bar.add_task("", total=wanted)
        while len(jobs) < wanted:
            part = client.call("POST", "/reprocess", json=body | {"limit": min(AT_ONCE, wanted - len(jobs))}).json()
            if not part["jobs"]:
                break
            jobs += part["jobs"]
            bar.update(task, completed=len(jobs))
    return jobs
