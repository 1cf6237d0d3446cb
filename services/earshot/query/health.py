"""Whether everything answers, each part with its own result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel, Field

from earshot.adapters.wiring import Kit
from earshot.kernel.errors import BlobMissing, EarshotError
from earshot.kernel.ledger import SPEAKER_STAGE
from earshot.kernel.ports import Heartbeat
from earshot.query.settings import QuerySettings


class Check(BaseModel):
    """The result of one part."""

    ok: bool
    detail: str = Field(default="", description="Why not, or why paused.")
    next_step: str = Field(default="", description="What to do about it.")
    lag: int | None = Field(default=None, description="Of a stage: records not yet committed, as its workers say.")


class Readiness(BaseModel):
    """Every dependency and every stage."""

    ready: bool
    ending: bool = Field(default=False, description="It was asked to end: send requests to another.")
    dependencies: dict[str, Check]
    stages: dict[str, Check]


class Diarization(BaseModel):
    """Whether speakers are told apart."""

    on: bool
    detail: str = Field(description="By what; or why not, and how to turn it on.")


class About(BaseModel):
    """What this is, and what does the work."""

    name: str = "earshot"
    version: str
    api: str = "v1"
    docs: str = "/docs"
    engines: list[dict[str, Any]] = Field(description="What each worker says of the engine or model it uses.")
    degraded: list[str] = Field(description="What a fallback does now, and how to turn the real thing on.")
    diarization: Diarization
    tenant: str = Field("", description="Whose things you see.")
    scopes: list[str] = Field(default_factory=list, description="What you may do.")


async def readiness(kit: Kit, settings: QuerySettings, *, with_stages: bool = True) -> Readiness:
    """Ask every dependency at once; none can hold the answer up."""
    within = settings.check_timeout_s
    beats: list[Heartbeat] = []

    async def catalog() -> None:
        await kit.catalog.ready()  # asked even while the breaker is open: a sign of life closes it
        beats.extend(await kit.catalog.heartbeats())

    async def blobs() -> None:
        try:
            await kit.blobs.size("health/none")
        except BlobMissing:
            return

    async def broker() -> None:
        await kit.log.ping()

    async def vectors() -> None:
        await kit.vectors.ping()

    checks: dict[str, Callable[[], Awaitable[None]]] = {
        "catalog": catalog,
        "broker": broker,
        "blobs": blobs,
        "vectors": vectors,
    }
    results = await asyncio.gather(*(_check(check, within) for check in checks.values()))
    dependencies = dict(zip(checks, results, strict=True))
    stages = {stage: _stage(stage, beats) for stage in settings.stages} if with_stages else {}
    ready = all(check.ok for check in [*dependencies.values(), *stages.values()])
    return Readiness(ready=ready, dependencies=dependencies, stages=stages)


async def _check(check: Callable[[], Awaitable[None]], within_s: float) -> Check:
    try:
        await asyncio.wait_for(check(), within_s)
    except TimeoutError:
        return Check(ok=False, detail=f"No answer within {within_s:g} s.", next_step="Look at it: earshot doctor")
    except EarshotError as error:
        return Check(ok=False, detail=error.detail, next_step=error.next_step)
    return Check(ok=True)


def _stage(stage: str, beats: list[Heartbeat]) -> Check:
    mine = [beat for beat in beats if beat.stage == stage]
    if not mine:
        return Check(
            ok=False, detail="No sign of life in the last minute.", next_step=f"Start it: earshot worker {stage}"
        )
    running = any(beat.state == "running" for beat in mine)
    said = "; ".join(sorted({beat.reason for beat in mine if beat.reason}))
    return Check(ok=running, detail=said, lag=sum(int(beat.info.get("lag", 0)) for beat in mine))


def engines_of(beats: list[Heartbeat]) -> list[dict[str, Any]]:
    """What workers say of their engines, each once."""
    said: list[dict[str, Any]] = []
    for beat in sorted(beats, key=lambda beat: (beat.stage, beat.at)):
        said_of = {name: beat.info[name] for name in ("engine", "model", "chain") if name in beat.info}
        if said_of:
            entry = {"stage": beat.stage, "state": beat.state, **said_of}
            if entry not in said:
                said.append(entry)
    return said


def diarization_of(beats: list[Heartbeat]) -> Diarization:
    """Whether a diarizer that shows signs of life tells speakers apart; if none does, why."""
    mine = [beat for beat in beats if beat.stage == SPEAKER_STAGE]
    engines = [beat.info["engine"] for beat in mine if "engine" in beat.info]
    if engines:
        return Diarization(on=True, detail=f"{engines[0]['name']} with {engines[0]['model']} on {engines[0]['device']}")
    reasons = [str(beat.info.get("off") or beat.reason or "The diarizer is starting.") for beat in mine]
    why = reasons[0] if reasons else "No diarizer is running. Start one with: earshot worker diarizer"
    return Diarization(on=False, detail=f"Diarization is off: speakers are not told apart. {why}")


def degraded_of(engines: list[dict[str, Any]]) -> list[str]:
    """The reasons of fallbacks, wherever in a worker's words they stand."""
    reasons = [
        f"{entry['stage']}: {part.get('reason') or 'a fallback does the work'}"
        for entry in engines
        for part in (entry, *(value for value in entry.values() if isinstance(value, dict)))
        if part.get("degraded")
    ]
    return list(dict.fromkeys(reasons))
