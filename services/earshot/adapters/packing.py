"""Texts that go through a model together: of like length, within a budget of tokens."""

from __future__ import annotations

from collections.abc import Sequence


def pack(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Places of texts, batch by batch, shortest first.

    A batch is padded to its longest text, so that is what it costs: longest times number, at most ``budget``. A text
    that is over the budget by itself is a batch of its own.

    Args:
        sizes: tokens of each text.
        budget: padded tokens of one batch.
    """
    batches: list[list[int]] = []
    for place in sorted(range(len(sizes)), key=sizes.__getitem__):
        if batches and sizes[place] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches
