"""The indexer: passages with vectors in, searchable passages out."""

from __future__ import annotations

from typing import Any

import pytest

from earshot.indexer.index import index, unindex
from earshot.kernel import ids
from earshot.kernel.codec import Record
from earshot.kernel.errors import Permanent
from earshot.kernel.events import SegmentEmbedded, StageProgressed
from earshot.kernel.gate import Verdict
from earshot.kernel.stage import Delivery, Output, Stale
from earshot.kernel.topics import AUDIO_EMBEDDINGS
from tests.fakes_speakers import FakeSpeakers
from tests.fakes_vectors import FakeVectors

NAME = ids.index_name("fake", 2)


def delivery(*texts: str, segment: int = 0, revision: int = 1, **fields: Any) -> Delivery[SegmentEmbedded]:
    passages = [
        {"id": f"p{at}", "ordinal": at, "start_ms": 0, "end_ms": 1, "text": text, "vector": [1.0, 0.0]}
        for at, text in enumerate(texts)
    ]
    about = {"recording_id": "r", "revision": revision, "index": segment, "start_ms": 0, "end_ms": 30_000}
    event = SegmentEmbedded.model_validate(about | {"model": "fake", "dimensions": 2, "passages": passages} | fields)
    return Delivery(event, Record(topic=AUDIO_EMBEDDINGS.name, key=b"r:0", value=b""))


async def run(batch: list[Delivery[SegmentEmbedded]], vectors: FakeVectors) -> list[Output]:
    return [output async for output in index(batch, vectors, FakeSpeakers())]


def texts(vectors: FakeVectors, tenant: str = "default", name: str = NAME) -> list[str]:
    return sorted(passage.text for passage in vectors.passages.get(name, {}).get(tenant, {}).values())


async def test_segments_are_indexed_and_said_to_be() -> None:
    """Replayed, nothing changes; said again with less, nothing of before is left."""
    vectors = FakeVectors()
    for _ in range(2):
        outputs = await run([delivery("a", "b"), delivery("c", segment=1)], vectors)
    progress = [output.event for output in outputs if isinstance(output.event, StageProgressed)]
    assert [(event.stage, event.index, event.state) for event in progress] == [
        ("indexer", 0, "done"),
        ("indexer", 1, "done"),
    ]
    assert texts(vectors) == ["a", "b", "c"]
    await run([delivery("d")], vectors)
    assert texts(vectors) == ["c", "d"]


async def test_tenants_and_models_go_to_their_own_index() -> None:
    vectors = FakeVectors()
    await run([delivery("a", tenant="one"), delivery("b", tenant="two"), delivery("c", model="other")], vectors)
    assert texts(vectors, "one") == ["a"]
    assert texts(vectors, "two") == ["b"]
    assert texts(vectors, name=ids.index_name("other", 2)) == ["c"]


async def test_an_event_cannot_overwrite_the_passages_of_another_recording() -> None:
    """Two recordings whose events claim the same passage ids both stay."""
    vectors = FakeVectors()
    await run([delivery("mine"), delivery("theirs", recording_id="other")], vectors)
    assert texts(vectors) == ["mine", "theirs"]


@pytest.mark.parametrize("change", [{"vector": [1.0]}, {"vector": []}, {"ordinal": 1}])
async def test_passages_that_no_model_made_are_refused(change: dict[str, Any]) -> None:
    """A vector of another length, or two passages in one place; nothing of the batch is written."""
    said = delivery("a", "b")
    passages = [said.event.passages[0].model_copy(update=change), said.event.passages[1]]
    wrong = Delivery(said.event.model_copy(update={"passages": passages}), said.record)
    vectors = FakeVectors()
    with pytest.raises(Permanent, match="cannot be indexed"):
        await run([delivery("c", segment=1), wrong], vectors)
    assert vectors.passages == {}


@pytest.mark.parametrize("verdict", [Verdict.ERASED, Verdict.CANCELLED, Verdict.OVERTAKEN])
async def test_what_was_overtaken_is_taken_back(verdict: Verdict) -> None:
    """Of that revision and segment alone."""
    vectors = FakeVectors()
    stale = delivery("a", revision=1)
    await run([delivery("c", segment=1), stale], vectors)
    await run([delivery("b", revision=2)], vectors)
    await run([stale], vectors)
    outputs = [output async for output in unindex([Stale(stale, verdict)], vectors, FakeSpeakers())]
    assert outputs == []
    assert texts(vectors) == ["b", "c"]


def test_no_two_models_share_an_index() -> None:
    names = [
        "wordllama-l2",
        "wordllama_l2",
        "Wordllama-l2",
        "wordllama--l2",
        "wordllama/l2",
        "日本",
        "a" * 300,
        "a" * 301,
    ]
    made = [ids.index_name(name, dimensions) for name in names for dimensions in (2, 256)]
    assert len(set(made)) == len(made)
    assert made[1] == "Passages_wordllama_l2_256"
    assert all(name.replace("_", "").isalnum() and name.isascii() for name in made)
