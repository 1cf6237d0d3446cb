"""Correct what was understood: read the words, change them, and hand them in unless somebody was faster."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from earshot.kernel.errors import Permanent
from earshot.kernel.events import SegmentTranscribed
from earshot.kernel.ports import Accepted
from earshot.kernel.ports.editing import Editing
from earshot.kernel.revising import Correction, corrected, revision_changed, unknown_revision

TRIES = 3
"""So often words that changed while they were being corrected are read again, where the client named no revision."""


async def edit(
    tenant: str,
    recording_id: str,
    corrections: Mapping[int, Correction],
    expected: Collection[int] | None,
    books: Editing,
    trace: Mapping[str, str],
) -> Accepted | None:
    """A new revision of a recording, with other words in some segments; ``None`` when they say that already.

    Args:
        tenant: whose it is.
        recording_id: which one.
        corrections: by the index of the segment.
        expected: the revisions that the client may have seen; ``None``: whatever there is.
        books: the catalog.
        trace: the W3C trace headers.

    Raises:
        UnknownRecording: there is none.
        Permanent: ``unknown_segment``, ``bad_words``; as :meth:`earshot.kernel.ports.editing.Editing.edit`.
    """
    for left in reversed(range(TRIES)):
        base = await base_of(tenant, recording_id, expected, books)
        segments = await books.words(tenant, recording_id, base, corrections.keys()) or []
        changed = await asyncio.to_thread(corrected, segments, corrections)
        if not changed:
            return None
        try:
            return await books.edit(tenant, recording_id, changed, base, trace)
        except Permanent as error:
            if error.code != "revision_changed" or expected is not None or not left:
                raise
    raise AssertionError("the last try returns or raises")


async def base_of(tenant: str, recording_id: str, expected: Collection[int] | None, books: Editing) -> int:
    """The revision that is corrected. Raises ``Permanent``: 409 when none may be; 412 when the client saw another."""
    base = await books.editable_revision(tenant, recording_id)
    if expected is not None and base not in expected:
        raise revision_changed(base)
    return base


async def words_of_revision(tenant: str, recording_id: str, revision: int, books: Editing) -> list[SegmentTranscribed]:
    """The segments of a revision. Raises ``Permanent`` (``unknown_revision``, 404) when it is not kept."""
    found = await books.words(tenant, recording_id, revision)
    if found is None:
        raise unknown_revision(revision)
    return found
