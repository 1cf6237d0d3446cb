"""``earshot schemas register|check``: the files of ``schemas/`` and a schema registry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Annotated

import typer

from earshot.adapters.schema_registrar import Registrar, history
from earshot.cli.output import as_json, err, out
from earshot.kernel.avro import schema_folder
from earshot.kernel.codec import Codec
from earshot.kernel.errors import Misconfigured
from earshot.kernel.settings import Settings, load
from earshot.kernel.topics import TOPICS

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
schemas = typer.Typer(no_args_is_help=True, help="The schemas of the events, and the registry that knows them.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(schemas, name="schemas")


@schemas.command("register")
def register_schemas(json: Json = False) -> None:
    """Make every event's schema known to the registry, before a release that writes it."""
    settings = _settings()
    with closing(Registrar(settings.schema_registry_url)) as registrar:
        done = [registrar.register(subject, versions) for subject, versions in _subjects(settings)]
    if json:
        as_json([{"subject": one.subject, "id": one.id, "new": one.new} for one in done])
        return
    for one in done:
        out.print(f"{one.id:6d}  {one.subject}  {'registered' if one.new else 'was there already'}")


@schemas.command("check")
def check_schemas(json: Json = False) -> None:
    """Ask whether the registry would take every event's schema; change nothing. Ends with 1 where it would not."""
    settings = _settings()
    with closing(Registrar(settings.schema_registry_url)) as registrar:
        verdicts = [registrar.check(subject, versions) for subject, versions in _subjects(settings)]
    if json:
        as_json([{"subject": one.subject, "fits": one.fits, "why": one.why} for one in verdicts])
    for one in verdicts if not json else ():
        (out if one.fits else err).print(f"{one.subject}  {'fits' if one.fits else 'is refused'}  {one.why}".rstrip())
    if not all(one.fits for one in verdicts):
        raise typer.Exit(1)


def _settings() -> Settings:
    settings = load(Settings)
    if not settings.schema_registry_url:
        raise Misconfigured("No schema registry is set.", next_step="Set EARSHOT_SCHEMA_REGISTRY_URL.")
    return settings


def _subjects(settings: Settings) -> Iterator[tuple[str, list[str]]]:
    """Each topic's subject with every version of its schema, the current one last."""
    codec, folder = Codec(prefix=settings.topic_prefix), schema_folder()
    for topic in TOPICS:
        if topic.event is not None:
            yield codec.subject(topic), history(folder, topic.event.__name__)
