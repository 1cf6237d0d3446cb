"""A store, the catalog or the broker goes down: the stage pauses, says why, goes on by itself, and loses nothing."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from earshot.kernel import ids
from earshot.kernel.topics import AUDIO_EMBEDDINGS
from earshot.streams.settings import WorkerSettings
from tests.fakes_stream import record_of
from tests.faults.disks import small_disk
from tests.faults.guarantees import Outcome
from tests.faults.outages import (
    MODEL,
    Outages,
    blob_of,
    content_of,
    embedded,
    memory_of,
    metric,
    ready,
    turns_red,
)
from tests.faults.pipeline import text_of
from tests.faults.system import System, Worker
from tests.processes import free_ports
from tests.servers import KafkaServer, PostgresServer, WeaviateServer
from tests.waiting import eventually, eventually_sync
from tests.weaviate_proxy import Mode, WeaviateProxy

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
    with _folder(tmp_path / "vectors", "lancedb://", ("LanceDB", "Check the free space and the rights")) as made:
        yield made


@contextmanager
def _folder(folder: Path, scheme: str, words: tuple[str, ...]) -> Iterator[Store]:
    """A store in a folder that becomes read-only."""
    folder.mkdir()
    with ExitStack() as stack:
        if os.geteuid() == 0:  # root writes where it likes, but not on a disk that is read-only
            disk = stack.enter_context(small_disk(folder, 64 * MIB))
            fail, mend = lambda: _patiently(lambda: disk.read_only(True)), lambda: disk.read_only(False)
        else:
            fail, mend = lambda: _allow(folder, 0o500), lambda: _allow(folder, 0o700)
        yield Store(f"{scheme}{folder}", fail, mend, words)
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


async def _shows(outages: Outages, worker: Worker, behind: int) -> bool:
    """Whether the worker's metrics say that it waits, and the lag that the log has."""
    assert await outages.behind("indexer") == behind
    return (await metric(worker, "earshot_paused"), await metric(worker, "earshot_lag_records")) == (1.0, behind)


async def _is_ready(worker: Worker) -> bool:
    return (await ready(worker))[0]


# --- slow, failing, refusing in part ----------------------------------------------------------------------------------


@pytest.fixture
async def proxied(
    broker: str, weaviate_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Outages, WeaviateProxy]]:
    """The same before a Weaviate server that does what the test says."""
    monkeypatch.setenv("EARSHOT_BREAKER__VECTORS_REST_S", "1")
    async with WeaviateProxy(weaviate_url) as proxy:
        made = Outages(broker, tmp_path, vectors_url=proxy.url)
        await made.prepare()
        yield made, proxy
        proxy.mode, proxy.verdict = Mode.PASS, lambda _text: None
        await made.kit.vectors.drop(ids.index_name(MODEL, 8))
        await made.close()


BOTH = pytest.mark.parametrize("broker", ["sqlite", KAFKA], indirect=True)


@pytest.mark.weaviate
@pytest.mark.row(15, "Weaviate fails objects of a batch at random, most of them once, and one for ever for what it is")
@BOTH
async def test_what_fails_of_a_batch_is_done_again_alone_and_what_is_refused_is_put_aside_alone(
    proxied: tuple[Outages, WeaviateProxy], outcome: Outcome
) -> None:
    outages, proxy = proxied
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # shown when the test fails
    chance, failed = random.Random(seed), set[str]()
    poison, *good = outages.segments(33)

    def verdict(text: str) -> tuple[int, str] | None:
        if text.startswith(text_of(poison)):
            return 422, "invalid object: such things are not kept"
        if text in failed or chance.random() < 0.5:
            return None
        failed.add(text)
        return 500, "put object: store is read-only"

    proxy.verdict = verdict
    await outages.publish_embedded(poison, arrives=False)
    await outages.publish_embedded(*good)
    outages.expected.poison = [record_of(embedded(poison), -1, AUDIO_EMBEDDINGS).value]
    outcome.hit(await outages.behind("indexer"))
    indexer = outages.start("indexer")
    with outcome.recovering():
        await outages.settles("indexer")
    assert failed, "no object failed"
    assert proxy.refused >= len(failed) + 2
    assert indexer.alive
    [letter] = await outages.letters(AUDIO_EMBEDDINGS)
    assert letter.header("earshot-error-code") == "bad_passages"
    await outages.account_indexed(outcome)


@pytest.mark.weaviate
@pytest.mark.full
@pytest.mark.timeout(400)
@pytest.mark.row(15, "Weaviate answers every call with an error, or never")
@BOTH
@pytest.mark.parametrize(("mode", "words"), [(Mode.FAIL, "the proxy says no"), (Mode.HANG, "did not answer in time")])
async def test_a_vector_store_that_fails_or_hangs_is_waited_for(
    proxied: tuple[Outages, WeaviateProxy], outcome: Outcome, mode: Mode, words: str
) -> None:
    outages, proxy = proxied
    indexer = outages.start("indexer")
    await outages.publish_embedded(*outages.segments(8))
    await outages.settles("indexer")
    proxy.mode = mode
    await outages.publish_embedded(*outages.segments(24))
    await turns_red(indexer, words, within=120)
    outcome.hit(await outages.behind("indexer"))
    assert await outages.letters(AUDIO_EMBEDDINGS) == []
    proxy.mode = Mode.PASS
    with outcome.recovering():
        await outages.settles("indexer", within=120)
    await outages.account_indexed(outcome)


# --- the catalog, the blob store --------------------------------------------------------------------------------------


@pytest.fixture
async def keeping(
    request: pytest.FixtureRequest, broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Outages, Store]]:
    """A keeper's system whose catalog is a PostgreSQL server, or whose blobs lie in a folder, to be taken away."""
    for name in ("CATALOG", "BLOBS"):
        monkeypatch.setenv(f"EARSHOT_BREAKER__{name}_REST_S", "1")
    with ExitStack() as stack:
        if request.param == "catalog":
            server: PostgresServer = request.getfixturevalue("postgres_server")
            place = Store(server.url, server.stop, server.start, ("catalog", "Check EARSHOT_CATALOG_URL"))
        else:
            place = stack.enter_context(_folder(tmp_path / "blobs", "file://", ("blob store", "EARSHOT_BLOBS_URL")))
        made = Outages(broker, tmp_path, **{f"{request.param}_url": place.url})
        await made.prepare()
        if request.param == "catalog":
            await made.kit.catalog.migrate()
        yield made, place
        await made.close()


@BOTH
@pytest.mark.parametrize(
    "keeping", [pytest.param("catalog", marks=pytest.mark.postgres), "blobs"], indirect=True, ids=["catalog", "blobs"]
)
async def test_a_catalog_or_a_blob_store_that_goes_and_comes_back_loses_nothing(
    keeping: tuple[Outages, Store],
) -> None:
    """It goes while units are in work: their tries are counted, and an outage must not count against them."""
    outages, place = keeping
    slow = [event.model_copy(update={"language": "slow"}) for event in outages.segments(6)]
    await outages.publish(*slow, *outages.segments(10))
    keeper = outages.start("keeper")
    await eventually(lambda: outages.shelf.notes("slow"))
    place.fail()
    outages.shelf.note("release")
    await turns_red(keeper, *place.words)
    assert await outages.behind("keeper") == 16
    assert await outages.letters() == []
    place.mend()
    outages.start("shelver")
    await outages.settles("keeper", "shelver")
    await eventually(lambda: _is_ready(keeper))
    for event in slow:
        assert await outages.kit.blobs.get(blob_of(event)) == content_of(event)


# --- the broker -------------------------------------------------------------------------------------------------------


@pytest.mark.kafka
@pytest.mark.full
@pytest.mark.row(7, "the broker is stopped while outputs are on their way, and started again")
async def test_while_the_broker_is_down_a_stage_says_so_and_sends_what_it_has_when_it_is_back(
    kafka_server: KafkaServer, tmp_path: Path, outcome: Outcome
) -> None:
    outages = Outages(kafka_server.url, tmp_path)
    await outages.prepare()
    slow = [event.model_copy(update={"language": "slow"}) for event in outages.segments(6)]
    await outages.publish(*slow, *outages.segments(20))
    copier = outages.start("copier", slow_send_s=1)
    await eventually(lambda: outages.shelf.notes("slow"))
    outcome.hit(await outages.behind("copier"))
    kafka_server.stop()
    outages.shelf.note("release")
    await turns_red(copier, "has not acknowledged", "Check it, and EARSHOT_BROKER_URL")
    kafka_server.start()
    outages.start("shelver")
    with outcome.recovering():
        await outages.settles()
    assert copier.alive
    await outages.account(outcome)
    await outages.close()


# --- memory, and what a killed stage costs ----------------------------------------------------------------------------

WAITING = 3000
DIMENSIONS = 2048
"""Two vectors of 8 KiB in each event: 48 MiB wait."""
GROWTH = 24 * MIB
"""Less than half of what waits. In memory are one batch, Faust's buffer of 16 events and one fetch."""


@BOTH
async def test_memory_stays_flat_while_a_full_topic_waits_behind_a_pause(broker: str, tmp_path: Path) -> None:
    http, grpc = free_ports(2)
    outages = Outages(broker, tmp_path, vectors_url=f"weaviate://127.0.0.1:{http}?grpc={grpc}")
    await outages.prepare()
    one = record_of(embedded(outages.segments(1)[0], DIMENSIONS), -1, AUDIO_EMBEDDINGS)
    keys = [f"{number}:0".encode() for number in range(WAITING + 30)]
    await outages.put(AUDIO_EMBEDDINGS, *[replace(one, key=key) for key in keys[:30]])
    indexer = outages.start("indexer", retry_max_s=0.5)
    await turns_red(indexer, "Weaviate")
    await eventually(lambda: _has_lag(indexer, 30))
    before = memory_of(indexer)
    for at in range(30, len(keys), 300):
        await outages.put(AUDIO_EMBEDDINGS, *[replace(one, key=key) for key in keys[at : at + 300]])
    await eventually(lambda: _has_lag(indexer, len(keys)))
    waits = indexer.log().count('"waiting"')
    await eventually(lambda: indexer.log().count('"waiting"') >= waits + 10)
    grown = memory_of(indexer) - before
    print(f"{grown / MIB:.1f} MiB more")
    assert grown < GROWTH
    assert await outages.behind("indexer") == len(keys)
    assert await outages.letters(AUDIO_EMBEDDINGS) == []
    await outages.close()


async def _has_lag(worker: Worker, lag: int) -> bool:
    return await metric(worker, "earshot_lag_records") == lag


@BOTH
@pytest.mark.row(1, "a stage is killed and started again at once; time until it has worked again")
@pytest.mark.parametrize("member", ["static", "dynamic"])
async def test_a_killed_stage_works_again_soon(system: System, outcome: Outcome, member: str) -> None:
    """With the session timeout that workers have by default: the group waits for its end where nobody was static."""
    session = {
        "session_timeout_s": WorkerSettings.model_fields["session_timeout_s"].default,
        "broker_heartbeat_s": WorkerSettings.model_fields["broker_heartbeat_s"].default,
        "instance_id": "copier" if member == "static" else "",
    }
    await system.publish(*system.segments(30))
    victim = system.start("copier", point="in_work", nth=6, **session)
    await victim.ended()
    left = await system.behind("copier")
    outcome.hit(left)
    with outcome.recovering():
        system.start("copier", **session)
        await eventually(lambda: _fewer(system, left), every=0.1)
    system.start("shelver")
    await system.settles()
    await system.account(outcome)


async def _fewer(system: System, than: int) -> bool:
    return await system.behind("copier") < than
