"""Questions that lean on the one before, made whole by rules: what the question leaves out is carried over. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from earshot.kernel import question as asked
from earshot.kernel.question import words_in
from earshot.query.answering.stems import stem

MOST_CARRIED = 12
"""Words; the question before may itself be one that was made whole."""
_PRONOUNS = frozenset(
    words_in("""
it its they them their theirs he him his she her hers this that these those there then so one ones same
""")
)
_OPENINGS = re.compile(
    r"^(?:and|but|or|also|so|then|what about|how about|what else|who else|why(?: not)?\??$|when\??$|where\??$|who\??$|"
    r"how\??$|really|more|tell me more|go on|continue|elaborate|explain|any others?|anything else|else|both|which)\b",
    re.IGNORECASE,
)
_FILLING = frozenset(
    words_in("""
else more tell about really continue elaborate others other anything same also detail details
""")
)


def leans(question: str) -> bool:
    """Whether a question cannot be understood without the one before."""
    words = words_in(question)
    if _OPENINGS.match(question.strip()):
        return True
    carrying = _carrying(question)
    return (bool(_PRONOUNS & set(words)) and len(carrying) <= 4) or len(words) <= 2


def whole(question: str, before: Sequence[str]) -> str:
    """The question with the words of those before that it leaves out; as it is when it needs none.

    Args:
        question: as asked.
        before: the questions before, as they were understood, the latest last.
    """
    if not before or not leans(question):
        return question
    own = {stem(word) for word in _carrying(question)}
    carried = [word for word in dict.fromkeys(_carrying(before[-1])) if stem(word) not in own][:MOST_CARRIED]
    if not carried:
        return question
    return f"{question.strip().rstrip('?.! ')} ({' '.join(carried)})?"


def _carrying(question: str) -> list[str]:
    """The words that carry a question, as they are written."""
    kept = set(asked.read(f"{question.rstrip('?')}?").words) - _PRONOUNS - _FILLING
    return [word for word in re.findall(r"\w+", question) if word.casefold() in kept and _counts(word)]


def _counts(word: str) -> bool:
    return word.casefold() not in _FRAME


_FRAME = frozenset(asked.FRAME.split())
