"""Random faults from one seed over the real stages, for as long as wished: ``make soak ARGS="--minutes 3"``.

Each epoch uploads recordings, injects its faults while they pass, lets everything settle, and asks the oracle. The
faults of an epoch follow from the seed and the epoch's number alone. A failure prints the seed and every fault so far.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import psutil

from earshot.kernel.errors import Unavailable
from earshot.kernel.topics import AUDIO_TRANSCRIPTS, TOPICS
from earshot.processes import STAGES
from tests.faults import real_finds as finds
from tests.faults.real import Flow, Speech, make_speech
from tests.faults.real_rounds import Rounds
from tests.processes import Process
from tests.servers import KafkaServer, WeaviateServer

POINTS = ("after_fetch", "in_work", "after_send", "after_ack")
KINDS = ("die", "die", "die", "end", "freeze", "relay", "erase", "cancel", "twice", "replay", "log", "vectors")
KEPT = 6
"""Recordings that are not erased at the end of an epoch, and erased ones that are looked for again after the next."""


@dataclass(frozen=True)
class Fault:
    """One fault of an epoch.

    Attributes:
        kind: of ``KINDS``.
        at_s: seconds after the epoch's first upload.
        stage: whom it hits, where that matters.
        point: where it dies.
        number: the how manieth pass of the point, or the seed of a choice.
        lasts_s: how long a freeze or an outage lasts.
    """

    kind: str
    at_s: float
    stage: str
    point: str
    number: int
    lasts_s: float


def faults_of(seed: int, epoch: int) -> list[Fault]:
    """The faults of an epoch, in the order of their time."""
    chance = random.Random(f"{seed}/{epoch}")
    made = [
        Fault(
            chance.choice(KINDS),
            round(chance.uniform(0, 6), 1),
            chance.choice(STAGES),
            chance.choice(POINTS),
            chance.randint(1, 3),
            round(chance.uniform(1, 8), 1),
        )
        for _ in range(chance.randint(3, 6))
    ]
    return sorted(made, key=lambda fault: fault.at_s)


@dataclass
class Servers:
    """What stands beside the flow and may be taken away; ``None`` where the embedded one is used."""

    kafka: KafkaServer | None = None
    weaviate: WeaviateServer | None = None

    @property
    def urls(self) -> dict[str, str]:
        """Settings that say where they are."""
        named = {"EARSHOT_BROKER_URL": self.kafka, "EARSHOT_VECTORS_URL": self.weaviate}
        return {name: server.url for name, server in named.items() if server is not None}


class Soak:
    """A flow of real stages under random faults.

    Args:
        flow: started.
        servers: beside it.
        seed: of everything random.
        most: at most so many faults in all; for finding the fewest that fail.
    """

    def __init__(self, flow: Flow, servers: Servers, seed: int, most: int = sys.maxsize) -> None:
        self._flow, self._servers, self._seed, self._most = flow, servers, seed, most
        self._rounds = Rounds(flow, random.Random(seed))
        self.done: list[Fault] = []
        self.in_flight = 0
        self.settled_s: list[float] = []

    @property
    def rounds(self) -> Rounds:
        """The account of what was uploaded."""
        return self._rounds

    async def run(self, seconds: float) -> None:
        """Epoch after epoch. Raises ``AssertionError`` with what the oracle found."""
        deadline, epoch = time.monotonic() + seconds, 0
        while time.monotonic() < deadline and len(self.done) < self._most:
            await self._epoch(epoch)
            epoch += 1

    async def _epoch(self, epoch: int) -> None:
        chance = random.Random(f"{self._seed}:{epoch}")
        first, *others = [await make_speech(self._flow.folder, chance.randrange(2**31)) for _ in range(3)]
        faults = faults_of(self._seed, epoch)[: self._most - len(self.done)]
        await self._rounds.upload(first)
        await self._flow.sure(self._behind, every=0.02)
        await asyncio.gather(
            *[self._inject(fault) for fault in faults],
            *[self._upload(speech, 2.0 + 2.0 * number) for number, speech in enumerate(others)],
        )
        self._flow.disarm()
        began = time.monotonic()
        await self._flow.drained()
        # Asked to end, they did; what ended otherwise, and not by SIGKILL, is for the oracle.
        self._flow.deaths[:] = [death for death in self._flow.deaths if death.code != 0]
        await self._rounds.settle()
        self.settled_s.append(round(time.monotonic() - began, 1))
        looked_for = sorted(self._rounds.erased)
        self._rounds.erased = set(chance.sample(looked_for, min(KEPT, len(looked_for))))
        for recording_id in sorted(self._rounds.kept)[KEPT:]:
            await self._rounds.erase(recording_id)

    async def _behind(self) -> int:
        """Records that are on their way through the stages."""
        return sum([await self._flow.behind(stage) for stage in STAGES])

    async def _upload(self, speech: Speech, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await self._rounds.upload(speech)

    # --- the faults ---------------------------------------------------------------------------------------------------

    async def _inject(self, fault: Fault) -> None:
        """Inject one fault at its time, and return when it is over; what it then comes to, the oracle says."""
        await asyncio.sleep(fault.at_s)
        self.done.append(fault)
        kinds: dict[str, Callable[[Fault], Awaitable[None]]] = {
            "die": self._die,
            "end": self._end,
            "relay": self._relay,
            "freeze": self._freeze,
            "erase": self._erase,
            "cancel": self._cancel,
            "twice": self._twice,
            "replay": self._replay,
            "log": self._log,
            "vectors": self._vectors,
        }
        with suppress(Unavailable):  # the broker is down already: what would publish or ask comes to nothing
            self.in_flight += await self._behind()
            await kinds[fault.kind](fault)

    async def _die(self, fault: Fault) -> None:
        """``kill -9`` at a point."""
        self._flow.arm(fault.stage, fault.point, fault.number)

    async def _end(self, fault: Fault) -> None:
        """SIGTERM."""
        self._flow.signal(fault.stage, signal.SIGTERM)

    async def _relay(self, _fault: Fault) -> None:
        """``kill -9`` of the relay."""
        self._flow.signal("relay", signal.SIGKILL)

    async def _freeze(self, fault: Fault) -> None:
        """SIGSTOP, and later SIGCONT: longer than a session, sometimes."""
        self._flow.signal(fault.stage, signal.SIGSTOP)
        await asyncio.sleep(fault.lasts_s)
        self._flow.signal(fault.stage, signal.SIGCONT)

    async def _erase(self, fault: Fault) -> None:
        if kept := sorted(self._rounds.kept):
            await self._rounds.erase(kept[fault.number % len(kept)])

    async def _cancel(self, fault: Fault) -> None:
        """Cancel an attempt that has not ended, where there is one."""
        for recording_id in sorted(self._rounds.kept):
            answer = await self._flow.http.delete(f"/jobs/{recording_id}")
            if answer.status_code == httpx.codes.OK:
                self._rounds.cancelled[recording_id] = answer.json()["revision"]
                del self._rounds.kept[recording_id]
                return

    async def _twice(self, fault: Fault) -> None:
        """Publish some records of a topic again."""
        chance = random.Random(fault.number)
        topic = chance.choice(TOPICS)
        records = await finds.records(self._flow, topic)
        again = chance.sample(records, min(10, len(records))) if topic is not AUDIO_TRANSCRIPTS else records[-3:]
        await self._flow.kit.log.publish([replace(record, offset=-1) for record in again])

    async def _replay(self, fault: Fault) -> None:
        """Publish a whole topic again, in its order."""
        topic = random.Random(fault.number).choice(TOPICS)
        records = await finds.records(self._flow, topic)
        for at in range(0, len(records), 100):
            await self._flow.kit.log.publish([replace(record, offset=-1) for record in records[at : at + 100]])

    async def _log(self, fault: Fault) -> None:
        """The log does not answer: the broker is killed, or the file is locked."""
        if (kafka := self._servers.kafka) is not None:
            await asyncio.to_thread(kafka.kill)
            await asyncio.sleep(fault.lasts_s)
            await asyncio.to_thread(kafka.start)
            return
        with (self._flow.data / "log.sqlite.lock").open("a") as lock:
            await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
            await asyncio.sleep(fault.lasts_s)

    async def _vectors(self, fault: Fault) -> None:
        """The vector store does not answer; the embedded one cannot be taken away, so its writer dies."""
        if (weaviate := self._servers.weaviate) is not None:
            assert isinstance(weaviate.runner, Process), "a server in a container cannot be frozen"
            frozen = psutil.Process(weaviate.runner.pid)
            frozen.suspend()
            await asyncio.sleep(fault.lasts_s)
            frozen.resume()
            return
        self._flow.signal("indexer", signal.SIGKILL)


# --- by hand ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def soaking(
    transport: str, vectors: str, folder: Path, seed: int, most: int = sys.maxsize
) -> AsyncIterator[Soak]:
    """A soak over a system of its own."""
    async with AsyncExitStack() as stack:
        kafka = stack.enter_context(KafkaServer()) if transport == "kafka" else None
        weaviate = stack.enter_context(WeaviateServer()) if vectors == "weaviate" else None
        servers = Servers(kafka, weaviate)
        flow = Flow(folder, servers.urls)
        stack.push_async_callback(flow.close)
        await flow.start()
        yield Soak(flow, servers, seed, most)


async def attempt(options: argparse.Namespace, seconds: float, most: int = sys.maxsize) -> tuple[list[Fault], str]:
    """One soak; its faults, and why it failed."""
    with tempfile.TemporaryDirectory(prefix="earshot-soak-") as folder:
        async with soaking(options.transport, options.vectors, Path(folder), options.seed, most) as soak:
            try:
                await soak.run(seconds)
            except Exception as error:
                return soak.done, f"{type(error).__name__}: {error}"
            print(f"{len(soak.done)} faults, {soak.in_flight} in flight, settled in {soak.settled_s} s, nothing wrong")
            return soak.done, ""


async def fewest(options: argparse.Namespace, seconds: float, done: list[Fault]) -> list[Fault]:
    """The shortest prefix of the faults that still fails, by halving."""
    while len(done) > 1:
        shorter, why = await attempt(options, seconds, most=len(done) // 2)
        if not why:
            return done
        done = shorter
    return done


def main() -> int:
    """Run by ``make soak``; the exit code says whether everything held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--transport", choices=("embedded", "kafka"), default="embedded")
    parser.add_argument("--vectors", choices=("lancedb", "weaviate"), default="lancedb")
    parser.add_argument("--minimise", action="store_true", help="after a failure, look for fewer faults that fail")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.transport} and {options.vectors}, {options.minutes:g} minutes", flush=True)
    done, why = asyncio.run(attempt(options, options.minutes * 60))
    if not why:
        return 0
    if options.minimise:
        done = asyncio.run(fewest(options, options.minutes * 60, done))
    print(f"FAILED with seed {options.seed}: {why}\nafter these faults:", *done, sep="\n  ")
    return 1


if __name__ == "__main__":
    sys.exit(main())
