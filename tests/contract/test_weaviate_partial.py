"""A batch that Weaviate takes in part, and a server that fails or keeps us out: a proxy says so before the real one."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator
from http import HTTPStatus

import pytest

from earshot.adapters.weaviate import WeaviateStore
from earshot.kernel.errors import Misconfigured, Permanent, Unavailable
from earshot.kernel.ports import IndexedPassage, PassageSet
from tests.contract.test_vectors import DIMENSIONS, passages
from tests.weaviate_proxy import Mode, WeaviateProxy

pytestmark = pytest.mark.weaviate
SECRET = "what was said"
READ_ONLY = (HTTPStatus.INTERNAL_SERVER_ERROR, "put object: store is read-only")


@pytest.fixture
async def proxy(weaviate_url: str) -> AsyncIterator[WeaviateProxy]:
    async with WeaviateProxy(weaviate_url) as made:
        yield made


class Shelf:
    """One tenant of one index, behind a proxy.

    Args:
        store: connected to the proxy.
    """

    def __init__(self, store: WeaviateStore) -> None:
        self.store = store
        self.index = f"Passages_partial_{uuid.uuid4().hex[:8]}"
        self.recordings: list[str] = []

    async def sets(self, *texts: str) -> list[PassageSet]:
        """A recording of one passage for each text."""
        made = []
        for text in texts:
            recording = str(uuid.uuid4())
            self.recordings.append(recording)
            made.append(PassageSet(recording, 1, 0, await passages(f"{SECRET} {text}", recording=recording)))
        return made

    async def put(self, sets: list[PassageSet]) -> None:
        await self.store.replace_many(self.index, "t", sets)

    async def held(self) -> list[str]:
        """Every text that is there, without what all begin with."""
        found: list[IndexedPassage] = []
        for recording in self.recordings:
            found += await self.store.passages_of(self.index, "t", recording)
        return sorted(passage.text.removeprefix(SECRET).strip() for passage in found)


@pytest.fixture
async def shelf(proxy: WeaviateProxy) -> AsyncIterator[Shelf]:
    made = Shelf(WeaviateStore(proxy.url))
    await made.store.prepare(made.index, DIMENSIONS)
    yield made
    proxy.mode = Mode.PASS
    await made.store.drop(made.index)
    await made.store.close()


async def test_objects_that_failed_in_a_batch_are_tried_alone(proxy: WeaviateProxy, shelf: Shelf) -> None:
    """New ones, and one that is there already; the server fails each of them once."""
    sets = await shelf.sets("old", "two", "three", "fine")
    await shelf.put(sets[:1])
    once = {f"{SECRET} {text}" for text in ("old", "two", "three")}

    def fail_once(text: str) -> tuple[int, str] | None:
        if text not in once:
            return None
        once.remove(text)
        return READ_ONLY

    proxy.verdict = fail_once
    await shelf.put(sets)
    assert proxy.refused == 3
    assert await shelf.held() == ["fine", "old", "three", "two"]


async def test_what_is_refused_for_its_own_content_does_not_take_its_neighbours_down(
    proxy: WeaviateProxy, shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.verdict = lambda text: (422, "invalid object: no such thing") if text.endswith("bad") else None
    with caplog.at_level(logging.DEBUG), pytest.raises(Permanent, match=r"1 of 4 passages.*no such thing") as caught:
        await shelf.put(await shelf.sets("one", "two", "bad", "three"))
    assert caught.value.code == "bad_passages"
    assert await shelf.held() == ["one", "three", "two"]
    assert SECRET not in caplog.text + str(caught.value)


async def test_an_object_that_fails_alone_as_well_is_an_outage(proxy: WeaviateProxy, shelf: Shelf) -> None:
    proxy.verdict = lambda text: READ_ONLY if text.endswith("two") else None
    with pytest.raises(Unavailable, match="read-only"):
        await shelf.put(await shelf.sets("one", "two"))


async def test_a_tenant_that_cannot_be_written_to_now_is_an_outage_though_the_status_says_otherwise(
    proxy: WeaviateProxy, shelf: Shelf
) -> None:
    proxy.verdict = lambda _text: (422, "tenant not active: 't'")
    with pytest.raises(Unavailable, match="not active"):
        await shelf.put(await shelf.sets("one"))


async def test_a_batch_of_which_nothing_is_taken_is_read_object_by_object_too(
    proxy: WeaviateProxy, shelf: Shelf
) -> None:
    proxy.verdict = lambda _text: (422, "invalid object: no such thing")
    with pytest.raises(Permanent, match="2 of 2"):
        await shelf.put(await shelf.sets("one", "two"))


async def test_a_server_that_answers_500_is_left_alone_after_three_times_and_asked_again_after_a_sign_of_life(
    proxy: WeaviateProxy, shelf: Shelf
) -> None:
    sets = await shelf.sets("one")
    proxy.mode = Mode.FAIL
    for _ in range(3):
        with pytest.raises(Unavailable, match="the proxy says no"):
            await shelf.put(sets)
    asked = proxy.failed
    with pytest.raises(Unavailable, match="left alone for 60 s"):
        await shelf.put(sets)
    assert proxy.failed == asked
    with pytest.raises(Unavailable, match="not ready"):
        await shelf.store.ping()
    proxy.mode = Mode.PASS
    with pytest.raises(Unavailable, match="left alone"):
        await shelf.put(sets)
    await shelf.store.ping()
    await shelf.put(sets)
    assert await shelf.held() == ["one"]


async def test_a_wrong_key_is_for_a_person_to_mend(proxy: WeaviateProxy, shelf: Shelf) -> None:
    proxy.verdict = lambda _text: (HTTPStatus.UNAUTHORIZED, "anonymous access not enabled")
    with pytest.raises(Misconfigured, match="EARSHOT_VECTORS_URL"):
        await shelf.put(await shelf.sets("one"))
