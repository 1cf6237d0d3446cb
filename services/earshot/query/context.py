"""What surrounds a hit: its words with their times, and what was said before and after."""

from __future__ import annotations

from collections.abc import Mapping

from earshot.kernel.events import SegmentTranscribed, Word
from earshot.kernel.ports import IndexedPassage

CONTEXT_WORDS = 25
"""On either side: about ten seconds of speech."""


def words_of(passage: IndexedPassage, segment: SegmentTranscribed | None) -> list[Word]:
    """The words of a passage; none when its segment has none, or has been replaced by another revision."""
    if segment is None or segment.revision != passage.revision:
        return []
    return segment.words[slice(*_place(passage, segment))]


def around(passage: IndexedPassage, own: SegmentTranscribed | None, texts: Mapping[int, str]) -> tuple[str, str]:
    """What was said before and after a passage, across the borders of its segment.

    Args:
        passage: of ``own``.
        own: its segment, if it is known.
        texts: of segments by index, those beside it included; missing ones are passed over.
    """
    index = passage.segment_index
    head, tail = ("", "") if own is None else _rest(passage, own)
    before, after = texts.get(index - 1, ""), texts.get(index + 1, "")
    return " ".join(f"{before} {head}".split()[-CONTEXT_WORDS:]), " ".join(f"{tail} {after}".split()[:CONTEXT_WORDS])


def _rest(passage: IndexedPassage, segment: SegmentTranscribed) -> tuple[str, str]:
    """The text of the passage's own segment before and after it."""
    if segment.words:
        first, last = _place(passage, segment)
        words = [word.text for word in segment.words]
        return " ".join(words[:first]), " ".join(words[last:])
    head, found, tail = segment.text.partition(passage.text)
    return (head, tail) if found else ("", "")


def _place(passage: IndexedPassage, segment: SegmentTranscribed) -> tuple[int, int]:
    """Half-open range of the segment's words whose middle lies in the passage; empty at its start when none does."""
    within = [
        at
        for at, word in enumerate(segment.words)
        if passage.start_ms <= (word.start_ms + word.end_ms) / 2 <= passage.end_ms
    ]
    if within:
        return within[0], within[-1] + 1
    first = sum(word.start_ms < passage.start_ms for word in segment.words)
    return first, first
