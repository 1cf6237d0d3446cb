"""What an answer may rest on: the passages that were found, numbered, with their neighbours, word by word."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

from earshot.kernel.events import SegmentTranscribed, Word
from earshot.kernel.ports import IndexedPassage, Recording, ScoredPassage
from earshot.kernel.ports.excerpts import Excerpt
from earshot.kernel.question import words_in
from earshot.kernel.speakers import Voices
from earshot.kernel.words import spread
from earshot.query.context import words_of
from earshot.query.hits import NOBODY, Known

CONTEXT_WORDS = 40
"""Of the neighbours, on either side: what makes a passage understood, about a quarter of a minute."""
BYTES_A_TOKEN = 4
"""English; other languages have fewer, and budgets are not that exact."""
TAG_TOKENS = 40
"""What stands around an excerpt in a prompt."""


@dataclass(frozen=True)
class Evidence:
    """A passage with its neighbours.

    Attributes:
        number: by which an answer cites it, from 1.
        words: of the neighbours and the passage, each with its time and the name of who says it.
        first, last: the passage's own words, half-open.
        speakers: who speaks in the passage, by name.
    """

    number: int
    recording: Recording
    passage: IndexedPassage
    words: tuple[Word, ...]
    first: int
    last: int
    speakers: tuple[str, ...]

    @property
    def own(self) -> tuple[Word, ...]:
        """The words of the passage itself."""
        return self.words[self.first : self.last]

    @property
    def turns(self) -> Iterator[tuple[str | None, str]]:
        """Who says what, in order, neighbours included."""
        for speaker, said in groupby(self.words, key=lambda word: word.speaker):
            yield speaker, " ".join(word.text for word in said)

    @cached_property
    def _tokens(self) -> tuple[list[str], list[int]]:
        """Letters and digits of every word, and which word each is of: apostrophes and hyphens part a word."""
        tokens, places = list[str](), list[int]()
        for place, word in enumerate(self.words):
            for token in words_in(word.text):
                tokens.append(token)
                places.append(place)
        return tokens, places

    def find(self, wording: str) -> tuple[int, int] | None:
        """The words, half-open, that are these in this order, whatever their case and punctuation."""
        wanted = words_in(wording)
        tokens, places = self._tokens
        if not wanted:
            return None
        if any(ord(letter) >= 0x2E80 for letter in wording):  # scripts without spaces: letter by letter
            return (self.first, self.last) if "".join(wanted) in "".join(tokens) else None
        for at in range(len(tokens) - len(wanted) + 1):
            if tokens[at] == wanted[0] and tokens[at : at + len(wanted)] == wanted:
                return places[at], places[at + len(wanted) - 1] + 1
        return None


def tokens_of(text: str) -> int:
    """About how many tokens a text has for a model."""
    return -(-len(text.encode()) // BYTES_A_TOKEN)


async def gather(found: Sequence[ScoredPassage], tenant: str, library: Known, budget: int | None) -> list[Evidence]:
    """Number what was found, best first, as far as the budget goes; what is left of it buys neighbours, best first.

    Args:
        found: through the gate.
        tenant: whose.
        library: where the words are. A recording that is erased by now is left out.
        budget: in tokens; ``None``: whatever was found, without neighbours.
    """
    wanted: dict[str, set[int]] = {}
    for hit in found:
        index = hit.passage.segment_index
        wanted.setdefault(hit.passage.recording_id, set()).update(at for at in range(index - 1, index + 2) if at >= 0)
    excerpts, voices = await asyncio.gather(library.excerpts(tenant, wanted), library.voices(tenant, wanted))
    return await asyncio.to_thread(_gathered, [hit.passage for hit in found], excerpts, voices, budget)


def _gathered(
    passages: Sequence[IndexedPassage],
    excerpts: Mapping[str, Excerpt],
    voices: Mapping[str, Voices],
    budget: int | None,
) -> list[Evidence]:
    taken: list[Evidence] = []
    left = math.inf if budget is None else budget
    for passage in passages:
        excerpt = excerpts.get(passage.recording_id)
        cost = tokens_of(passage.text) + TAG_TOKENS
        if excerpt is None or (cost > left and taken):
            continue
        left -= cost
        taken.append(_evidence(len(taken) + 1, passage, excerpt, voices.get(passage.recording_id, NOBODY)))
    return taken if budget is None else _with_neighbours(taken, excerpts, voices, left)


def _with_neighbours(
    taken: Sequence[Evidence], excerpts: Mapping[str, Excerpt], voices: Mapping[str, Voices], budget: float
) -> list[Evidence]:
    shown = {(each.recording.id, word.start_ms) for each in taken for word in each.own}
    widened = []
    for each in taken:
        before, after = _neighbours(each, excerpts[each.recording.id], voices.get(each.recording.id, NOBODY), shown)
        for words, ahead in ((before, True), (after, False)):
            cost = tokens_of(" ".join(word.text for word in words))
            if words and cost <= budget:
                budget -= cost
                each = _widened(each, words, ahead=ahead)  # noqa: PLW2901 - it grows on both sides
                shown |= {(each.recording.id, word.start_ms) for word in words}
        widened.append(each)
    return widened


def _evidence(number: int, passage: IndexedPassage, excerpt: Excerpt, voices: Voices) -> Evidence:
    segment = excerpt.segments.get(passage.segment_index)
    own = _shown(words_of(passage, segment), segment, voices) if segment else ()
    if not own:
        speaker = passage.speakers[0] if len(passage.speakers) == 1 else None
        named = voices.named([speaker])[0] if speaker else None
        own = tuple(spread(passage.text, passage.start_ms, passage.end_ms, named))
    speakers = tuple(voices.named(passage.speakers)) or tuple(dict.fromkeys(w.speaker for w in own if w.speaker))
    return Evidence(number, excerpt.recording, passage, own, 0, len(own), speakers)


def _neighbours(
    each: Evidence, excerpt: Excerpt, voices: Voices, shown: Collection[tuple[str, int]]
) -> tuple[tuple[Word, ...], tuple[Word, ...]]:
    """The words before and after a passage that no excerpt shows yet, up to the next one that does."""
    index, words = each.passage.segment_index, list[Word]()
    for at in range(index - 1, index + 2):
        segment = excerpt.segments.get(at)
        if segment is not None and segment.revision == each.passage.revision:
            timed = segment.words or spread(segment.text, segment.start_ms, segment.end_ms)
            words += _shown(timed, segment, voices)
    before = [word for word in words if word.end_ms <= each.passage.start_ms][-CONTEXT_WORDS:]
    after = [word for word in words if word.start_ms >= each.passage.end_ms][:CONTEXT_WORDS]

    def free(side: Iterable[Word]) -> list[Word]:
        kept = []
        for word in side:
            if (each.recording.id, word.start_ms) in shown:
                break
            kept.append(word)
        return kept

    return tuple(free(reversed(before))[::-1]), tuple(free(after))


def _shown(words: Sequence[Word], segment: SegmentTranscribed, voices: Voices) -> tuple[Word, ...]:
    """The words with the names of their speakers."""
    named = voices.shown(segment.model_copy(update={"words": list(words)}))
    return tuple(word if word.speaker else word.model_copy(update={"speaker": named.speaker}) for word in named.words)


def _widened(each: Evidence, words: tuple[Word, ...], *, ahead: bool) -> Evidence:
    if not ahead:
        return replace(each, words=each.words + words)
    return replace(each, words=words + each.words, first=each.first + len(words), last=each.last + len(words))
