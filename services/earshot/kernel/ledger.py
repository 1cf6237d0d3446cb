"""The ledger: progress is a set whose states only rise, so events may repeat and arrive in any order.

Keyed by (recording, revision, segment, stage); pending, then failed, then done. A failure that a later retry
mends rises to done. ``segments_total`` arrives at the end; completion is evaluated on every event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from earshot.kernel.events import ProgressState

JobState = Literal["pending", "running", "completed", "failed", "cancelled"]
WHOLE = -1
"""The segment index under which a stage's progress on the recording as a whole is kept."""
FINAL_STAGE = "indexer"
"""The stage after which a segment can be found."""

_RANK: Mapping[ProgressState, int] = {"pending": 0, "failed": 1, "done": 2}


def rise(before: ProgressState | None, after: ProgressState) -> ProgressState:
    """The higher of two states."""
    return after if before is None or _RANK[after] > _RANK[before] else before


@dataclass(frozen=True)
class Entry:
    """One line of the ledger: a stage's state on one segment, or on the whole (index ``WHOLE``)."""

    stage: str
    index: int
    state: ProgressState


@dataclass(frozen=True)
class Tally:
    """What the lines of one job add up to.

    Attributes:
        segments_total: ``None`` until the stage that cuts has said it.
        searchable: segments that went all the way.
        failed: segments that some stage gave up on and that did not go all the way since.
        whole_failed: a stage gave up on the recording as a whole.
        started: any line at all.
    """

    segments_total: int | None
    searchable: int
    failed: int
    whole_failed: bool
    started: bool


def tally(entries: Iterable[Entry], segments_total: int | None) -> Tally:
    """Add up the lines of one job."""
    lines = list(entries)
    searchable = {line.index for line in lines if line.stage == FINAL_STAGE and line.state == "done"} - {WHOLE}
    gave_up = {line.index for line in lines if line.state == "failed"} - searchable
    return Tally(segments_total, len(searchable), len(gave_up - {WHOLE}), WHOLE in gave_up, bool(lines))


def settle(counts: Tally) -> JobState:
    """The job's state: final only when every segment is accounted for."""
    if counts.whole_failed:
        return "failed"
    if counts.segments_total is not None and counts.searchable + counts.failed >= counts.segments_total:
        return "failed" if counts.failed else "completed"
    return "running" if counts.started else "pending"
