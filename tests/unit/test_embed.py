"""The embedder: segments in, passages with vectors out."""

from __future__ import annotations

from datetime import UTC, datetime

from earshot.embedder.embed import PassageSize, embed
from earshot.kernel import ids
from earshot.kernel.codec import Record
from earshot.kernel.events import Engine, SegmentEmbedded, SegmentTranscribed, StageProgressed
from earshot.kernel.ports import CollectionSettings
from earshot.kernel.stage import Delivery, Output
from earshot.kernel.topics import AUDIO_EMBEDDINGS, AUDIO_TRANSCRIPTS
from tests.fakes_catalog import FakeCollections
from tests.fakes_vectors import FakeEncoder

SIZE = PassageSize(max_words=8, overlap_words=0)


def delivery(text: str, index: int = 0, **fields: object) -> Delivery[SegmentTranscribed]:
    about = {"recording_id": "r", "index": index, "start_ms": 0, "end_ms": 30_000, "engine": Engine(name="test")}
    event = SegmentTranscribed.model_validate(about | {"text": text} | fields)
    record = Record(topic=AUDIO_TRANSCRIPTS.name, key=b"r:0", value=b"", headers=())
    return Delivery(event, record)


async def run(
    batch: list[Delivery[SegmentTranscribed]], encoder: FakeEncoder, collections: FakeCollections | None = None
) -> list[Output]:
    return [output async for output in embed(batch, encoder, collections or FakeCollections(), SIZE)]


def embedded(outputs: list[Output]) -> list[SegmentEmbedded]:
    return [output.event for output in outputs if isinstance(output.event, SegmentEmbedded)]


async def test_a_batch_is_encoded_in_one_call() -> None:
    """Each vector belongs to its own passage's text."""
    encoder = FakeEncoder()
    events = embedded(await run([delivery(" ".join(f"w{at}" for at in range(20))), delivery("other", 1)], encoder))
    assert len(encoder.calls) == 1
    passages = [passage for event in events for passage in event.passages]
    assert encoder.calls[0] == [passage.text for passage in passages]
    for passage in passages:
        assert passage.vector == await encoder.encode_query(passage.text)


async def test_an_event_says_everything_the_index_needs() -> None:
    at = datetime(2024, 1, 1, tzinfo=UTC)
    said = delivery(
        "so it is", 4, tenant="t", revision=3, language="en", collection="talks", recorded_at=at, speaker="A",
        engine=Engine(name="small", degraded=True),
    )  # fmt: skip
    (first, progressed) = await run([said], FakeEncoder())
    assert (first.topic, first.key, first.cause) == (AUDIO_EMBEDDINGS, "r:4", said)
    (event,) = embedded([first])
    assert (event.tenant, event.revision, event.index, event.collection) == ("t", 3, 4, "talks")
    assert (event.model, event.dimensions, event.degraded, event.recorded_at) == ("fake", 64, True, at)
    (passage,) = event.passages
    assert passage.id == ids.passage_id(ids.segment_id("r", 3, 4), "fake", 0)
    assert passage.speakers == ["A"]
    assert isinstance(progressed.event, StageProgressed)
    assert (progressed.event.stage, progressed.event.index, progressed.event.state) == ("embedder", 4, "done")


async def test_silence_is_published_as_no_passages() -> None:
    """So that the passages of an earlier revision are replaced; the model is not asked."""
    encoder = FakeEncoder()
    (event,) = embedded(await run([delivery("")], encoder))
    assert event.passages == []
    assert encoder.calls == []


async def test_the_same_segment_again_is_the_same_event() -> None:
    said = delivery("one two three four five six seven eight nine ten")
    assert embedded(await run([said], FakeEncoder())) == embedded(await run([said, said], FakeEncoder()))[:1]


async def test_a_collection_sets_the_size_of_its_passages() -> None:
    """Of its own tenant's, in whole or in part."""
    collections = FakeCollections()
    await collections.configure_collection("t", "talks", CollectionSettings(passage_max_words=4))
    text = " ".join(f"w{at}" for at in range(8))
    batch = [delivery(text, tenant=tenant, collection="talks") for tenant in ("t", "other")]
    events = embedded(await run(batch, FakeEncoder(), collections))
    assert [len(event.passages) for event in events] == [2, 1]
