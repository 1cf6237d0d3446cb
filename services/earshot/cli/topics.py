"""``earshot topics create``: the topics, as they are to be kept; and what of that a broker does otherwise."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

import typer

from earshot import processes
from earshot.adapters.wiring import Kit
from earshot.cli.output import as_json, out
from earshot.kernel.ports import EventLog
from earshot.kernel.settings import Settings, load

topics = typer.Typer(no_args_is_help=True, help="The topics of the log.")
REPAIR = "earshot topics create --repair"
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


@dataclass(frozen=True)
class Difference:
    """A topic that the broker keeps otherwise than it should.

    Attributes:
        topic: its full name.
        setting: of the broker, for example ``retention.ms``.
        found: its value there.
        wanted: what it should be.
    """

    topic: str
    setting: str
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.setting} is {self.found}, not {self.wanted}"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(topics, name="topics")


@topics.callback()
def about() -> None:
    """The topics of the log."""  # with a callback, one command alone is still named


@topics.command("create")
def create_topics(
    repair: Annotated[
        bool, typer.Option("--repair", help="Also make topics that are there be kept as they should be.")
    ] = False,
    json: Json = False,
) -> None:
    """Create the topics and the catalog's tables that are missing."""
    settings = load(Settings)
    created = asyncio.run(processes.prepare(settings))
    repaired = asyncio.run(_repair(settings)) if repair else []
    if json:
        as_json({"created": created} | ({"repaired": [one.__dict__ for one in repaired]} if repair else {}))
        return
    out.print("\n".join(created) or "Every topic was there already.", markup=False)
    for one in repaired:
        out.print(f"{one.topic}: {one.setting} was {one.found}, is {one.wanted} now", markup=False)
    if repair and not repaired:
        out.print("Every topic is kept as it should be.")


async def differences(log: EventLog, settings: Settings) -> list[Difference]:
    """What the broker does otherwise, of the topics that exist and the settings that it has. Raises ``Unavailable``."""
    wanted = processes.topic_configurations(settings)
    found = await log.configurations(list(wanted))
    return [
        Difference(topic, setting, kept[setting], value)
        for topic, kept in found.items()
        for setting, value in wanted[topic].items()
        if kept.get(setting, value) != value
    ]


async def _repair(settings: Settings) -> list[Difference]:
    kit = Kit(settings)
    try:
        wrong = await differences(kit.log, settings)
        wanted: dict[str, dict[str, str]] = {}
        for one in wrong:
            wanted.setdefault(one.topic, {})[one.setting] = one.wanted
        await kit.log.configure(wanted)
        return wrong
    finally:
        await kit.log.close()
