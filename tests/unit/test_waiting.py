"""The helper every waiting test leans on: it waits, gives what it waited for, and tells why it gave up."""

from __future__ import annotations

import asyncio

import pytest

from tests.waiting import eventually, eventually_sync


async def test_it_returns_what_became_true():
    answers = iter([None, ValueError("not yet"), 0, "here"])

    async def check():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert await eventually(check, every=0.001) == "here"


async def test_it_gives_up_at_the_deadline_with_the_last_answer():
    with pytest.raises(AssertionError, match=r"last answer was \[\]"):
        await eventually(list, within=0.01, every=0.001)


async def test_a_check_that_hangs_ends_at_the_deadline():
    with pytest.raises(AssertionError, match="TimeoutError"):
        await eventually(asyncio.Event().wait, within=0.01, every=0.001)


def test_without_a_loop_the_last_exception_is_the_cause():
    with pytest.raises(AssertionError, match="ZeroDivisionError") as caught:
        eventually_sync(lambda: 1 / 0, within=0.01, every=0.001)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
