"""A worker whose stage does nothing, or passes on: what the host itself costs. Started by ``pipeline.py``.

python benchmarks/null_stage.py null|copy
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

from earshot.adapters.wiring import Kit
from earshot.kernel.events import RecordingErased
from earshot.kernel.settings import Settings, load
from earshot.kernel.stage import BatchPolicy, Delivery, Output, Stage, emit
from earshot.kernel.topics import RECORDINGS_COMPLETED, RECORDINGS_ERASED, RECORDINGS_PROGRESS
from earshot.streams import worker


async def nothing(_batch: Sequence[Delivery[Any]]) -> AsyncIterator[Output]:
    """Take the batch and publish nothing."""
    for _ in ():
        yield _


async def copy(batch: Sequence[Delivery[RecordingErased]]) -> AsyncIterator[Output]:
    """Pass every event on."""
    for delivery in batch:
        yield emit(RECORDINGS_ERASED, delivery.event, delivery)


def create_stage(_kit: Kit) -> Stage:
    """The stage that the command line names. ``copy`` feeds ``null``: two hops."""
    work = {"null": nothing, "copy": copy}[sys.argv[1]]
    source = RECORDINGS_ERASED if work is nothing else RECORDINGS_COMPLETED
    policy = BatchPolicy(max_events=500, max_age_s=0.0)
    return Stage(sys.argv[1], (source,), (RECORDINGS_ERASED, RECORDINGS_PROGRESS), work, batch=policy, gated=False)


if __name__ == "__main__":
    raise SystemExit(worker.run(create_stage, load(Settings)))
