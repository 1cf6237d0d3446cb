"""From what the vector store finds to an order: how well a passage fits, and how much fits around it.

The formulas, their sources and what they gain are in ``docs/ranking.md``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from earshot.kernel.ports import IndexedPassage, ScoredPassage, SearchMode
from earshot.kernel.question import Question, words_in

KEYWORD, VECTOR = 1.0, 0.5
"""Of a passage's place between the worst and the best of each list, squared, where both lists are asked."""
PHRASE, SPEAKER, JUDGED = 0.5, 0.3, 1.0
"""Of word pairs said as they were asked; of the speaker being the one asked for; of the reranker's judgement."""
NEARBY = 3.0
"""Of how much fits around a passage, itself included, beside how well it fits."""
NEARBY_MS = 300_000
"""What fits this far away counts 1/e: five minutes, about as long as a conversation stays with one matter."""
VERBATIM, VERBATIM_PAIRS = 7.0, 3
"""A passage that has all of so many pairs or more is the wording itself: more than all else together."""


@dataclass(frozen=True)
class Candidates:
    """What the store found for a question, best first; a list that was not asked for is empty.

    Attributes:
        keyword: by BM25.
        vector: by similarity of meaning.
        limit: how many were asked for of each.
        judged: scores by a reranker, by id, of some of them.
    """

    keyword: Sequence[ScoredPassage]
    vector: Sequence[ScoredPassage]
    limit: int
    judged: Mapping[str, float] = field(default_factory=dict)

    @property
    def passages(self) -> dict[str, IndexedPassage]:
        """Each passage found, by id."""
        return {hit.passage.id: hit.passage for hit in (*self.vector, *self.keyword)}


def rank(candidates: Candidates, question: Question, mode: SearchMode) -> list[ScoredPassage]:
    """The candidates, best first: how well each fits, plus how much fits around it. Equal ones are ordered by id."""
    passages = candidates.passages
    own = _own(candidates, question, mode)
    phrases = _phrases(candidates, question) if mode != "vector" else {}
    for key, share in phrases.items():
        own[key] += PHRASE * share
    around = nearby(passages.values(), own)
    most = max(around.values(), default=0.0) or 1.0
    scores = {key: own[key] + NEARBY * around[key] / most for key in passages}
    if len(question.pairs) >= VERBATIM_PAIRS:
        scores |= {key: scores[key] + VERBATIM for key, share in phrases.items() if share == 1}
    best = sorted(passages, key=lambda key: (-scores[key], key))
    return [ScoredPassage(passages[key], scores[key]) for key in best]


def _own(candidates: Candidates, question: Question, mode: SearchMode) -> dict[str, float]:
    """How well each candidate fits by itself, without its wording: never negative."""
    both = mode == "hybrid"
    words = _scaled(
        {hit.passage.id: hit.score for hit in candidates.keyword}, len(candidates.keyword) / candidates.limit
    )
    meant = _scaled({hit.passage.id: hit.score for hit in candidates.vector})
    judged = _scaled(candidates.judged)
    own = {
        key: KEYWORD * words.get(key, 0.0) ** 2
        + (VECTOR if both else 1.0) * meant.get(key, 0.0) ** 2
        + JUDGED * judged.get(key, 0.0) ** 2
        for key in candidates.passages
    }
    for key, share in _speakers(candidates, question).items() if mode != "vector" else ():
        own[key] += SPEAKER * share
    return own


def _scaled(scores: Mapping[str, float], full: float = 1.0) -> dict[str, float]:
    """Scores from 0 to 1 for the best. A full list ends at 0; in one that holds all there is, the last counts too."""
    if not scores:
        return {}
    best, worst = max(scores.values()), min(1.0, full) * min(scores.values())
    if best <= worst:
        return dict.fromkeys(scores, 1.0)
    return {key: (score - worst) / (best - worst) for key, score in scores.items()}


def _phrases(candidates: Candidates, question: Question) -> dict[str, float]:
    """For each candidate that has any, the share of the question's word pairs that were said as they stand."""
    shares = {}
    for key, passage in candidates.passages.items():
        heard = passage.text.casefold()
        there = [pair for pair in question.pairs if pair[0] in heard and pair[1] in heard]  # spares most the splitting
        if there:
            said = f" {' '.join(words_in(heard))} "
            shares[key] = sum(f" {first} {second} " in said for first, second in there) / len(question.pairs)
    return shares


def _speakers(candidates: Candidates, question: Question) -> dict[str, float]:
    """For each candidate, how many of the question's words name one who speaks in it, of the most for any."""
    asked = set(question.words)
    named = {
        key: len(asked & {word for speaker in passage.speakers for word in words_in(speaker) if len(word) > 1})
        for key, passage in candidates.passages.items()
    }
    most = max(named.values(), default=0)
    return {key: count / most for key, count in named.items()} if most else {}


def nearby(passages: Iterable[IndexedPassage], own: Mapping[str, float]) -> dict[str, float]:
    """For each passage the sum of ``own`` over its recording, itself included, each times ``exp(-distance / 5 min)``.

    The distance is between the middles. In one sweep forward and one back: the kernel is a product along the way.
    """
    recordings: dict[str, list[IndexedPassage]] = defaultdict(list)
    for passage in passages:
        recordings[passage.recording_id].append(passage)
    around = dict(own)
    for found in recordings.values():
        in_order = sorted(found, key=_middle)
        for sweep in (in_order, in_order[::-1]):
            carried, at = 0.0, _middle(sweep[0])
            for passage in sweep:
                carried *= math.exp(-abs(_middle(passage) - at) / NEARBY_MS)
                around[passage.id] += carried
                carried, at = carried + own[passage.id], _middle(passage)
    return around


def _middle(passage: IndexedPassage) -> float:
    return (passage.start_ms + passage.end_ms) / 2
