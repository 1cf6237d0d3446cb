"""Text that people send, checked or made fit to be shown on one line."""

from __future__ import annotations

import re
import unicodedata

_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode's categories of control characters, surrogates, and separators of lines and paragraphs."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def printable(text: str) -> str:
    """The text itself. Raises ``ValueError`` when it has control characters, surrogates or line separators."""
    if any(unicodedata.category(character) in _UNPRINTABLE for character in text):
        raise ValueError("may not contain control characters")
    return text


def one_line(text: str) -> str:
    """The text with a single space wherever there was white space or what cannot be printed."""
    return " ".join(_CONTROL.sub(" ", text).split())
