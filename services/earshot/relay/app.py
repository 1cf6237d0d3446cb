"""The process of the relay."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import structlog

from earshot.adapters.wiring import Kit
from earshot.kernel.errors import EarshotError, Misconfigured
from earshot.kernel.ports import Heartbeat
from earshot.kernel.settings import Settings, load
from earshot.kernel.topics import TOPICS
from earshot.logs import set_up
from earshot.relay.relay import STAGE, Pace, Vitals, relay
from earshot.relay.settings import RelaySettings
from earshot.relay.tidy import collect_orphans

MISCONFIGURED = 78
"""EX_CONFIG of sysexits.h."""
log = structlog.get_logger()


def main(settings: Settings) -> int:
    """Run the relay until SIGTERM or SIGINT; return the exit code of the process."""
    set_up(settings)
    try:
        asyncio.run(_until_asked_to_end(settings))
    except Misconfigured as error:
        log.critical("misconfigured", error=str(error))
        return MISCONFIGURED
    return 0


async def _until_asked_to_end(settings: Settings) -> None:
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    work = asyncio.create_task(run(Kit(settings), load(RelaySettings)))
    asked = asyncio.create_task(ending.wait())
    await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if not work.done():
        work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def run(kit: Kit, settings: RelaySettings) -> None:
    """Publish the outbox, give signs of life and tidy up, until cancelled.

    Raises:
        Misconfigured: a topic does not exist.
    """
    vitals = Vitals()
    pace = Pace(settings.batch_rows, settings.poll_s, settings.retry_max_s, settings.publish_s)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_repeat("heartbeat_failed", settings.heartbeat_s, lambda: _beat(kit, vitals)))
            places = await _places(kit, settings, vitals)
            log.info("started", stage=STAGE)
            tasks.create_task(relay(kit.catalog, kit.log, places, kit.codec, vitals, pace))
            tasks.create_task(_repeat("tidying_failed", settings.tidy_s, lambda: tidy(kit, settings)))
    except* Misconfigured as errors:
        raise errors.exceptions[0] from None
    finally:
        await kit.log.close()
        await kit.catalog.close()


async def _places(kit: Kit, settings: RelaySettings, vitals: Vitals) -> dict[str, tuple[str, int]]:
    """Full name and partitions of every topic, waiting while the broker does not answer."""
    while True:
        try:
            names = {topic.name: kit.settings.topic(topic.name) for topic in TOPICS}
            return {name: (full, await kit.log.partitions(full)) for name, full in names.items()}
        except Misconfigured as error:
            raise Misconfigured(error.detail, next_step="Run: earshot topics create") from error
        except EarshotError as error:
            vitals.reason = str(error)
            log.warning("waiting", reason=str(error), code=error.code)
            await asyncio.sleep(settings.retry_max_s)


async def tidy(kit: Kit, settings: RelaySettings) -> None:
    """One round of tidying up: orphan blobs, then what the catalog keeps only for a while."""
    now = datetime.now(UTC)
    await collect_orphans(kit.blobs, kit.catalog, now, timedelta(hours=settings.orphan_age_h))
    await kit.catalog.prune(now - timedelta(days=settings.traces_kept_d))


async def _beat(kit: Kit, vitals: Vitals) -> None:
    worker = f"{socket.gethostname()}:{os.getpid()}"
    state = "paused" if vitals.reason else "running"
    info = {"published": vitals.published}
    await kit.catalog.beat(Heartbeat(STAGE, worker, state, vitals.reason, datetime.now(UTC), info))  # type: ignore[arg-type]


async def _repeat(event: str, every_s: float, call: Callable[[], Awaitable[None]]) -> None:
    """Call again and again; a failure is said, and is no reason to stop publishing."""
    while True:
        try:
            await call()
        except EarshotError as error:
            log.warning(event, error=str(error))
        except Exception:  # a sign of life or a tidying that fails must never stop the relay
            log.exception(event)
        await asyncio.sleep(every_s)
