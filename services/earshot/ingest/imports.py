"""Transcripts that come in: JSON, SRT or WebVTT become segments of at most 30 s.

Subtitle cues are a few words each; neighbours by the same speaker are joined, so that a segment holds whole sentences
to search in. Their words get estimated times inside their own cue.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from pydantic import BaseModel, Field, ValidationError

from earshot.kernel.errors import LimitExceeded, Permanent
from earshot.kernel.events import Engine, SegmentTranscribed, Word
from earshot.kernel.words import spread

SEGMENT_MS = 30_000
JOIN_GAP_MS = 1_000
MAX_MS = 100 * 3600 * 1000
MAX_SEGMENTS = 50_000
MAX_WORDS = 1_000_000
_NEXT_STEP = "Send JSON as GET …/transcript gives it, SRT, or WebVTT, in UTF-8."
_STAMP = r"(?:(\d{1,3}):)?(\d{1,2}):(\d{2})[.,](\d{3})"
_TIMING = re.compile(rf"^\s*{_STAMP}\s*-->\s*{_STAMP}(?:\s.*)?$")
_VOICE = re.compile(r"<v(?:\.[^\s<>]{0,100})?[ \t]+([^<>\n]{1,100})>")
_TAG = re.compile(r"<[^<>\n]{0,200}>")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


class ImportedWord(BaseModel):
    """One word of a transcript sent as JSON."""

    text: str = Field(max_length=500)
    start_ms: int = Field(ge=0, le=MAX_MS)
    end_ms: int = Field(ge=0, le=MAX_MS)
    confidence: float | None = Field(None, ge=0, le=1)
    speaker: str | None = Field(None, max_length=100)


class ImportedSegment(BaseModel):
    """One segment of a transcript sent as JSON; those marked missing are passed over."""

    start_ms: int = Field(ge=0, le=MAX_MS)
    end_ms: int = Field(ge=0, le=MAX_MS)
    text: str = Field("", max_length=50_000)
    speaker: str | None = Field(None, max_length=100)
    words: list[ImportedWord] = Field(default_factory=list, max_length=20_000)
    missing: bool = False


class ImportedTranscript(BaseModel):
    """A transcript as JSON, in the shape in which it is exported."""

    language: str = Field("", max_length=35, pattern=r"^[A-Za-z0-9-]*$")
    segments: list[ImportedSegment] = Field(max_length=MAX_SEGMENTS)


@dataclass(frozen=True)
class Stretch:
    """Words by one speaker between two times; ``words`` ``None`` where only the text is known."""

    start_ms: int
    end_ms: int
    text: str
    speaker: str | None = None
    words: tuple[Word, ...] | None = None


@dataclass(frozen=True)
class Transcript:
    """What was read: its language, if it says one, and its stretches in order of time, each at most 30 s."""

    language: str
    stretches: tuple[Stretch, ...]


def read_transcript(data: bytes) -> Transcript:
    """Read a transcript in any of the three formats.

    Raises:
        Permanent: code ``bad_transcript``: none of the three, or nothing in it.
        LimitExceeded: more segments or words than allowed.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _bad("It is not UTF-8 text.") from error
    if text.lstrip()[:1] in ("{", "["):
        language, stretches = _from_json(text)
    else:
        language, stretches = "", list(_joined(_from_cues(text)))
    pieces = [piece for stretch in sorted(stretches, key=lambda s: (s.start_ms, s.end_ms)) for piece in _cut(stretch)]
    if not pieces:
        raise _bad("It has no segments with text.")
    if len(pieces) > MAX_SEGMENTS or sum(len(piece.words or ()) for piece in pieces) > MAX_WORDS:
        raise LimitExceeded(f"The transcript has more than {MAX_SEGMENTS} segments or {MAX_WORDS} words.")
    return Transcript(language, tuple(pieces))


def segments_of(transcript: Transcript, common: dict[str, object]) -> tuple[SegmentTranscribed, ...]:
    """The segments as events; ``common`` has tenant, recording_id, language, collection and recorded_at."""
    engine = Engine(name="import", model="", digest="", device="", degraded=False, reason="")
    return tuple(
        SegmentTranscribed.model_validate(
            common
            | {
                "index": index,
                "start_ms": piece.start_ms,
                "end_ms": piece.end_ms,
                "text": piece.text,
                "words": piece.words or (),
                "speaker": piece.speaker,
                "engine": engine,
            }
        )
        for index, piece in enumerate(transcript.stretches)
    )


def _bad(why: str) -> Permanent:
    return Permanent(f"The transcript cannot be read. {why}", next_step=_NEXT_STEP, code="bad_transcript")


def _clean(text: str) -> str:
    return " ".join(_CONTROL.sub(" ", text).split())


# --- JSON -------------------------------------------------------------------------------------------------------


def _from_json(text: str) -> tuple[str, list[Stretch]]:
    try:
        transcript = ImportedTranscript.model_validate(json.loads(text))
    except ValidationError as error:
        where = ", ".join(".".join(str(part)[:40] for part in item["loc"]) or "(top)" for item in error.errors()[:5])
        raise _bad(f"These fields do not fit: {_clean(where)}.") from error
    except (ValueError, RecursionError) as error:
        raise _bad("It begins like JSON and is not.") from error
    return transcript.language, [
        _stretch(segment) for segment in transcript.segments if not segment.missing and segment.text.strip()
    ]


def _stretch(segment: ImportedSegment) -> Stretch:
    words = tuple(
        Word(
            text=_clean(word.text),
            start_ms=word.start_ms,
            end_ms=max(word.start_ms, word.end_ms),
            confidence=word.confidence,
            speaker=_clean(word.speaker or "") or None,
        )
        for word in segment.words
        if _clean(word.text)
    )
    end_ms = max(segment.start_ms, segment.end_ms)
    return Stretch(segment.start_ms, end_ms, _clean(segment.text), _clean(segment.speaker or "") or None, words or None)


# --- SRT and WebVTT ---------------------------------------------------------------------------------------------


def _from_cues(text: str) -> Iterator[Stretch]:
    times: tuple[int, int] | None = None
    lines: list[str] = []
    for line in [*re.split(r"\r\n|\r|\n", text), ""]:
        timing = _TIMING.match(line) if len(line) < 500 else None
        if timing or not line.strip():
            if times:
                yield from _voices(*times, "\n".join(lines))
            times, lines = (_times(timing) if timing else None), []
        elif times:
            lines.append(line)


def _times(timing: re.Match[str]) -> tuple[int, int]:
    numbers = [int(group or 0) for group in timing.groups()]
    start, end = (((h * 60 + m) * 60 + s) * 1000 + ms for h, m, s, ms in (numbers[:4], numbers[4:]))
    if start > MAX_MS or end > MAX_MS:
        raise _bad("A cue lies beyond 100 hours.")
    return start, max(start, end)


def _voices(start_ms: int, end_ms: int, text: str) -> Iterator[Stretch]:
    """The stretches of one cue, one for each ``<v Speaker>`` in it, sharing its time by length."""
    first, *rest = _VOICE.split(text)
    parts = [(None, first), *zip(rest[::2], rest[1::2], strict=True)]
    said = [
        (_clean(html.unescape(who or "")) or None, _clean(html.unescape(_TAG.sub("", what)))) for who, what in parts
    ]
    said = [(who, what) for who, what in said if what]
    total, before = sum(len(what) for _, what in said), 0
    for who, what in said:
        after = before + len(what)
        start, end = (start_ms + (end_ms - start_ms) * part // total for part in (before, after))
        yield Stretch(start, end, what, who, tuple(spread(what, start, end, who)))
        before = after


def _joined(stretches: Iterator[Stretch]) -> Iterator[Stretch]:
    """Neighbours by the same speaker, less than a second apart, as one of at most 30 s."""
    open_: Stretch | None = None
    for stretch in stretches:
        if open_ and _belongs(open_, stretch):
            words = (*(open_.words or ()), *(stretch.words or ()))
            open_ = replace(open_, end_ms=stretch.end_ms, text=f"{open_.text} {stretch.text}", words=words)
        else:
            if open_:
                yield open_
            open_ = stretch
    if open_:
        yield open_


def _belongs(before: Stretch, after: Stretch) -> bool:
    gap = after.start_ms - before.end_ms
    return before.speaker == after.speaker and 0 <= gap <= JOIN_GAP_MS and after.end_ms - before.start_ms <= SEGMENT_MS


# --- at most 30 s -----------------------------------------------------------------------------------------------


def _cut(stretch: Stretch) -> Iterator[Stretch]:
    """The stretch itself, or pieces of at most 30 s cut between words."""
    if stretch.end_ms - stretch.start_ms <= SEGMENT_MS:
        yield stretch
        return
    words = list(stretch.words or spread(stretch.text, stretch.start_ms, stretch.end_ms))
    words.sort(key=lambda word: word.start_ms)
    bounds = [0, *_breaks(words), len(words)]
    for start, end in pairwise(bounds):
        yield _piece(words[start:end], stretch.speaker)


def _breaks(words: Sequence[Word]) -> Iterator[int]:
    """Where a new piece begins, because the word would end more than 30 s after its piece began."""
    began = words[0].start_ms
    for place, word in enumerate(words):
        if place and word.end_ms - began > SEGMENT_MS:
            began = word.start_ms
            yield place


def _piece(words: Sequence[Word], speaker: str | None) -> Stretch:
    start_ms = words[0].start_ms
    end_ms = min(max(word.end_ms for word in words), start_ms + SEGMENT_MS)
    clipped = tuple(word.model_copy(update={"end_ms": min(word.end_ms, end_ms)}) for word in words)
    return Stretch(start_ms, end_ms, " ".join(word.text for word in words), speaker, clipped)
