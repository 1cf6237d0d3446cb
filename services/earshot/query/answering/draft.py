"""An answer while it is written: what came of it so far, and what its reader is told as it comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from earshot.query.answering.checker import Checker, Sentence
from earshot.query.answering.citing import citation, first_citing, sentence_view
from earshot.query.answering.dates import Period
from earshot.query.answering.evidence import Evidence
from earshot.query.answering.messages import (
    AggregationView,
    AnswerView,
    CitationView,
    Outcome,
    PromptView,
    SentenceView,
    UsageView,
)
from earshot.query.messages import Filters


@dataclass(frozen=True)
class Began:
    """What was understood of the question, before anything is answered."""

    rewritten: str | None
    filters: Filters
    period: Period | None


@dataclass(frozen=True)
class Token:
    """A further piece of the text, checked."""

    text: str


@dataclass(frozen=True)
class Told:
    """A sentence has ended, with what it rests on."""

    sentence: SentenceView


@dataclass(frozen=True)
class Cited:
    """A number was cited for the first time."""

    citation: CitationView


@dataclass(frozen=True)
class Reset:
    """What was shown so far is void; the text begins anew."""

    reason: str


@dataclass(frozen=True)
class Done:
    """The whole answer."""

    answer: AnswerView


Event = Began | Token | Told | Cited | Reset | Done


@dataclass
class Draft:
    """One answer, as far as it is.

    Attributes:
        question: as it was understood; what citations are placed by.
        evidence: what may be cited.
        recordings: whose words may be in the text, cited or not.
    """

    question: str
    evidence: Sequence[Evidence] = ()
    outcome: Outcome = "answered"
    provider: str = "none"
    model: str = ""
    degraded: str | None = None
    prompt: PromptView | None = None
    usage: UsageView | None = None
    aggregation: AggregationView | None = None
    notices: list[str] = field(default_factory=list)
    recordings: set[str] = field(default_factory=set)
    checker: Checker = field(default_factory=lambda: Checker(()))

    def begin(self, evidence: Sequence[Evidence]) -> None:
        """Begin the text, which may cite this."""
        self.evidence, self.checker = evidence, Checker(evidence)
        self.recordings |= {each.recording.id for each in evidence}

    def write(self, text: str) -> Iterator[Event]:
        """A further piece of text."""
        yield from self._told(self.checker.feed(text))

    def end(self) -> Iterator[Event]:
        """The text has ended."""
        yield from self._told(self.checker.finish())

    def say(self, text: str) -> Iterator[Event]:
        """A whole text at once."""
        yield from self.write(text)
        yield from self.end()

    def _told(self, checked: Iterator[str | Sentence]) -> Iterator[Event]:
        before, text = set(self.checker.cited), ""
        for item in checked:
            if isinstance(item, str):
                text += item
                continue
            if text:
                yield Token(text)
                text = ""
            for number in item.citations:
                if number not in before:
                    before.add(number)
                    yield Cited(citation(self._of(number), item, self.question))
            yield Told(sentence_view(item))
        if text:
            yield Token(text)

    @property
    def text(self) -> str:
        """As far as it is."""
        return self.checker.text

    @property
    def citations(self) -> list[CitationView]:
        """What the numbers in the text stand for, in the order of their first use."""
        sentences = self.checker.sentences
        return [
            citation(self._of(number), first_citing(sentences, number), self.question) for number in self.checker.cited
        ]

    @property
    def sentences(self) -> list[SentenceView]:
        """The sentences of the text."""
        return [sentence_view(sentence) for sentence in self.checker.sentences]

    def complain(self) -> None:
        """Note what was dropped and marked."""
        if dropped := sorted(set(self.checker.dropped)):
            numbers = ", ".join(map(str, dropped[:20]))
            self.notices.append(f"Citations of what was not retrieved were dropped: {numbers}.")
        if count := len(self.checker.unfounded):
            what = "A quotation is" if count == 1 else f"{count} quotations are"
            self.notices.append(f"{what} not in the retrieved transcripts; marked in the text.")

    def _of(self, number: int) -> Evidence:
        return next(each for each in self.evidence if each.number == number)
