"""A dependency that fails again and again is left alone for a while, and asked again by itself."""

from __future__ import annotations

import pytest

from earshot.adapters.guard import BreakerSettings, Figures, Guard, Guards, reads, writes
from earshot.kernel.errors import BlobMissing, Permanent, Unavailable


class Clock:
    """Seconds as the test says."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Shop:
    """An adapter whose reads and writes come to what the test says."""

    def __init__(self) -> None:
        self.guards = Guards("vectors", Figures(2, 10.0))
        self.error: Exception | None = None
        self.asked = 0

    @reads
    async def read(self, what: str = "it") -> str:
        return self._answer(what)

    @writes
    async def write(self) -> str:
        return self._answer("done")

    def _answer(self, said: str) -> str:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return said


@pytest.fixture
def shop() -> Shop:
    return Shop()


def at(shop: Shop) -> Clock:
    """A clock for the shop's breakers."""
    clock = Clock()
    for guard in (shop.guards.reads, shop.guards.writes):
        guard.breaker._clock = clock
    return clock


async def fail(shop: Shop, times: int) -> None:
    shop.error = Unavailable("vectors", "Weaviate is gone.", next_step="Start it.")
    for _ in range(times):
        with pytest.raises(Unavailable):
            await shop.read()
    shop.error = None


async def test_after_failures_in_a_row_it_is_not_asked_but_the_cause_is_still_told(shop: Shop) -> None:
    at(shop)
    await fail(shop, 2)
    with pytest.raises(Unavailable) as caught:
        await shop.read()
    assert shop.asked == 2
    assert caught.value.detail == "Weaviate is gone. After 2 failures in a row it is left alone for 10 s."
    assert (caught.value.next_step, caught.value.after_s) == ("Start it.", 10.0)


async def test_after_its_rest_it_is_asked_and_one_answer_makes_all_well(shop: Shop) -> None:
    clock = at(shop)
    await fail(shop, 2)
    clock.now += 10.0
    assert await shop.read("well") == "well"
    await fail(shop, 1)
    assert await shop.read() == "it"


async def test_after_its_rest_one_more_failure_is_enough(shop: Shop) -> None:
    clock = at(shop)
    await fail(shop, 2)
    clock.now += 10.0
    await fail(shop, 1)
    with pytest.raises(Unavailable, match="left alone"):
        await shop.read()


async def test_an_answer_between_failures_starts_the_count_anew(shop: Shop) -> None:
    for _ in range(5):
        await fail(shop, 1)
        assert await shop.read() == "it"


async def test_what_fails_to_be_written_can_still_be_read(shop: Shop) -> None:
    """A full disk. Were there one breaker, every read would also close it again for the writes."""
    shop.error = Unavailable("vectors", "The disk is full.")
    for _ in range(2):
        with pytest.raises(Unavailable):
            await shop.write()
    shop.error = None
    assert await shop.read() == "it"
    with pytest.raises(Unavailable, match="left alone"):
        await shop.write()


@pytest.mark.parametrize("error", [Permanent("No."), BlobMissing("Nothing there."), Unavailable("catalog", "Down.")])
async def test_a_refusal_and_what_others_do_are_no_failures_of_it(shop: Shop, error: Exception) -> None:
    shop.error = error
    for _ in range(5):
        with pytest.raises(type(error)):
            await shop.read()
    assert shop.asked == 5


async def test_a_sign_of_life_ends_the_rest(shop: Shop) -> None:
    at(shop)
    await fail(shop, 2)
    shop.guards.alive()
    assert await shop.read() == "it"


def test_the_figures_are_those_that_are_promised() -> None:
    settings = BreakerSettings(_env_file=None)
    assert (settings.of("broker"), settings.of("catalog")) == (Figures(5, 30.0), Figures(5, 30.0))
    assert (settings.of("vectors"), settings.of("blobs")) == (Figures(3, 60.0), Figures(5, 30.0))
    assert Guard("registry", settings.of("registry")).breaker.closed
