"""The order of hits: what fits by itself, what fits around it, and what a question really asks for."""

from __future__ import annotations

import math
import random

import pytest

from earshot.kernel.ports import IndexedPassage, ScoredPassage, SearchMode
from earshot.kernel.question import read
from earshot.query.ranking import NEARBY_MS, Candidates, nearby, rank


def passage(
    key: str, text: str = "", at_s: float = 0, recording: str = "r", speakers: tuple[str, ...] = ()
) -> IndexedPassage:
    start = round(at_s * 1000)
    return IndexedPassage(
        id=key, recording_id=recording, revision=1, segment_index=0, ordinal=0, start_ms=start, end_ms=start + 10_000,
        text=text, collection="default", language="en", speakers=speakers, recorded_at=None, degraded=False,
    )  # fmt: skip


def order(
    keyword: list[ScoredPassage], vector: list[ScoredPassage], query: str = "", mode: SearchMode = "hybrid"
) -> str:
    ranked = rank(Candidates(keyword, vector, 100), read(query), mode)
    assert [hit.score for hit in ranked] == sorted((hit.score for hit in ranked), reverse=True)
    return " ".join(hit.passage.id for hit in ranked)


@pytest.mark.parametrize(
    ("query", "keywords"),
    [
        ("What did the team discuss about the remote control?", "remote control"),
        ("Summarize the discussion about user requirements.", "user requirements"),
        ("battery life?", "battery life"),
        ("ask what you can do for your country", "ask what you can do for your country"),
        ("what your country can do for you", "what your country can do for you"),
        ("to be or not to be", "to be or not to be"),
        ("Was hat das Team über die Fernbedienung gesagt?", "hat das über die fernbedienung gesagt"),
        ("?!", "?!"),
    ],
)
def test_of_a_question_the_words_that_carry_it_are_looked_for(query: str, keywords: str) -> None:
    """Of wording every word, and of a question that would keep hardly any word every word too."""
    assert read(query).keywords == keywords


def test_a_passage_that_both_lists_know_is_first() -> None:
    both, by_words, by_meaning, last = (passage(key, recording=key) for key in "abcd")
    keyword = [ScoredPassage(by_words, 9), ScoredPassage(both, 8.5), ScoredPassage(last, 1)]
    vector = [ScoredPassage(by_meaning, 0.9), ScoredPassage(both, 0.85), ScoredPassage(last, 0.1)]
    assert order(keyword, vector) == "a b c d"


def test_of_equal_passages_the_one_among_others_that_fit_is_first() -> None:
    """Where a conversation is about the matter; what lies far away or in another recording does not count."""
    lonely, among, beside = passage("a"), passage("b", at_s=3600), passage("c", at_s=3630)
    elsewhere = passage("d", at_s=10, recording="other")
    scores = {lonely: 9, among: 9, beside: 5, elsewhere: 5}
    keyword = [ScoredPassage(found, score) for found, score in sorted(scores.items(), key=lambda item: -item[1])]
    assert order(keyword, [], mode="keyword") == "b a c d"


def test_exact_wording_outranks_everything() -> None:
    """However much is said about the same elsewhere, and however often."""
    said = passage("said", "so, we agreed: on the TITANIUM shell for the spring model.", recording="elsewhere")
    loose = [passage(f"loose{at}", "titanium model spring shell", at_s=at * 30) for at in range(60)]
    last = ScoredPassage(passage("z"), 1.0)
    keyword = [*(ScoredPassage(found, 10.0) for found in loose), ScoredPassage(said, 2.0), last]
    vector = [*(ScoredPassage(found, 0.9) for found in loose), last]
    assert order(keyword, vector, "the titanium shell for the spring model").split()[0] == "said"
    assert order(keyword, vector, "What was said about the titanium spring?").split()[0] != "said"


def test_what_stands_beside_a_match_does_not_outrank_it() -> None:
    """A good neighbour is a reason to be found, not to be first."""
    match, beside = passage("match", at_s=60), passage("beside", at_s=90)
    assert order([ScoredPassage(match, 9.0), ScoredPassage(beside, 2.0)], [], mode="keyword") == "match beside"


def test_the_speaker_asked_for_is_preferred() -> None:
    """By any word of the label; a letter alone names nobody."""
    one, two = (
        passage("a", speakers=("Professor E",), recording="a"),
        passage("b", speakers=("Barry Hughes",), recording="b"),
    )
    keyword = [ScoredPassage(one, 5.0), ScoredPassage(two, 5.0)]
    assert order(keyword, [], "What did Barry Hughes think about e learning?", "keyword") == "b a"
    assert order(keyword, [], "What does e learning cost schools?", "keyword") == "a b"


def test_what_surrounds_a_passage_is_the_sum_over_its_recording() -> None:
    """As by adding up every pair, for any order and with equal times."""
    chance = random.Random(3)
    passages = [
        passage(str(at), at_s=chance.choice([0, 30, 30.5, 700, 2000]), recording=chance.choice("xy"))
        for at in range(40)
    ]
    own = {found.id: chance.random() for found in passages}
    around = nearby(passages, own)
    for found in passages:
        pairs = [
            own[other.id] * math.exp(-abs(other.start_ms - found.start_ms) / NEARBY_MS)
            for other in passages
            if other.recording_id == found.recording_id
        ]
        assert around[found.id] == pytest.approx(sum(pairs))


@pytest.mark.parametrize("mode", ["hybrid", "keyword", "vector"])
def test_one_or_no_candidate_is_an_answer_too(mode: SearchMode) -> None:
    assert order([], [], "anything", mode) == ""
    only = [ScoredPassage(passage("a"), 0.0)]
    assert order([] if mode == "vector" else only, [] if mode == "keyword" else only, "anything", mode) == "a"


def test_the_rerankers_judgement_lifts_what_it_prefers() -> None:
    one, two = passage("a", recording="a"), passage("b", recording="b")
    keyword = [ScoredPassage(one, 5.0), ScoredPassage(two, 4.5), ScoredPassage(passage("c", recording="c"), 0.1)]
    candidates = Candidates(keyword, [], 100, {"a": -2.0, "b": 7.0})
    assert [hit.passage.id for hit in rank(candidates, read("x"), "keyword")] == ["b", "a", "c"]


def test_of_few_matches_each_is_one() -> None:
    """A rare word that two passages have: both before what merely means about the same."""
    one, two, alike = passage("a", recording="a"), passage("b", recording="b"), passage("c", recording="c")
    keyword = [ScoredPassage(one, 9.0), ScoredPassage(two, 8.0)]
    vector = [ScoredPassage(alike, 0.5), ScoredPassage(one, 0.2), ScoredPassage(two, 0.1)]
    assert order(keyword, vector) == "a b c"
