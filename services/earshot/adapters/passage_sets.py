"""What several replacements amount to, for stores that carry them out in one call."""

from __future__ import annotations

from collections.abc import Iterable

from earshot.kernel.ports import PassageSet


def settle(sets: Iterable[PassageSet]) -> list[PassageSet]:
    """The sets that are left when they replace one another in order: of one segment, each takes those not above it."""
    left: dict[tuple[str, int], list[PassageSet]] = {}
    for each in sets:
        segment = (each.recording_id, each.segment_index)
        above = [other for other in left.get(segment, ()) if other.revision > each.revision]
        left[segment] = [*above, each]
    return [each for segment in left.values() for each in segment]
