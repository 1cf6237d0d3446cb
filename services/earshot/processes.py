"""Every process of the system by name: what ``earshot worker NAME`` runs, one machine or many."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from earshot.adapters import scratch
from earshot.adapters.wiring import Kit
from earshot.kernel.errors import Misconfigured
from earshot.kernel.settings import Settings, load
from earshot.streams.settings import WorkerSettings

STAGES = ("segmenter", "transcriber", "diarizer", "embedder", "indexer", "tracker", "eraser")
"""Stream processors, in the order of the flow: folder, consumer group, service name and Deployment are this word."""
PROCESSES = ("web", "relay", *STAGES)
REINDEXER = "reindexer"
"""Runs only while an index is being built: the embedder's work for the next index, as a group of its own."""


def run(name: str, settings: Settings, *, host: str = "127.0.0.1", port: int = 8080) -> int:
    """Run one process until it is told to stop; return its exit code.

    Raises:
        Misconfigured: there is no such process, or it cannot run as configured.
    """
    runner = _runner(name, host, port)
    _end_with_supervisor()
    with _own_temporary_folder(settings.data):
        return runner(settings)


def _end_with_supervisor() -> None:
    """Under a supervisor, drain and end when it is gone, however it went."""
    supervisor = os.environ.get("EARSHOT_SUPERVISOR", "")
    if not supervisor:
        return

    def watch() -> None:
        while os.getppid() == int(supervisor):
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="supervisor-watch", daemon=True).start()


def _runner(name: str, host: str, port: int) -> Callable[[Settings], int]:
    if name == "web":
        return lambda settings: _run_web(settings, host, port)
    if name == "relay":
        return _run_relay
    if name == REINDEXER:
        return _run_reindexer
    if name in STAGES:
        factory = import_module(f"earshot.{name}.app").create_stage
        worker = import_module("earshot.streams.worker")
        return lambda settings: int(worker.run(factory, settings) or 0)
    raise Misconfigured(f"There is no process {name!r}.", next_step=f"Choose one of: {', '.join(PROCESSES)}.")


def _run_reindexer(settings: Settings) -> int:
    """Ends at once, and well, when no index is being built: a job that has nothing to do is done."""
    if not asyncio.run(reindexing(settings)):
        return 0
    factory = import_module("earshot.embedder.app").create_reindexer
    return int(import_module("earshot.streams.worker").run(factory, settings) or 0)


async def reindexing(settings: Settings) -> bool:
    """Whether a reindexer has something to do. Raises ``Unavailable``."""
    from earshot.embedder.app import to_build

    kit = Kit(settings)
    try:
        return to_build(await kit.catalog.indexes()) is not None
    finally:
        await kit.catalog.close()


def _run_web(settings: Settings, host: str, port: int) -> int:
    worker, web = load(WorkerSettings), import_module("earshot.web")
    ends = {"drain_s": worker.drain_s, "stop_s": worker.stop_s, "notice_s": worker.notice_s}
    return int(web.run(settings, host, port, **ends) or 0)


def _run_relay(settings: Settings) -> int:
    worker, relay = load(WorkerSettings), import_module("earshot.relay.app")
    return int(relay.main(settings, drain_s=worker.drain_s, stop_s=worker.stop_s) or 0)


@contextmanager
def _own_temporary_folder(data: Path) -> Iterator[Path]:
    """A temporary folder for this process alone; folders of processes that are gone are swept first.

    What it holds when the process is killed is swept by the next one that starts on the same data.
    """
    folder = scratch.claim(data / "tmp")
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder.resolve())
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def prepare(settings: Settings) -> list[str]:
    """Make what must exist before a worker starts: folders, the catalog's tables, the topics.

    Returns:
        The topics that were created.
    """
    if settings.embedded:
        await asyncio.to_thread(settings.data.mkdir, parents=True, exist_ok=True)
    kit = Kit(settings)
    try:
        await kit.catalog.migrate()
        return await kit.log.create(new_topics(settings), settings.topic_partitions)
    finally:
        await kit.log.close()
        await kit.catalog.close()


def new_topics(settings: Settings) -> dict[str, dict[str, str]]:
    """Broker configuration of every topic that is made, by full name.

    Of three replicas two must have a record before it is acknowledged: with one, which is enough for Kafka by itself,
    a broker that fails at the wrong moment would take it away.
    """
    safe = {"min.insync.replicas": "2"} if settings.replication > 2 else {}
    return {name: {**kept, **safe} for name, kept in topic_configurations(settings).items()}


def topic_configurations(settings: Settings) -> dict[str, dict[str, str]]:
    """Broker configuration of every topic, by full name."""
    from earshot.kernel.topics import all_topics

    return {settings.topic(topic.name): topic.configuration for topic in all_topics()}
