"""The process of the relay."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import structlog

from earshot.adapters.wiring import Kit
from earshot.kernel.ending import Ending
from earshot.kernel.errors import EarshotError, Misconfigured
from earshot.kernel.fairness import Window
from earshot.kernel.leases import this_process
from earshot.kernel.ports import Heartbeat
from earshot.kernel.settings import Settings, load
from earshot.kernel.topics import TOPICS
from earshot.logs import set_up
from earshot.relay.relay import STAGE, Pace, Vitals, alone, relay
from earshot.relay.settings import EMBEDDED_WINDOW_S, WINDOW_S, RelaySettings
from earshot.relay.tidy import collect_orphans

MISCONFIGURED = 78
"""EX_CONFIG of sysexits.h."""
log = structlog.get_logger()


def main(settings: Settings, *, drain_s: float = 20.0, stop_s: float = 10.0) -> int:
    """Run the relay until SIGTERM or SIGINT; return the exit code of the process.

    Args:
        settings: shared by every process.
        drain_s: after the signal, how long what is being published may still take.
        stop_s: after that, how long the log may take to let go.
    """
    set_up(settings)
    try:
        asyncio.run(_until_asked_to_end(settings, drain_s, stop_s))
    except Misconfigured as error:
        log.critical("misconfigured", error=str(error))
        return MISCONFIGURED
    return 0


async def _until_asked_to_end(settings: Settings, drain_s: float, stop_s: float) -> None:
    """Finish the rows that are being published; what waits for something that is down is not worth waiting for."""
    ending, vitals = Ending(drain_s + stop_s), Vitals()
    with ending.on_signals():
        work = asyncio.create_task(run(Kit(settings), load(RelaySettings), vitals, ending.asked))
        asked = asyncio.create_task(ending.asked.wait())
        await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        log.info("ending", stage=STAGE)
        await asyncio.wait({work}, timeout=0 if vitals.reason else drain_s)
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


async def run(
    kit: Kit, settings: RelaySettings, vitals: Vitals | None = None, ending: asyncio.Event | None = None
) -> None:
    """Publish the outbox, give signs of life and tidy up, until asked to end or cancelled.

    Args:
        kit: the adapters; closed at the end.
        settings: how fast.
        vitals: kept up to date.
        ending: set to ask for the end; the rows that are being published are finished.

    Raises:
        Misconfigured: a topic does not exist.
    """
    vitals, ending = vitals or Vitals(), ending or asyncio.Event()
    try:
        async with asyncio.TaskGroup() as tasks:
            beside = [tasks.create_task(_repeat("heartbeat_failed", settings.heartbeat_s, lambda: _beat(kit, vitals)))]
            places = await _places(kit, settings, vitals)
            log.info("started", stage=STAGE)
            beside.append(tasks.create_task(_repeat("tidying_failed", settings.tidy_s, lambda: tidy(kit, settings))))
            await _publish(kit, settings, places, vitals, ending)
            for task in beside:
                task.cancel()
    except* Misconfigured as errors:
        raise errors.exceptions[0] from None
    finally:
        await kit.log.close()
        await kit.catalog.close()


async def _publish(
    kit: Kit, settings: RelaySettings, places: dict[str, tuple[str, int]], vitals: Vitals, ending: asyncio.Event
) -> None:
    """Publish the outbox, in turns with other relays, until asked to end."""
    window = window_of(settings, embedded=kit.settings.embedded)
    pace = Pace(settings.batch_rows, settings.poll_s, settings.retry_max_s, settings.publish_s, window)

    async def publish(lost: Callable[[], bool]) -> None:
        await relay(kit.catalog, kit.log, places, kit.codec, vitals, pace, ending, lost)

    # On the embedded log nobody runs two, so a lease that is there is that of one that died.
    owner = "embedded" if kit.settings.embedded else this_process()
    await alone(kit.catalog, owner, settings.lease_s, vitals, ending, publish)


def window_of(settings: RelaySettings, *, embedded: bool) -> Window:
    """How much work may be in flight."""
    total_s = settings.window_s or (EMBEDDED_WINDOW_S if embedded else WINDOW_S)
    return Window(round(total_s * 1000), max(1, round(total_s * 1000 * settings.tenant_share)))


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
    """One round of tidying up: orphan and half-written blobs, then what the catalog keeps only for a while."""
    now = datetime.now(UTC)
    age = timedelta(hours=settings.orphan_age_h)
    await collect_orphans(kit.blobs, kit.catalog, now, age)
    await kit.blobs.sweep(now - age)
    await kit.catalog.prune(now - timedelta(days=settings.traces_kept_d))
    await kit.catalog.prune_audit(now - timedelta(days=settings.audit_kept_d))


async def _beat(kit: Kit, vitals: Vitals) -> None:
    worker = f"{socket.gethostname()}:{os.getpid()}"
    state = "paused" if vitals.reason else "running"
    ahead = await kit.catalog.backlog()
    info = {
        "published": vitals.published,
        "uploads_waiting": ahead.uploads,
        "waiting_s": ahead.waiting_ms // 1000,
        "in_flight_s": ahead.in_flight_ms // 1000,
    }
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
