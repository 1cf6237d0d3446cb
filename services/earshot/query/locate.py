"""Where in a passage the wording of a question begins."""

from __future__ import annotations

from collections.abc import Sequence

from earshot.kernel.events import Word

MATCH, OTHER = 2, -1
"""Scores of local alignment (Smith and Waterman, 1981): an equal word; another, an extra or a missing one."""


def locate(query: str, words: Sequence[Word]) -> int | None:
    """The place of the first word of the stretch that is worded most like the query, the earliest of equals.

    ``None`` when less than half of the query is worded alike anywhere: then it was found by its meaning, or by words
    that lie apart.
    """
    asked = [token for token in map(_plain, query.split()) if token]
    said = [_plain(word.text) for word in words]
    there = set(said)
    if not asked or sum(token in there for token in asked) * 2 < len(asked):  # no stretch can have half of them
        return None
    best, begins = 0, 0
    row: list[tuple[int, int]] = [(0, -1)] * (len(asked) + 1)  # score, and where its stretch begins
    for place, heard in enumerate(said):
        above = row
        row = [(0, -1)]
        for at, token in enumerate(asked):
            score, start = above[at]
            met = (score + MATCH, place if score == 0 else start) if heard == token else (score + OTHER, start)
            cell = max(met, (above[at + 1][0] + OTHER, above[at + 1][1]), (row[at][0] + OTHER, row[at][1]))
            row.append(cell if cell[0] > 0 else (0, -1))
            if row[-1][0] > best:
                best, begins = row[-1]
    return begins if best * 2 >= len(asked) * MATCH else None


def _plain(word: str) -> str:
    """A word without case and punctuation."""
    return "".join(letter for letter in word.casefold() if letter.isalnum())
