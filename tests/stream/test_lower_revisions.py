"""What a stage makes of the gate's answer to work of a lower revision."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from earshot.adapters.wiring import Kit
from earshot.embedder.app import create_reindexer
from earshot.embedder.app import create_stage as create_embedder
from earshot.indexer.app import create_stage as create_indexer
from earshot.kernel.gate import Judge, Standing, judge, judge_shown
from earshot.kernel.settings import Settings
from earshot.kernel.stage import Delivery, Output, Stale
from tests.fakes_stream import Bench, record_of, recording, segment, stage_of

LATER = Standing("live", 2, visible_from=1)
CANCELLED = Standing("live", 2, visible_from=1, cancelled=frozenset({1}))
COMPLETED = Standing("live", 2, visible_from=2)


@pytest.mark.parametrize(
    ("by", "standing", "works"),
    [
        (judge, LATER, False),
        (judge_shown, LATER, True),
        (judge_shown, CANCELLED, False),
        (judge_shown, COMPLETED, False),
    ],
)
async def test_a_lower_revision_is_worked_on_or_undone_as_the_stage_judges(
    by: Judge, standing: Standing, works: bool
) -> None:
    worked, undone = list[int](), list[int]()

    async def work(batch: Sequence[Delivery[Any]]) -> AsyncIterator[Output]:
        worked.extend(delivery.event.revision for delivery in batch)
        for _ in ():
            yield _

    async def undo(stale: Sequence[Stale]) -> AsyncIterator[Output]:
        undone.extend(item.delivery.event.revision for item in stale)
        for _ in ():
            yield _

    bench = Bench(stage_of(work, undo=undo, judge=by))
    bench.standings.known["t", recording(0)] = standing
    await bench.process(record_of(segment(0), 0))
    assert (worked, undone, bench.acked) == ([1] if works else [], [] if works else [1], [0])


def test_the_stages_that_fill_an_index_work_on_all_that_may_be_shown(tmp_path: Path) -> None:
    kit = Kit(Settings(_env_file=None, data=tmp_path))
    stages = [create(kit) for create in (create_embedder, create_reindexer, create_indexer)]
    assert {stage.judge for stage in stages} == {judge_shown}
