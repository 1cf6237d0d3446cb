"""A store, the catalog or the broker goes down: the stage pauses, says why, goes on by itself, and loses nothing."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from earshot.kernel.topics import AUDIO_EMBEDDINGS
from tests.faults.disks import small_disk
from tests.faults.guarantees import Outcome
from tests.faults.outages import Outages, metric, ready, turns_red
from tests.servers import WeaviateServer
from tests.waiting import eventually, eventually_sync

MIB = 2**20


@dataclass
class Store:
    """A vector store that can be taken away.

    Attributes:
        url: as the settings take it.
        fail: take it away.
        mend: give it back.
        words: of the reason that a stage gives meanwhile.
    """

    url: str
    fail: Callable[[], object]
    mend: Callable[[], object]
    words: tuple[str, ...]


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """LanceDB in a folder that becomes read-only, or a Weaviate server that is stopped."""
    if request.param == "weaviate":
        server: WeaviateServer = request.getfixturevalue("weaviate_server")
        yield Store(server.url, server.stop, server.start, ("Weaviate", "Check that the server runs"))
        return
    folder = tmp_path / "vectors"
    folder.mkdir()
    with ExitStack() as stack:
        if os.geteuid() == 0:  # root writes where it likes, but not on a disk that is read-only
            disk = stack.enter_context(small_disk(folder, 64 * MIB))
            fail, mend = lambda: _patiently(lambda: disk.read_only(True)), lambda: disk.read_only(False)
        else:
            fail, mend = lambda: _allow(folder, 0o500), lambda: _allow(folder, 0o700)
        yield Store(f"lancedb://{folder}", fail, mend, ("LanceDB", "Check the free space and the rights"))
        mend()


def _patiently(call: Callable[[], object]) -> None:
    """Again while a file is open."""
    eventually_sync(lambda: call() is None)


def _allow(folder: Path, mode: int) -> None:
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(mode)


@pytest.fixture
async def outages(broker: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Outages]:
    """An indexer's system on a broker and a vector store, whose breakers rest for a second."""
    monkeypatch.setenv("EARSHOT_BREAKER__VECTORS_REST_S", "1")
    made = Outages(broker, tmp_path, vectors_url=store.url)
    await made.prepare()
    yield made
    await made.close()


KAFKA = pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.full])
CROSSED = pytest.mark.parametrize(
    ("broker", "store"),
    [
        ("sqlite", "lancedb"),
        pytest.param("sqlite", "weaviate", marks=[pytest.mark.weaviate, pytest.mark.full]),
        pytest.param("kafka", "lancedb", marks=[pytest.mark.kafka, pytest.mark.full]),
        pytest.param("kafka", "weaviate", marks=[pytest.mark.kafka, pytest.mark.weaviate]),
    ],
    indirect=True,
)
"""Both transports and both vector stores; in the quick cut each of them once."""


@pytest.mark.row(15, "the vector store is taken away under load: a folder made read-only, a server stopped")
@CROSSED
async def test_a_vector_store_that_goes_and_comes_back_loses_nothing(
    outages: Outages, store: Store, outcome: Outcome
) -> None:
    indexer = outages.start("indexer")
    await outages.publish_embedded(*outages.segments(12))
    await outages.settles("indexer")
    store.fail()
    await outages.publish_embedded(*outages.segments(40))
    await turns_red(indexer, *store.words)
    await turns_red(indexer, "left alone")
    await eventually(lambda: _shows(outages, indexer, 40))
    outcome.hit(await outages.behind("indexer"))
    assert await outages.letters(AUDIO_EMBEDDINGS) == []
    store.mend()
    with outcome.recovering():
        await outages.settles("indexer")
    await eventually(lambda: _is_ready(indexer))
    await outages.account_indexed(outcome)


async def _shows(outages: Outages, worker, behind: int) -> bool:
    """Whether the worker's metrics say that it waits, and the lag that the log has."""
    assert await outages.behind("indexer") == behind
    return (await metric(worker, "earshot_paused"), await metric(worker, "earshot_lag_records")) == (1.0, behind)


async def _is_ready(worker) -> bool:
    return (await ready(worker))[0]
