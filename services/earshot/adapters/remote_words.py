"""What a transcription server answers, checked, and as words of a recording. Whatever is in it may be hostile."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from earshot.kernel.events import Word
from earshot.kernel.ports import Clip
from earshot.kernel.words import spread

MAX_TEXT = 20_000
"""Characters of one segment; what is said in a minute has about 1,000."""
MAX_WORDS = 1000
"""Words of one segment, likewise; what is done with them takes time with their square."""
Seconds = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
_EDGES = re.compile(r"^\W+|\W+$")


def _few_words(text: str) -> str:
    if len(text.split()) > MAX_WORDS:
        raise ValueError(f"more than {MAX_WORDS} words")
    return text


class Said(BaseModel):
    """One word, with seconds from the clip's start. Some servers call its text ``text``, some ``word``."""

    model_config = ConfigDict(extra="ignore")

    word: Text = ""
    text: Text = ""
    start: Seconds = 0.0
    end: Seconds = 0.0
    probability: Seconds | None = None


class Stretch(BaseModel):
    """A segment as servers mean it; some keep its words inside."""

    model_config = ConfigDict(extra="ignore")

    text: Text = ""
    start: Seconds = 0.0
    end: Seconds = 0.0
    words: list[Said] | None = Field(None, max_length=MAX_WORDS)


class Answer(BaseModel):
    """``verbose_json``, as far as it is needed."""

    model_config = ConfigDict(extra="ignore")

    text: Annotated[Text, AfterValidator(_few_words)]
    language: Annotated[str, StringConstraints(max_length=100)] | None = None
    words: list[Said] | None = Field(None, max_length=MAX_WORDS)
    segments: list[Stretch] | None = Field(None, max_length=MAX_WORDS)


def text_of(answer: Answer) -> str:
    """The text in one line, without what no text has: control characters, among them those that databases refuse."""
    return " ".join(_clean(answer.text).split())


def words_of(answer: Answer, clip: Clip) -> list[Word]:
    """Every word of the text, in order, inside the clip, with times counted from the recording's start.

    The words that servers measure often lack the text's punctuation, or write numbers another way. So the text's own
    words are taken, with the times of those they match; what matches none is spread over the gap it fills. Without
    any measured word the segments' times are used, without those the clip's.
    """
    texts = text_of(answer).split()
    measured = list(_measured(answer, clip)) or list(_by_segment(answer, clip))
    same = SequenceMatcher(
        None, [_bare(text) for text in texts], [_bare(word.text) for word in measured], autojunk=False
    )
    words: list[Word] = []
    done, before = 0, clip.start_ms
    for block in same.get_matching_blocks():  # ends with an empty one
        matched = measured[block.b : block.b + block.size]
        until = matched[0].start_ms if matched else clip.end_ms
        words += spread(" ".join(texts[done : block.a]), before, max(before, until))
        for text, word in zip(texts[block.a : block.a + block.size], matched, strict=True):
            words.append(word.model_copy(update={"text": text}))
            before = word.end_ms
        done = block.a + block.size
    return words


def _measured(answer: Answer, clip: Clip) -> Iterator[Word]:
    """The words that the server has times for, in order and inside the clip."""
    said: Sequence[Said] = answer.words or [word for part in answer.segments or () for word in part.words or ()]
    earliest = clip.start_ms
    for item in said[:MAX_WORDS]:
        text = "".join(_clean(item.word or item.text).split())
        if not text:
            continue
        start = _place(item.start, clip, earliest)
        sure = None if item.probability is None else min(max(item.probability, 0.0), 1.0)
        end = _place(item.end, clip, start)
        yield Word(text=text, start_ms=start, end_ms=end, confidence=sure, speaker=None)
        earliest = end


def _by_segment(answer: Answer, clip: Clip) -> Iterator[Word]:
    """Words spread over the segments that the server has times for."""
    earliest = clip.start_ms
    for part in answer.segments or ():
        start = _place(part.start, clip, earliest)
        earliest = _place(part.end, clip, start)
        yield from spread(_clean(part.text), start, earliest)


def _place(seconds: float, clip: Clip, earliest_ms: int) -> int:
    """Milliseconds of the recording, inside the clip, not before what was said before."""
    inside = min(max(seconds, 0.0), (clip.end_ms - clip.start_ms) / 1000)
    return max(clip.start_ms + round(inside * 1000), earliest_ms)


def _clean(text: str) -> str:
    return "".join(" " if unicodedata.category(character) in ("Cc", "Cs") else character for character in text)


def _bare(word: str) -> str:
    """A word as it is compared: without case and punctuation around it."""
    return _EDGES.sub("", word).casefold()
