"""Word times where nobody measured any: spread evenly by length over the time the text took."""

from __future__ import annotations

from earshot.kernel.events import Word


def spread(text: str, start_ms: int, end_ms: int, speaker: str | None = None) -> list[Word]:
    """The words of a text, each with a share of ``[start_ms, end_ms)`` in proportion to its letters.

    The times are estimates, so no word has a confidence.
    """
    texts = text.split()
    total = sum(map(len, texts))
    words, before = list[Word](), 0
    for item in texts:
        after = before + len(item)
        start, end = (start_ms + (end_ms - start_ms) * part // total for part in (before, after))
        words.append(Word(text=item, start_ms=start, end_ms=end, confidence=None, speaker=speaker))
        before = after
    return words
