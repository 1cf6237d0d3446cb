"""The catalog, the blobs or the broker go away under load; what a pause costs in memory, and a kill in time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from earshot.kernel.topics import AUDIO_EMBEDDINGS
from earshot.streams.settings import WorkerSettings
from tests.fakes_stream import record_of
from tests.faults.conftest import EITHER
from tests.faults.disks import MIB, Store, folder_store
from tests.faults.guarantees import Outcome
from tests.faults.outages import Outages, blob_of, content_of, embedded, is_ready, memory_of, metric, turns_red
from tests.faults.system import System, Worker
from tests.processes import free_ports
from tests.servers import KafkaServer, PostgresServer
from tests.waiting import eventually

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
            place = stack.enter_context(
                folder_store(tmp_path / "blobs", "file://", ("blob store", "EARSHOT_BLOBS_URL"))
            )
        made = Outages(broker, tmp_path, **{f"{request.param}_url": place.url})
        await made.prepare()
        if request.param == "catalog":
            await made.kit.catalog.migrate()
        yield made, place
        await made.close()


@EITHER
@pytest.mark.parametrize(
    "keeping",
    [pytest.param("catalog", marks=pytest.mark.postgres), pytest.param("blobs", marks=pytest.mark.full)],
    indirect=True,
    ids=["catalog", "blobs"],
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
    await eventually(lambda: is_ready(keeper))
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


@pytest.mark.full
@EITHER
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


@pytest.mark.full
@EITHER
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
