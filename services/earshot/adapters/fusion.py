"""One ranking out of several."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from earshot.kernel.ports import ScoredPassage

RRF_K = 60
"""Of reciprocal rank fusion: Cormack, Clarke and Büttcher, SIGIR 2009; near the best there, and not critical."""


def fuse(rankings: Iterable[Sequence[ScoredPassage]]) -> list[ScoredPassage]:
    """Reciprocal rank fusion: a passage scores the sum of ``1 / (k + rank)`` over the rankings that have it.

    Ranks count from 1. Equal scores are ordered by id, so that the same rankings always give the same one.
    """
    scores: dict[str, float] = defaultdict(float)
    found: dict[str, ScoredPassage] = {}
    for ranking in rankings:
        for rank, hit in enumerate(ranking, 1):
            scores[hit.passage.id] += 1 / (RRF_K + rank)
            found.setdefault(hit.passage.id, hit)
    best = sorted(found, key=lambda passage_id: (-scores[passage_id], passage_id))
    return [replace(found[passage_id], score=scores[passage_id]) for passage_id in best]
