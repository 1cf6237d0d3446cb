"""An answer, checked while it comes: what it cites was retrieved, what it quotes was said.

A citation of a number that was not retrieved is dropped. A quotation that no excerpt has is marked. Links lose their
targets: only what was retrieved may be pointed at. Text is held back for a few characters at most, while it may still
become a citation.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

from earshot.query.answering.evidence import Evidence

MARK = " [not in the transcript]"
"""What follows a quotation that nobody said."""
MOST_HELD = 60
"""Characters that a citation may have."""
MOST_LINK = 2000
_CITED = re.compile(
    r"[\[【]\s*\^?(?:(?:excerpt|passage|source)s?\s*)?(\d{1,4}(?:\s*(?:[,;&\u2013-]|and)\s*\d{1,4})*)\s*[\]】]",
    re.IGNORECASE,
)
_CITING = re.compile(r"[\[【][\s\w^,;&\u2013-]*")
_LINK = re.compile(r"\([^()\s]*(?:\)|(?=\s))")
_LINKING = re.compile(r"\([^()\s]*")
_ABBREVIATED = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|prof|st|vs|no|approx|jr|sr|e\.g|i\.e)|(?:^|\s)[A-Za-z])\.$", re.IGNORECASE
)
_OPENS = {'"': '"', "“": "”", "„": "“”", "«": "»"}
_ENDS = ".?!…。？！"  # noqa: RUF001 - full stops of scripts that write them so


@dataclass(frozen=True)
class Quotation:
    """Words in quotation marks, and the numbers of the excerpts that have them; none: nobody said so."""

    text: str
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Sentence:
    """A sentence of an answer.

    Attributes:
        text: with its citations.
        start, end: where it stands in the answer, in characters, half-open.
        citations: the numbers it rests on, each once.
        quotations: what it quotes.
    """

    text: str
    start: int
    end: int
    citations: tuple[int, ...]
    quotations: tuple[Quotation, ...]


@dataclass
class _Open:
    """The sentence that is being written."""

    start: int = 0
    text: str = ""
    citations: list[int] = field(default_factory=list)
    quotations: list[Quotation] = field(default_factory=list)
    quote: tuple[str, int] | None = None
    ended: bool = False


class Checker:
    """Checks one answer. Feed it pieces as they come; it gives what may be shown, and sentences as they end.

    Args:
        evidence: what was retrieved.
    """

    def __init__(self, evidence: Sequence[Evidence]) -> None:
        self._evidence = {each.number: each for each in evidence}
        self._pending, self._space = "", ""
        self._after_link = self._after_dropped = False
        self._open = _Open()
        self._length = 0
        self._shown: list[str] = []
        self.sentences: list[Sentence] = []
        self.dropped: list[int] = []

    @property
    def text(self) -> str:
        """What may be shown of the answer so far."""
        return "".join(self._shown)

    @property
    def cited(self) -> list[int]:
        """The numbers that the answer rests on so far, in the order of their first use."""
        return list(dict.fromkeys(number for sentence in self.sentences for number in sentence.citations))

    @property
    def unfounded(self) -> list[str]:
        """Quotations that nobody said."""
        return [quote.text for sentence in self.sentences for quote in sentence.quotations if not quote.numbers]

    def feed(self, text: str) -> Iterator[str | Sentence]:
        """What a further piece makes certain."""
        self._pending += text
        yield from self._read(at_end=False)

    def finish(self) -> Iterator[str | Sentence]:
        """What is left when the answer has ended."""
        yield from self._read(at_end=True)
        self._space = ""
        yield from self._close()

    def _read(self, *, at_end: bool) -> Iterator[str | Sentence]:
        while self._pending:
            taken = yield from self._step(at_end=at_end)
            if not taken:
                return
            self._pending = self._pending[taken:]

    def _step(self, *, at_end: bool) -> Generator[str | Sentence, None, int]:
        """Take one thing from what is pending; how many characters it had, 0 when more are needed to tell."""
        first = self._pending[0]
        if first in "[【":
            if match := _CITED.match(self._pending):
                yield from self._cite(match.group(1))
                return match.end()
            match = _CITING.match(self._pending)
            if match and match.end() == len(self._pending) <= MOST_HELD and not at_end:
                return 0
        if first == "(" and self._after_link:
            match = _LINK.match(self._pending)
            held = _LINKING.match(self._pending)
            if match is None and held and held.end() == len(self._pending) <= MOST_LINK and not at_end:
                return 0
            self._after_link = False
            return match.end() if match else len(held.group()) if held else 1
        yield from self._character(first)
        return 1

    def _cite(self, said: str) -> Iterator[str | Sentence]:
        numbers = _numbers(said)
        known = [number for number in numbers if number in self._evidence]
        self.dropped += [number for number in numbers if number not in self._evidence]
        self._after_link, self._after_dropped = True, not known
        for number in known:
            if number not in self._open.citations:
                self._open.citations.append(number)
        if known:
            yield self._show("".join(f"[{number}]" for number in known))

    def _character(self, letter: str) -> Iterator[str | Sentence]:
        self._after_link = letter == "]"
        if letter.isspace():
            self._space += letter
            text = self._open.text
            if letter == "\n":
                self._open.quote = None
            if letter == "\n" or (text and self._open.quote is None and _ends(text)):
                self._open.ended = True
            return
        if self._open.ended and (self._open.text.strip() or self._open.citations):
            yield from self._close()
        if self._after_dropped and letter in ".,;:!?":
            self._space = ""
        self._after_dropped = False
        yield self._show(letter)
        yield from self._quote(letter)

    def _quote(self, letter: str) -> Iterator[str]:
        """Follow quotation marks; what stood between two of them is looked up."""
        text = self._open.text
        if self._open.quote is None:
            before = text[-2:-1]
            if letter in _OPENS and not (letter == '"' and (before.isalnum())):
                self._open.quote = (_OPENS[letter], len(text))
            return
        closing, start = self._open.quote
        if letter not in closing:
            return
        self._open.quote = None
        quoted = text[start:-1].strip()
        if not any(sign.isalnum() for sign in quoted):
            return
        numbers = tuple(number for number, each in self._evidence.items() if said(each, quoted))
        self._open.quotations.append(Quotation(quoted, numbers))
        if not numbers:
            yield self._show(MARK)

    def _show(self, text: str) -> str:
        """Put text into the sentence, after the white space that waits for it."""
        if not self._length:
            self._space = ""
        if not self._open.text and not self._open.citations:
            self._open.start = self._length + len(self._space)
        shown = self._space + text
        self._open.text += shown if self._open.text else text
        self._space = ""
        self._length += len(shown)
        self._shown.append(shown)
        return shown

    def _close(self) -> Iterator[Sentence]:
        now, self._open = self._open, _Open()
        if not now.text.strip():
            return
        sentence = Sentence(now.text, now.start, self._length, tuple(now.citations), tuple(now.quotations))
        self.sentences.append(sentence)
        yield sentence


def said(each: Evidence, quoted: str) -> bool:
    """Whether an excerpt has these words; around an ellipsis, the parts in their order."""
    after = 0
    parts = [part for part in re.split(r"\.{3,}|…|\[\.*\]|\(\.*\)", quoted) if any(sign.isalnum() for sign in part)]
    for part in parts:
        place = each.find(part)
        if place is None or place[0] < after:
            return False
        after = place[1]
    return bool(parts)


def _numbers(said: str) -> list[int]:
    """The numbers of a citation: ``1``, ``1, 2``, ``1-3``."""
    found: list[int] = []
    for part in re.split(r"[,;&]|and", said):
        ends = [int(number) for number in re.findall(r"\d+", part)]
        found += range(ends[0], min(ends[1], ends[0] + 20) + 1) if len(ends) == 2 and ends[0] < ends[1] else ends
    return found


def _ends(text: str) -> bool:
    bare = re.sub(r"(?:\s*\[\d+\])+$", "", text).rstrip("\"”“»')*_")
    return bool(bare) and bare[-1] in _ENDS and not _ABBREVIATED.search(bare)


_MARKS = str.maketrans(dict.fromkeys('"“”„«»', "'") | {"[": "(", "]": ")", "【": "(", "】": ")"})


def unmarked(text: str) -> str:
    """A text on one line, without anything that would end a quotation or pass for a citation."""
    return " ".join(text.translate(_MARKS).split())
