"""The catalog: corrections of recordings, and the revisions that they make."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from earshot.kernel.events import SegmentTranscribed
from earshot.kernel.ports.recordings import Accepted, Recording

RevisionKind = Literal["transcribed", "edited", "restored", "described"]


@dataclass(frozen=True)
class Revision:
    """One state of a recording's transcript.

    Attributes:
        revision: its number.
        kind: transcribed (or imported), edited, restored from an earlier one, or published anew because what is said
            about the recording changed.
        changed: the indexes of the segments whose words it changed; ``None``: all, it is a transcript of its own.
        restored_from: the earlier one.
        current: it is the one that is shown.
        created_at: when.
    """

    revision: int
    kind: RevisionKind
    changed: tuple[int, ...] | None
    restored_from: int | None
    current: bool
    created_at: datetime


class Editing(Protocol):
    """Changing what a recording says, and what is said about it. Raises ``Unavailable("catalog", …)``.

    A change of words is a job: a higher revision of every segment, in the outbox in the same transaction.
    """

    async def current_revision(self, tenant: str, recording_id: str) -> int:
        """The revision whose words are shown: the highest that was not cancelled. Raises ``UnknownRecording``."""

    async def editable_revision(self, tenant: str, recording_id: str) -> int:
        """The same, if its words may be corrected now.

        Raises ``UnknownRecording``; ``Permanent``, code ``not_editable`` (409).
        """

    async def words(
        self, tenant: str, recording_id: str, revision: int, among: Collection[int] | None = None
    ) -> list[SegmentTranscribed] | None:
        """The segments of a revision, in order, or those of these indexes; ``None`` when it is not kept."""

    async def revisions(self, tenant: str, recording_id: str) -> list[Revision]:
        """Those that are kept, newest first."""

    async def edit(
        self, tenant: str, recording_id: str, changed: Sequence[SegmentTranscribed], base: int, trace: Mapping[str, str]
    ) -> Accepted:
        """A new revision: ``base`` with these segments in the place of those of the same index.

        Raises:
            UnknownRecording: there is none.
            Permanent: code ``revision_changed`` (412): another revision than ``base`` is shown by now; ``not_editable``
                (409): it is being transcribed, or that failed.
            QuotaExceeded: the tenant has too many recordings in flight.
        """

    async def restore(
        self, tenant: str, recording_id: str, revision: int, base: int | None, trace: Mapping[str, str]
    ) -> Accepted:
        """A new revision with the words of an earlier one; ``created`` is ``False`` when that is the one shown.

        Raises: as :meth:`edit`; ``Permanent``, code ``unknown_revision`` (404), when it is not kept.
        """

    async def describe(
        self, tenant: str, recording_id: str, said: Mapping[str, Any], trace: Mapping[str, str]
    ) -> Recording:
        """Change what is said about a recording: ``title``, ``tags``, ``metadata``, ``recorded_at``.

        The index holds ``recorded_at``, so another one is a new revision with the same words.

        Raises: as :meth:`edit`, nothing is changed then.
        """
