"""What must be true of real recordings once everything has settled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Passage = tuple[int, int, int, str]
"""Revision, segment, ordinal, text."""


@dataclass(frozen=True)
class Seen:
    """All that is found of one recording.

    Attributes:
        state: of its latest job.
        revision: of its latest job.
        transcript: text by segment, as the API tells it; a list, so that a segment told twice shows.
        published: text by segment, of the last values of ``audio.transcripts``.
        embedded: passages of the last event of each segment of the latest revision on ``audio.embeddings``.
        indexed: passages in every index.
        counted: how many passages the vector store counts.
    """

    state: str
    revision: int
    transcript: Sequence[tuple[int, str]]
    published: Mapping[int, str]
    embedded: Sequence[Passage]
    indexed: Sequence[Passage]
    counted: int


def complaints(texts: Sequence[str], seen: Seen) -> list[str]:
    """Everything that is wrong with a recording that is to be complete.

    Args:
        texts: what each of its segments says.
        seen: what is found of it.
    """
    want = dict(enumerate(texts))
    found = [f"its job is {seen.state}"] if seen.state != "completed" else []
    if list(seen.transcript) != sorted(want.items()):
        found.append(f"its transcript has segments {[index for index, _ in seen.transcript]}, or other words")
    if dict(seen.published) != want:
        found.append(f"audio.transcripts holds segments {sorted(seen.published)}, or other words")
    if {index for _, index, _, _ in seen.embedded} != set(want):
        found.append("audio.embeddings lacks segments, or has strange ones")
    if any(revision != seen.revision for revision, _, _, _ in seen.indexed):
        found.append("passages of another revision are indexed")
    lost, extra = Counter(seen.embedded) - Counter(seen.indexed), Counter(seen.indexed) - Counter(seen.embedded)
    found += [f"not indexed: {passage}" for passage in lost]
    found += [f"indexed without cause: {passage}" for passage in extra]
    if seen.counted != len(seen.embedded):
        found.append(f"{seen.counted} passages are counted, {len(seen.embedded)} were made")
    return found
