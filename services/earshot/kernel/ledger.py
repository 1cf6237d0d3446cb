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
SPEAKER_STAGE = "diarizer"
"""The stage that works on a whole recording beside the others; a job waits for it when it was on at its start."""

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
        started: any stage has said anything.
        speakers: how far the search for speakers is; ``None`` when nobody looks for them.
    """

    segments_total: int | None
    searchable: int
    failed: int
    whole_failed: bool
    started: bool
    speakers: ProgressState | None = None


def tally(entries: Iterable[Entry], segments_total: int | None) -> Tally:
    """Add up the lines of one job."""
    every = list(entries)
    lines = [line for line in every if line.stage != SPEAKER_STAGE]
    speakers: ProgressState | None = None
    for line in every:
        if line.stage == SPEAKER_STAGE:
            speakers = rise(speakers, line.state)
    searchable = {line.index for line in lines if line.stage == FINAL_STAGE and line.state == "done"} - {WHOLE}
    gave_up = {line.index for line in lines if line.state == "failed"} - searchable
    return Tally(
        segments_total,
        len(searchable),
        len(gave_up - {WHOLE}),
        WHOLE in gave_up,
        bool(lines) or speakers in ("failed", "done"),
        speakers,
    )


def settle(counts: Tally) -> JobState:
    """The job's state: final only when every segment is accounted for, and the search for speakers has ended."""
    if counts.whole_failed:
        return "failed"
    cut = counts.segments_total is not None and counts.searchable + counts.failed >= counts.segments_total
    if cut and counts.speakers != "pending":
        return "failed" if counts.failed or counts.speakers == "failed" else "completed"
    return "running" if counts.started else "pending"
