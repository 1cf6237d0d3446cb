"""The chain of engines, link by link, down and up again. The engines are told what to do, and run in real processes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from earshot.adapters import engines
from earshot.adapters.breaker import Breaker
from earshot.adapters.engine_chain import EngineChain
from earshot.adapters.engine_link import Link
from earshot.adapters.engine_process import EngineProcess, Plan
from earshot.adapters.engines import EngineSettings
from earshot.kernel.errors import EngineRejected, Misconfigured, Unavailable, UnitCrashed
from earshot.kernel.ports import Clip
from tests.audio import silence
from tests.fakes_speech import clip
from tests.waiting import eventually

SOON = 0.2
NEVER = 3600.0


class Shop:
    """A folder in which engines are told what to do, and chains of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def tell(self, name: str, when: str, what: str = "") -> None:
        file = self.folder / f"{name}.{when}"
        file.write_text(what) if what else file.unlink(missing_ok=True)

    def log(self, name: str) -> list[str]:
        file = self.folder / f"{name}.log"
        return file.read_text().split() if file.exists() else []

    def link(self, name: str, rest_s: float = NEVER, failures: int = 3) -> Link:
        plan = Plan("tests.engine_targets:Told", {"name": name, "folder": str(self.folder)})

        def make(_download: bool) -> EngineProcess:
            return EngineProcess(lambda: plan, deadline_factor=0.1, base_deadline_s=1.0)

        return Link(name, make, Breaker(failures, rest_s))

    def chain(self, *names: str, **fields) -> EngineChain:
        return EngineChain([self.link(name, **fields) for name in names])


@pytest.fixture
def shop(tmp_path) -> Shop:
    return Shop(tmp_path)


def clips(texts: str, language: str = "") -> list[Clip]:
    return [Clip(text.encode(), place * 1000, place * 1000 + 1000, language) for place, text in enumerate(texts)]


async def heard(chain: EngineChain, texts: str) -> str:
    results = await chain.recognize(clips(texts))
    for result in results:
        assert result.options == {"of": result.engine.name}
        assert result.text.startswith(result.engine.name)
    return " ".join(result.text for result in results)


async def test_the_best_engine_is_loaded_and_warm_before_the_first_batch_and_the_others_are_not_started(shop):
    async with shop.chain("big", "small") as chain:
        assert shop.log("big") == ["load", "warm"]
        assert (chain.engine.name, chain.engine.degraded) == ("big", False)
        assert await heard(chain, "ab") == "big:a big:b"
    assert shop.log("small") == []


@pytest.mark.parametrize("how", ["refuse", "crash", "memory"])
async def test_an_engine_that_cannot_be_loaded_is_left_for_the_next_with_its_reason_on_every_result(shop, how):
    shop.tell("big", "load", how)
    async with shop.chain("big", "middle", "small") as chain:
        (result,) = await chain.recognize(clips("a"))
        assert (result.text, result.engine.degraded) == ("middle:a", True)
        reason = {"refuse": "Repair it.", "crash": "SIGKILL", "memory": "out of memory"}[how]
        assert result.engine.reason.startswith("big does not do the work: ")
        assert reason in result.engine.reason
        assert result.engine == chain.engine
        assert [state["state"] for state in chain.states()] == ["resting", "working", "standing by"]
        assert reason in chain.states()[0]["reason"]


async def test_every_link_is_tried_and_every_reason_is_said(shop):
    for name in ("one", "two", "three"):
        shop.tell(name, "load", "refuse")
    async with shop.chain("one", "two", "three", "four") as chain:
        assert chain.engine.name == "four"
        assert all(f"{name} cannot be loaded" in chain.engine.reason for name in ("one", "two", "three"))


async def test_when_no_engine_can_be_had_the_worker_hears_why_and_may_try_again(shop):
    shop.tell("one", "load", "refuse")
    shop.tell("two", "load", "refuse")
    chain = shop.chain("one", "two")
    with pytest.raises(Misconfigured, match=r"one: one cannot be loaded.*two: two cannot"):
        await chain.__aenter__()
    shop.tell("two", "load", "crash")
    with pytest.raises(Unavailable, match="No speech engine can run"):
        await chain.__aenter__()
    shop.tell("two", "load")
    async with chain:
        assert await heard(chain, "a") == "two:a"


async def test_a_batch_too_large_for_the_memory_is_halved_and_stays_with_the_better_engine(shop):
    shop.tell("big", "hear", "memory 2")
    async with shop.chain("big", "small") as chain:
        assert await heard(chain, "abcdefgh") == " ".join(f"big:{text}" for text in "abcdefgh")
        assert shop.log("big")[2:] == ["8", "4", "2", "2", "2", "2"]
        assert not chain.engine.degraded
        assert await heard(chain, "ab") == "big:a big:b"
    assert shop.log("small") == []


async def test_one_that_has_no_memory_for_a_single_clip_is_left_and_nothing_is_lost(shop):
    shop.tell("big", "hear", "memory 0")
    async with shop.chain("big", "small") as chain:
        assert await heard(chain, "abc") == "small:a small:b small:c"
        assert await heard(chain, "d") == "small:d"
        assert "out of memory" in chain.engine.reason
        assert shop.log("big")[2:] == ["3", "2", "1"]


async def test_an_engine_that_dies_in_a_batch_loses_nothing_and_only_the_clip_it_dies_of_goes_down(shop):
    shop.tell("big", "hear", "crash c")
    async with shop.chain("big", "small") as chain:
        results = await chain.recognize(clips("abcd"))
        assert [result.text for result in results] == ["big:a", "big:b", "small:c", "big:d"]
        assert [result.engine.degraded for result in results] == [False, False, True, False]
        assert "SIGKILL" in results[2].engine.reason
        assert not chain.engine.degraded
        assert await heard(chain, "ef") == "big:e big:f"


async def test_one_death_by_chance_changes_nothing(shop):
    async with shop.chain("big", "small") as chain:
        shop.tell("big", "hear", "once")
        assert await heard(chain, "a") == "big:a"
        assert not chain.engine.degraded
    assert shop.log("small") == []


async def test_an_engine_that_always_dies_rests_after_three_times_in_a_row(shop):
    shop.tell("big", "hear", "crash all")
    async with shop.chain("big", "small") as chain:
        assert await heard(chain, "a") == "small:a"
        assert not chain.engine.degraded  # it may have been the clip's fault
        assert await heard(chain, "bc") == "small:b small:c"
        assert chain.engine.degraded
        calls = len(shop.log("big"))
        assert await heard(chain, "d") == "small:d"
        assert len(shop.log("big")) == calls


async def test_an_engine_that_takes_too_long_is_ended_and_the_next_one_hears_the_batch(shop):
    async with shop.chain("big", "small", failures=1) as chain:
        shop.tell("big", "hear", "hang")
        results = await chain.recognize(clips("ab"))
        assert [result.text for result in results] == ["small:a", "small:b"]
        assert "did not answer within" in results[0].engine.reason
        assert shop.log("big") == ["load", "warm", "2"]


async def test_what_one_engine_refuses_the_next_one_hears_and_nothing_is_held_against_the_first(shop):
    shop.tell("big", "hear", "reject b")
    async with shop.chain("big", "small") as chain:
        results = await chain.recognize(clips("abc"))
        assert [result.text for result in results] == ["big:a", "small:b", "big:c"]
        assert "does not take b" in results[1].engine.reason
        assert not chain.engine.degraded
        shop.tell("small", "hear", "reject b")
        with pytest.raises(EngineRejected, match="small does not take b"):
            await chain.recognize(clips("b"))


async def test_the_last_engine_never_rests_and_its_errors_are_the_callers(shop):
    async with shop.chain("only") as chain:
        shop.tell("only", "hear", "crash all")
        for _ in range(4):
            with pytest.raises(UnitCrashed, match="SIGKILL"):
                await chain.recognize(clips("a"))
        shop.tell("only", "hear")
        assert await heard(chain, "a") == "only:a"


async def test_the_better_engine_comes_back_by_itself_and_takes_over_between_batches(shop):
    shop.tell("big", "load", "refuse")
    async with shop.chain("big", "small", rest_s=SOON) as chain:
        assert await heard(chain, "a") == "small:a"
        await eventually(lambda: shop.log("big").count("load") > 2)  # tried again and again in the background
        assert await heard(chain, "b") == "small:b"
        shop.tell("big", "load")
        await eventually(lambda: chain.engine.name == "big")
        assert not chain.engine.degraded
        assert await heard(chain, "c") == "big:c"
        assert [state["state"] for state in chain.states()] == ["working", "standing by"]
        assert chain._links[1].running is None  # its memory is given back


async def test_work_goes_on_while_the_better_engine_is_being_loaded(shop):
    """The one that comes back takes its time; what comes in meanwhile is heard by the other."""
    loading, go_on = asyncio.Event(), asyncio.Event()

    class Slow(EngineProcess):
        async def __aenter__(self):
            loading.set()
            await go_on.wait()
            return await super().__aenter__()

    small, big = shop.link("small"), shop.link("big", SOON)
    plan = Plan("tests.engine_targets:Told", {"name": "big", "folder": str(shop.folder)})
    shop.tell("big", "load", "refuse")
    async with EngineChain([big, small]) as chain:
        big._make = lambda _download: Slow(lambda: plan, deadline_factor=1.0)
        shop.tell("big", "load")
        await asyncio.wait_for(loading.wait(), 30)
        assert await heard(chain, "ab") == "small:a small:b"
        go_on.set()
        await eventually(lambda: chain.engine.name == "big")
        assert await heard(chain, "c") == "big:c"


async def test_the_best_is_looked_for_first_and_what_failed_below_it_is_forgotten_when_it_is_back(shop):
    shop.tell("one", "load", "refuse")
    shop.tell("two", "load", "refuse")
    links = [shop.link("one", SOON), shop.link("two"), shop.link("three")]
    async with EngineChain(links) as chain:
        assert chain.engine.name == "three"
        shop.tell("one", "load")
        shop.tell("two", "load")
        await eventually(lambda: chain.engine.name == "one")
        assert await heard(chain, "a") == "one:a"
        shop.tell("one", "hear", "memory 0")
        shop.tell("one", "load", "refuse")
        assert await heard(chain, "b") == "two:b"


async def test_what_an_engine_holds_against_one_result_is_said_beside_why_it_does_the_work(shop):
    shop.tell("big", "load", "refuse")
    async with shop.chain("big", "small") as chain:
        plain, doubtful = await chain.recognize([*clips("a"), *clips("b", "tlh")])
        assert (plain.note, plain.engine) == ("", chain.engine)
        assert doubtful.note == "Declared as Klingon."
        assert doubtful.engine.reason == f"Declared as Klingon. {chain.engine.reason}"


async def test_no_process_is_left(shop):
    async with shop.chain("big", "small") as chain:
        pid = chain._links[0].running.pid
        assert psutil.pid_exists(pid)
    assert not psutil.pid_exists(pid)


async def test_a_bug_in_the_background_stops_the_worker_at_the_next_batch(shop):
    def broken(_download: bool) -> EngineProcess:
        raise KeyError("a bug")

    big, small = shop.link("big", SOON), shop.link("small")
    shop.tell("big", "load", "refuse")
    chain = await EngineChain([big, small]).__aenter__()
    big._make = broken
    await eventually(chain._looking.done)
    with pytest.raises(KeyError):
        await chain.recognize(clips("a"))
    with pytest.raises(KeyError):
        await chain.__aexit__(None, None, None)
    assert small.running is None


def test_the_engine_in_the_documentation_works(tmp_path, monkeypatch):
    """With a library beside it that answers as NVIDIA's does."""
    (tmp_path / "nemo" / "collections").mkdir(parents=True)
    (tmp_path / "nemo" / "collections" / "asr.py").write_text(
        "from types import SimpleNamespace as N\n"
        "class Model:\n"
        "    def to(self, device): return self\n"
        "    def transcribe(self, samples, timestamps):\n"
        "        words = [{'word': 'polly', 'start': 0.1, 'end': 0.4}]\n"
        "        return [N(text='polly', timestamp={'word': words}) for _ in samples]\n"
        "models = N(ASRModel=N(from_pretrained=lambda name: Model()))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    document = (Path(__file__).parents[2] / "docs" / "engines.md").read_text()
    namespace: dict = {}
    exec(document.split("```python engine\n")[1].split("```")[0], namespace)
    parakeet = namespace["Parakeet"]("cpu", None)
    (heard,) = parakeet.recognize([clip(silence(1), 5000)])
    assert [(word.text, word.start_ms, word.end_ms) for word in heard.words] == [("polly", 5100, 5400)]
    assert heard.engine.name == "parakeet"


async def test_somebody_elses_class_is_an_engine_of_the_chain(tmp_path):
    settings = EngineSettings(
        chain="no.such.package:Canary, tests.engine_targets:Parakeet@cpu", hub="off", model_dir=tmp_path, _env_file=None
    )
    async with engines.recognizer(settings) as chain:
        (result,) = await chain.recognize(clips("a"))
        assert (result.text, result.engine.name, result.options) == ("polly", "parakeet", {"model_dir": str(tmp_path)})
        assert "no.such.package:Canary cannot be imported" in result.engine.reason
