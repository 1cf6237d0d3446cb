"""Another embedding model on a running system: searched all the while, killed on the way, nothing lost or left over."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import psutil
import pytest

from earshot.adapters.wiring import Kit
from earshot.kernel.settings import Settings
from earshot.kernel.topics import AUDIO_SEGMENTS, AUDIO_TRANSCRIPTS
from tests.servers import WeaviateServer
from tests.system.conftest import ROOT, System, start, stop
from tests.waiting import eventually_sync

pytestmark = pytest.mark.timeout(600)  # a system, a server of its own, and commands that load a model each
T = TypeVar("T")
OLD, NEW, GIVEN_UP = (f"Passages_wordllama_l2_{dimensions}" for dimensions in (256, 128, 64))
ANIMALS = ("heron", "badger", "lynx", "otter", "wombat", "ibex")


def srt(animal: str, cues: int = 8) -> str:
    """A transcript of several segments; each says where the animal was seen."""
    spoken = [
        f"{number + 1}\n00:{number:02d}:01,000 --> 00:{number:02d}:05,000\nThe {animal} was seen at bridge {number}\n"
        for number in range(cues)
    ]
    return "\n".join(spoken)


@dataclass
class Reindexing:
    """A system, and what its test knows of it."""

    system: System
    folder: Path
    known: dict[str, str] = field(default_factory=dict)

    def add(self, animal: str) -> dict[str, Any]:
        path = self.folder / f"{animal}.srt"
        path.write_text(srt(animal))
        job = self.system.add(path, title=animal)
        self.known[animal] = job["recording_id"]
        return job

    def reindex(self, *arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
        """What ``earshot reindex`` says of each index."""
        done = self.system.cli("reindex", *arguments, "--json")
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}\n{self.system.logs()}"
        return {item["index"]: item for item in json.loads(done.stdout)["items"]} if code == 0 else {}

    def inside(self, work: Callable[[Kit], Awaitable[T]]) -> T:
        """Look into the stores."""

        async def run() -> T:
            environment = self.system.environment
            urls = {name: environment.get(f"EARSHOT_{name.upper()}", "") for name in ("broker_url", "vectors_url")}
            prefix = environment.get("EARSHOT_TOPIC_PREFIX", "")
            kit = Kit(Settings(_env_file=None, data=self.system.data, topic_prefix=prefix, **urls))
            try:
                return await work(kit)
            finally:
                await kit.log.close()
                await kit.vectors.close()
                await kit.catalog.close()

        return asyncio.run(run())

    def count(self, index: str, recording_id: str) -> int:
        return self.inside(lambda kit: kit.vectors.count(index, "default", recording_id))

    def ends(self) -> dict[str, int]:
        """How many records ever were on the topics that cost something."""

        async def look(kit: Kit) -> dict[str, int]:
            names = [kit.settings.topic(topic.name) for topic in (AUDIO_SEGMENTS, AUDIO_TRANSCRIPTS)]
            lags = await kit.log.lag(kit.settings.topic_prefix + "embedder", names)
            return {name: sum(end for (topic, _), (_, end) in lags.items() if topic == name) for name in names}

        return self.inside(look)

    def kill(self, *names: str, number: signal.Signals = signal.SIGKILL) -> list[str]:
        """Kill workers that run now, as a power cut would, or signal them; which ones there were."""
        killed = []
        for process in psutil.Process(self.system.process.pid).children():
            try:
                command = process.cmdline()
                if "worker" in command and (name := command[command.index("worker") + 1]) in names:
                    process.send_signal(number)
                    killed.append(name)
            except psutil.NoSuchProcess:
                continue
        return killed


class Searcher:
    """Asks for what is known, again and again, and remembers what was not found."""

    def __init__(self, system: System, known: dict[str, str]) -> None:
        self._url = f"http://127.0.0.1:{system.port}/api/v1"
        self._known = dict(known)
        self._stop = threading.Event()
        self.asked = 0
        self.missed: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Searcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as http:
            while not self._stop.is_set():
                for animal, recording_id in self._known.items():
                    body = {"query": f"where was the {animal} seen", "top_k": 3}
                    answer = http.post("/query", json=body)
                    hits = [hit["recording_id"] for hit in answer.json().get("hits", [])]
                    if answer.status_code != 200 or recording_id not in hits:
                        self.missed.append(f"{animal}: {answer.status_code} {answer.text[:300]}")
                    self.asked += 1
                self._stop.wait(0.05)


@pytest.fixture(
    params=["embedded", pytest.param("on_kafka", marks=[pytest.mark.kafka, pytest.mark.weaviate, pytest.mark.full])]
)
def reindexing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reindexing]:
    """A system of the test's own, with a vector store of its own; the transcriber would do nothing but idle."""
    settings = {"EARSHOT_TRANSCRIBER__ENGINE": "simulated", "EARSHOT_EMBEDDER__BATCH_EVENTS": "1"}
    if request.param == "on_kafka":
        server: WeaviateServer = request.getfixturevalue("weaviate_server")
        settings |= {
            "EARSHOT_BROKER_URL": request.getfixturevalue("kafka_url"),
            "EARSHOT_VECTORS_URL": server.url,
            "EARSHOT_TOPIC_PREFIX": f"t{uuid4().hex[:8]}.",
            "EARSHOT_PARTITIONS": "4",
        }
    system = start(tmp_path / "data", **settings)
    yield Reindexing(system, tmp_path)
    stop(system)


def test_the_model_is_changed_under_searches_uploads_erasures_and_kills(reindexing: Reindexing) -> None:
    system = reindexing.system
    for job in [reindexing.add(animal) for animal in ANIMALS]:
        assert system.ended(job["id"])["state"] == "completed"
    doomed = reindexing.known.pop("ibex")
    before = reindexing.ends()
    with Searcher(system, reindexing.known) as searcher:
        assert reindexing.reindex("--embedder", "wordllama:128")[NEW]["state"] == "building"
        eventually_sync(lambda: reindexing.kill("reindexer"), within=60, every=0.1)
        uploaded = reindexing.add("pelican")
        assert system.ended(uploaded["id"])["state"] == "completed"
        assert reindexing.count(OLD, reindexing.known["pelican"]) == 8
        assert system.http.delete(f"/recordings/{doomed}").status_code == 204
        waiting = _waiting(system)
        eventually_sync(lambda: reindexing.kill("reindexer"), within=60, every=0.1)
        reindexing.kill("embedder", "indexer")
        waiting.send_signal(signal.SIGKILL)
        waiting.wait(10)
        done = reindexing.reindex("--embedder", "wordllama:128", "--wait")
    assert (done[NEW]["state"], done[OLD]["state"]) == ("serving", "kept")
    assert searcher.missed == []
    assert searcher.asked > 10
    after = reindexing.ends()
    uploaded_and_erased = 8 + 8  # the pelican's transcripts, and a null for each of the ibex's
    assert sum(after.values()) - sum(before.values()) == uploaded_and_erased, "a segment was transcribed again"
    for recording_id in reindexing.known.values():
        assert reindexing.count(NEW, recording_id) == 8
    eventually_sync(lambda: not (reindexing.count(OLD, doomed) or reindexing.count(NEW, doomed)), within=60)
    _goes_on_with_the_new_one(reindexing)


@pytest.mark.full
@pytest.mark.parametrize("reindexing", ["embedded"], indirect=True)
def test_an_index_is_given_up_and_an_old_one_comes_back_after_it_was_dropped(reindexing: Reindexing) -> None:
    """Every process still has the dropped index open; what was begun and given up leaves nothing behind."""
    system = reindexing.system
    assert system.ended(reindexing.add("heron")["id"])["state"] == "completed"
    with Searcher(system, reindexing.known) as searcher:
        assert reindexing.kill("indexer", number=signal.SIGSTOP)  # so that the new index cannot take over
        reindexing.reindex("--embedder", "wordllama:64")
        refused = system.cli("reindex", "--embedder", "wordllama:128")
        assert refused.returncode == 1
        assert "--cancel" in refused.stderr
        given_up = reindexing.reindex("--cancel")
        assert {name: item["state"] for name, item in given_up.items()} == {OLD: "serving", GIVEN_UP: "dropped"}
        assert reindexing.kill("indexer", number=signal.SIGCONT)
        for name, embedder in ((NEW, "wordllama:128"), (OLD, "wordllama")):
            assert reindexing.reindex("--embedder", embedder, "--wait", "--drop-old")[name]["state"] == "serving"
            assert system.search("where was the heron seen")[0]["recording_id"] == reindexing.known["heron"]
    assert searcher.missed == []
    eventually_sync(lambda: reindexing.inside(lambda kit: kit.vectors.indexes()) == [OLD], within=30, every=0.5)
    assert reindexing.count(OLD, reindexing.known["heron"]) == 8


def _waiting(system: System) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "earshot", "reindex", "--embedder", "wordllama:128", "--wait"]
    environment = os.environ | system.environment
    return subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )  # fmt: skip


def _goes_on_with_the_new_one(reindexing: Reindexing) -> None:
    """What comes now goes into the index that serves alone; the old one can be dropped, and stays so."""
    system = reindexing.system
    late = reindexing.add("capybara")
    assert system.ended(late["id"])["state"] == "completed"
    assert system.search("where was the capybara seen")[0]["recording_id"] == late["recording_id"]
    assert (reindexing.count(NEW, late["recording_id"]), reindexing.count(OLD, late["recording_id"])) == (8, 0)
    assert reindexing.reindex("--drop-old")[OLD]["state"] == "dropped"
    assert reindexing.inside(lambda kit: kit.vectors.indexes()) == [NEW]
    for animal, recording_id in reindexing.known.items():
        assert system.search(f"where was the {animal} seen")[0]["recording_id"] == recording_id
