"""What of a question is worth looking for."""

from __future__ import annotations

import re
from dataclasses import dataclass

OPENINGS = """
what why how who whom whose when where which did do does is are was were can could should would will has have
summarize summarise describe explain list tell give find show
"""
"""A query that begins with one of these, or ends with a question mark, is a question; any other is wording."""
FRAME = f"""
{OPENINGS}
a about an and as at be been but by d for from had he her his i if in into it its ll me more my of on or our over re s
say she so some t than that the their them then there these they this those to ve we with you your
discuss discussed discussing discussion mention mentioned opinion opinions said says talk talked talking think thinks
thought summary group meeting participants team
"""
"""Those, other function words, and what questions about a conversation are put in: 'what did the team say about'."""
_OPENINGS, _FRAME = frozenset(OPENINGS.split()), frozenset(FRAME.split())
LEAST_LEFT = 2
"""Of a question that would be left with fewer words, every word counts."""


@dataclass(frozen=True)
class Question:
    """A query, taken apart.

    Attributes:
        text: as it was asked.
        words: those to look for, in order, in small letters: of a question those that carry it, else all.
        pairs: words that follow one another in ``words``.
    """

    text: str
    words: tuple[str, ...]

    @property
    def keywords(self) -> str:
        """What a keyword index is asked for."""
        return " ".join(self.words) or self.text

    @property
    def pairs(self) -> frozenset[tuple[str, str]]:
        """Words that are next to one another in ``words``."""
        return frozenset(zip(self.words, self.words[1:], strict=False))


def words_in(text: str) -> list[str]:
    """The words of a text, in small letters."""
    return re.findall(r"\w+", text.casefold())


def read(text: str) -> Question:
    """Take a query apart. The frame is English; a question in another language keeps nearly all its words."""
    words = words_in(text)
    asks = text.rstrip().endswith("?") or (bool(words) and words[0] in _OPENINGS)
    kept = [word for word in words if word not in _FRAME] if asks else words
    return Question(text, tuple(kept if len(kept) >= LEAST_LEFT else words))
