"""Transcripts for readers and players: JSON, text, SRT, WebVTT. Pure.

Cues: at most two lines of 42 characters and 6 s (Netflix Timed Text Style Guide, English: 42 characters a line, two
lines, 7 s; we stay below), cut from word times, in order, never overlapping, with every word in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from earshot.kernel.events import SegmentTranscribed, Word
from earshot.kernel.words import spread

LINE_CHARACTERS = 42
LINES = 2
CUE_MS = 6_000
PAUSE_MS = 1_500
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


@dataclass(frozen=True)
class Cue:
    """What is shown between two times."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]
    speaker: str | None = None


@dataclass(frozen=True)
class Missing:
    """A stretch that could not be transcribed."""

    start_ms: int
    end_ms: int
    error: str
    index: int | None = None


def cues(segments: Iterable[SegmentTranscribed]) -> list[Cue]:
    """Cut the words of segments into cues."""
    made: list[Cue] = []
    for segment in segments:
        for words in _groups(list(_words(segment))):
            made.append(_cue(words, made[-1].end_ms if made else 0))
    return made


def words_of(segment: SegmentTranscribed) -> list[Word]:
    """A segment's words; spread over its time where nobody measured theirs."""
    return list(segment.words) or spread(segment.text, segment.start_ms, segment.end_ms, segment.speaker)


def _words(segment: SegmentTranscribed) -> Iterator[Word]:
    """Words that fit a line: without control characters, too long ones in pieces."""
    for word in words_of(segment):
        speaker = word.speaker or segment.speaker
        for text in _CONTROL.sub(" ", word.text).split():
            for start in range(0, len(text), LINE_CHARACTERS):
                yield word.model_copy(update={"text": text[start : start + LINE_CHARACTERS], "speaker": speaker})


def _groups(words: Sequence[Word]) -> Iterator[list[Word]]:
    """Words that share a cue."""
    group: list[Word] = []
    for word in words:
        if group and not _joins(group, word):
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def _joins(group: Sequence[Word], word: Word) -> bool:
    return (
        word.speaker == group[0].speaker
        and word.end_ms - group[0].start_ms <= CUE_MS
        and word.start_ms - group[-1].end_ms <= PAUSE_MS
        and len(_lines([*(item.text for item in group), word.text])) <= LINES
    )


def _lines(texts: Iterable[str]) -> list[str]:
    """Fill lines greedily; one text never exceeds a line."""
    lines: list[str] = []
    for text in texts:
        if lines and len(lines[-1]) + 1 + len(text) <= LINE_CHARACTERS:
            lines[-1] += f" {text}"
        else:
            lines.append(text)
    return lines


def _cue(words: Sequence[Word], not_before: int) -> Cue:
    start = max(words[0].start_ms, not_before)
    end = min(max(word.end_ms for word in words), start + CUE_MS)
    return Cue(start, max(end, start + 1), tuple(_lines(word.text for word in words)), words[0].speaker)


# --- formats ----------------------------------------------------------------------------------------------------


def as_srt(segments: Iterable[SegmentTranscribed]) -> str:
    """SubRip. It has no place for speakers."""
    blocks = (
        f"{number}\n{_stamp(cue.start_ms, ',')} --> {_stamp(cue.end_ms, ',')}\n{_shown(cue).replace('-->', '→')}\n"
        for number, cue in enumerate(cues(segments), 1)
    )
    return "\n".join(blocks)


def as_vtt(segments: Iterable[SegmentTranscribed]) -> str:
    """WebVTT, with ``<v Speaker>`` where the speaker is known."""
    blocks = (
        f"{_stamp(cue.start_ms, '.')} --> {_stamp(cue.end_ms, '.')}\n{_voice(cue)}{_escaped(_shown(cue))}\n"
        for cue in cues(segments)
    )
    return "\n".join(["WEBVTT\n", *blocks])


def as_text(segments: Iterable[SegmentTranscribed], missing: Sequence[Missing] = ()) -> str:
    """One line a segment, or a speaker's part of it, named where it changes; what is missing is said where it is."""
    gaps = [
        (gap.start_ms, f"[missing {_stamp(gap.start_ms, '.')} to {_stamp(gap.end_ms, '.')}: {gap.error}]")
        for gap in missing
    ]
    said, speaker = list[tuple[int, str]](), None
    for start_ms, who, spoken in (part for segment in segments for part in _parts(segment)):
        text = " ".join(_CONTROL.sub(" ", spoken).split())
        if text:
            said.append((start_ms, f"{who}: {text}" if who and who != speaker else text))
            speaker = who
    return "".join(f"{line}\n" for _, line in sorted(said + gaps, key=lambda item: item[0]))


def _parts(segment: SegmentTranscribed) -> Iterator[tuple[int, str | None, str]]:
    """A segment's (start, speaker, text), one for each stretch of words by the same speaker."""
    if len({word.speaker or segment.speaker for word in segment.words}) < 2:
        speaker = segment.words[0].speaker if segment.words else None
        yield segment.start_ms, speaker or segment.speaker, segment.text
        return
    space = "" if "".join(word.text for word in segment.words) in segment.text else " "
    for speaker, words in groupby(segment.words, key=lambda word: word.speaker or segment.speaker):
        part = list(words)
        yield part[0].start_ms, speaker, space.join(word.text for word in part)


def as_json(
    recording_id: str,
    revision: int,
    language: str,
    duration_ms: int | None,
    segments: Sequence[SegmentTranscribed],
    missing: Sequence[Missing] = (),
) -> dict[str, Any]:
    """The transcript as clients rely on it; the same shape is accepted for import."""
    items: list[Mapping[str, Any]] = [_segment(segment) for segment in segments]
    items += [
        {"index": gap.index, "start_ms": gap.start_ms, "end_ms": gap.end_ms, "missing": True, "error": gap.error}
        for gap in missing
    ]
    speakers = {word.speaker or segment.speaker for segment in segments for word in words_of(segment)}
    heard = next((segment.language for segment in segments if segment.language), "")
    spoken = next((segment.translated_from for segment in segments if segment.translated_from), "")
    return {
        "recording_id": recording_id,
        "revision": revision,
        "language": heard if spoken else language or heard,
        **({"translated_from": spoken} if spoken else {}),
        "duration_ms": duration_ms,
        "speakers": sorted(speaker for speaker in speakers if speaker),
        "segments": sorted(items, key=lambda item: (item["start_ms"], item["end_ms"])),
    }


def _segment(segment: SegmentTranscribed) -> dict[str, Any]:
    fields = {"index", "start_ms", "end_ms", "text", "speaker", "words", "engine"}
    return segment.model_dump(include=fields)


def _shown(cue: Cue) -> str:
    return "\n".join(cue.lines)


def _voice(cue: Cue) -> str:
    name = " ".join(re.sub(r"[<>&]|-{2,}", " ", _CONTROL.sub(" ", cue.speaker or "")).split())
    return f"<v {name}>" if name else ""


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _stamp(ms: int, point: str) -> str:
    seconds, thousandths = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{thousandths:03}"
