"""QMSum's meetings as transcripts, which passages answer which question, and the plain rankings to stand beside.

QMSum (Zhong et al., NAACL 2021): meetings as turns of speakers, questions by people, and the spans of turns that answer
each. It has no times, so words are given 400 ms each (150 words a minute), and segments end as the segmenter's do:
within 30 s, at a change of speaker or the end of a sentence in their second half.
"""

from __future__ import annotations

import gzip
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

WORD_MS = 400
SEGMENT_WORDS = 75
"""30 s of them."""
PLAIN_WORDS = 120
"""Of a passage of the plain rankings."""
K1, B = 1.2, 0.75
"""Of BM25, as most search engines set them."""
DEPTH = 10


@dataclass(frozen=True)
class Spoken:
    """A word, the turn it is of, and who says it."""

    text: str
    turn: int
    speaker: str


@dataclass(frozen=True)
class Question:
    """A question about one meeting, and when the turns that answer it are spoken: (from, to) in ms."""

    meeting: int
    text: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Unit:
    """A stretch of a meeting that is judged: right for a question when it overlaps one of its spans."""

    meeting: int
    start_ms: int
    end_ms: int


@dataclass(frozen=True)
class Evaluation:
    """The meetings, word by word, and the questions."""

    meetings: tuple[tuple[Spoken, ...], ...]
    questions: tuple[Question, ...]


def read(path: Path) -> Evaluation:
    """Read meetings and questions from JSON lines, gzipped."""
    meetings, questions = [], []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            meeting = json.loads(line)
            turns = meeting["meeting_transcripts"]
            words = tuple(
                Spoken(w, at, turn["speaker"]) for at, turn in enumerate(turns) for w in turn["content"].split()
            )
            meetings.append(words)
            questions += [
                Question(number, asked["query"], _spans(asked["relevant_text_span"], words))
                for asked in meeting["specific_query_list"]
            ]
    return Evaluation(tuple(meetings), tuple(questions))


def _spans(turns: Sequence[Sequence[str]], words: Sequence[Spoken]) -> tuple[tuple[int, int], ...]:
    spans = []
    for first, last in turns:
        within = [at for at, word in enumerate(words) if int(first) <= word.turn <= int(last)]
        if within:
            spans.append((within[0] * WORD_MS, (within[-1] + 1) * WORD_MS))
    return tuple(spans)


def transcript(words: Sequence[Spoken]) -> bytes:
    """A meeting as the JSON that ingest takes: segments of at most 30 s, words with times and speakers."""
    segments = []
    for first, last in _cuts(words):
        timed = [
            {"text": word.text, "start_ms": at * WORD_MS, "end_ms": (at + 1) * WORD_MS, "speaker": word.speaker}
            for at, word in enumerate(words[first:last], first)
        ]
        text = " ".join(word.text for word in words[first:last])
        segments.append({"start_ms": first * WORD_MS, "end_ms": last * WORD_MS, "text": text, "words": timed})
    return json.dumps({"language": "en", "segments": segments}).encode()


def _cuts(words: Sequence[Spoken]) -> Iterator[tuple[int, int]]:
    """Half-open ranges of words, one a segment."""
    start = 0
    while start < len(words):
        end = min(start + SEGMENT_WORDS, len(words))
        if end < len(words):
            places = range(start + SEGMENT_WORDS // 2, end + 1)
            turns = [at for at in places if words[at].turn != words[at - 1].turn]
            sentences = [at for at in places if words[at - 1].text[-1] in ".?!"]
            end = (turns or sentences or [end])[-1]
        yield start, end
        start = end


# --- judging ----------------------------------------------------------------------------------------------------


def right(question: Question, unit: Unit) -> bool:
    """Whether a unit overlaps an annotated span of the question's meeting."""
    return unit.meeting == question.meeting and any(
        unit.start_ms < end and start < unit.end_ms for start, end in question.spans
    )


@dataclass(frozen=True)
class Scores:
    """Of one question: nDCG@10, reciprocal rank, share of the right ones in the first 10, and whether any is."""

    ndcg: float
    rr: float
    recall: float
    hit: float


def judge(ranked: Sequence[bool], right_ones: int) -> Scores:
    """Scores of a ranking (Järvelin and Kekäläinen 2002, binary): best first, each right or not."""
    gains = [1 / math.log2(rank + 1) for rank in range(1, DEPTH + 1)]
    top = ranked[:DEPTH]
    ideal = sum(gains[: min(DEPTH, right_ones)])
    gained = sum(gain for gain, good in zip(gains, top, strict=False) if good)
    first = next((rank for rank, good in enumerate(ranked, 1) if good), None)
    return Scores(
        gained / ideal if ideal else 0.0, 1 / first if first else 0.0, sum(top) / max(1, right_ones), float(any(top))
    )


# --- plain rankings ---------------------------------------------------------------------------------------------


def plain_units(evaluation: Evaluation) -> tuple[list[Unit], list[str], list[str]]:
    """Passages of 120 words, one after another: where they are, their texts, and their texts with speakers' names."""
    units, texts, named = [], [], []
    for number, words in enumerate(evaluation.meetings):
        for start in range(0, len(words), PLAIN_WORDS):
            some = words[start : start + PLAIN_WORDS]
            units.append(Unit(number, start * WORD_MS, (start + len(some)) * WORD_MS))
            texts.append(" ".join(word.text for word in some))
            turns = [some[0].speaker + ": " + some[0].text]
            turns += [f"{b.speaker}: {b.text}" if b.turn != a.turn else b.text for a, b in pairwise(some)]
            named.append(" ".join(turns))
    return units, texts, named


def bm25(texts: Sequence[str], queries: Sequence[str]) -> np.ndarray:
    """Scores (queries, texts) by BM25 (Robertson and Zaragoza 2009) over lower-case words, nothing left out."""
    documents = [Counter(re.findall(r"\w+", text.lower())) for text in texts]
    lengths = np.array([document.total() for document in documents])
    postings: dict[str, list[tuple[int, int]]] = {}
    for at, document in enumerate(documents):
        for word, count in document.items():
            postings.setdefault(word, []).append((at, count))
    scores = np.zeros((len(queries), len(texts)))
    for row, query in enumerate(queries):
        for word in re.findall(r"\w+", query.lower()):
            if word not in postings:
                continue
            places, counts = np.array(postings[word]).T
            idf = math.log(1 + (len(texts) - len(places) + 0.5) / (len(places) + 0.5))
            norm = counts + K1 * (1 - B + B * lengths[places] / lengths.mean())
            scores[row, places] += idf * counts * (K1 + 1) / norm
    return scores


def half_and_half(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The mean of both, each scaled from 0 for a query's worst to 1 for its best."""

    def scaled(scores: np.ndarray) -> np.ndarray:
        low, high = scores.min(axis=1, keepdims=True), scores.max(axis=1, keepdims=True)
        return np.asarray((scores - low) / np.maximum(high - low, 1e-12))

    return (scaled(one) + scaled(other)) / 2
