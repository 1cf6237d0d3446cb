"""Which events the indexer writes where, and which of them say that a segment can be found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from earshot.adapters.wiring import Kit
from earshot.indexer.app import create_stage
from earshot.kernel import ids
from earshot.kernel.codec import Record
from earshot.kernel.events import SegmentEmbedded
from earshot.kernel.gate import Verdict
from earshot.kernel.ports.indexes import NewIndex
from earshot.kernel.settings import Settings
from earshot.kernel.stage import Delivery, Stale
from earshot.kernel.topics import AUDIO_EMBEDDINGS
from tests.fakes_vectors import FakeVectors

OLD, NEW = (NewIndex(ids.index_name(name, 2), name, name, 2) for name in ("old", "new"))


def delivery(model: str, text: str = "a") -> Delivery[SegmentEmbedded]:
    passage = {"id": "p", "ordinal": 0, "start_ms": 0, "end_ms": 1, "text": text, "vector": [1.0, 0.0]}
    about: dict[str, Any] = {"recording_id": "r", "index": 0, "start_ms": 0, "end_ms": 30_000}
    event = SegmentEmbedded.model_validate(about | {"model": model, "dimensions": 2, "passages": [passage]})
    return Delivery(event, Record(AUDIO_EMBEDDINGS.name, b"r:0", b""))


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    kit = Kit(Settings(_env_file=None, data=tmp_path))
    kit.vectors = FakeVectors()
    await kit.catalog.migrate()
    await kit.catalog.first_index(OLD)
    await kit.catalog.build_index(NEW, {})
    yield kit
    await kit.catalog.close()


async def said(kit: Kit, *models: str) -> list[str]:
    """The models of the events that were said to be searchable."""
    stage = create_stage(kit)
    outputs = [output async for output in stage.work([delivery(model) for model in models])]
    return [output.cause.event.model for output in outputs]  # type: ignore[attr-defined]


async def test_an_index_says_nothing_until_it_serves_and_everything_afterwards(kit: Kit) -> None:
    assert await said(kit, "old", "new", "another's") == ["old", "another's"]
    assert sorted(await kit.vectors.indexes()) == sorted([OLD.name, NEW.name, ids.index_name("another's", 2)])
    await kit.catalog.move_alias(NEW.name)
    assert await said(kit, "old", "new") == ["old", "new"]


async def test_what_comes_too_late_for_its_index_is_said_and_not_written(kit: Kit) -> None:
    """Its job may be waiting for the word; the index that serves has the segment from its own group."""
    await kit.catalog.move_alias(NEW.name)
    await kit.catalog.change_index(OLD.name, ["leaving"], "dropped")
    assert await said(kit, "old", "new") == ["new", "old"]
    assert await kit.vectors.indexes() == [NEW.name]
    stale = [Stale(delivery("old"), Verdict.ERASED)]
    assert [output async for output in create_stage(kit).undo(stale)] == []


async def test_an_index_that_is_dropped_while_it_is_written_is_gone_afterwards(kit: Kit) -> None:
    class Slow(FakeVectors):
        async def replace_many(self, *args: Any) -> None:
            await super().replace_many(*args)
            await kit.catalog.change_index(NEW.name, ["building"], "dropped")

    kit.vectors = Slow()
    await said(kit, "old", "new")
    assert await kit.vectors.indexes() == [OLD.name]
