"""Cutting a segment into passages, at the ends of sentences and at pauses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from earshot.kernel.events import SegmentTranscribed

SENTENCE_END = (".", "!", "?", "…", "。", "！", "？", "؟", "।")  # noqa: RUF001 - the marks of other scripts
CLAUSE_END = (",", ";", ":", "–", "—", "，", "、", "；", "،")  # noqa: RUF001 - the marks of other scripts
CLOSING = "\"'”’»)]」』"  # noqa: RUF001 - the marks of other scripts
LONG_PAUSE_MS = 2000
"""A pause this long weighs as much as the step from no mark to a comma, or from a comma to a full stop."""
LONGEST_TOKEN = 40
"""A longer token is a line of a script that is written without spaces, and is cut into pieces of this length."""


@dataclass(frozen=True)
class Cut:
    """One passage before it is embedded."""

    text: str
    start_ms: int
    end_ms: int
    speakers: tuple[str, ...]


@dataclass(frozen=True)
class _Token:
    text: str
    start_ms: int
    end_ms: int
    speaker: str | None


def cut(segment: SegmentTranscribed, max_words: int, overlap_words: int) -> list[Cut]:
    """Cut a segment into passages of at most ``max_words``, neighbours sharing ``overlap_words``.

    Every word is in at least one passage, in order, and times stay within the segment. A passage ends at the best
    place within reach: a sentence's end or another speaker's turn, else a comma, and among equals the longest pause,
    which is all there is to go by where the engine gives no punctuation.
    """
    tokens = _tokens(segment)
    return [_join(segment.text, tokens[start:end]) for start, end in _ranges(tokens, max_words, overlap_words)]


def _tokens(segment: SegmentTranscribed) -> list[_Token]:
    """The words with times inside the segment; without words, the text's, spread over the segment by their length."""
    low, high = segment.start_ms, max(segment.start_ms, segment.end_ms)
    words = [word for word in segment.words if word.text.strip()]
    if not words:
        return _spread(segment.text, low, high, segment.speaker)
    tokens = []
    for word in words:
        start = min(max(word.start_ms, low), high)
        end = min(max(word.end_ms, start), high)
        tokens.append(_Token(word.text.strip(), start, end, word.speaker or segment.speaker))
    return tokens


def _spread(text: str, low: int, high: int, speaker: str | None) -> list[_Token]:
    pieces = [token[at : at + LONGEST_TOKEN] for token in text.split() for at in range(0, len(token), LONGEST_TOKEN)]
    total = sum(map(len, pieces))
    tokens, before = [], 0
    for piece in pieces:
        after = before + len(piece)
        start, end = (low + (high - low) * place // total for place in (before, after))
        tokens.append(_Token(piece, start, end, speaker))
        before = after
    return tokens


def _ranges(tokens: Sequence[_Token], max_words: int, overlap_words: int) -> list[tuple[int, int]]:
    """Half-open ranges of tokens, one a passage."""
    size = max(1, max_words)
    overlap = min(max(0, overlap_words), size // 2)
    least = max(1, size // 4)  # new words in a passage: neither a stub at the end nor a near copy of the one before
    ranges, start = [], 0
    while len(tokens) - start > size:
        ends = range(start + min(overlap + least, size), min(start + size, len(tokens) - least) + 1)
        end = max(ends, key=lambda place: (_strength(tokens, place), place))
        ranges.append((start, end))
        start = end - overlap
    return [*ranges, (start, len(tokens))] if tokens else []


def _strength(tokens: Sequence[_Token], place: int) -> float:
    """How good a place this is to cut, before token ``place``: 0 within a phrase, 3 at most."""
    before, after = tokens[place - 1], tokens[place]
    pause = min(max(after.start_ms - before.end_ms, 0), LONG_PAUSE_MS) / LONG_PAUSE_MS
    bare = before.text.rstrip(CLOSING)
    if before.speaker != after.speaker or bare.endswith(SENTENCE_END):
        return 2 + pause
    return (1 if bare.endswith(CLAUSE_END) else 0) + pause


def _join(text: str, tokens: Sequence[_Token]) -> Cut:
    speakers = dict.fromkeys(token.speaker for token in tokens if token.speaker)
    return Cut(
        text=_stretch(text, [token.text for token in tokens]),
        start_ms=min(token.start_ms for token in tokens),
        end_ms=max(token.end_ms for token in tokens),
        speakers=tuple(speakers),
    )


def _stretch(text: str, words: Sequence[str]) -> str:
    """The words joined by spaces, or by nothing where the text has them without."""
    spaced = " ".join(words)
    if spaced in text:
        return spaced
    joined = "".join(words)
    return joined if joined in text else spaced
