"""Pieces of transcripts, as a search shows them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from earshot.kernel.events import SegmentTranscribed
from earshot.kernel.ports.recordings import Recording


@dataclass(frozen=True)
class Excerpt:
    """What a search shows of a recording: the segments of its hits, and the texts of those and of the ones beside."""

    recording: Recording
    segments: Mapping[int, SegmentTranscribed]
    texts: Mapping[int, str]


class Excerpts(Protocol):
    """The part of the catalog that describes hits."""

    async def excerpts(self, tenant: str, wanted: Mapping[str, Collection[int]]) -> Mapping[str, Excerpt]:
        """Of each recording the segments of these indexes, in one look for all.

        Of each segment the visible one with the highest revision. Recordings that are unknown or erased are left out.
        Raises ``Unavailable("catalog", …)``.
        """
