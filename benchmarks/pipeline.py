"""What the pipeline costs beyond its engine, in one run: ``make bench``, or ``python benchmarks/pipeline.py --help``.

Prints, as Markdown: pipeline wall time beside a bare loop over the same speech; time to the first searchable
passage; messages per second of the host with a null stage beside plain aiokafka; latency of a hop; query latency at
100,000 passages beside the store's own call. Ratios and medians; the machine may be shared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import search_latency  # noqa: E402 - beside this file
from hosts import hop_latency, host_rate, plain_aiokafka_rate  # noqa: E402 - beside this file
from speech import write_speech  # noqa: E402 - beside this file

from tests.servers import CannotHave, KafkaServer, WeaviateServer  # noqa: E402 - the servers of the tests
from tests.system.conftest import System, start, stop  # noqa: E402 - a whole system

Settings = dict[str, str]


def main() -> None:
    """Run what was asked for and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="length of the speech")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the wall-time comparison")
    parser.add_argument("--messages", type=int, default=20_000, help="messages for the host's rate")
    parser.add_argument("--passages", type=int, default=100_000, help="passages for the query latency")
    parser.add_argument(
        "--only", choices=["wall", "host", "query"], action="append", help="parts to run; by default all"
    )
    options = parser.parse_args()
    parts = options.only or ["wall", "host", "query"]
    with transports() as systems:
        print(f"# Pipeline benchmark\n\n{os.cpu_count()} cores; transports: {', '.join(systems)}\n", flush=True)
        if "wall" in parts:
            wall_time(systems, options.minutes, options.rounds)
        if "host" in parts:
            host(systems, options.messages)
        if "query" in parts:
            asyncio.run(search_latency.report(systems, options.passages))


@contextmanager
def transports() -> Iterator[dict[str, Settings]]:
    """The settings of each system that can be had here."""
    with ExitStack() as stack:
        found: dict[str, Settings] = {"embedded": {}}
        try:
            kafka, weaviate = stack.enter_context(KafkaServer()), stack.enter_context(WeaviateServer())
            found["kafka"] = {
                "EARSHOT_BROKER_URL": kafka.url,
                "EARSHOT_VECTORS_URL": weaviate.url,
                "EARSHOT_PARTITIONS": "4",
            }
        except CannotHave as error:
            print(f"without Kafka and Weaviate: {error}", file=sys.stderr)
        yield found


@contextmanager
def running(settings: Settings) -> Iterator[System]:
    """A fresh system: nothing in it, no transcript cached."""
    with tempfile.TemporaryDirectory() as folder:
        system = start(Path(folder) / "data", **settings, EARSHOT_TOPIC_PREFIX=f"b{uuid4().hex[:8]}.")
        try:
            yield system
        finally:
            stop(system)


def wall_time(systems: dict[str, Settings], minutes: float, rounds: int) -> None:
    """The pipeline beside the bare loop, each round over its own speech."""
    ratios: dict[str, list[float]] = {name: [] for name in systems}
    firsts: dict[str, list[float]] = {name: [] for name in systems}
    print(f"## Wall time, {minutes:g} minutes of speech\n")
    print("| round | bare loop s | system | pipeline s | bare/pipeline | first passage s |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            speech = Path(folder) / f"speech-{number}.wav"
            write_speech(speech, minutes * 60, seed=number)
            bare = bare_loop(speech)
            for name, settings in systems.items():
                whole, first = through_pipeline(settings, speech)
                ratios[name].append(bare / whole)
                firsts[name].append(first)
                print(
                    f"| {number} | {bare:.1f} | {name} | {whole:.1f} | {bare / whole:.3f} | {first:.1f} |", flush=True
                )
    for name in systems:
        print(
            f"\n{name}: {statistics.median(ratios[name]):.3f} of the bare loop's speed (median); ", end="first passage "
        )
        print(f"searchable after {statistics.median(firsts[name]):.1f} s (median)", flush=True)


def bare_loop(speech: Path) -> float:
    """Seconds of the engine alone."""
    command = [sys.executable, str(ROOT / "benchmarks" / "bare_loop.py"), str(speech)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(printed)["seconds"])


def through_pipeline(settings: Settings, speech: Path) -> tuple[float, float]:
    """Seconds from the start of the upload to the job's completion, and to the first hit."""
    with running(settings | {"EARSHOT_TRANSCRIBER__ENGINE": "pocketsphinx"}) as system:
        began, first = time.perf_counter(), 0.0
        job = system.add(speech, title="benchmark", language="en")
        while True:
            if not first and system.search("the", recording_id=job["recording_id"]):
                first = time.perf_counter() - began
            state = system.job(job["id"])
            if state["state"] == "completed":
                return time.perf_counter() - began, first
            assert state["state"] in {"pending", "running"}, f"{state}\n{system.logs()}"
            time.sleep(0.25)


def host(systems: dict[str, Settings], messages: int) -> None:
    """The host with a null stage beside plain aiokafka, and the latency of a hop."""
    print(f"\n## The host, {messages} messages of a null stage\n")
    print("| what | messages/s | hop p50 ms | hop p95 ms |\n|---|---|---|---|")
    for name, settings in systems.items():
        rate = host_rate(settings, messages)
        latencies: list[float] = hop_latency(settings, 200)
        quantiles: list[Any] = statistics.quantiles(latencies, n=20)
        print(f"| host, {name} | {rate:.0f} | {statistics.median(latencies):.1f} | {quantiles[18]:.1f} |", flush=True)
    if "kafka" in systems:
        rate = plain_aiokafka_rate(systems["kafka"], messages)
        print(f"| plain aiokafka | {rate:.0f} | | |", flush=True)


if __name__ == "__main__":
    main()
