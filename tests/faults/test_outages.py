"""A vector store goes down, hangs, or takes batches in part: the stage waits, says why, and loses nothing."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from earshot.kernel import ids
from earshot.kernel.topics import AUDIO_EMBEDDINGS
from tests.fakes_stream import record_of
from tests.faults.conftest import EITHER
from tests.faults.disks import Store, folder_store
from tests.faults.guarantees import Outcome
from tests.faults.outages import MODEL, Outages, embedded, is_ready, metric, turns_red
from tests.faults.pipeline import text_of
from tests.faults.system import Worker
from tests.servers import WeaviateServer
from tests.waiting import eventually
from tests.weaviate_proxy import Mode, WeaviateProxy


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """LanceDB in a folder that becomes read-only, or a Weaviate server that is stopped."""
    if request.param == "weaviate":
        server: WeaviateServer = request.getfixturevalue("weaviate_server")
        yield Store(server.url, server.stop, server.start, ("Weaviate", "Check that the server runs"))
        return
    with folder_store(tmp_path / "vectors", "lancedb://", ("LanceDB", "Check the free space and the rights")) as made:
        yield made


@pytest.fixture
async def outages(broker: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Outages]:
    """An indexer's system on a broker and a vector store, whose breakers rest for a second."""
    monkeypatch.setenv("EARSHOT_BREAKER__VECTORS_REST_S", "1")
    made = Outages(broker, tmp_path, vectors_url=store.url)
    await made.prepare()
    yield made
    await made.close()


CROSSED = pytest.mark.parametrize(
    ("broker", "store"),
    [
        ("sqlite", "lancedb"),
        pytest.param("sqlite", "weaviate", marks=[pytest.mark.weaviate, pytest.mark.full]),
        pytest.param("kafka", "lancedb", marks=[pytest.mark.kafka, pytest.mark.full]),
        pytest.param("kafka", "weaviate", marks=[pytest.mark.kafka, pytest.mark.weaviate, pytest.mark.full]),
    ],
    indirect=True,
)
"""Both transports and both vector stores; in the quick cut the embedded ones."""


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
    await eventually(lambda: is_ready(indexer))
    await outages.account_indexed(outcome)


async def _shows(outages: Outages, worker: Worker, behind: int) -> bool:
    """Whether the worker's metrics say that it waits, and the lag that the log has."""
    assert await outages.behind("indexer") == behind
    return (await metric(worker, "earshot_paused"), await metric(worker, "earshot_lag_records")) == (1.0, behind)


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


@pytest.mark.weaviate
@pytest.mark.row(15, "Weaviate fails objects of a batch at random, most of them once, and one for ever for what it is")
@EITHER
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
@EITHER
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
