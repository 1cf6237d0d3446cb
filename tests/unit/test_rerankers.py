"""Which reranker is chosen, and how little one that fails may cost a search."""

from __future__ import annotations

import asyncio
import math
import threading

import pytest

from earshot.adapters.breaker import Breaker
from earshot.adapters.rerankers import BoundedReranker, RerankerSettings, choose
from earshot.kernel.errors import Misconfigured, Unavailable
from tests.fakes_vectors import FakeReranker
from tests.waiting import eventually

TEXTS = ["a b", "a c d"]


def bounded(reranker, timeout_s=5.0, at_once=2, **more) -> BoundedReranker:
    async def make():
        return reranker

    return BoundedReranker("fake", make, timeout_s, at_once, **more)


def test_by_default_words_are_compared_with_words_and_none_is_none():
    assert choose(RerankerSettings(model="")).model == "wordllama"
    assert choose(RerankerSettings(model="none")) is None


async def test_the_default_reranker_prefers_the_same_words_then_words_like_them():
    """Whatever the question is framed in; a question or a text without any word is no error."""
    reranker = choose(RerankerSettings(timeout_s=60))
    texts = ["The weather was cold all week.", "We chose the batteries.", "A longer life of the cells.", "?", ""]
    scores = await reranker.rerank("What did the team say about the batteries?", texts)
    assert scores[1] == max(scores) <= 1.001
    assert scores[2] > scores[0] > scores[4] == 0.0
    assert await reranker.rerank("?", ["a", ""]) == await reranker.rerank("?", ["a", ""])


async def test_the_default_reranker_is_never_too_busy():
    reranker = choose(RerankerSettings(calls_at_once=1, timeout_s=60))
    answers = await asyncio.gather(*(reranker.rerank("green apples", ["apples", "pears"]) for _ in range(12)))
    assert all(scores[0] > scores[1] for scores in answers)


def test_a_model_that_does_not_exist_is_refused_before_the_first_search(tmp_path):
    with pytest.raises(Misconfigured, match="neither wordllama, bge-m3"):
        choose(RerankerSettings(model=str(tmp_path / "nothing")))
    with pytest.raises(Misconfigured, match="RERANKER__MODEL"):
        choose(RerankerSettings(url="http://127.0.0.1:9/v2"))


def test_a_model_that_exists_is_named_and_not_loaded(tmp_path):
    """Loading takes a minute and must not hold up the start; the folder here is empty."""
    for chosen in (choose(RerankerSettings(model="bge-reranker-v2-m3")), choose(RerankerSettings(model=str(tmp_path)))):
        assert chosen is not None
    assert choose(RerankerSettings(model="m", url="http://127.0.0.1:9/v2")).model == "m"


async def test_the_first_call_loads_it_and_later_ones_do_not():
    loaded = []

    async def make():
        loaded.append(1)
        return FakeReranker()

    reranker = BoundedReranker("fake", make, 5.0, 2)
    assert await reranker.rerank("a b", []) == []
    assert loaded == []
    both = await asyncio.gather(reranker.rerank("a b", TEXTS), reranker.rerank("a b", TEXTS))
    assert both == [[1.0, 1 / 3]] * 2
    assert loaded == [1]


async def test_one_that_cannot_be_loaded_is_tried_again_after_its_rest():
    now, tries = [0.0], []

    async def make():
        tries.append(1)
        if len(tries) < 3:
            raise Misconfigured("no weights")
        return FakeReranker()

    reranker = BoundedReranker("fake", make, 5.0, 2, Breaker(failures=2, rest_s=60, clock=lambda: now[0]))
    for _ in range(2):
        with pytest.raises(Misconfigured, match="no weights"):
            await reranker.rerank("a b", TEXTS)
    with pytest.raises(Unavailable, match="rests"):
        await reranker.rerank("a b", TEXTS)
    assert len(tries) == 2
    now[0] = 61
    assert await reranker.rerank("a b", TEXTS) == [1.0, 1 / 3]


async def test_one_that_is_slow_is_given_up_and_its_threads_stay_few():
    """A thread cannot be interrupted: calls that were given up count until they end, and more are refused at once."""
    going_on = threading.Event()
    entered = []

    class Slow:
        model = "slow"

        async def rerank(self, query, texts):
            entered.append(1)
            await asyncio.to_thread(going_on.wait)
            return [0.0] * len(texts)

    reranker = bounded(Slow(), timeout_s=0.05, breaker=Breaker(failures=100))
    try:
        for _ in range(2):
            with pytest.raises(Unavailable, match="takes longer"):
                await reranker.rerank("q", TEXTS)
        with pytest.raises(Unavailable, match="busy with 2"):
            await reranker.rerank("q", TEXTS)
        assert len(entered) == 2
    finally:
        going_on.set()
    await eventually(lambda: not reranker._calls)
    assert await bounded(Slow()).rerank("q", TEXTS) == [0.0, 0.0]


@pytest.mark.parametrize("scores", [[1.0], [1.0, math.nan], [1.0, math.inf], []])
async def test_scores_that_are_none_are_not_believed(scores):
    class Wrong:
        model = "wrong"

        async def rerank(self, query, texts):
            return scores

    with pytest.raises(Unavailable, match="no finite score"):
        await bounded(Wrong()).rerank("q", TEXTS)


async def test_one_that_fails_again_and_again_is_left_alone():
    fake = FakeReranker()
    fake.failure = Unavailable("reranker", "down")
    reranker = bounded(fake, breaker=Breaker(failures=3, rest_s=60))
    for _ in range(6):
        with pytest.raises(Unavailable):
            await reranker.rerank("q", TEXTS)
    assert len(fake.calls) == 3
