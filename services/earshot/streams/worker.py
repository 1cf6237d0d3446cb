"""The process of one stage: ``earshot worker STAGE``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import structlog

from earshot.adapters.wiring import Kit
from earshot.kernel import telemetry
from earshot.kernel.ending import end_within
from earshot.kernel.errors import Misconfigured
from earshot.kernel.gate import Gate
from earshot.kernel.settings import Settings, load_or_exit
from earshot.kernel.stage import Stage
from earshot.logs import set_up
from earshot.streams.health import HealthServer
from earshot.streams.host import EXIT_MISCONFIGURED, Host, Ports
from earshot.streams.settings import WorkerSettings
from earshot.streams.unit import Point, pass_by

log = structlog.get_logger()
StageFactory = Callable[[Kit], Stage]


def run(stage_factory: StageFactory, settings: Settings, *, point: Point = pass_by) -> int:
    """Run a stage until it is asked to end; return the exit code of the process.

    Args:
        stage_factory: ``create_stage`` of a service.
        settings: shared by every process.
        point: called at the fault points; tests use it to crash there.
    """
    worker = load_or_exit(WorkerSettings)
    set_up(settings)
    kit = Kit(settings)
    try:
        stage = stage_factory(kit)
        provider = telemetry.set_up(stage.name, kit.span_exporter())
    except Misconfigured as error:
        log.critical("misconfigured", error=str(error))
        return EXIT_MISCONFIGURED
    try:
        return asyncio.run(_run(stage, kit, worker, point))
    finally:
        provider.shutdown()


async def _run(stage: Stage, kit: Kit, worker: WorkerSettings, point: Point) -> int:
    catalog = kit.catalog
    probes = {"the catalog": catalog.ready, "the broker": kit.log.ping}
    ports = Ports(kit.codec, Gate(catalog), catalog, catalog, kit.log, probes, kit.guard("broker"))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(catalog.close)
        stack.push_async_callback(kit.log.close)
        host = Host(stage, kit.settings, worker, ports, point)
        if worker.health_port:
            await stack.enter_async_context(HealthServer(host, worker.health_host, worker.health_port))
        code = await host.run()
        end_within(worker.stop_s, code)  # what is closed now may not answer
        return code
