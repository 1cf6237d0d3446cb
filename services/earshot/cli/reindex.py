"""``earshot reindex``: another embedding model, while searches go on with the one before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from earshot.adapters.named_encoders import index_for, named
from earshot.adapters.wiring import Kit
from earshot.cli.output import as_json, err, out
from earshot.embedder.takeover import Course
from earshot.kernel.errors import Permanent, Unavailable
from earshot.kernel.ports.indexes import Index, in_state, serving
from earshot.kernel.settings import Settings, load
from earshot.kernel.topics import AUDIO_TRANSCRIPTS
from earshot.processes import REINDEXER

T = TypeVar("T")
LOOK_S = 0.5
SILENT_S = 20.0
"""Without any sign of life of a reindexer for so long, whoever waits is told how to start one."""
STOP_S = 60.0
"""A reindexer that was told to give up has ended after this time."""
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(reindex)


def reindex(
    embedder: Annotated[
        str, typer.Option(help="wordllama, wordllama:128, bge-m3, remote:MODEL, or the folder of a model.")
    ] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Return when the new index answers.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Say which indexes there are, and how far one is.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Give up the index that is being built.")] = False,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="Delete the indexes that no longer answer; after --wait, once it does.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait with --wait.")] = 7 * 24 * 3600.0,
    json: Json = False,
) -> None:
    """Build an index of another embedding model from the transcripts, then let it answer instead of the old one.

    Searches go on all the while. Whatever is interrupted goes on where it was: give the same command again.
    """
    if not (embedder or status or cancel or drop_old):
        raise Permanent("Nothing to do.", next_step="Name a model with --embedder, or ask with --status.")
    if cancel:
        _run(_cancel)
    if embedder:
        _run(lambda kit: _begin(kit, embedder))
        if wait:
            _follow(timeout)
    if drop_old:
        _run(_drop_old)
    shown = _run(_look)
    as_json({"items": [look.shown() for look in shown]}) if json else _print(shown)


@dataclass(frozen=True)
class Look:
    """An index and how far its group is; ``total`` counts the transcripts to be read when it was asked for."""

    index: Index
    done: int
    total: int

    def shown(self) -> dict[str, Any]:
        """For programs."""
        index = self.index
        return {
            "index": index.name,
            "embedder": index.encoder,
            "model": index.model,
            "dimensions": index.dimensions,
            "state": index.state,
            "group": index.group,
            "done": self.done,
            "total": self.total,
            "created_at": index.created_at,
            "served_at": index.served_at,
        }


def _run(work: Callable[[Kit], Coroutine[Any, Any, T]]) -> T:
    """Run some work with adapters of its own."""

    async def run() -> T:
        kit = Kit(load(Settings))
        try:
            return await work(kit)
        finally:
            for name in ("log", "vectors", "catalog"):
                if name in vars(kit):
                    await getattr(kit, name).close()

    return asyncio.run(run())


async def _begin(kit: Kit, name: str) -> None:
    """Write the wish down, with the ends of the transcripts as they are now."""
    await kit.catalog.ready()
    new = index_for(name, await asyncio.to_thread(named, name))
    if serving(await kit.catalog.indexes()) is None:
        raise Permanent(
            "No index answers yet: there is nothing to take over from.",
            next_step=f"Start the embedder with EARSHOT_EMBEDDER__MODEL={name}.",
        )
    await kit.catalog.build_index(new, await Course(kit.log, kit.settings).ends(AUDIO_TRANSCRIPTS))


async def _look(kit: Kit) -> list[Look]:
    course = Course(kit.log, kit.settings)
    looks = []
    for index in await kit.catalog.indexes():
        total = sum(index.barrier.values())
        behind = await course.behind(index.group, AUDIO_TRANSCRIPTS, index.barrier) if index.state == "building" else 0
        looks.append(Look(index, total - behind, total))
    return looks


def _follow(within_s: float) -> None:
    """Show how far it is until the new index answers and nothing is left to the old one."""
    began = time.monotonic()
    heard = began
    with _bar() as bar:
        task = bar.add_task("reindexing", total=None, state="")
        while True:
            looks, alive = _run(_look_and_listen)
            heard = time.monotonic() if alive else heard
            busy = in_state([look.index for look in looks], "building", "leaving")
            building = next((look for look in looks if look.index.state == "building"), None)
            if building is not None:
                bar.update(task, total=building.total, completed=building.done, state=building.index.name)
            elif not busy:
                return
            if time.monotonic() - heard > SILENT_S:
                bar.console.print(
                    "No reindexer gives a sign of life. Start one: earshot up, or earshot worker reindexer"
                )
                heard = time.monotonic()
            if time.monotonic() - began > within_s:
                raise Unavailable(
                    "workers", f"Not done after {within_s:g} s.", next_step="Look with: earshot reindex --status"
                )
            time.sleep(LOOK_S)


async def _look_and_listen(kit: Kit) -> tuple[list[Look], bool]:
    alive = any(beat.stage == REINDEXER for beat in await kit.catalog.heartbeats())
    return await _look(kit), alive


def _bar() -> AbstractContextManager[Progress]:
    columns = (
        TextColumn("{task.fields[state]}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("transcripts"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=err, transient=False, refresh_per_second=2)


async def _cancel(kit: Kit) -> None:
    """Give up what is being built: from now on nothing is written to it, and what is there is deleted."""
    for index in in_state(await kit.catalog.indexes(), "building"):
        if await kit.catalog.change_index(index.name, ["building"], "dropped"):
            await _delete(kit, index)


async def _drop_old(kit: Kit) -> None:
    known = await kit.catalog.indexes()
    for index in in_state(known, "kept"):
        if await kit.catalog.change_index(index.name, ["kept"], "dropped"):
            await _delete(kit, index)
    for index in in_state(known, "dropped"):  # a crash may have come between
        await kit.vectors.drop(index.name)


async def _delete(kit: Kit, index: Index) -> None:
    """Delete an index from the store, and its group from a log that would keep records for it."""
    await kit.vectors.drop(index.name)
    unregister = getattr(kit.log, "unregister", None)
    deadline = time.monotonic() + STOP_S
    while unregister is not None and not await unregister(kit.settings.topic_prefix + index.group):
        if time.monotonic() > deadline:
            raise Unavailable(
                "workers", f"Some process still consumes as {index.group}.", next_step="Give the command again later."
            )
        await asyncio.sleep(LOOK_S)


def _print(looks: list[Look]) -> None:
    for look in looks:
        index = look.index
        share = f"  {look.done} of {look.total} transcripts" if index.state == "building" else ""
        out.print(f"{index.state:<9} {index.name}  {escape(index.encoder)}{share}")
    if not looks:
        out.print("There is no index yet: the embedder makes the first when it starts.")
