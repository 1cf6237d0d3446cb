"""From what Whisper aligned to words: inside their clip, in order, none of them lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from earshot.kernel.events import Word
from earshot.kernel.ports import Clip
from earshot.kernel.words import spread

# faster-whisper's defaults; the wide marks are those of Chinese and Japanese
_PREPENDED, _APPENDED = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001 - meant as they are
_ENDS = ".。!！?？"  # noqa: RUF001 - likewise
_TYPICAL_S = 0.7  # no more than that counts as the usual length of a word; Whisper's own
_STRETCH = 2.0  # times the usual length: a word that begins a sentence and is longer has a pause before it


@dataclass(frozen=True)
class TimedWord:
    """A word with its times, in seconds of the clip, and its probability. The space before it belongs to it."""

    word: str
    start: float
    end: float
    probability: float


def timed(alignment: Sequence[dict[str, Any]], offset_s: float) -> list[TimedWord]:
    """The words of faster-whisper's alignment of one window that starts at ``offset_s`` of its clip.

    Punctuation goes to its word. The first word of a sentence gets the pause before it from the alignment, and
    loses it here.
    """
    from faster_whisper.transcribe import merge_punctuations

    pieces = [dict(piece) for piece in alignment]
    merge_punctuations(pieces, _PREPENDED, _APPENDED)
    pieces = [piece for piece in pieces if piece["word"]]
    longest = _STRETCH * _usual(pieces)
    words, first = list[TimedWord](), True
    for piece in pieces:
        start, end = float(piece["start"]), float(piece["end"])
        if first and longest and end - start > longest:
            start = end - longest
        words.append(TimedWord(piece["word"], offset_s + start, offset_s + end, float(piece["probability"])))
        first = piece["word"].rstrip()[-1:] in _ENDS
    return words


def _usual(pieces: Iterable[Mapping[str, Any]]) -> float:
    lengths = [float(piece["end"] - piece["start"]) for piece in pieces if piece["end"] > piece["start"]]
    return min(_TYPICAL_S, median(lengths)) if lengths else 0.0


def words_of(heard: Iterable[Any], clip: Clip) -> list[Word]:
    """The words of a clip's windows, in order and inside the clip (measured times may overrun its end).

    The end of a text may not have been aligned; the words of such a window are spread over it, so that none is lost.
    """
    words, before = list[Word](), clip.start_ms
    for window in heard:
        measured = list(window.words or ())
        if "".join(word.word for word in measured).strip() == window.text.strip():
            found = [_word(word, clip, before) for word in measured if word.word.strip()]
        else:
            start, end = _within(window, clip, before)
            found = spread(window.text, start, end)
        for word in found:
            before = max(before, word.start_ms)
            words.append(word.model_copy(update={"start_ms": before, "end_ms": max(word.end_ms, before)}))
    return words


def _word(word: Any, clip: Clip, earliest_ms: int) -> Word:
    start, end = _within(word, clip, earliest_ms)
    confidence = min(max(float(word.probability), 0.0), 1.0)
    return Word(text=word.word.strip(), start_ms=start, end_ms=end, confidence=confidence, speaker=None)


def _within(said: Any, clip: Clip, earliest_ms: int) -> tuple[int, int]:
    """Start and end, from seconds of the clip to milliseconds of the recording, not outside the clip."""
    start = min(max(clip.start_ms + round(said.start * 1000), earliest_ms), clip.end_ms)
    return start, min(max(clip.start_ms + round(said.end * 1000), start), clip.end_ms)
