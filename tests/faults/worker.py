"""One worker process of the fault suite: ``python -m tests.faults.worker '{"stage": …}'``."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from earshot.adapters.wiring import Kit
from earshot.kernel.gate import Gate
from earshot.kernel.settings import Settings
from earshot.logs import set_up
from earshot.streams.health import HealthServer
from earshot.streams.host import Host, Ports
from earshot.streams.settings import WorkerSettings
from tests.faults import outages
from tests.faults.pipeline import Shelf, stages
from tests.faults.versions import first_stages


def killer(point: str, nth: int) -> Callable[[str], None]:
    """Kills this process with SIGKILL when it passes a point for the nth time."""
    left = nth

    def pass_point(name: str) -> None:
        nonlocal left
        if name == point:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return pass_point


async def run(order: dict[str, Any]) -> int:
    given = order.get("settings", {})
    settings = Settings(broker_url=order["broker"], topic_prefix=order["prefix"], log_format="json", **given)
    set_up(settings)
    shelf = Shelf(Path(order["folder"]))
    kit = Kit(settings)
    attempts = kit.catalog if "catalog_url" in given else shelf
    probes = {"the broker": kit.log.ping} | ({"the catalog": kit.catalog.ready} if "catalog_url" in given else {})
    ports = Ports(kit.codec, Gate(shelf), attempts, shelf, kit.log, probes, kit.guard("broker"))
    point = killer(order.get("point", ""), order.get("nth", 1))
    name, worker = order["stage"], WorkerSettings(**order["worker"])
    stage = outages.stage(name, shelf, kit) if name in outages.STAGES else (stages(shelf) | first_stages(shelf))[name]
    host = Host(stage, settings, worker, ports, point)
    try:
        if not worker.health_port:
            return await host.run()
        async with HealthServer(host, worker.health_host, worker.health_port):
            return await host.run()
    finally:
        await kit.log.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(run(json.loads(sys.argv[1]))))
