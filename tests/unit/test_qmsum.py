"""The ruler of the retrieval report: what counts as right, what a ranking is worth, what is imported."""

from __future__ import annotations

import gzip
import json
import sys
from math import log2
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from earshot.ingest.imports import read_transcript

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def qmsum(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script beside those it imports."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    import qmsum

    return qmsum


@pytest.fixture
def meeting(tmp_path: Path) -> Path:
    """Ninety words by Ann, then a sentence by Bob, which answers the question."""
    turns = [{"speaker": "Ann", "content": "so " * 90}, {"speaker": "Bob", "content": "Two batteries, I think."}]
    asked = [{"query": "How many batteries?", "relevant_text_span": [["1", "1"]]}]
    path = tmp_path / "meetings.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.write(json.dumps({"meeting_transcripts": turns, "specific_query_list": asked}))
    return path


def test_a_unit_is_right_when_it_overlaps_a_span_of_its_meeting(qmsum, meeting):
    """Not when it only touches it."""
    [question] = qmsum.read(meeting).questions
    assert question.spans == ((36_000, 37_600),)
    right = [
        qmsum.right(question, qmsum.Unit(*place)) for place in ((0, 30_000, 36_001), (0, 0, 36_000), (1, 0, 99_000))
    ]
    assert right == [True, False, False]


def test_a_meeting_is_imported_as_segments_of_30_seconds_with_speakers(qmsum, meeting):
    [words] = qmsum.read(meeting).meetings
    stretches = read_transcript(qmsum.transcript(words)).stretches
    assert [(stretch.start_ms, stretch.end_ms) for stretch in stretches] == [(0, 30_000), (30_000, 37_600)]
    assert [word.speaker for word in stretches[1].words or ()] == ["Ann"] * 15 + ["Bob"] * 4


def test_scores_are_as_their_definitions_say(qmsum):
    """nDCG@10 against the best order there could be; of three right ones two were found, third and eleventh."""
    found = qmsum.judge([False, False, True, *[False] * 7, True], 3)
    assert found.ndcg == pytest.approx((1 / log2(4)) / (1 + 1 / log2(3) + 1 / log2(4)))
    assert (found.rr, found.recall, found.hit) == (1 / 3, 1 / 3, 1.0)
    assert qmsum.judge([True] * 10, 40).ndcg == pytest.approx(1.0)
    assert qmsum.judge([], 1) == qmsum.Scores(0.0, 0.0, 0.0, 0.0)


def test_plain_bm25_is_the_textbooks(qmsum):
    """By hand for two documents, a word that one has twice."""
    scores = qmsum.bm25(["apple apple pear", "pear"], ["Apple!", "plum"])
    idf, norm = np.log(1 + 1.5 / 1.5), 1.2 * (0.25 + 0.75 * 3 / 2)
    assert scores == pytest.approx(np.array([[idf * 2 * 2.2 / (2 + norm), 0.0], [0.0, 0.0]]))
