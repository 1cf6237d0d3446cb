"""Words without their endings: English, light, and the same on every store."""

from __future__ import annotations

from earshot.kernel.question import FRAME, words_in

_FRAME = frozenset(FRAME.split())
_LEAST = 3
"""Letters that must be left."""


def stem(word: str) -> str:
    """A word without plural, -ing and -ed: "meetings" and "meeting" are alike, "ship", "shipped" and "shipping" too."""
    word = _bare(word.casefold())
    return word[:-1] if word.endswith("e") and len(word) > _LEAST else word


def _bare(word: str) -> str:
    if word.endswith("ies") and len(word) > _LEAST + 2:
        return word[:-3] + "y"
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= _LEAST:
            return _undoubled(word[: -len(ending)])
    if word.endswith("es") and len(word) - 2 >= _LEAST and word[-3] in "sxzh":
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > _LEAST:
        return word[:-1]
    return word


def _undoubled(word: str) -> str:
    return word[:-1] if len(word) > _LEAST and word[-1] == word[-2] and word[-1] not in "ls" else word


def carrying(text: str) -> list[str]:
    """The stems that carry a text: without the words that every question has; all when nothing else is left."""
    words = words_in(text)
    return [stem(word) for word in words if word not in _FRAME] or [stem(word) for word in words]


def variants(word: str) -> list[str]:
    """Spellings to ask a keyword index for that knows no stems."""
    root = stem(word)
    doubled = root + root[-1:]
    forms = [root + end for end in ("", "e", "s", "es", "ed", "ing")] + [doubled + end for end in ("ed", "ing")]
    if root.endswith("y"):
        forms.append(root[:-1] + "ies")
    return list(dict.fromkeys((word.casefold(), *forms)))
