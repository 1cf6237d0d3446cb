"""An answer without a model: the sentences themselves that fit the question best, quoted and cited. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from earshot.kernel.events import Word
from earshot.kernel.question import words_in
from earshot.query.answering.checker import unmarked
from earshot.query.answering.evidence import Evidence
from earshot.query.answering.stems import carrying, stem

MOST = 4
"""Sentences of an answer; more is a list of hits, and the search has that."""
LONGEST_WORDS = 40
"""Of a sentence; transcripts without punctuation are cut into pieces of so many words."""
SHORTEST_WORDS = 4
"""A shorter one ("Yes.") is joined to the one after it."""
RANK = 0.25
"""How fast a passage's rank loses weight beside its words: 1 / (1 + 0.25 times the passages before it)."""
LEAST = 0.4
"""Of the best sentence's score: what fits less is left out."""


@dataclass(frozen=True)
class Pick:
    """A sentence that answers."""

    evidence: Evidence
    speaker: str | None
    text: str


def picks(question: str, evidence: Sequence[Evidence], most: int = MOST) -> list[Pick]:
    """The best sentence of each of the passages that fit best, in the passages' order.

    None when no passage has any of the words that carry the question: what was found then is near in meaning at best,
    and nobody can tell whether it answers.
    """
    wanted = set(carrying(question))
    choices = [(each, list(_sentences(each.own))) for each in evidence]
    stems = {id(words): _stems(words) for _, sentences in choices for words in sentences}
    frequency = Counter(one for found in stems.values() for one in found & wanted)
    weight = {one: math.log(1 + len(stems) / (count + 0.5)) for one, count in frequency.items()}
    best = []
    for place, (each, sentences) in enumerate(choices):
        scored = [(sum(weight[one] for one in stems[id(words)] & wanted), -at) for at, words in enumerate(sentences)]
        score, at = max(scored, default=(0.0, 0))
        if score > 0:
            best.append((score / (1 + RANK * place), each, sentences[-at]))
    top = sorted(best, key=lambda item: -item[0])[:most]
    kept = [item for item in top if item[0] >= LEAST * top[0][0]]
    return [_pick(each, words) for _, each, words in sorted(kept, key=lambda item: item[1].number)]


def written(chosen: Sequence[Pick]) -> str:
    """The answer: a line for each sentence, quoted, with who said it."""
    return "\n".join(
        f"{pick.speaker} said: “{unmarked(pick.text)}” [{pick.evidence.number}]"
        if pick.speaker
        else f"“{unmarked(pick.text)}” [{pick.evidence.number}]"
        for pick in chosen
    )


def _pick(each: Evidence, words: Sequence[Word]) -> Pick:
    speakers = {word.speaker for word in words}
    only = next(iter(speakers)) if len(speakers) == 1 else None
    return Pick(each, only or (each.speakers[0] if len(each.speakers) == 1 else None), " ".join(w.text for w in words))


def _stems(words: Sequence[Word]) -> set[str]:
    return {stem(token) for word in words for token in words_in(word.text)}


def _sentences(words: Sequence[Word]) -> Iterator[list[Word]]:
    """A passage's words in sentences, each by one speaker."""
    for _, said in groupby(words, key=lambda word: word.speaker):
        sentence: list[Word] = []
        for word in said:
            sentence.append(word)
            ends = word.text.rstrip("\"”»')")[-1:] in tuple(".?!…。？！")  # noqa: RUF001 - as other scripts write them
            if (ends and len(sentence) >= SHORTEST_WORDS) or len(sentence) >= LONGEST_WORDS:
                yield sentence
                sentence = []
        if sentence:
            yield sentence
