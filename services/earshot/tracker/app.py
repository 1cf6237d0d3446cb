"""Wiring of the tracker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from earshot.adapters.wiring import Kit
from earshot.kernel.events import StageProgressed
from earshot.kernel.settings import load
from earshot.kernel.stage import BatchPolicy, Delivery, Output, Stage
from earshot.kernel.topics import RECORDINGS_PROGRESS
from earshot.tracker.settings import TrackerSettings
from earshot.tracker.track import track


def create_stage(kit: Kit) -> Stage:
    """``recordings.progress`` into the catalog's ledger. It keeps the catalog itself, so it asks no gate."""
    settings = load(TrackerSettings)

    def work(batch: Sequence[Delivery[StageProgressed]]) -> AsyncIterator[Output]:
        return track(batch, kit.catalog)

    return Stage(
        name="tracker",
        sources=(RECORDINGS_PROGRESS,),
        sinks=(),
        work=work,
        batch=BatchPolicy(max_events=settings.batch_events, max_age_s=settings.batch_age_s),
        gated=False,
        probe=kit.catalog.ready,
    )
