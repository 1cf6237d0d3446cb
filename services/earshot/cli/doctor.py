"""``earshot doctor``: what is here, what answers, and what to do about the rest."""

from __future__ import annotations

import asyncio
import importlib.util
import platform
import shutil
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from earshot.adapters.named_encoders import other_wish
from earshot.adapters.wiring import Kit
from earshot.cli.topics import REPAIR, differences
from earshot.kernel.errors import EarshotError, Misconfigured
from earshot.kernel.ports.indexes import serving
from earshot.kernel.settings import Settings, load
from earshot.kernel.topics import TOPICS, all_topics

GIB = 1024**3
LOW_DISK_GIB = 2
EXTRAS = {
    "local": ("apsw", "lancedb", "wordllama"),
    "asr": ("faster_whisper", "pocketsphinx"),
    "embedding": ("FlagEmbedding",),
    "diarization": ("pyannote.audio",),
    "postgres": ("psycopg",),
    "otlp": ("opentelemetry.exporter",),
}


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str
    next_step: str = ""


async def examine() -> list[Check]:
    """Look at everything; never raises for what it finds."""
    checks = [_python(), *(_extra(name, modules) for name, modules in EXTRAS.items()), _ffmpeg()]
    try:
        settings = load(Settings)
    except EarshotError as error:
        return [*checks, Check("settings", "fail", error.detail, error.next_step)]
    checks.append(_disk(settings))
    kit = Kit(settings)
    for name, look in _dependencies(kit).items():
        checks.append(await _dependency(name, look))
    return [*checks, *await _topics(kit), *await _stages(kit)]


def _python() -> Check:
    found = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Check("python", "ok" if fits else "fail", found, "" if fits else "Use Python 3.11, 3.12 or 3.13.")


def _extra(name: str, modules: tuple[str, ...]) -> Check:
    missing = [module for module in modules if not _importable(module)]
    if not missing:
        return Check(f"extra {name}", "ok", ", ".join(modules))
    return Check(
        f"extra {name}",
        "warn",
        f"not installed: {', '.join(missing)}",
        f"If you need it: pip install 'earshot[{name}]'",
    )


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _ffmpeg() -> Check:
    path = shutil.which("ffmpeg")
    if path:
        return Check("ffmpeg", "ok", path)
    return Check(
        "ffmpeg", "warn", "not found; PyAV's own copy is used", "Install it only for formats that PyAV refuses."
    )


def _disk(settings: Settings) -> Check:
    folder = next(path for path in (settings.data.resolve(), *settings.data.resolve().parents) if path.exists())
    free = shutil.disk_usage(folder).free / GIB
    state: Literal["ok", "warn"] = "ok" if free >= LOW_DISK_GIB else "warn"
    return Check("disk", state, f"{free:.0f} GiB free at {settings.data}", "" if state == "ok" else "Make room.")


def _dependencies(kit: Kit) -> dict[str, Callable[[], Awaitable[str]]]:
    settings = kit.settings

    async def broker() -> str:
        await kit.log.ping()
        for topic in all_topics():
            await kit.log.partitions(settings.topic(topic.name))
        return f"{settings.broker.split('@')[-1]}, {len(all_topics())} topics"

    async def catalog() -> str:
        await kit.catalog.ready()
        return "answers, schema up to date"

    async def blobs() -> str:
        async for _ in kit.blobs.list("default/doctor/"):
            break
        return settings.blobs.split("@")[-1]

    async def vectors() -> str:
        await kit.vectors.ping()
        found = f"{len(await kit.vectors.indexes())} indexes"
        index = serving(await kit.catalog.indexes())
        if index is None:
            return found
        if name := other_wish(index):
            raise Misconfigured(
                f"EARSHOT_EMBEDDER__MODEL names {name}, but {index.encoder} serves.",
                next_step=f"Build an index of it: earshot reindex --embedder {name}",
            )
        return f"{found}, {index.encoder} serves"

    async def registry() -> str:
        await asyncio.to_thread(kit.codec.prepare, TOPICS)
        return "answers, every schema is registered"

    looks: dict[str, Callable[[], Awaitable[str]]] = {
        "broker": broker,
        "catalog": catalog,
        "blobs": blobs,
        "vectors": vectors,
    }
    return looks | {"schema registry": registry} if settings.schema_registry_url else looks


async def _stages(kit: Kit) -> list[Check]:
    """Each worker that shows signs of life, and how much waits for it; without the catalog nobody knows."""
    try:
        beats = await asyncio.wait_for(kit.catalog.heartbeats(), 15)
    except (EarshotError, TimeoutError):
        return []
    if not beats:
        return [Check("stages", "warn", "none shows signs of life", "If they should run: earshot up")]
    found = []
    for beat in sorted(beats, key=lambda beat: (beat.stage, beat.worker)):
        behind = f", {beat.info['lag']} behind" if "lag" in beat.info else ""
        state: Literal["ok", "fail"] = "ok" if beat.state == "running" else "fail"
        found.append(Check(beat.stage, state, f"{beat.state}{behind} ({beat.worker})", beat.reason))
    return found


async def _topics(kit: Kit) -> list[Check]:
    """Each topic that the broker keeps otherwise than it should; where the broker does not answer, that was said."""
    try:
        wrong = await asyncio.wait_for(differences(kit.log, kit.settings), 15)
    except (EarshotError, TimeoutError, ImportError):
        return []
    if not wrong:
        return [Check("topics", "ok", "each is kept as long as it should be")]
    return [Check("topics", "fail", str(one), f"Repair it: {REPAIR}") for one in wrong]


async def _dependency(name: str, look: Callable[[], Awaitable[str]]) -> Check:
    try:
        return Check(name, "ok", await asyncio.wait_for(look(), 15))
    except EarshotError as error:
        return Check(name, "fail", error.detail, error.next_step)
    except (TimeoutError, ImportError) as error:
        return Check(name, "fail", f"{type(error).__name__}: {error}", "Is it installed and running?")
