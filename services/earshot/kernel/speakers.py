"""Who says which word: turns, found in the whole recording, laid over words and passages. Pure.

A turn belongs to the audio, so it serves every transcript of its own revision and of later ones that have no turns
of their own.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence

from earshot.kernel.events import SegmentTranscribed, SpeakersFound, Turn, Word
from earshot.kernel.words import spread

TOLERANCE_MS = 500
"""A word outside every turn belongs to the nearest within this; engines and diarizers disagree about edges."""
LEAST_MS = 300
"""Who speaks for less of a passage, about the length of a word, is not one of its speakers."""


class Timeline:
    """Who speaks when. Turns may overlap and come in any order.

    Args:
        turns: of one recording.
    """

    def __init__(self, turns: Iterable[Turn]) -> None:
        real = [turn for turn in turns if turn.end_ms > turn.start_ms]
        self._edges = sorted({edge for turn in real for edge in (turn.start_ms, turn.end_ms)})
        self._active = _sweep(real, self._edges)

    def at(self, ms: float, tolerance_ms: int = TOLERANCE_MS) -> str | None:
        """Who speaks at a moment; of several the one who began last; of none the nearest within the tolerance."""
        place = bisect_right(self._edges, ms) - 1
        if place >= 0 and self._active[place]:
            return self._active[place][0]
        near: list[tuple[float, str]] = []
        if place > 0:
            near.append((ms - self._edges[place], self._active[place - 1][0]))
        if place + 1 < len(self._edges):
            near.append((self._edges[place + 1] - ms, self._active[place + 1][0]))
        distance, speaker = min(near, key=lambda item: item[0], default=(tolerance_ms + 1, ""))
        return speaker if distance <= tolerance_ms else None

    def between(self, start_ms: int, end_ms: int) -> tuple[str, ...]:
        """Who speaks in a stretch, in order of their first word; whoever is at its middle when all are brief."""
        spoken: dict[str, int] = {}
        for place in range(max(bisect_right(self._edges, start_ms) - 1, 0), len(self._edges) - 1):
            if self._edges[place] >= end_ms:
                break
            length = min(self._edges[place + 1], end_ms) - max(self._edges[place], start_ms)
            for speaker in reversed(self._active[place]):  # who began first comes first
                spoken[speaker] = spoken.get(speaker, 0) + length
        heard = tuple(speaker for speaker, length in spoken.items() if length >= LEAST_MS)
        middle = self.at((start_ms + end_ms) / 2)
        return heard or ((middle,) if middle else ())


def _sweep(turns: Sequence[Turn], edges: Sequence[int]) -> list[tuple[str, ...]]:
    """For each stretch between two edges who speaks in it, who began last first; nobody after the last edge."""
    begin: dict[int, list[Turn]] = {}
    end: dict[int, list[Turn]] = {}
    for turn in turns:
        begin.setdefault(turn.start_ms, []).append(turn)
        end.setdefault(turn.end_ms, []).append(turn)
    open_turns: dict[tuple[str, int], int] = {}
    active = []
    for edge in edges:
        for turn in end.get(edge, ()):
            open_turns[turn.speaker, turn.start_ms] -= 1
            if not open_turns[turn.speaker, turn.start_ms]:
                del open_turns[turn.speaker, turn.start_ms]
        for turn in begin.get(edge, ()):
            open_turns[turn.speaker, edge] = open_turns.get((turn.speaker, edge), 0) + 1
        latest = sorted(open_turns, key=lambda item: (-item[1], item[0]))
        active.append(tuple(dict.fromkeys(speaker for speaker, _ in latest)))
    return active


class Voices:
    """The turns of a recording by revision, and the names that were given to their labels.

    Args:
        found: of any revisions, in any order.
        names: by label.
    """

    def __init__(self, found: Iterable[SpeakersFound] = (), names: Mapping[str, str] | None = None) -> None:
        self._found = sorted(found, key=lambda event: event.revision)
        self._names = dict(names or {})
        self._timelines: dict[tuple[int, bool], Timeline] = {}

    @property
    def labels(self) -> list[str]:
        """Every label of every turn, sorted."""
        return sorted({turn.speaker for event in self._found for turn in event.turns})

    @property
    def found(self) -> tuple[SpeakersFound, ...]:
        """The turns, lowest revision first."""
        return tuple(self._found)

    def of(self, revision: int) -> SpeakersFound | None:
        """The turns that serve a revision: its own, else those of the next lower one."""
        return next((event for event in reversed(self._found) if event.revision <= revision), None)

    def name(self, label: str) -> str | None:
        """The name somebody gave a label; ``None`` when nobody did."""
        return self._names.get(label)

    def named(self, labels: Iterable[str]) -> list[str]:
        """What speakers are called, each once: the given name, else the label."""
        return list(dict.fromkeys(self._names.get(label, label) for label in labels))

    def who(self, revision: int, start_ms: int, end_ms: int, otherwise: Sequence[str]) -> tuple[str, ...]:
        """The labels of those who speak in a passage; ``otherwise`` when nobody looked for speakers."""
        event = self.of(revision)
        if event is None:
            return tuple(otherwise)
        return self._timeline(event, words=False).between(start_ms, end_ms)

    def label(self, segment: SegmentTranscribed) -> SegmentTranscribed:
        """A segment whose words say who spoke them, by label; as it is when nobody looked for speakers."""
        event = self.of(segment.revision)
        if event is None:
            return segment
        timeline = self._timeline(event, words=True)
        words = segment.words or spread(segment.text, segment.start_ms, segment.end_ms)
        labels = [timeline.at((word.start_ms + word.end_ms) / 2) for word in words]
        only = set(labels)
        heard = segment.words and [_said_by(word, label) for word, label in zip(words, labels, strict=True)]
        return segment.model_copy(update={"words": heard, "speaker": only.pop() if len(only) == 1 else None})

    def shown(self, segment: SegmentTranscribed) -> SegmentTranscribed:
        """As :meth:`label`, with names in place of labels: for people."""
        labelled = self.label(segment)
        if not self._names:
            return labelled
        words = [_said_by(word, self._names.get(word.speaker or "", word.speaker)) for word in labelled.words]
        speaker = self._names.get(labelled.speaker or "", labelled.speaker)
        return labelled.model_copy(update={"words": words, "speaker": speaker})

    def _timeline(self, event: SpeakersFound, *, words: bool) -> Timeline:
        key = (event.revision, words)
        if key not in self._timelines:
            self._timelines[key] = Timeline((event.exclusive or event.turns) if words else event.turns)
        return self._timelines[key]


def _said_by(word: Word, speaker: str | None) -> Word:
    return word if word.speaker == speaker else word.model_copy(update={"speaker": speaker})
