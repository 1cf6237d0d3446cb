"""Corrections of what was understood: new words in old segments, with times that still hold. Pure.

A word that stays keeps its time. As many new words as they replace take those words' times one by one; any other number
shares the time of what it replaces by length, or the pause into which it is put.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from earshot.kernel.errors import Permanent
from earshot.kernel.events import SegmentTranscribed, Word
from earshot.kernel.words import spread

MOST_COMPARED = 250_000
"""Old words times new words; 30 s of speech have about a hundred. More are not compared, they share the time."""
Step = tuple[bool, int, int, int, int]
"""Whether the words stay; where they are among the old ones (from, to), and among the new ones (from, to)."""


@dataclass(frozen=True)
class Correction:
    """What a segment says from now on: a text, or words with their times, of which exactly one is given.

    Attributes:
        text: the times of its words are found by comparing them with those that were there.
        words: in order, inside the segment; who speaks is taken from the words that were there.
    """

    text: str | None = None
    words: tuple[Word, ...] | None = None


def revision_changed(now: int) -> Permanent:
    """Somebody else was faster (412)."""
    error = Permanent(
        f"The words are those of revision {now} by now.",
        next_step="Read them again, and send the correction with the new ETag.",
        code="revision_changed",
    )
    error.status = 412
    return error


def unknown_revision(revision: int) -> Permanent:
    """There is no such revision, or its words were never kept (404)."""
    error = Permanent(
        f"Revision {revision} is not kept.", next_step="GET …/revisions lists those that are.", code="unknown_revision"
    )
    error.status = 404
    return error


def corrected(
    segments: Sequence[SegmentTranscribed], corrections: Mapping[int, Correction]
) -> list[SegmentTranscribed]:
    """The segments that the corrections change, as they are from now on; one that says the same already is left out.

    Raises:
        Permanent: code ``unknown_segment``: there is no segment of that index; ``bad_words``: words out of order or
            outside their segment.
    """
    by_index = {segment.index: segment for segment in segments}
    if unknown := sorted(set(corrections) - set(by_index)):
        raise Permanent(
            f"There is no segment {', '.join(map(str, unknown[:20]))}.",
            next_step="GET …/transcript lists them with their `index`.",
            code="unknown_segment",
        )
    made = [(by_index[index], _corrected(by_index[index], corrections[index])) for index in sorted(corrections)]
    return [after for before, after in made if after != before]


def _corrected(segment: SegmentTranscribed, correction: Correction) -> SegmentTranscribed:
    spaced = _spaced(segment)
    if correction.words is not None:
        words = _said(segment, correction.words)
        text = (" " if spaced else "").join(word.text for word in words)
        return segment.model_copy(update={"words": words, "text": text})
    text = correction.text or ""
    if text == " ".join(segment.text.split()):
        return segment
    words = realigned(segment.words, text, segment.start_ms, segment.end_ms, spaced=spaced) if segment.words else []
    return segment.model_copy(update={"words": words, "text": text})


def _spaced(segment: SegmentTranscribed) -> bool:
    """Whether the text is of a script that puts spaces between words."""
    return len(segment.words) < 2 or 2 * len(segment.text.split()) >= len(segment.words)


def _said(segment: SegmentTranscribed, words: Sequence[Word]) -> list[Word]:
    """Words as they were sent, said by whoever said what was there. Raises ``Permanent`` (``bad_words``)."""
    edges = [segment.start_ms, *(word.start_ms for word in words)]
    inside = all(word.start_ms <= word.end_ms <= segment.end_ms for word in words)
    if not inside or edges != sorted(edges):
        raise Permanent(
            f"The words of segment {segment.index} are not in order, or not between {segment.start_ms} and "
            f"{segment.end_ms} ms.",
            next_step="Send them in order, inside their segment, or send `text` alone.",
            code="bad_words",
        )
    return [word.model_copy(update={"speaker": _speaker(segment.words, word)}) for word in words]


def _speaker(before: Sequence[Word], word: Word) -> str | None:
    """Who says the old word that is nearest to the middle of a new one."""
    middle = word.start_ms + word.end_ms
    nearest = min(before, key=lambda old: abs(old.start_ms + old.end_ms - middle), default=None)
    return nearest.speaker if nearest else None


def realigned(before: Sequence[Word], text: str, start_ms: int, end_ms: int, *, spaced: bool = True) -> list[Word]:
    """The words of a new text, their times from those of the old words.

    Args:
        before: the old words, in order.
        text: the new text.
        start_ms: where the segment starts.
        end_ms: where it ends.
        spaced: words have spaces between them; otherwise each character is a word.
    """
    texts = text.split() if spaced else [character for character in text if not character.isspace()]
    old = list(before) if spaced else [letter for word in before for letter in _letters(word)]
    words = list[Word]()
    for stays, first, last, begin, end in _steps([_key(word.text) for word in old], [_key(item) for item in texts]):
        here = texts[begin:end]
        if stays:
            words += [word.model_copy(update={"text": item}) for word, item in zip(old[first:last], here, strict=True)]
        elif here:
            words += _replaced(old, first, last, here, (start_ms, end_ms))
    return words


def _letters(word: Word) -> Iterator[Word]:
    letters = [letter for letter in word.text if not letter.isspace()]
    for part in spread(" ".join(letters), word.start_ms, word.end_ms, word.speaker):
        yield part.model_copy(update={"confidence": word.confidence})


def _replaced(
    old: Sequence[Word], first: int, last: int, texts: Sequence[str], bounds: tuple[int, int]
) -> Iterable[Word]:
    """New words in the place of the old ones from ``first`` to ``last``; nobody measured them: no confidence."""
    if last - first == len(texts):
        same = zip(old[first:last], texts, strict=True)
        return [word.model_copy(update={"text": text, "confidence": None}) for word, text in same]
    if first < last:
        start, end = old[first].start_ms, max(word.end_ms for word in old[first:last])
    else:
        start = old[first - 1].end_ms if first else bounds[0]
        end = old[first].start_ms if first < len(old) else bounds[1]
    beside = old[first] if first < last else old[first - 1] if first else old[0] if old else None
    return spread(" ".join(texts), start, max(start, end), beside.speaker if beside else None)


def _key(text: str) -> str:
    """What makes two spellings the same word: neither case nor punctuation."""
    return "".join(letter for letter in text.casefold() if letter.isalnum()) or text.strip()


def _steps(old: Sequence[str], new: Sequence[str]) -> Iterator[Step]:
    """How the old words become the new ones, in order."""
    shorter = min(len(old), len(new))
    head = next((at for at in range(shorter) if old[at] != new[at]), shorter)
    left = shorter - head
    tail = next((at for at in range(left) if old[-1 - at] != new[-1 - at]), left)
    old_end, new_end = len(old) - tail, len(new) - tail
    yield True, 0, head, 0, head
    if (old_end - head) * (new_end - head) > MOST_COMPARED:
        yield False, head, old_end, head, new_end
    else:
        matcher = SequenceMatcher(None, old[head:old_end], new[head:new_end], autojunk=False)
        for tag, first, last, begin, end in matcher.get_opcodes():
            yield tag == "equal", first + head, last + head, begin + head, end + head
    yield True, old_end, len(old), new_end, len(new)
